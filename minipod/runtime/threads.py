"""Calls in a thread that nothing else ever runs in: for code that leaves the daemon's namespaces (setns(2) concerns one thread)."""

from __future__ import annotations

import _thread
import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


async def alone(function: Callable[[], T]) -> T:
    """Return what *function* returns, called in a new thread that ends with it. It goes on when its waiter is cancelled."""
    done: Future[T] = Future()
    done.set_running_or_notify_cancel()

    def run() -> None:
        try:
            done.set_result(function())
        except BaseException as e:  # the waiter's to handle
            done.set_exception(e)

    _thread.start_new_thread(run, ())  # threading.Thread would wait here until it has begun
    return await asyncio.wrap_future(done)
