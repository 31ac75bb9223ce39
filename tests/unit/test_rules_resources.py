"""Requests and limits: QoS, cgroups, oom_score_adj, quantities."""

import pytest

from minipod.kubelet.rules import qos, quantity
from tests.pods import pod


def resources(requests=None, limits=None):
    parts = {"requests": requests or {}, "limits": limits or {}}
    return pod(containers=[{"name": "a0", "image": "x", "resources": parts}])


BOTH = {"cpu": "500m", "memory": "64Mi"}


@pytest.mark.parametrize(
    ("subject", "expected", "path", "oom"),
    [
        pytest.param(resources(), "BestEffort", "kubepods/besteffort/podu1", 1000, id="nothing"),
        pytest.param(resources(BOTH, BOTH), "Guaranteed", "kubepods/podu1", -997, id="equal"),
        pytest.param(resources(None, BOTH), "Guaranteed", "kubepods/podu1", -997, id="limits"),
        pytest.param(resources(BOTH), "Burstable", "kubepods/burstable/podu1", 938, id="requests"),
        pytest.param(
            resources({"memory": "1"}), "Burstable", "kubepods/burstable/podu1", 999, id="tiny"
        ),
        pytest.param(
            resources({"memory": "1Gi"}), "Burstable", "kubepods/burstable/podu1", 3, id="all"
        ),
    ],
)
def test_qos(subject, expected, path, oom):
    assert qos.qos_class(subject) == expected
    assert qos.cgroup_path(subject) == path
    assert qos.oom_score_adj(subject, subject.containers[0], 1 << 30) == oom


@pytest.mark.parametrize(
    ("milli", "shares", "quota"),
    [(0, 2, -1), (1, 2, 1000), (100, 102, 10000), (1000, 1024, 100000), (10**6, 262144, 10**8)],
)
def test_shares_and_quota(milli, shares, quota):
    assert (qos.shares(milli), qos.quota(milli)) == (shares, quota)


def test_pod_limits_only_where_every_container_has_one():
    limited = {"name": "a", "image": "x", "resources": {"limits": BOTH}}
    free = {"name": "b", "image": "x"}
    both = qos.pod_resources(pod(containers=[limited, {**limited, "name": "c"}]))
    assert (both.cpu_quota, both.memory_limit) == (100000, 128 << 20)
    one = qos.pod_resources(pod(containers=[limited, free]))
    assert (one.cpu_quota, one.memory_limit, one.cpu_shares) == (None, None, 512)


@pytest.mark.parametrize(
    ("text", "milli"),
    [("1", 1000), ("100m", 100), ("0.5", 500), ("1n", 1), ("2k", 2 * 10**6), ("1e3", 10**6),
     ("1E", 10**21), ("1Ki", 1024000)],
)  # fmt: skip
def test_quantities(text, milli):
    assert quantity.milli(text) == milli
