"""The node's heartbeat: lease and conditions, in the loop's time."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from minipod.kubelet.heartbeat import Heartbeat, conditions
from tests.fakes.store import FakeStore

START = 1_800_000_000.0


@contextlib.asynccontextmanager
async def beating():
    """A store with a node, its heartbeat, and what the node runs short of."""
    store, short = FakeStore(), [()]
    node = {"metadata": {"name": "n", "uid": "u"}, "status": {"capacity": {}}}
    await store.create("nodes", "", node)
    loop = asyncio.get_running_loop()
    begun = loop.time()
    made = Heartbeat(store, "n", lambda: short[0], lambda: START + loop.time() - begun)
    await made.beat()
    task = asyncio.create_task(made.run())
    try:
        yield store, short
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def writes(store: FakeStore, resource: str) -> int:
    return sum(1 for _, r, _ in store.writes if r == resource)


@pytest.mark.looptime
async def test_the_lease_is_renewed_every_ten_seconds():
    async with beating() as (store, _):
        lease = store.objects["leases", "kube-node-lease", "n"]
        assert lease["spec"]["holderIdentity"] == "n"
        assert lease["spec"]["renewTime"].startswith("2027-01-15T08:00:00.")
        assert lease["metadata"]["ownerReferences"][0]["uid"] == "u"
        await asyncio.sleep(10.5)
        renewed = store.objects["leases", "kube-node-lease", "n"]["spec"]["renewTime"]
        assert "2027-01-15T08:00:09.9" < renewed < "2027-01-15T08:00:10.5"
        await asyncio.sleep(50)
        assert writes(store, "leases") == 7


@pytest.mark.looptime
async def test_conditions_are_written_when_they_change_and_every_five_minutes():
    async with beating() as (store, short):
        await asyncio.sleep(295)
        assert writes(store, "nodes") == 2  # its birth, the first report
        await asyncio.sleep(20)
        assert writes(store, "nodes") == 3
        short[0] = ("MemoryPressure",)
        await asyncio.sleep(10)
        assert writes(store, "nodes") == 4
        told = {c["type"]: c for c in store.objects["nodes", "", "n"]["status"]["conditions"]}
        assert told["MemoryPressure"]["reason"] == "KubeletHasInsufficientMemory"
        assert told["Ready"]["lastTransitionTime"] == "2027-01-15T08:00:00Z"
        assert store.objects["nodes", "", "n"]["status"]["capacity"] == {}


@pytest.mark.looptime
async def test_a_lease_that_somebody_deleted_comes_back():
    async with beating() as (store, _):
        await store.delete("leases", "kube-node-lease", "n", grace_period=0)
        await asyncio.sleep(10.5)
        assert ("leases", "kube-node-lease", "n") in store.objects


def test_a_transition_has_the_time_of_its_change():
    first = conditions((), [], "t1")
    second = conditions(("DiskPressure",), first, "t2")
    times = {c["type"]: c["lastTransitionTime"] for c in second}
    assert times == {
        "MemoryPressure": "t1",
        "DiskPressure": "t2",
        "PIDPressure": "t1",
        "Ready": "t1",
    }
    assert {c["lastHeartbeatTime"] for c in second} == {"t2"}


def test_conditions_of_others_are_kept():
    other = {"type": "Frobbed", "status": "True"}
    assert conditions((), [other], "t1")[0] == other
