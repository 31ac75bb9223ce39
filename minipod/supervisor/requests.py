"""What clients may ask of the supervisor: one method per request, and what follows when set-ups report and processes end.

A request that forks is answered when its set-up said ready (or failed), so replies come in any order; `n` pairs them.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from dataclasses import replace

from minipod import errors
from minipod.init import child, plan, sync
from minipod.init.operation import Context, Plan
from minipod.linux import credentials, fds, process, seccomp
from minipod.spec.bundle import Bundle, ExecBundle, SandboxBundle
from minipod.spec.bundle import Process as ProcessSpec
from minipod.spec.codec import dumps, loads
from minipod.spec.container import SeccompMode
from minipod.spec.sandbox import NamespaceMode
from minipod.supervisor import children, protocol, records
from minipod.supervisor.children import Container, Exec, Phase, Process, SandboxSetup
from minipod.supervisor.records import ExitRecord, StateRecord
from minipod.supervisor.server import Client, Supervisor
from minipod.supervisor.streams import Streams

logger = logging.getLogger(__name__)


class Requests:
    """The verbs. `attach` connects them to a supervisor."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._s = supervisor
        self._tables = supervisor.tables
        self._waiting: dict[str, tuple[Client, int]] = {}  # id -> who waits for its set-up or start
        self._cgroups = plan.cgroup_mounts(supervisor.hierarchy)
        supervisor.dispatch = self._dispatch
        supervisor.exited = self._exited

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
        """Make a sandbox; answered with its namespaces and the fd of its network namespace."""
        bundle = loads(SandboxBundle, fds.read_sealed(received[0]))
        setup = SandboxSetup(id=bundle.id)
        self._waiting[setup.id] = (client, message["n"])
        self._fork(setup, plan.sandbox_plan(bundle), bundle.title, bundle.fail_at)

    def on_drop_sandbox(self, client: Client, message: protocol.Message, _: list[int]) -> None:
        """Let a sandbox's pins go."""
        setup = SandboxSetup(id=f"drop {message['id']}")
        self._waiting[setup.id] = (client, message["n"])
        self._fork(setup, plan.drop_plan(message["id"]), "drop", "")

    # -- containers

    def on_create(self, client: Client, message: protocol.Message, received: list[int]) -> None:
        """Build a container and park it; answered with its pid."""
        bundle = loads(Bundle, fds.read_sealed(received[0]))
        if bundle.id in self._tables.containers:
            raise errors.AlreadyExists(f"container {bundle.id} exists")
        streams = Streams(
            directory=bundle.directory,
            log_path=bundle.log_path,
            tty=bundle.process.tty,
            stdin=bundle.process.stdin,
        )
        container = Container(id=bundle.id, bundle=bundle, streams=streams)
        streams.make()
        self._tables.containers[bundle.id] = container
        self._waiting[bundle.id] = (client, message["n"])
        target = -1
        if bundle.pid is NamespaceMode.TARGET:
            target = process.pidfd_open(bundle.target_pid)
        made = plan.container_plan(bundle, self._cgroups)
        self._fork(
            container, made, bundle.title, bundle.fail_at,
            target=target, program=self._filter(bundle.process, privileged=bundle.privileged),
        )  # fmt: skip

    def on_start(self, client: Client, message: protocol.Message, _: list[int]) -> None:
        """Let a created container execve; answered when it has, or with SetupFailed."""
        container = self._container(message["id"])
        if container.phase is not Phase.CREATED or container.sync is None:
            raise errors.FailedPrecondition(f"container {container.id} is {container.phase.value}")
        self._waiting[container.id] = (client, message["n"])
        container.phase = Phase.STARTING
        container.sync.send(b"go")

    def on_signal(self, _: Client, message: protocol.Message, __: list[int]) -> protocol.Message:
        """Signal a container's main process, or an exec's."""
        target = self._tables.containers.get(message["id"]) or self._tables.execs.get(message["id"])
        if target is None:
            raise errors.NotFound(f"no process {message['id']}")
        return {"sent": target.send_signal(message["signal"])}

    def on_forget(self, _: Client, message: protocol.Message, __: list[int]) -> protocol.Message:
        """Drop an ended container from the tables; its directory is the caller's to remove."""
        container = self._tables.containers.get(message["id"])
        if container is not None:
            if container.phase in (Phase.RUNNING, Phase.STARTING) and container.exit is None:
                raise errors.FailedPrecondition(f"container {container.id} is running")
            del self._tables.containers[container.id]
            if not container.drained and container.streams.readers:
                self._s.tell_pump({"op": "finish", "id": container.id})
            container.streams.close()
            self._close(container)
        return {}

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
        streams = self._container(message["id"]).streams
        if streams.stdin_writer >= 0:
            os.close(streams.stdin_writer)
            streams.stdin_writer = -1
        return {}

    def on_reopen(self, _: Client, message: protocol.Message, __: list[int]) -> protocol.Message:
        self._s.tell_pump({"op": "reopen", "id": self._container(message["id"]).id})
        return {}

    def on_attach(
        self, _: Client, message: protocol.Message, received: list[int]
    ) -> protocol.Message:
        """A live copy of a container's output, written by the pump to the fds that came along."""
        container = self._container(message["id"])
        self._s.tell_pump({"op": "attach", "id": container.id}, received)
        return {}

    # -- execs

    def on_exec(self, client: Client, message: protocol.Message, received: list[int]) -> None:
        """One more process in a container; fds: bundle, then stdin, stdout, stderr without a tty."""
        bundle = loads(ExecBundle, fds.read_sealed(received[0]))
        container = self._container(bundle.container_id)
        if container.phase is not Phase.RUNNING:
            raise errors.FailedPrecondition(f"container {container.id} is {container.phase.value}")
        started = Exec(id=bundle.id, bundle=bundle, cgroup=container.bundle.cgroup)
        self._tables.execs[bundle.id] = started
        self._waiting[bundle.id] = (client, message["n"])
        made = plan.exec_plan(bundle, container.bundle.cgroup)
        self._fork(
            started, made, f"exec {container.bundle.title}", bundle.fail_at,
            target=process.pidfd_open(container.pid), stdio=tuple(received[1:4]),
            program=self._filter(bundle.process, privileged=container.bundle.privileged),
        )  # fmt: skip

    def on_kill_exec(self, _: Client, message: protocol.Message, __: list[int]) -> protocol.Message:
        """Kill an exec's whole session."""
        running = self._tables.execs.get(message["id"])
        if running is not None and running.pid:
            children.kill_session(running.pid, self._s.hierarchy.procs(running.cgroup))
            running.send_signal(signal.SIGKILL)
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

    # -- forking, and what set-ups report

    def _fork(  # noqa: PLR0913 the last three are an exec's
        self,
        made: Process,
        steps: Plan,
        title: str,
        fail_at: str,
        *,
        target: int = -1,
        stdio: tuple[int, ...] = (),
        program: bytes = b"",
    ) -> None:
        ours, theirs = sync.pair()
        context = Context(
            sync=theirs,
            hierarchy=self._s.hierarchy,
            vault_fd=self._s.vault_fd,
            filter=program,
            target_pidfd=target,
        )
        if len(stdio) == 3:
            context.stdio = (stdio[0], stdio[1], stdio[2])
        keep = tuple(fd for fd in (self._s.vault_fd, target, *stdio) if fd >= 0)
        made.sync = ours
        self._tables.setups += 1
        child.fork_setup(steps, context, title=title, keep=keep, fail_at=fail_at)
        theirs.close()
        if target >= 0:
            os.close(target)
        self._s.watch(ours, lambda: self._from_setup(made))

    def _filter(self, spec: ProcessSpec, *, privileged: bool) -> bytes:
        if privileged or spec.seccomp is SeccompMode.UNCONFINED:
            return b""
        return seccomp.compile_profile(frozenset(spec.capabilities))

    def _from_setup(self, made: Process) -> None:
        """Read what a set-up says until it has nothing more to say."""
        while made.sync is not None:
            try:
                message, received = sync.receive(made.sync)
            except BlockingIOError:
                return
            except ConnectionError:
                message, received = None, []
            if message is None:
                self._setup_ended(made)
                return
            getattr(self, f"_said_{message['t']}")(made, message, received)

    def _said_forked(self, made: Process, message: protocol.Message, _: list[int]) -> None:
        pid = message["pid"]
        made.created_at = time.time()
        early = self._tables.early.pop(pid, None)
        if early is not None:  # it is gone already; its last words come next
            made.pid, made.exit = pid, early
            return
        self._tables.by_pid[pid] = made
        made.found(pid)
        if isinstance(made, Container):
            _write_state(made)

    def _said_warning(self, made: Process, message: protocol.Message, _: list[int]) -> None:
        logger.warning("%s: %s", made.id, message["text"])
        made.warnings.append(message["text"])

    def _said_console(self, made: Process, _: protocol.Message, received: list[int]) -> None:
        if isinstance(made, Container):
            made.streams.set_console(received[0])
            _write_state(made)
        elif isinstance(made, Exec):
            made.console = received[0]

    def _said_ready(self, made: Process, message: protocol.Message, received: list[int]) -> None:
        if isinstance(made, SandboxSetup):
            answer = {"namespaces": message["namespaces"], "warnings": made.warnings}
            self._answer(made.id, answer, received)
            for fd in received:
                os.close(fd)
            return
        made.phase = Phase.CREATED
        self._s.setup_done()
        if isinstance(made, Container):
            self._s.pump_add(made)
            self._answer(made.id, {"pid": made.pid, "warnings": made.warnings})
        elif made.sync is not None:  # an exec starts at once
            made.phase = Phase.STARTING
            made.sync.send(b"go")

    def _said_failed(self, made: Process, message: protocol.Message, _: list[int]) -> None:
        made.error = {"kind": "SetupFailed", **{k: v for k, v in message.items() if k != "t"}}

    def _setup_ended(self, made: Process) -> None:
        """The sync socket is at its end: execve worked, or the set-up is over one way or another."""
        assert made.sync is not None
        self._s.unwatch(made.sync)
        made.sync.close()
        made.sync = None
        if made.phase is Phase.STARTING and made.error is None and made.exit is None:
            self._started(made)
        elif isinstance(made, SandboxSetup):
            self._s.setup_done()
            if made.error is not None:
                self._answer_error(made.id, made.error)
        elif made.phase is Phase.SETTING_UP:
            self._s.setup_done()
            self._failed_before_ready(made)
        elif made.phase is Phase.STARTING:
            self._failed_to_start(made)

    def _started(self, made: Process) -> None:
        made.phase = Phase.RUNNING
        made.started_at = time.time()
        if isinstance(made, Container):
            _write_state(made)
            self._answer(made.id, {"pid": made.pid, "started_at": made.started_at})
        elif isinstance(made, Exec):
            console = [made.console] if made.console >= 0 else []
            self._answer(made.id, {"pid": made.pid}, console)
            for fd in console:
                os.close(fd)
            made.console = -1

    def _failed_before_ready(self, made: Process) -> None:
        """Nothing is left in the tables; cgroup and directories are the caller's to undo."""
        if isinstance(made, Container):
            self._tables.containers.pop(made.id, None)
            made.streams.close()
        elif isinstance(made, Exec):
            self._tables.execs.pop(made.id, None)
        self._tables.by_pid.pop(made.pid, None)
        self._close(made)
        self._answer_error(
            made.id,
            made.error or {
                "kind": "SetupFailed", "step": "set-up", "errno": 0, "subject": made.id, "cause": "",
                "detail": "its process was killed (out of memory within the container's limit?)",
            },
        )  # fmt: skip

    def _failed_to_start(self, made: Process) -> None:
        error = made.error or {
            "kind": "SetupFailed", "step": "exec", "errno": 0, "subject": made.id, "cause": "",
            "detail": "its process was killed before execve",
        }  # fmt: skip
        made.error = error
        self._answer_error(made.id, error)
        if isinstance(made, Exec):
            self._tables.execs.pop(made.id, None)
            self._close(made)
        elif made.exit is not None:
            self.container_ended(made, made.exit)

    # -- ends

    def _exited(self, made: Process, record: ExitRecord) -> None:
        """A process of ours ended; it is not reaped yet. Runs before its pid can be used again."""
        if made.sync is not None:
            self._from_setup(made)  # its last words first
        made.exit = record
        if isinstance(made, Container):
            if made.sync is None and made.phase in (Phase.RUNNING, Phase.STARTING, Phase.CREATED):
                self.container_ended(made, record)
        elif isinstance(made, Exec) and made.id in self._tables.execs:
            if made.phase is Phase.STARTING and made.error is None:
                self._started(made)
            del self._tables.execs[made.id]
            self._close(made)
            self._s.broadcast({"event": "exec_exited", "id": made.id, "code": record.code})

    def container_ended(self, made: Process, record: ExitRecord) -> None:
        assert isinstance(made, Container)
        if made.phase is Phase.EXITED:
            return
        cgroup = made.bundle.cgroup
        oom = False
        try:
            oom = self._s.hierarchy.oom_kills(cgroup) > 0
            self._s.hierarchy.kill(cgroup)  # survivors: shared pid namespaces, exec'd children
        except OSError as e:
            logger.warning("cgroup %s at the end of %s: %s", cgroup, made.id, e)
        if made.error is not None:  # execve failed: the command can't be started
            record = replace(
                record, code=128, signal=0, reason="StartError",
                message=protocol.error_from_message(made.error).message,
            )  # fmt: skip
        made.exit = replace(record, oom_killed=oom)
        made.phase = Phase.EXITED
        records.write_exit(made.bundle.directory, made.exit)
        self._s.tell_pump({"op": "finish", "id": made.id})
        self._close(made)
        self._s.broadcast({"event": "exited", "id": made.id, **records.plain(made.exit)})

    # -- small things

    def _container(self, container_id: str) -> Container:
        try:
            return self._tables.containers[container_id]
        except KeyError:
            raise errors.NotFound(f"no container {container_id}") from None

    def _close(self, made: Process) -> None:
        if made.sync is not None:
            self._s.unwatch(made.sync)
        made.close()

    def _answer(self, key: str, answer: protocol.Message, held: list[int] | None = None) -> None:
        if (waiting := self._waiting.pop(key, None)) is not None:
            client, n = waiting
            self._s.reply(client, {"n": n, "ok": answer}, held)

    def _answer_error(self, key: str, error: protocol.Message) -> None:
        if (waiting := self._waiting.pop(key, None)) is not None:
            client, n = waiting
            self._s.reply(client, {"n": n, "error": error})


def _write_state(made: Container) -> None:
    console = 0
    if made.streams.tty and made.streams.readers:
        console = os.fstat(made.streams.readers[0]).st_dev
    state = StateRecord(
        pid=made.pid,
        start_time=made.start_time,
        created_at=made.created_at,
        started_at=made.started_at,
        console=console,
    )
    records.write_state(made.bundle.directory, state)


def default_filter() -> None:
    """Compile the usual filter before the first container needs it."""
    seccomp.compile_profile(frozenset(credentials.DEFAULT))
