"""Flights: protocol code written as coroutines over non-blocking sockets, without asyncio's tasks and futures.

    attempt = http.ask(...)         a coroutine; where it would block it awaits `readable(sock)` or `writable(sock)`
    engine.start(attempt, ...)      runs it until it waits, and on from there when epoll says so

Most of what a probe does is over before anything would block (on one host a handshake ends within connect(2)), so an attempt
costs a few system calls and no turn of the loop. All sockets share one epoll descriptor, which the loop watches as a single
reader. At its time limit a flight gets `Deadline` thrown in, so that the protocol says what it was waiting for. A wake-up
may be spurious: a coroutine tries again and waits again. `drive` runs the same coroutine as an ordinary part of asyncio.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import types
from collections.abc import Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from minipod.kubelet.probe.timers import Timer, Timers

T = TypeVar("T")

# socket.socket costs 2 us more to make and to close than the type beneath it: its Python half.
Socket = socket.SocketType
Wait = tuple[Socket, int]  # and EPOLLIN or EPOLLOUT
_IN, _OUT = select.EPOLLIN, select.EPOLLOUT


class Deadline(Exception):
    """The flight's time is over; thrown into it where it waits."""


@types.coroutine
def readable(sock: Socket) -> Generator[Wait, None, None]:
    """Wait until *sock* may be read. Raises Deadline."""
    yield (sock, _IN)


@types.coroutine
def writable(sock: Socket) -> Generator[Wait, None, None]:
    """Wait until *sock* may be written. Raises Deadline."""
    yield (sock, _OUT)


class Flight:
    """One coroutine under way."""

    __slots__ = ("coro", "done", "fd", "mask", "sock", "timer")

    def __init__(self, coro: Coroutine[Wait, None, Any], done: Callable[[Any], None]) -> None:
        self.coro = coro
        self.done = done
        self.sock: Socket | None = None  # what it waits for; epoll knows it under *fd* with *mask*
        self.fd = -1
        self.mask = 0
        self.timer: Timer | None = None


class Engine:
    """Runs flights on the running loop. Not for threads."""

    def __init__(self, timers: Timers) -> None:
        self._timers = timers
        self._loop = asyncio.get_running_loop()
        self._epoll = select.epoll()
        self._waiting: dict[int, Flight] = {}
        self._loop.add_reader(self._epoll.fileno(), self._ready)

    def start(
        self,
        coro: Coroutine[Wait, None, T],
        due: float,
        done: Callable[[T | Exception], None],
    ) -> Flight:
        """Run *coro*; *done* gets its value, or the exception that it ended with, perhaps before this call returns.

        Args:
            coro: what to run; it awaits nothing but `readable` and `writable`.
            due: the loop's time at which `Deadline` is thrown into it.
            done: called exactly once, unless the flight is cancelled.
        """
        flight = Flight(coro, done)
        self._step(flight)
        if flight.sock is not None and self._waiting.get(flight.fd) is flight:
            flight.timer = self._timers.at(due, lambda: self._expired(flight))
        return flight

    def cancel(self, flight: Flight) -> None:
        """End it without a word; its sockets are closed. Idempotent."""
        self._landed(flight)
        flight.coro.close()

    def close(self) -> None:
        """End all flights."""
        for flight in list(self._waiting.values()):
            self.cancel(flight)
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def _ready(self) -> None:
        waiting = self._waiting
        for fd, _ in self._epoll.poll(0):
            flight = waiting.pop(fd, None)
            if flight is not None:
                self._step(flight)

    def _expired(self, flight: Flight) -> None:
        """What has come in time counts, even if we are late to look; only then is it over."""
        del self._waiting[flight.fd]
        self._step(flight)
        if self._waiting.get(flight.fd) is flight:
            del self._waiting[flight.fd]
            self._step(flight, Deadline())

    def _step(self, flight: Flight, error: Exception | None = None) -> None:
        outcome: Any
        try:
            if error is None:
                sock, mask = flight.coro.send(None)
            else:
                sock, mask = flight.coro.throw(error)
        except StopIteration as end:
            outcome = end.value
        except Exception as failure:
            outcome = failure
        else:
            self._wait(flight, sock, mask)
            return
        self._landed(flight)
        flight.done(outcome)

    def _wait(self, flight: Flight, sock: Socket, mask: int) -> None:
        """Level-triggered: who waits again for the same costs no system call."""
        if flight.sock is not sock:  # its number may be that of one before it
            self._forget(flight)
            flight.sock, flight.fd = sock, sock.fileno()
            self._epoll.register(flight.fd, mask)
        elif flight.mask != mask:
            self._epoll.modify(flight.fd, mask)
        flight.mask = mask
        self._waiting[flight.fd] = flight

    def _landed(self, flight: Flight) -> None:
        if self._waiting.get(flight.fd) is flight:
            del self._waiting[flight.fd]
        self._forget(flight)
        if flight.timer is not None:
            self._timers.cancel(flight.timer)

    def _forget(self, flight: Flight) -> None:
        """Watch its socket no more: another flight may use it. One that was closed is out already."""
        if flight.sock is not None:
            with contextlib.suppress(OSError):
                self._epoll.unregister(flight.fd)
            flight.sock = None


async def drive(coro: Coroutine[Wait, None, T], time_limit: float) -> T:
    """Run *coro* inside asyncio, for at most *time_limit* seconds."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + time_limit
    try:
        sock, mask = coro.send(None)
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    await _wait_for(loop, sock.fileno(), mask)
            except TimeoutError:
                coro.send(None)  # what has come in time counts, even if we are late to look
                sock, mask = coro.throw(Deadline())
            else:
                sock, mask = coro.send(None)
    except StopIteration as end:
        value: T = end.value
        return value
    finally:
        coro.close()


async def _wait_for(loop: asyncio.AbstractEventLoop, fd: int, mask: int) -> None:
    ready = asyncio.Event()
    add, remove = (
        (loop.add_reader, loop.remove_reader)
        if mask == _IN
        else (loop.add_writer, loop.remove_writer)
    )
    add(fd, ready.set)
    try:
        await ready.wait()
    finally:
        remove(fd)
