"""A server that answers probes, and what one probe costs the prober: `python -m benchmarks.probing COUNT` prints {kind: microseconds}.

CPU of one TCP and one HTTP probe, 64 under way at once, by getrusage(2) of this process alone: its heap and its scheduling are the
prober's. The load stays on loopback: the server is a process of its own with a socket on each of 100 addresses of 127.1.0.0/16.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import os
import resource
import select
import socket
import sys
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any

from minipod.kubelet.probe import http, tcp
from minipod.kubelet.probe.flight import Engine
from minipod.kubelet.probe.prober import prefer
from minipod.kubelet.probe.targets import HttpGet
from minipod.kubelet.probe.timers import Timers

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

AT_ONCE = 64
ADDRESSES = [f"127.1.0.{n}" for n in range(1, 101)]
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nok\n"
Asked = Callable[[], Coroutine[Any, Any, Any]]


def serve(told: Connection) -> None:
    """Answer every request head on every address, on one port that is free on all."""
    epoll, listening, connected = select.epoll(), {}, {}
    port = 0
    for address in ADDRESSES:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
        sock.listen(256)
        sock.setblocking(False)
        port = sock.getsockname()[1]
        listening[sock.fileno()] = sock
        epoll.register(sock.fileno(), select.EPOLLIN)
    told.send(port)
    while True:
        for fd, _ in epoll.poll():
            if (sock := listening.get(fd)) is not None:
                _accept(sock, epoll, connected)
            else:
                _answer(fd, connected)


def _accept(sock: socket.socket, epoll: select.epoll, connected: dict[int, socket.socket]) -> None:
    with contextlib.suppress(BlockingIOError):
        while True:
            made, _ = sock.accept()
            made.setblocking(False)
            connected[made.fileno()] = made
            epoll.register(made.fileno(), select.EPOLLIN)


def _answer(fd: int, connected: dict[int, socket.socket]) -> None:
    try:
        if connected[fd].recv(4096):
            connected[fd].send(ANSWER)
            return
    except OSError:  # reset, as probes do
        pass
    connected.pop(fd).close()


@contextlib.contextmanager
def server() -> Iterator[int]:
    """Yield the port."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(theirs,), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        process.kill()
        process.join()


def cpu(kind: str, port: int, count: int) -> float:
    """Return the CPU of one probe in microseconds; *kind* is "tcp" or "http"."""
    if kind == "http":
        requests = [http.request(HttpGet(host=a, port=port, path="/healthz"), a) for a in ADDRESSES]
        made: list[Asked] = [lambda request=r: http.ask(request) for r in requests]
    else:
        made = [lambda a=a: tcp.ask(a, port) for a in ADDRESSES]
    before = used()
    asyncio.run(_many(made, count))
    return (used() - before) / count * 1e6


async def _many(made: list[Asked], count: int) -> None:
    loop = asyncio.get_running_loop()
    timers = Timers(loop)
    engine, done, left, flying = Engine(timers), loop.create_future(), count, 0

    def landed(attempt: Any) -> None:
        nonlocal flying
        flying -= 1
        if isinstance(attempt, Exception) or attempt.outcome.value != "success":
            raise RuntimeError(f"the server does not keep up: {attempt}")
        if left:
            loop.call_soon(fly)
        elif not flying and not done.done():
            done.set_result(None)

    def fly() -> None:
        nonlocal left, flying
        if left:
            left, flying = left - 1, flying + 1
            engine.start(made[left % len(made)](), loop.time() + 10, landed)

    for _ in range(AT_ONCE):
        loop.call_soon(fly)
    await done
    engine.close()
    timers.close()


def used() -> float:
    """Return the CPU seconds of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def alone() -> None:
    """Run before the machine's other work, which is not to be measured (sched(7), autogroup): in a session of our own."""
    prefer()  # as the prober does; the server inherits both
    with contextlib.suppress(OSError):
        os.setsid()
        with open("/proc/self/autogroup", "w", encoding="ascii") as f:
            f.write("-10")


if __name__ == "__main__":
    alone()
    with server() as port:
        print(json.dumps({kind: cpu(kind, port, int(sys.argv[1])) for kind in ("http", "tcp")}))
