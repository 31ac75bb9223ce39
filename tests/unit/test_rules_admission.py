"""Who is let in: the node that a pod wants, taints, pressure; and who makes room for a critical pod."""

from __future__ import annotations

from typing import Any

import pytest

from minipod.api import placement
from minipod.api.placement import NodeFacts
from minipod.kubelet.admission import Admission
from minipod.kubelet.node import Machine
from minipod.kubelet.qos_cgroups import QosCgroups
from minipod.kubelet.rules import preemption
from minipod.kubelet.rules.admission import Limits, admit, claim
from minipod.kubelet.rules.pods import Pod, compile_pod
from minipod.kubelet.rules.preemption import Victim

LABELS = {"disk": "ssd", "cores": "8"}
HERE = NodeFacts(name="here", labels=LABELS)
AFFINITY = "node(s) didn't match Pod's node affinity/selector"
TAINT = {"key": "maintenance", "value": "now", "effect": "NoExecute"}


def pod(name: str = "web", *, metadata: dict[str, Any] | None = None, **spec: Any) -> Pod:
    return compile_pod({
        "metadata": {"name": name, "uid": name, **(metadata or {})},
        "spec": {"containers": [{"name": "app", "image": "x", "resources": spec.pop("resources", {})}], **spec},
    })  # fmt: skip


def required(*terms: dict[str, Any]) -> dict[str, Any]:
    return {"nodeAffinity": {placement.REQUIRED: {"nodeSelectorTerms": list(terms)}}}


def expression(operator: str, *values: str, key: str = "disk") -> dict[str, Any]:
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        pytest.param({}, True, id="nothing asked"),
        pytest.param({"nodeSelector": {"disk": "ssd"}}, True, id="selector"),
        pytest.param({"nodeSelector": {"disk": "hdd"}}, False, id="another value"),
        pytest.param({"nodeSelector": {"disk": "ssd", "gpu": "yes"}}, False, id="a label that is not there"),
        pytest.param({"affinity": required(expression("In", "ssd", "nvme"))}, True, id="In"),
        pytest.param({"affinity": required(expression("NotIn", "ssd"))}, False, id="NotIn"),
        pytest.param({"affinity": required(expression("NotIn", "a", key="none"))}, True, id="NotIn of no label"),
        pytest.param({"affinity": required(expression("Exists"))}, True, id="Exists"),
        pytest.param({"affinity": required(expression("DoesNotExist"))}, False, id="DoesNotExist"),
        pytest.param({"affinity": required(expression("Gt", "4", key="cores"))}, True, id="Gt"),
        pytest.param({"affinity": required(expression("Lt", "8", key="cores"))}, False, id="Lt"),
        pytest.param({"affinity": required(expression("Gt", "4"))}, False, id="Gt of no number"),
        pytest.param({"affinity": required(expression("In", "hdd"), expression("Exists"))}, True, id="one of two terms"),
        pytest.param({"affinity": required({})}, False, id="an empty term"),
        pytest.param(
            {"affinity": required({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["here"]}]})},
            True, id="the node's name",
        ),
    ],
)  # fmt: skip
def test_a_pod_runs_on_the_node_that_it_wants_only(spec: dict[str, Any], wanted: bool) -> None:
    refusal = admit(pod(**spec), [], Limits(allocatable={"pods": 1}, node=HERE))
    assert (refusal is None) == wanted
    if refusal is not None:
        assert refusal.reason == "NodeAffinity"
        assert refusal.message == f"Predicate NodeAffinity failed: {AFFINITY}"


@pytest.mark.parametrize(
    ("tolerations", "admitted", "seconds"),
    [
        ([], False, 0.0),
        ([{"operator": "Exists"}], True, None),
        ([{"key": "maintenance", "value": "now"}], True, None),
        ([{"key": "maintenance", "value": "later"}], False, 0.0),
        ([{"key": "maintenance", "operator": "Exists", "effect": "NoSchedule"}], False, 0.0),
        ([{"key": "maintenance", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30}], True, 30.0),
        ([{"operator": "Exists", "tolerationSeconds": 0}], True, 0.0),
        ([{"operator": "Exists", "tolerationSeconds": 9}, {"key": "maintenance", "operator": "Exists", "tolerationSeconds": 3}], True, 3.0),
    ],
)  # fmt: skip
def test_taints(tolerations: list[dict[str, Any]], admitted: bool, seconds: float | None) -> None:
    limits = Limits(allocatable={"pods": 1}, node=NodeFacts(name="here", taints=(TAINT,)))
    refusal = admit(pod(tolerations=tolerations), [], limits)
    assert (refusal is None) == admitted
    assert placement.stays((TAINT,), tolerations) == seconds
    if refusal is not None:
        words = "Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate"
        assert (refusal.reason, refusal.message) == ("TaintToleration", words)


def test_a_static_pod_minds_no_taint_and_others_no_taint_that_only_a_scheduler_reads() -> None:
    static = pod(metadata={"annotations": {"kubernetes.io/config.source": "file"}})
    tainted = NodeFacts(name="here", taints=(TAINT,))
    assert admit(static, [], Limits(allocatable={"pods": 1}, node=tainted)) is None
    soft = NodeFacts(name="here", taints=({**TAINT, "effect": "NoSchedule"},))
    assert admit(pod(), [], Limits(allocatable={"pods": 1}, node=soft)) is None


MEMORY = {"requests": {"memory": "1Mi"}}
TOLERANT = [{"key": "node.kubernetes.io/memory-pressure", "operator": "Exists"}]


@pytest.mark.parametrize(
    ("pressure", "spec", "admitted"),
    [
        (("MemoryPressure",), {}, False),
        (("MemoryPressure",), {"resources": MEMORY}, True),
        (("MemoryPressure",), {"tolerations": TOLERANT}, True),
        (("DiskPressure",), {"resources": MEMORY}, False),
        (("DiskPressure", "MemoryPressure"), {"priority": 2_000_000_000}, True),
        ((), {}, True),
    ],
)
def test_a_node_under_pressure_takes_no_pod_that_makes_it_worse(
    pressure: tuple[str, ...], spec: dict[str, Any], admitted: bool
) -> None:
    limits = Limits(allocatable={"pods": 1, "memory": 1 << 30}, pressure=pressure)
    refusal = admit(pod(**spec), [], limits)
    assert (refusal is None) == admitted
    if refusal is not None:
        listed = " ".join(pressure)
        assert (refusal.reason, refusal.message) == (
            "Evicted", f"The node had condition: [{listed}]. ",
        )  # fmt: skip


def test_burstable_pods_weigh_what_they_request_together() -> None:
    """The others have a place of their own: BestEffort pods the least weight, Guaranteed ones none above them."""
    told: list[tuple[str, int | None]] = []
    machine = Machine(node_name="n", cpus=2, memory=1 << 30, reserved_memory=1 << 29)
    above = QosCgroups(machine, lambda path, to: told.append((path, to.cpu_shares)))
    above.start()
    assert told == [("kubepods", 2048), ("kubepods/besteffort", 2), ("kubepods/burstable", 2)]
    book = Admission(
        machine, unsafe_sysctls=(), node=lambda: None, pressure=lambda: (), wake=lambda _: None,
        burstable=above.set_burstable,
    )  # fmt: skip
    del told[:]
    for name, cpu in (("a", "100m"), ("b", "400m")):
        book.admit(pod(name, resources={"requests": {"cpu": cpu}}))
    book.admit(pod("free"))
    both = {"cpu": "100m", "memory": "1Mi"}
    book.admit(pod("sure", resources={"requests": both, "limits": both}))
    book.release("a")
    book.release("free")
    assert told == [("kubepods/burstable", n) for n in (102, 512, 409)]


def running(name: str, cpu: str, *, priority: int = 0, limits: bool = False) -> Victim:
    amounts = {"cpu": cpu, "memory": "1Mi"}
    resources = {"requests": amounts, **({"limits": amounts} if limits else {})}
    made = pod(name, resources=resources if cpu != "0" else {}, priority=priority)
    return Victim(pod=made, amounts=claim(made).amounts)


CRITICAL = pod("critical", priority=2_000_000_000)


@pytest.mark.parametrize(
    ("others", "short", "gone"),
    [
        pytest.param([running("a", "100m"), running("b", "500m")], {"cpu": 400}, ["b"], id="one that is enough"),
        pytest.param([running("a", "500m"), running("b", "600m")], {"cpu": 400}, ["a"], id="the smaller of two"),
        pytest.param([running("a", "300m"), running("b", "300m")], {"cpu": 400}, ["a", "b"], id="both"),
        pytest.param([running("sure", "500m", limits=True), running("burst", "500m")], {"cpu": 400}, ["burst"], id="burstable first"),
        pytest.param([running("free", "0"), running("burst", "500m")], {"pods": 1}, ["free"], id="best effort first"),
        pytest.param([running("a", "100m")], {"cpu": 400}, [], id="not enough"),
        pytest.param([running("peer", "900m", priority=2_000_000_001)], {"cpu": 400}, [], id="never a critical one"),
    ],
)  # fmt: skip
def test_as_few_and_as_unimportant_as_possible_make_room(
    others: list[Victim], short: dict[str, int], gone: list[str]
) -> None:
    assert [p.name for p in preemption.victims(CRITICAL, others, short)] == gone
