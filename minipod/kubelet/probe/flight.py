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
import select
import socket
import types
from collections.abc import Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from minipod.kubelet.probe.timers import Timer, Timers

T = TypeVar("T")


class Socket(socket.SocketType):
    """What is beneath `socket.socket`, whose Python half costs 2 us more to make and to close."""

    __slots__ = ("pool",)

    pool: list[Socket]  # where it goes when its connection has ended


Wait = tuple[Socket, int]  # and EPOLLIN or EPOLLOUT
_IN, _OUT, _ONCE = select.EPOLLIN, select.EPOLLOUT, select.EPOLLONESHOT
_NEVER = float("inf")


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

    __slots__ = ("coro", "done", "due", "fd")

    def __init__(
        self, coro: Coroutine[Wait, None, Any], due: float, done: Callable[[Any], None]
    ) -> None:
        self.coro = coro
        self.due = due
        self.done = done
        self.fd = -1  # what it waits for


class Engine:
    """Runs flights on the running loop. Not for threads."""

    def __init__(self, timers: Timers) -> None:
        self._timers = timers
        self._loop = asyncio.get_running_loop()
        self._epoll = select.epoll()
        self._waiting: dict[int, Flight] = {}
        self._timer: Timer | None = None  # due with the first time limit, or earlier
        self._loop.add_reader(self._epoll.fileno(), self._ready)

    def start(
        self,
        coro: Coroutine[Wait, None, T],
        due: float,
        done: Callable[[T | Exception], None],
    ) -> Flight | None:
        """Run *coro*; *done* gets its value, or the exception that it ended with, perhaps before this call returns None.

        Args:
            coro: what to run; it awaits nothing but `readable` and `writable`.
            due: the loop's time at which `Deadline` is thrown into it.
            done: called exactly once, unless the flight is cancelled.
        """
        outcome: T | Exception
        try:
            sock, mask = coro.send(None)
        except StopIteration as end:
            outcome = end.value
        except Exception as failure:
            outcome = failure
        else:
            flight = Flight(coro, due, done)
            self._wait(flight, sock.fileno(), mask)
            return flight
        done(outcome)
        return None

    def cancel(self, flight: Flight) -> None:
        """End it without a word; its sockets are closed. Idempotent."""
        self._stop_waiting(flight)
        flight.coro.close()

    def close(self) -> None:
        """End all flights."""
        for flight in list(self._waiting.values()):
            self.cancel(flight)
        if self._timer is not None:
            self._timers.cancel(self._timer)
        self._loop.remove_reader(self._epoll.fileno())
        self._epoll.close()

    def _ready(self) -> None:
        waiting = self._waiting
        for fd, _ in self._epoll.poll(0):
            flight = waiting.pop(fd, None)
            if flight is not None:
                self._step(flight)

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
            self._wait(flight, sock.fileno(), mask)
            return
        flight.done(outcome)

    def _wait(self, flight: Flight, fd: int, mask: int) -> None:
        """Tell epoll, which tells once; it knows the sockets that were used before until they are closed."""
        try:
            self._epoll.modify(fd, mask | _ONCE)
        except FileNotFoundError:
            self._epoll.register(fd, mask | _ONCE)
        flight.fd = fd
        self._waiting[fd] = flight
        if self._timer is None or flight.due < self._timer.due:
            self._await_limit(flight.due)

    def _stop_waiting(self, flight: Flight) -> bool:
        """Whether it waited."""
        if self._waiting.get(flight.fd) is not flight:
            return False
        del self._waiting[flight.fd]
        return True

    # -- time limits: one timer for the first of them, which most flights end before

    def _await_limit(self, due: float) -> None:
        if self._timer is not None:
            if self._timer.due <= due:
                return
            self._timers.cancel(self._timer)
        self._timer = self._timers.at(due, self._limit) if due < _NEVER else None

    def _limit(self) -> None:
        now, self._timer = self._loop.time(), None
        for flight in [flight for flight in self._waiting.values() if flight.due <= now]:
            self._expired(flight)
        self._await_limit(min((flight.due for flight in self._waiting.values()), default=_NEVER))

    def _expired(self, flight: Flight) -> None:
        """What has come in time counts, even if we are late to look; only then is it over."""
        if self._stop_waiting(flight):
            self._step(flight)
        if self._stop_waiting(flight):
            flight.due = _NEVER
            self._step(flight, Deadline())


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
