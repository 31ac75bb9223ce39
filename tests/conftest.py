"""What tests may ask for, `requires(...)`, and that nothing is left behind on the real kernel."""

from __future__ import annotations

import ast
import asyncio
import functools
import gc
import os
import signal
import socket
import threading
from typing import TYPE_CHECKING, Any

import hypothesis
import looptime
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

# The same examples in every run: what a random scene finds is looked for on purpose, with --hypothesis-profile=default.
# How long one takes says more about the machine than about us.
hypothesis.settings.register_profile(
    "repeatable",
    derandomize=True,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("repeatable")

_parse, _parsing = ast.parse, threading.RLock()


@functools.wraps(_parse)
def _parse_undisturbed(*args: Any, **more: Any) -> ast.AST:
    """Parse without garbage collection, whose callbacks and finalizers may parse too, or let a thread run that does.

    Python before 3.11.8 cannot parse inside of parsing: "AST constructor recursion depth mismatch" (CPython issue 106905). pytest
    parses every module that it rewrites, traceback and hypothesis parse what they show.
    """
    with _parsing:
        collecting = gc.isenabled()
        gc.disable()
        try:
            return _parse(*args, **more)
        finally:
            if collecting:
                gc.enable()


ast.parse = _parse_undisturbed

_in_thread = looptime.LoopTimeEventLoop.run_in_executor


def _at_once(self: looptime.LoopTimeEventLoop, executor: Any, work: Any, *args: Any) -> Any:
    """In virtual time a thread takes none: looptime lets its clock go on by what one really took, on a loaded machine a second."""
    if not self.looptime_on:
        return _in_thread(self, executor, work, *args)
    done = self.create_future()
    try:
        done.set_result(work(*args))
    except Exception as e:
        done.set_exception(e)
    return done


looptime.LoopTimeEventLoop.run_in_executor = _at_once

# A shell without job control starts what runs in the background with SIGINT ignored, and so would be all that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    # Typed keys of requests need aiohttp 3.14; we ask for 3.12.
    config.addinivalue_line("filterwarnings", "ignore:It is recommended to use web.RequestKey")


def _sctp() -> bool:
    """Whether the kernel has SCTP; where it is a module the question loads it."""
    try:
        socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP).close()
    except OSError:
        return False
    return True


FEATURES = {
    "root": lambda: os.geteuid() == 0,
    "cgroup2": lambda: os.path.exists("/sys/fs/cgroup/cgroup.controllers"),
    "cgroup1": lambda: os.path.isdir("/sys/fs/cgroup/memory"),
    "unified": lambda: any(
        os.path.exists(f"/sys/fs/cgroup/{d}cgroup.procs") for d in ("", "unified/")
    ),
    "systemd": lambda: (
        os.path.isdir("/run/systemd/system") and _read("/proc/1/comm") == b"systemd\n"
    ),
    "sctp": _sctp,
    "overlay": lambda: b"overlay" in _read("/proc/filesystems"),
}


def _read(path: str) -> bytes:
    with open(path, "rb") as f:
        return f.read()


def has(feature: str) -> bool:
    """Whether this machine has *feature*: a name of FEATURES, or kernel>=X.Y."""
    if feature.startswith("kernel>="):
        wanted = tuple(int(n) for n in feature.removeprefix("kernel>=").split("."))
        running = tuple(int(n) for n in os.uname().release.split("-")[0].split(".")[:2])
        return running >= wanted
    return bool(FEATURES[feature]())


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("requires"):
        for feature in marker.args:
            if not has(feature):
                pytest.skip(f"this machine has no {feature}")


@pytest.fixture(scope="session", autouse=True)
def _main_thread_loop() -> Iterator[None]:
    """Own the loop pytest-asyncio asks for first: on 3.11 asking makes one that nobody closes."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    loop.close()
