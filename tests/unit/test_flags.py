"""A flag wakes whoever waits, as an asyncio.Event does."""

import asyncio

import pytest

from minipod.aio.flags import Flag


async def test_all_that_wait_are_woken_once():
    flag, woken = Flag(), []

    async def wait(name):
        await flag.wait()
        woken.append(name)

    tasks = [asyncio.ensure_future(wait(name)) for name in "ab"]
    await asyncio.sleep(0)
    assert woken == []
    flag.set()
    flag.clear()  # before they have run: they were woken all the same
    await asyncio.gather(*tasks)
    assert sorted(woken) == ["a", "b"]
    assert not flag.is_set()


async def test_a_set_flag_does_not_wait_and_a_cleared_one_does():
    flag = Flag()
    flag.set()
    await flag.wait()
    flag.clear()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(flag.wait(), 0.01)


async def test_a_waiter_that_was_cancelled_disturbs_no_other():
    flag = Flag()
    cancelled, waiting = (asyncio.ensure_future(flag.wait()) for _ in range(2))
    await asyncio.sleep(0)
    cancelled.cancel()
    flag.set()
    await waiting
    with pytest.raises(asyncio.CancelledError):
        await cancelled
