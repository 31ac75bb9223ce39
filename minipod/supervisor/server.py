"""The supervisor's loop: one selector, one thread, every step non-blocking.

    listener   -> clients (daemon, prober, CRI server)   requests and replies, see `protocol`
    sync pairs -> set-ups under way                       see `minipod.init.sync`
    wakeup fd  -> SIGCHLD: reap; SIGTERM: shut down
    pump       -> "drained"

What a request does is in `requests`; this file moves messages and keeps the tables.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from minipod.cgroups.hierarchy import Hierarchy
from minipod.spec.instance import Instance
from minipod.supervisor import children, protocol, records
from minipod.supervisor.children import Container, Exec, Phase, Process
from minipod.supervisor.outbox import Outbox
from minipod.supervisor.records import ExitRecord
from minipod.supervisor.services import Service, fork_pump
from minipod.supervisor.timers import Timers

logger = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Client:
    """A connection; *subscribed* ones get every event."""

    sock: socket.socket
    subscribed: bool = False


@dataclass(slots=True, kw_only=True)
class Tables:
    """Everything that the supervisor knows, in memory."""

    containers: dict[str, Container] = field(default_factory=dict)
    execs: dict[str, Exec] = field(default_factory=dict)
    by_pid: dict[int, Process] = field(default_factory=dict)
    early: dict[int, ExitRecord] = field(
        default_factory=dict
    )  # ended before their set-up told the pid
    setups: int = 0  # under way; `early` is emptied when there are none


class Supervisor:
    """The loop and its tables. `run` returns after a shutdown."""

    def __init__(self, instance: Instance, hierarchy: Hierarchy, vault_fd: int) -> None:
        self.instance = instance
        self.hierarchy = hierarchy
        self.vault_fd = vault_fd
        # RLIMIT_NOFILE of set-ups, where ours was raised
        self.nofile: tuple[int, int] | None = None
        self.tables = Tables()
        self.services: dict[str, Service] = {}
        self.exited: Callable[[Process, ExitRecord], None] = lambda _p, _r: None
        self.dropped: Callable[[Client], None] = lambda _c: None
        self.dispatch: Callable[[Client, protocol.Message, list[int]], None]
        self._selector = selectors.EpollSelector()
        self._clients: set[Client] = set()
        self._pump: socket.socket | None = None
        self._to_pump: Outbox
        self._running = True
        self._timers = Timers()
        self.call_later = self._timers.call_later
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)

    # -- the loop

    def listen(self) -> None:
        """Take the socket's name over; a request can only come from root (0600 in a 0700 directory).

        It gets its name when it listens: who watches the directory can connect at once.
        """
        path = self.instance.supervisor_socket
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{path}.new")
        old = os.umask(0o177)
        self._listener.bind(f"{path}.new")
        os.umask(old)
        self._listener.listen(64)
        os.rename(f"{path}.new", path)
        self.watch(self._listener, self._accept)
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        self.watch(reader, lambda: self._signalled(os.read(reader, 4096)))

    def run(self) -> None:
        """Serve until `stop`."""
        while self._running:
            for key, _ in self._selector.select(self._timers.timeout()):
                # An earlier callback may have closed it, and another one have got its number.
                if self._selector.get_map().get(key.fd) is key:
                    key.data()
            self._timers.run_due()

    def stop(self) -> None:
        """End the loop after this turn."""
        self._running = False

    def watch(self, source: socket.socket | int, callback: Callable[[], None]) -> None:
        self._selector.register(source, selectors.EVENT_READ, callback)

    def unwatch(self, source: socket.socket | int) -> None:
        """Idempotent. By number: the selector's error would name the socket with both its addresses, two system calls for each exec."""
        try:
            self._selector.unregister(source if isinstance(source, int) else source.fileno())
        except (KeyError, ValueError):
            pass  # never watched, or closed already

    def _signalled(self, numbers: bytes) -> None:
        children.reap(self._ended)
        if signal.SIGTERM in numbers or signal.SIGINT in numbers:
            self.shut_down()

    def shut_down(self) -> None:
        """End our services and the execs, whose ends nobody could tell any more; containers live on and can be adopted.

        With them lives the pump, which holds their stdins and terminals: it ends after the last of them.
        """
        for running in self.tables.execs.values():
            running.signal_session(self.hierarchy, signal.SIGKILL)
        for service in self.services.values():
            if service.name != "pump" or not self._any_runs():
                service.stop()
        self.stop()

    def _any_runs(self) -> bool:
        containers = self.tables.containers.values()
        return any(
            c.phase in (Phase.STARTING, Phase.RUNNING) and c.exit is None for c in containers
        )

    # -- processes

    def _ended(self, pid: int, record: ExitRecord) -> None:
        process = self.tables.by_pid.pop(pid, None)
        if process is not None:
            self.exited(process, record)
            return
        for service in self.services.values():
            if service.pid == pid:
                logger.warning("%s (pid %d) ended with code %d", service.name, pid, record.code)
                self.service_ended(service)
                return
        if self.tables.setups:
            self.tables.early[pid] = record

    def adopt_service(self, service: Service) -> bool:
        """Take a daemon or prober over that still runs; False when there is none."""
        record = records.read_service(self.instance.run_dir, service.name)
        if record is None or (pidfd := records.open_alive(record)) < 0:
            return False
        service.pid = record.pid
        service.started_at = time.monotonic()

        def ended() -> None:
            self.unwatch(pidfd)
            os.close(pidfd)
            self.service_ended(service)

        self.watch(pidfd, ended)
        return True

    def service_ended(self, service: Service) -> None:
        """Start it again: at once, or after a while when it lived too short."""
        wait = service.ended()
        if wait is not None:
            self.call_later(wait, service.start)

    def setup_done(self) -> None:
        """One set-up less under way."""
        self.tables.setups -= 1
        if not self.tables.setups:
            self.tables.early.clear()

    # -- clients

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except BlockingIOError:
            return
        except OSError as e:
            logger.error("a client can't be accepted: %s", e)  # noqa: TRY400 out of descriptors: who is connected goes on
            return
        sock.setblocking(False)
        client = Client(sock)
        self._clients.add(client)
        self.watch(sock, lambda: self._receive(client))

    def _receive(self, client: Client) -> None:
        try:
            message, fds = protocol.receive(client.sock)
        except BlockingIOError:
            return
        except ConnectionError:
            message, fds = None, []
        except ValueError:
            logger.warning("a client sends what is no message: dropped")
            message, fds = None, []
        if message is None:
            self._drop(client)
            return
        self.dispatch(client, message, fds)

    def _drop(self, client: Client) -> None:
        self._clients.discard(client)
        self.unwatch(client.sock)
        client.sock.close()
        for running in list(self.tables.execs.values()):
            if running.owner is client:
                running.signal_session(self.hierarchy, signal.SIGKILL)
        self.dropped(client)

    def reply(
        self, client: Client, message: protocol.Message, fds: list[int] | None = None
    ) -> None:
        """Send; a client that does not read, or is gone, is dropped: nobody may stop the loop."""
        if client not in self._clients:
            return
        try:
            protocol.send(client.sock, message, fds)
        except (BlockingIOError, ConnectionError):
            logger.warning("a client does not read: dropped")
            self._drop(client)

    def broadcast(self, event: protocol.Message) -> None:
        """Tell every subscriber."""
        for client in [c for c in self._clients if c.subscribed]:
            self.reply(client, event)

    # -- the pump

    def start_pump(self, entry: str) -> int:
        """Fork a pump and hand every stream to it that is not drained."""
        if self._pump is not None:
            self.unwatch(self._pump)
            self._pump.close()
            self._to_pump.close()
        pid, self._pump = fork_pump(entry)
        self._attend(self._pump)
        for container in self.tables.containers.values():
            if container.streams.readers:
                self.pump_add(container)
                if container.exit is not None:
                    self.tell_pump({"op": "finish", "id": container.id})
        return pid

    def pump_add(self, container: Container, *, new: bool = False) -> None:
        streams = container.streams
        # of another, another pump has read some
        early = new and container.bundle.process.stdin_once
        message = {"op": "add", "id": container.id, "log": streams.log_path, "early": early}
        self.tell_pump({**message, "limit": self.instance.log_max_bytes}, streams.for_the_pump())

    def tell_pump(self, message: protocol.Message, fds: list[int] | None = None) -> None:
        """Pass a message on; a dead pump hears it again when it is started anew."""
        if self._pump is not None:
            self._to_pump.send(message, fds or [])

    def _attend(self, sock: socket.socket) -> None:
        """Listen to a new pump; and when it is behind with reading, tell it the rest as it goes on."""

        def ready() -> None:
            self._from_pump(sock)
            outbox.flush()

        def watch_writable(wanted: bool) -> None:
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if wanted else 0)
            if sock in self._selector.get_map():  # else it has ended
                self._selector.modify(sock, events, ready)

        outbox = self._to_pump = Outbox(sock, watch_writable)
        self.watch(sock, ready)

    def _from_pump(self, sock: socket.socket) -> None:
        try:
            message, _ = protocol.receive(sock)
        except BlockingIOError:
            return
        except ConnectionError:
            message = None
        if message is None:
            self.unwatch(sock)
            return
        if message.get("op") == "drained":
            container = self.tables.containers.get(message["id"])
            if container is not None:
                container.drained = True
                container.streams.close()
        self.broadcast({"event": message["op"], "id": message["id"]})
