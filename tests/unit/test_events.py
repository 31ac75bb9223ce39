"""Events are counted, aggregated, limited, and live for an hour; on looptime with the fake store."""

import asyncio

import pytest

from minipod.controllers.events import EventExpiry
from minipod.kubelet.events import EventRecorder
from minipod.kubelet.rules.correlation import PREFIX, Correlator, Occurrence
from minipod.kubelet.rules.pods import Pod
from tests.fakes.store import FakeStore

EPOCH = 1_700_000_000.0
POD = Pod(name="web", uid="u1")


def occurrence(message: str = "m", reason: str = "r", name: str = "web") -> Occurrence:
    return Occurrence(
        namespace="n", kind="Pod", name=name, uid="u", field_path="", type="Normal",
        reason=reason, message=message,
    )  # fmt: skip


def test_the_tenth_similar_event_within_ten_minutes_is_combined():
    correlator = Correlator()
    shown = [correlator.correlate(occurrence(f"m{n}"), float(n)) for n in range(12)]
    assert [s[1] for s in shown if s] == [f"m{n}" for n in range(9)] + [
        f"{PREFIX}m{n}" for n in (9, 10, 11)
    ]
    assert shown[10][0] == shown[11][0]
    later = correlator.correlate(occurrence("m12"), 700.0)
    assert later == (occurrence("m12"), "m12")


def test_the_same_event_is_never_combined():
    correlator = Correlator()
    assert all(correlator.correlate(occurrence(), n * 300.0)[1] == "m" for n in range(50))


def test_an_object_has_twenty_five_events_and_one_more_every_five_minutes():
    correlator = Correlator()
    passed = [correlator.correlate(occurrence(), 0.0) is not None for _ in range(30)]
    assert passed.count(True) == 25
    assert correlator.correlate(occurrence(), 299.0) is None
    assert correlator.correlate(occurrence(), 301.0) is not None
    assert correlator.correlate(occurrence(name="other"), 301.0) is not None


async def test_a_repeated_event_is_one_object_with_a_count():
    store = FakeStore()
    recorder = EventRecorder(store, node_name="node", clock=lambda: EPOCH)
    for _ in range(3):
        recorder.normal(POD, "Pulled", "there")
        await recorder.flush()
    (event,) = [o for (kind, *_), o in store.objects.items() if kind == "events"]
    assert (event["count"], event["reason"]) == (3, "Pulled")


def stored(name: str, last: float) -> dict:
    from minipod.kubelet.rules.render import timestamp

    return {"metadata": {"name": name, "namespace": "n"}, "lastTimestamp": timestamp(last)}


@pytest.mark.looptime
async def test_an_event_goes_an_hour_after_its_last_change():
    def clock() -> float:
        return EPOCH + asyncio.get_running_loop().time()

    store = FakeStore()
    await store.create("events", "n", stored("old", EPOCH - 3000))
    task = asyncio.ensure_future(EventExpiry(store, clock).run())
    await asyncio.sleep(1)
    await store.create("events", "n", stored("new", EPOCH))
    await asyncio.sleep(500)
    names = lambda: {k[2] for k in store.objects}  # noqa: E731
    assert names() == {"old", "new"}
    await store.mutate("events", "n", "new", lambda _: stored("new", EPOCH + 500))
    await asyncio.sleep(200)
    assert names() == {"new"}  # 600 s after the start
    await asyncio.sleep(3000)
    assert names() == {"new"}
    await asyncio.sleep(500)
    assert names() == set()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.looptime
async def test_an_event_lives_an_hour_from_its_write_whatever_time_it_names():
    """Written while the controller runs, and found by it at the start: its creation is newer than what it tells of."""

    def clock() -> float:
        return EPOCH + asyncio.get_running_loop().time()

    store = FakeStore()
    found = stored("found", EPOCH - 90_000)
    found["metadata"]["creationTimestamp"] = stored("", EPOCH)["lastTimestamp"]
    await store.create("events", "n", found)
    task = asyncio.ensure_future(EventExpiry(store, clock).run())
    await asyncio.sleep(100)
    await store.create("events", "n", stored("written", EPOCH - 90_000))
    await asyncio.sleep(3450)
    assert {k[2] for k in store.objects} == {"found", "written"}
    await asyncio.sleep(100)
    assert {k[2] for k in store.objects} == {"written"}
    await asyncio.sleep(100)
    assert not store.objects
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.looptime
@pytest.mark.parametrize("last", ["9999-99-99T99:99:99Z", "9999-01-01T00:00:00Z"])
async def test_no_event_lives_for_ever(last: str):
    """Whatever it says of itself; and one that can't be read ends nobody."""

    def clock() -> float:
        return EPOCH + asyncio.get_running_loop().time()

    store = FakeStore()
    await store.create("events", "n", {**stored("odd", EPOCH), "lastTimestamp": last})
    task = asyncio.ensure_future(EventExpiry(store, clock).run())
    await asyncio.sleep(3500)
    assert store.objects
    await asyncio.sleep(200)
    assert not store.objects
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
