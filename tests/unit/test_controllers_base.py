"""The informer, the queue and the base of the controllers."""

from __future__ import annotations

import asyncio

import pytest

from minipod.aio.tasks import guard
from minipod.api.informer import SLICE, Informer
from minipod.controllers.controller import Controller, Informers, WorkQueue
from minipod.controllers.selectors import matches
from minipod.errors import Conflict
from tests.fakes.store import FakeStore


def named(name: str, **more) -> dict:
    return {"metadata": {"name": name, "namespace": "a"}, **more}


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


@pytest.fixture
async def informed():
    store = FakeStore()
    await store.create("things", "a", named("first", size=1))
    informer = Informer(store, "things", lambda obj: obj.get("size"))
    heard = []
    informer.subscribe(lambda c: heard.append((c.key[1], c.new, c.old)))
    task = asyncio.create_task(informer.run())
    await informer.synced.wait()
    yield store, informer, heard
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_an_informer_tells_what_is_and_what_changes(informed):
    store, informer, heard = informed
    await store.create("things", "a", named("second", size=2))
    await store.update("things", "a", "first", named("first", size=3))
    await store.delete("things", "a", "second", grace_period=None)
    await settle()
    assert heard == [("first", 1, None), ("second", 2, None), ("first", 3, 1), ("second", None, 2)]
    assert dict(informer.items()) == {("a", "first"): 3}


async def test_what_is_not_kept_is_not_told(informed):
    store, _, heard = informed
    await store.create("things", "a", named("plain"))
    await store.update("things", "a", "first", named("first"))
    await settle()
    assert heard[1:] == [("first", None, 1)]


async def test_informers_of_one_resource_share_one_watch_and_each_remembers_its_own():
    class Counted(FakeStore):
        watches = 0

        def watch(self, *arguments, **options):
            self.watches += 1
            return super().watch(*arguments, **options)

    store = Counted()
    await store.create("things", "a", named("first", size=1, colour="red"))
    informers = Informers(store)
    sizes = informers.of("things", lambda obj: obj.get("size"))
    colours = informers.of("things", lambda obj: obj.get("colour"))
    task = asyncio.create_task(informers.run())
    await informers.synced()
    await store.update("things", "a", "first", named("first", size=2))
    await store.create("things", "a", named("second", colour="blue"))
    await settle()
    assert dict(sizes.items()) == {("a", "first"): 2}
    assert dict(colours.items()) == {("a", "second"): "blue"}
    assert store.watches == 1
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_an_object_that_cannot_be_understood_is_left_out(caplog):
    store = FakeStore()
    await store.create("things", "a", named("odd", size="big"))
    await store.create("things", "a", named("right", size="1"))
    informer = Informer(store, "things", lambda obj: int(obj["size"]))
    task = asyncio.create_task(informer.run())
    await informer.synced.wait()
    assert list(informer.items()) == [(("a", "right"), 1)]
    assert "things a/odd can't be understood" in caplog.text
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_others_get_their_turn_while_many_objects_are_listed():
    """And what they change meanwhile is heard, whether the list has come by it or not."""
    store, count = FakeStore(), 10 * SLICE
    for n in range(count):
        await store.create("things", "a", named(f"{n:04}", size=n))
    informer = Informer(store, "things", lambda obj: obj["size"])
    task = asyncio.create_task(informer.run())
    turns = 0
    while not informer.synced.is_set():
        await asyncio.sleep(0)
        turns += 1
        if turns == 5:
            assert 0 < len(dict(informer.items())) < count
            await store.update("things", "a", "0000", named("0000", size=-1))
            await store.delete("things", "a", f"{count - 1:04}", grace_period=None)
    assert turns >= 10
    await settle()
    found = dict(informer.items())
    assert found[("a", "0000")] == -1
    assert ("a", f"{count - 1:04}") not in found
    assert len(found) == count - 1
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_late_subscriber_hears_of_what_exists(informed):
    _, informer, _ = informed
    heard = []
    informer.subscribe(lambda c: heard.append(c.key))
    assert heard == [("a", "first")]


async def test_a_key_waits_once_and_never_runs_twice_at_once():
    queue: WorkQueue[str] = WorkQueue()
    queue.add("x")
    queue.add("x")
    queue.add("y")
    assert await queue.get() == "x"
    queue.add("x")  # while it is being worked on: afterwards
    assert await queue.get() == "y"
    queue.done("x", failed=False)
    assert await queue.get() == "x"
    queue.done("x", failed=False)
    queue.done("y", failed=False)
    assert not queue._waiting


@pytest.mark.looptime
async def test_a_failure_is_tried_again_ever_later():
    loop = asyncio.get_running_loop()
    queue: WorkQueue[str] = WorkQueue()
    queue.add("x")
    begun, times = loop.time(), []
    for _ in range(5):
        await queue.get()
        times.append(round(loop.time() - begun, 3))
        queue.done("x", failed=True)
    queue.close()
    assert times == [0.0, 0.005, 0.015, 0.035, 0.075]


@pytest.mark.looptime
async def test_the_earlier_of_two_delays_holds():
    loop = asyncio.get_running_loop()
    queue: WorkQueue[str] = WorkQueue()
    queue.add("x", 10.0)
    queue.add("x", 2.0)
    queue.add("x", 5.0)
    begun = loop.time()
    await queue.get()
    assert loop.time() - begun == pytest.approx(2.0, abs=0.01)
    assert not queue._timers


class Flaky(Controller[str]):
    """Fails as often as it is told."""

    name = "flaky"

    def __init__(self, *failures: Exception) -> None:
        super().__init__()
        self.failures = list(failures)
        self.succeeded = asyncio.Event()

    async def reconcile(self, key: str) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.succeeded.set()


@pytest.mark.looptime
async def test_a_controller_survives_its_failures(caplog):
    controller = Flaky(Conflict("changed"), RuntimeError("broken"))
    task = asyncio.create_task(controller.run())
    controller.enqueue("x")
    await controller.succeeded.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert [r.exc_info[0] for r in caplog.records if r.exc_info] == [RuntimeError]


SELECTORS = {
    "nothing selects nothing": (None, {}, False),
    "an empty one selects all": ({}, {"a": "b"}, True),
    "a label": ({"matchLabels": {"a": "b"}}, {"a": "b", "c": "d"}, True),
    "another value": ({"matchLabels": {"a": "b"}}, {"a": "c"}, False),
    "In": ({"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}, {"a": "b"}, True),
    "NotIn, absent": ({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["b"]}]}, {}, True),
    "Exists": ({"matchExpressions": [{"key": "a", "operator": "Exists"}]}, {}, False),
    "DoesNotExist": ({"matchExpressions": [{"key": "a", "operator": "DoesNotExist"}]}, {}, True),
    "both must hold": (
        {"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "c", "operator": "Exists"}]}, {"a": "b"}, False,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("selector", "labels", "expected"), SELECTORS.values(), ids=SELECTORS)
def test_a_selector_matches(selector, labels, expected):
    assert matches(selector, labels) is expected


async def test_a_root_task_that_ends_by_itself_ends_its_group():
    """So a daemon without its controllers, or with roles that nobody follows, does not go on."""

    async def ends() -> None:
        return

    async def owner() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(guard("short", ends()))
            await asyncio.Event().wait()

    with pytest.raises(ExceptionGroup) as raised:
        await owner()
    assert "root task short ended unexpectedly" in str(raised.value.exceptions[0])
