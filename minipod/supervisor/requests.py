"""What clients may ask of the supervisor: one method per request.

A request that forks is answered when its set-up said ready (or failed), so replies come in any order; `n` pairs them.
What follows after the fork is in `setups`.
"""

from __future__ import annotations

import logging
import os
import signal

from minipod import errors
from minipod.init import launch, plan
from minipod.init.filesystem import MountRoot
from minipod.init.identity import compiled_filter
from minipod.init.operation import Context
from minipod.init.sandbox import sandbox_plan
from minipod.init.sync import Unheard
from minipod.linux import fds, small_files
from minipod.spec.bundle import Bundle, SandboxBundle
from minipod.spec.codec import dumps, loads
from minipod.spec.sandbox import NamespaceMode
from minipod.supervisor import protocol
from minipod.supervisor.children import Container, Phase, SandboxSetup
from minipod.supervisor.execs import Execs
from minipod.supervisor.server import Client, Supervisor
from minipod.supervisor.setups import Setups
from minipod.supervisor.streams import Streams

logger = logging.getLogger(__name__)


class Requests:
    """The verbs; connects itself to the supervisor."""

    def __init__(self, supervisor: Supervisor, setups: Setups) -> None:
        self._s = supervisor
        self._setups = setups
        self._tables = supervisor.tables
        self._execs = Execs(supervisor, setups)
        self._cgroups = plan.cgroup_mounts(supervisor.hierarchy)
        supervisor.dispatch = self._dispatch

    def _dispatch(self, client: Client, message: protocol.Message, received: list[int]) -> None:
        n = message.get("n", 0)
        handler = getattr(self, f"on_{message.get('op')}", None)
        try:
            if handler is None:
                raise errors.NotFound(  # noqa: TRY301 answered like any other
                    f"no such request: {message.get('op')!r}"
                )
            answer = handler(client, message, received)
        except Exception as e:
            if not isinstance(e, errors.MinipodError):
                logger.exception("request %s failed", message.get("op"))
            self._s.reply(client, {"n": n, "error": protocol.error_to_message(e)})
        else:
            if answer is not None:
                self._s.reply(client, {"n": n, "ok": answer})
        finally:
            for fd in received:
                os.close(fd)

    # -- sandboxes

    def on_sandbox(self, client: Client, message: protocol.Message, received: list[int]) -> None:
        """Make a sandbox that needs a process for it: one with a user namespace. Answered with its namespaces and the fd of its network."""
        bundle = loads(SandboxBundle, fds.read_sealed(received[0]))
        setup = SandboxSetup(id=bundle.id)
        self._setups.askers.add(setup, client, message["n"])
        self._setups.fork(setup, sandbox_plan(bundle), bundle.title, bundle.fail_at)

    # -- containers

    def on_create(self, client: Client, message: protocol.Message, received: list[int]) -> None:
        """Build the container that its record asks for, and park it; answered with its pid, when that was made, and an fd of its mounts.

        *received* may have the detached mount of its root. The long way does not take it, and mounts another of the same directories.
        """
        if message["id"] in self._tables.containers:
            raise errors.AlreadyExists(f"container {message['id']} exists")
        record = f"{self._s.instance.run_dir}/containers/{message['id']}/bundle.json"
        bundle = loads(Bundle, small_files.read(record))
        streams = Streams(
            directory=bundle.directory,
            log_path=bundle.log_path,
            tty=bundle.process.tty,
            stdin=bundle.process.stdin,
        )
        try:
            self._s.hierarchy.make_unified(bundle.cgroup)
        except OSError as e:
            raise errors.SetupFailed(
                "cgroup: create", errno=e.errno or 0, subject=bundle.cgroup
            ) from e
        container = Container(id=bundle.id, bundle=bundle, streams=streams)
        made = plan.container_plan(bundle, self._cgroups)
        program = compiled_filter(bundle.process, privileged=bundle.privileged)
        try:
            streams.make()
            target = self._target(bundle)
        except BaseException:
            streams.close()
            raise
        self._tables.containers[bundle.id] = container
        self._setups.askers.add(container, client, message["n"])

        def long_way() -> None:
            self._setups.fork(
                container, made, bundle.title, bundle.fail_at, target=target, program=program
            )

        container.long_way = long_way
        if bundle.pid is NamespaceMode.TARGET:
            self._execs.begin_anew(bundle.sandbox_id)
        context = Context(
            sync=Unheard(), hierarchy=self._s.hierarchy, filter=program, nofile=self._s.nofile
        )
        if received:
            context.fds["root"] = received[0]
        short = launch.takes_container(bundle)
        if not (short and self._setups.launch(container, made, context, bundle.title, bundle.fail_at)):  # fmt: skip
            if received:
                os.close(received.pop())  # which unmounts it
                MountRoot(root=bundle.rootfs).forget()
            long_way()
            container.let_go()

    def _target(self, bundle: Bundle) -> int:
        """Return a pidfd of the process whose pid namespace is joined, -1: none is. Copied from ours: its pid may be another's by now."""
        if bundle.pid is not NamespaceMode.TARGET:
            return -1
        for container in self._tables.containers.values():
            if container.pid == bundle.target_pid and container.pidfd >= 0:
                return os.dup(container.pidfd)
        raise errors.FailedPrecondition(
            f"process {bundle.target_pid}, whose pid namespace was to be joined, has ended"
        )

    def on_start(self, client: Client, message: protocol.Message, _: list[int]) -> None:
        """Let a container execve, when it is created; answered when it has, or with SetupFailed."""
        container = self._container(message["id"])
        if container.phase is Phase.SETTING_UP and container.starter is None:
            self._setups.go_when_ready(container, client, message["n"])
            return
        if container.phase is not Phase.CREATED or container.sync is None:
            raise errors.FailedPrecondition(f"container {container.id} is {container.phase.value}")
        self._setups.askers.add(container, client, message["n"])
        self._setups.go(container)

    def on_signal(self, _: Client, message: protocol.Message, __: list[int]) -> protocol.Message:
        """Signal a container's main process."""
        return {"sent": self._container(message["id"]).send_signal(message["signal"])}

    def on_forget(self, _: Client, message: protocol.Message, __: list[int]) -> protocol.Message:
        """Drop an ended container from the tables (or give its set-up up), and remove *cgroups* where they are empty.

        Answered with those that are not: they are the caller's to remove, as its directory is.
        """
        container = self._tables.containers.get(message["id"])
        if container is not None and container.phase is Phase.SETTING_UP:
            self._setups.abort(container)  # drops it, too
        elif container is not None:
            if container.phase in (Phase.RUNNING, Phase.STARTING) and container.exit is None:
                raise errors.FailedPrecondition(f"container {container.id} is running")
            del self._tables.containers[container.id]
            if not container.drained and container.streams.readers:
                self._s.tell_pump({"op": "finish", "id": container.id})
            container.streams.close()
            self._setups.close(container)
        remove = self._s.hierarchy.remove_empty
        return {"left": [cgroup for cgroup in message["cgroups"] if not remove(cgroup)]}

    def on_list(self, client: Client, message: protocol.Message, _: list[int]) -> None:
        """All containers, in a sealed memfd (the list may be longer than a message)."""
        listed = tuple(
            {
                "id": c.id, "phase": c.phase.value, "pid": c.pid, "start_time": c.start_time,
                "created_at": c.created_at, "started_at": c.started_at, "drained": c.drained,
            }
            for c in self._tables.containers.values()
        )  # fmt: skip
        memfd = fds.sealed_memfd("list", dumps(listed))
        self._s.reply(client, {"n": message["n"], "ok": {}}, [memfd])
        os.close(memfd)

    def on_console(self, client: Client, message: protocol.Message, _: list[int]) -> None:
        """The pty's master, or the write end of stdin, of a container."""
        container = self._container(message["id"])
        held = (
            container.streams.readers[:1]
            if container.streams.tty
            else [container.streams.stdin_writer]
            if container.streams.stdin_writer >= 0
            else []
        )
        self._s.reply(client, {"n": message["n"], "ok": {"tty": container.streams.tty}}, held)

    def on_close_stdin(
        self, _: Client, message: protocol.Message, __: list[int]
    ) -> protocol.Message:
        """Let the container read the end of its stdin (stdinOnce)."""
        container = self._container(message["id"])
        container.streams.close_stdin()
        self._s.tell_pump({"op": "close_stdin", "id": container.id})
        return {}

    def on_reopen(self, _: Client, message: protocol.Message, __: list[int]) -> protocol.Message:
        self._s.tell_pump({"op": "reopen", "id": self._container(message["id"]).id})
        return {}

    def on_attach(
        self, _: Client, message: protocol.Message, received: list[int]
    ) -> protocol.Message:
        """A live copy of a container's output, written by the pump to the fds that came along."""
        container = self._container(message["id"])
        if container.phase is Phase.EXITED:  # its log has what it said
            raise errors.FailedPrecondition(f"container {container.id} has ended")
        self._s.tell_pump({"op": "attach", "id": container.id}, received)
        return {}

    # -- execs

    def on_exec(self, client: Client, message: protocol.Message, received: list[int]) -> None:
        """One more process in a container; fds: stdin, stdout, stderr without a tty. Answered when it has ended."""
        container = self._container(message["container"])
        stdio, received[:] = received[:], []  # closed there
        self._execs.start(client, message, container, stdio)

    def on_signal_exec(
        self, _: Client, message: protocol.Message, __: list[int]
    ) -> protocol.Message:
        """Signal an exec's whole session. One that has no process yet, by the long way, has only its set-up to be killed."""
        running, number = self._tables.execs.get(message["id"]), message["signal"]
        if running is not None and running.pid:
            running.signal_session(self._s.hierarchy, number)
        elif running is not None and number == signal.SIGKILL:
            self._setups.abort(running)
        return {}

    # -- the node

    def on_subscribe(self, client: Client, _: protocol.Message, __: list[int]) -> protocol.Message:
        client.subscribed = True
        return {}

    def on_hello(self, _: Client, __: protocol.Message, ___: list[int]) -> protocol.Message:
        return {"pid": os.getpid(), "services": {n: s.pid for n, s in self._s.services.items()}}

    def on_shutdown(self, client: Client, message: protocol.Message, _: list[int]) -> None:
        """End services and supervisor; containers live on."""
        self._s.reply(client, {"n": message["n"], "ok": {}})
        self._s.shut_down()

    def _container(self, container_id: str) -> Container:
        try:
            return self._tables.containers[container_id]
        except KeyError:
            raise errors.NotFound(f"no container {container_id}") from None
