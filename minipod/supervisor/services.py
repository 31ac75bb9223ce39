"""The node's other processes: log pump, prober and daemon, forked from here to share memory, before they have threads or asyncio.

Each that dies is started again: at once, and after a second when it lived less than that. Entry points are handed over by name
by the composition root, since a lower layer imports no higher one; what they import, they import after the fork.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import socket
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn

from minipod.linux import prctl, process
from minipod.supervisor import ENDED
from minipod.supervisor.records import ServiceRecord, write_service

_HANDLED = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
QUICK = 1.0  # seconds; a service that lived shorter waits that long before the next try


@dataclass(slots=True, kw_only=True)
class Service:
    """One process of the node. *spawn* forks it and returns its pid (and sets what it needs)."""

    name: str
    spawn: Callable[[], int]
    run_dir: str
    pid: int = 0
    started_at: float = 0.0  # monotonic
    wanted: bool = True
    ready_fd: int = -1  # who waits for it at the other end hears of each of its ends, too

    def start(self) -> None:
        if not self.wanted:
            return
        self.started_at = time.monotonic()
        self.pid = self.spawn()
        record = ServiceRecord(pid=self.pid, start_time=process.start_time(self.pid))
        write_service(self.run_dir, self.name, record)

    def ended(self) -> float | None:
        """Note the end; return the seconds until it is to start again, None for never."""
        self.pid = 0
        if self.ready_fd >= 0:
            with contextlib.suppress(OSError):  # nobody waits any more
                os.write(self.ready_fd, ENDED)
        if not self.wanted:
            return None
        return 0.0 if time.monotonic() - self.started_at >= QUICK else QUICK

    def stop(self, number: int = signal.SIGTERM) -> None:
        self.wanted = False
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                # an adopted one: its parent has reaped it
                os.kill(self.pid, number)


@contextmanager
def _signals_waiting() -> Iterator[None]:
    """Fork inside: a signal to the child waits until that has left our handlers behind (`_clean`). They would take it for ours, and an
    order to end, given at its birth, would be lost."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HANDLED)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def fork_pump(entry: str) -> tuple[int, socket.socket]:
    """Fork the log pump; return its pid and our end of its control socket."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    with _signals_waiting():
        pid = os.fork()
        if pid == 0:
            _become("minipod:[pump]", (theirs.fileno(),), entry, theirs.fileno())
    theirs.close()
    return pid, ours


def fork_service(title: str, entry: str, *arguments: object, keep: tuple[int, ...] = ()) -> int:
    """Fork a service that needs nothing but its arguments, and of our descriptors those in *keep*; return its pid."""
    with _signals_waiting():
        pid = os.fork()
        if pid == 0:
            _become(title, keep, entry, *arguments)
    return pid


def _become(title: str, keep: tuple[int, ...], entry: str, *arguments: object) -> NoReturn:
    code = 1
    try:
        _clean(keep)
        prctl.set_title(title)
        module, _, function = entry.partition(":")
        getattr(importlib.import_module(module), function)(*arguments)
        code = 0
    except SystemExit as e:
        code = e.code if isinstance(e.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _clean(keep: tuple[int, ...]) -> None:
    signal.set_wakeup_fd(-1)
    process.close_all_but((0, 1, 2, *keep))
    for number in _HANDLED:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.setsid()
