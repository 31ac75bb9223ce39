"""Who goes first under pressure, whose disk is too full, and in which words."""

from __future__ import annotations

from typing import Any

import pytest

from minipod.kubelet.rules import eviction, qos
from minipod.kubelet.rules.admission import Claim, Limits, admit, claim
from minipod.kubelet.rules.eviction import DISK, MEMORY, PodUsage
from minipod.kubelet.rules.pods import Pod, compile_pod

MI = 1 << 20


def pod(
    name: str,
    *,
    priority: int = 0,
    volumes: list[Any] = (),
    resources: dict[str, Any] | None = None,
    **spec: Any,
) -> Pod:
    container = {"name": "app", "image": "x", "resources": resources or {}}
    return compile_pod({
        "metadata": {"name": name, "uid": name},
        "spec": {"containers": [container], "priority": priority, "volumes": list(volumes), **spec},
    })  # fmt: skip


def memory(amount: str) -> dict[str, Any]:
    return {"requests": {"memory": amount}}


def test_who_exceeds_its_request_goes_first_then_the_less_important_then_the_larger() -> None:
    usages = [
        PodUsage(pod=pod("keeps", resources=memory("100Mi")), memory={"app": 90 * MI}),
        PodUsage(pod=pod("important", priority=10), memory={"app": 500 * MI}),
        PodUsage(pod=pod("small"), memory={"app": 10 * MI}),
        PodUsage(pod=pod("large"), memory={"app": 20 * MI}),
        PodUsage(pod=pod("critical", priority=2_000_000_000), memory={"app": 900 * MI}),
    ]
    found = [u.pod.name for u in eviction.ranked(usages, MEMORY)]
    assert found == ["large", "small", "important", "keeps"]


def test_the_words_name_the_resource_and_the_container() -> None:
    usage = PodUsage(pod=pod("a", resources=memory("1Mi")), memory={"app": 20 * MI})
    assert eviction.pressure_message(usage, MEMORY, 100 * MI, 50 * MI) == (
        "The node was low on resource: memory. Threshold quantity: 100Mi, available: 50Mi. "
        "Container app was using 20Mi, request is 1Mi, has larger consumption of memory. "
    )


EMPTY = [{"name": "v", "emptyDir": {"sizeLimit": "1Mi"}}]
LIMITED = {"limits": {DISK: "1Mi"}}


@pytest.mark.parametrize(
    ("usage", "words"),
    [
        (PodUsage(pod=pod("a", volumes=EMPTY), volumes={"v": 2 * MI}), 'Usage of EmptyDir volume "v" exceeds the limit "1Mi". '),
        (PodUsage(pod=pod("a", volumes=EMPTY), volumes={"v": MI}), ""),
        (
            PodUsage(pod=pod("a", resources=LIMITED), containers={"app": 2 * MI}),
            f"Pod ephemeral local storage usage exceeds the total limit of containers {MI}. ",
        ),
        (PodUsage(pod=pod("a"), containers={"app": 2 * MI}), ""),
    ],
)  # fmt: skip
def test_disk_limits(usage: PodUsage, words: str) -> None:
    assert eviction.over_limit(usage) == words
    assert eviction.has_disk_limits(usage.pod) == bool(
        usage.pod.volumes or usage.pod.containers[0].limits
    )


def test_resources_of_the_pod_as_a_whole() -> None:
    whole = {"limits": {"cpu": "1", "memory": "64Mi"}, "requests": {"cpu": "1", "memory": "64Mi"}}
    made = pod(
        "a", resources={"requests": {"cpu": "100m"}}, containers=[{"name": "a"}, {"name": "b"}]
    )
    assert qos.qos_class(made) == "BestEffort"
    made = compile_pod(
        {
            "metadata": {"name": "a"},
            "spec": {"containers": [{"name": "a"}, {"name": "b"}], "resources": whole},
        }
    )
    assert qos.qos_class(made) == "Guaranteed"
    assert qos.requests(made) == {"cpu": 1000, "memory": 64 * MI}
    assert qos.pod_resources(made).memory_limit == 64 * MI
    assert qos.pod_resources(made).cpu_quota == 100_000


def test_admission_counts_what_others_have() -> None:
    limits = Limits(allocatable={"cpu": 1000, "pods": 2})
    one = pod("a", resources={"requests": {"cpu": "600m"}})
    assert admit(one, [], limits) is None
    refusal = admit(one, [claim(one)], limits)
    assert refusal is not None
    assert refusal.reason == "OutOfcpu"
    assert (
        refusal.message
        == "Node didn't have enough resource: cpu, requested: 600, used: 600, capacity: 1000"
    )
    full = admit(pod("b"), [Claim(amounts={"pods": 1})] * 2, limits)
    assert full is not None
    assert full.reason == "OutOfpods"


@pytest.mark.parametrize(
    ("name", "allowed", "admitted"),
    [
        ("net.ipv4.tcp_syncookies", (), True), ("net.core.somaxconn", (), False),
        ("net.core.somaxconn", ("net.core.*",), True), ("kernel.msgmax", ("kernel.msg*",), True),
        ("vm.swappiness", ("vm.*",), False),  # no namespace holds it
    ],
)  # fmt: skip
def test_sysctls_are_safe_or_allowed(name: str, allowed: tuple[str, ...], admitted: bool) -> None:
    made = pod("a", securityContext={"sysctls": [{"name": name, "value": "1"}]})
    refusal = admit(made, [], Limits(allocatable={"pods": 1}, unsafe_sysctls=allowed))
    assert (refusal is None) == admitted
