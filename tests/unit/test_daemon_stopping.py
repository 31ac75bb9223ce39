"""`minipod down` waits for pods as long as they may take, and no longer. Excluded: what makes a pod stay."""

import asyncio

import pytest

from minipod.daemon.stopping import AFTER_GRACE, stop_pods
from tests.fakes.kubelet import clock
from tests.fakes.store import FakeStore

pytestmark = [pytest.mark.looptime, pytest.mark.asyncio]


def pod(name: str, grace: int) -> dict:
    return {
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"terminationGracePeriodSeconds": grace},
    }


async def no_static_pods() -> None:
    pass


async def ends(store: FakeStore, name: str, after: float) -> None:
    await asyncio.sleep(after)
    await store.delete("pods", "default", name, grace_period=0)


@pytest.fixture
async def store():
    made = FakeStore()
    await made.create("pods", "default", pod("web", 5))
    await made.create("pods", "default", pod("slow", 300))
    return made


async def test_it_waits_until_the_last_one_is_gone(store):
    began = clock()
    ending = [asyncio.ensure_future(ends(store, n, t)) for n, t in (("web", 4), ("slow", 290))]
    assert await stop_pods(store, no_static_pods) == []
    assert clock() - began == pytest.approx(290)
    await asyncio.gather(*ending)
    assert not store.objects


async def test_a_pod_that_stays_is_named(store):
    began = clock()
    ending = asyncio.ensure_future(ends(store, "web", 4))
    assert await stop_pods(store, no_static_pods) == ["default/slow"]
    assert clock() - began == pytest.approx(300 + AFTER_GRACE)
    await ending


async def test_static_pods_that_stay_hold_nothing_up_for_ever(store):
    async def never() -> None:
        await asyncio.Event().wait()

    assert await stop_pods(store, never) == ["default/slow", "default/web"]


async def test_a_node_without_pods_waits_for_nothing():
    began = clock()
    assert await stop_pods(FakeStore(), no_static_pods) == []
    assert clock() == began
