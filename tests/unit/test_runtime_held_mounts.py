"""Descriptors of mount namespaces: each is closed once, behind its container's end or with all others. Excluded: namespaces."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import pytest

from minipod.runtime.held_mounts import HeldMounts
from minipod.spec.ids import ContainerId

ONE, OTHER = ContainerId("one"), ContainerId("other")


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe; the test gives its write end away, and sees at the read end when that is closed."""
    reader, writer = os.pipe2(os.O_NONBLOCK)
    yield reader, writer
    os.close(reader)


def is_closed(reader: int) -> bool:
    try:
        return os.read(reader, 1) == b""
    except BlockingIOError:
        return False


def test_one_is_closed_behind_its_containers_end(pipe) -> None:
    reader, writer = pipe

    async def end() -> None:
        held = HeldMounts()
        held.hold(ONE, writer)
        held.release(OTHER)
        held.release(ONE)
        held.release(ONE)
        assert not is_closed(reader)
        async with asyncio.timeout(60):
            while not is_closed(reader):  # noqa: ASYNC110 a thread closes it
                await asyncio.sleep(0.001)
        held.close()  # closes nothing twice

    asyncio.run(end())


@pytest.mark.parametrize("ended", [False, True])
def test_all_are_closed_at_the_end(pipe, ended: bool) -> None:
    reader, writer = pipe

    async def end() -> None:
        held = HeldMounts()
        held.hold(ONE, writer)
        if ended:
            held.release(ONE)
        held.close()
        assert is_closed(reader)
        held.close()

    asyncio.run(end())


def test_what_comes_for_one_who_is_cancelled_just_then_is_held(pipe) -> None:
    reader, writer = pipe

    async def end() -> None:
        held = HeldMounts()
        created: asyncio.Future[tuple[dict[str, object], list[int]]] = asyncio.Future()
        held.expect(ONE, created)

        async def ask() -> None:
            await created

        asking = asyncio.create_task(ask())
        await asyncio.sleep(0)
        created.set_result(({}, [writer]))
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        held.close()
        assert is_closed(reader)

    asyncio.run(end())


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_is_held_of_one_that_was_not_made(fails: bool) -> None:
    async def end() -> None:
        held = HeldMounts()
        created: asyncio.Future[tuple[dict[str, object], list[int]]] = asyncio.Future()
        held.expect(ONE, created)
        if fails:
            created.set_exception(OSError())
        else:
            created.cancel()
        await asyncio.sleep(0)
        assert not held._held

    asyncio.run(end())
