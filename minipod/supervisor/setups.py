"""Set-ups under way: forking them, what they report, their deadline; and the ends of what came out of them.

    SETTING_UP -> CREATED (parked; an exec goes on at once) -> STARTING -> RUNNING -> EXITED

Whoever asked is answered exactly once (`askers`): when a container is ready or has executed its command, when an exec has ended, when a
step failed, or when the set-up did not come to its end in time (a hung network file system): then its processes are killed.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import signal
import time

from minipod.errors import FailedPrecondition
from minipod.init import child, launch, sync
from minipod.init.filesystem import MountRoot
from minipod.init.identity import Execve
from minipod.init.launch import Launcher
from minipod.init.operation import Context, NotDirect, Plan
from minipod.linux import process
from minipod.supervisor import protocol
from minipod.supervisor.askers import Askers
from minipod.supervisor.children import Container, Exec, Phase, Process, SandboxSetup
from minipod.supervisor.ends import Ends
from minipod.supervisor.exec_page import ExecPage
from minipod.supervisor.records import ExitRecord
from minipod.supervisor.server import Client, Supervisor

logger = logging.getLogger(__name__)

# Seconds at most that the loop waits for a killed set-up: it is gone within some milliseconds, or hangs.
DEATH = 0.1


class Setups:
    """Forks set-ups and follows each process to its end; connects itself to the supervisor."""

    def __init__(self, supervisor: Supervisor, page: ExecPage) -> None:
        self._s = supervisor
        self.page = page
        self._tables = supervisor.tables
        self.askers = Askers(supervisor)
        self.ends = Ends(supervisor)
        supervisor.exited = self._exited
        supervisor.dropped = self._abandon
        self.spare = sync.Spare()  # for the next exec
        self.launcher: Launcher | None = None  # where this machine has the short way

    def go(self, made: Process) -> None:
        """Let a parked process execute its command."""
        made.phase = Phase.STARTING
        self._limit(made)
        if not made.told:
            self._say_go(made)

    def go_when_ready(self, made: Process, client: Client, n: int) -> None:
        """Let a process execute its command as soon as it is set up, and answer *client*'s request *n* then."""
        made.starter = (client, n)
        self._go_ahead(made)

    def _go_ahead(self, made: Process) -> None:
        """Leave "go" in its socket: so it waits for nobody when it is ready. Not to one whose pid comes later, for it may end before."""
        if made.pid:
            self._say_go(made)

    def _say_go(self, made: Process) -> None:
        assert made.sync is not None
        made.told = True
        with contextlib.suppress(ConnectionError):  # it is gone: its last words come next
            made.sync.send(sync.GO)

    def fork(  # noqa: PLR0913 the last three are an exec's
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
        """Fork it by the long way (`init.child`); what it reports comes later, an error too. *target* is closed here."""
        context = Context(
            sync=sync.Unheard(),
            hierarchy=self._s.hierarchy,
            vault_fd=self._s.vault_fd,
            filter=program,
            nofile=self._s.nofile,
            target_pidfd=target,
        )
        if len(stdio) == 3:
            context.stdio = (stdio[0], stdio[1], stdio[2])
        keep = tuple(fd for fd in (self._s.vault_fd, target, *stdio) if fd >= 0)
        self._tables.setups += 1
        pid = 0
        try:
            made.sync, context.sync = sync.pair()
            if self.launcher is not None:
                self.launcher.show_memory()
            with contextlib.closing(context.sync):
                pid = child.fork_setup(steps, context, title=title, keep=keep, fail_at=fail_at)
            # Our child: not reaped before we return.
            if steps.outer:
                made.setup_pidfd = process.pidfd_open(pid)
            else:
                self._forked(made, pid)
            self.follow(made)
        except OSError as e:
            self._give_up(made, pid, e)
        finally:
            if target >= 0:
                os.close(target)

    def _give_up(self, made: Process, pid: int, error: OSError) -> None:
        """It can't be forked, or not be watched: no descriptor is left, most often."""
        if pid:
            os.kill(pid, signal.SIGKILL)
        reason = str(error.strerror).lower()
        made.error = protocol.setup_failed("clone3", error.errno or 0, made.id, reason)
        self._setup_ended(made)

    def follow(self, made: Process) -> None:
        """Listen to what a process says on its way, and end it when that takes too long."""
        assert made.sync is not None
        self._limit(made)
        self._s.watch(made.sync, lambda: self.hear(made))

    def launch(
        self, made: Container, steps: Plan, context: Context, title: str, fail_at: str
    ) -> bool:
        """Fork it by the short way (`init.launch`); False: that can't be, and nothing has happened."""
        if self.launcher is None:
            return False
        try:
            made.sync, context.sync = sync.pair()
            with contextlib.closing(context.sync):
                pid = self.launcher.launch_container(steps, context, title, fail_at)
        except (NotDirect, OSError) as e:
            logger.debug("%s takes the long way: %s", made.id, e)
            if made.sync is not None:
                made.sync.close()
                made.sync = None
            return False
        self._tables.setups += 1
        try:
            self._forked(made, pid)
            made.warnings += launch.finish(steps, pid)
            self.follow(made)
        except OSError as e:
            self._give_up(made, pid, e)
        return True

    def _said_again(self, made: Process, _: protocol.Message, __: list[int]) -> None:
        """The short way failed, and its process ends."""
        self.take_long_way(made)

    def take_long_way(self, made: Process) -> None:
        """Begin anew; what the short way made ends by itself."""
        long_way, held = made.long_way, made.held
        assert long_way is not None
        made.held = []
        self._tables.by_pid.pop(made.pid, None)
        if isinstance(made, Container):
            self._undo(made)
        self.close(made)
        made.pid, made.ready, made.phase, made.held = 0, False, Phase.SETTING_UP, held
        made.told = False
        long_way()
        made.let_go()
        if made.starter is not None:
            self._go_ahead(made)

    def _undo(self, made: Container) -> None:
        """Take away what a container's set-up by the short way left, of which nobody knows how far it got."""
        logger.info("%s takes the long way: a step of the short one failed", made.bundle.title)
        self._s.setup_done()
        process.kill(made.pidfd, DEATH)
        try:
            self._s.hierarchy.remove(made.bundle.cgroup)
            self._s.hierarchy.make_unified(made.bundle.cgroup)
            MountRoot(root=made.bundle.rootfs).forget()
        except OSError as e:
            logger.warning("%s, to be made anew: %s", made.bundle.title, e)

    def _said_outcome(self, made: Process, message: protocol.Message, _: list[int]) -> None:
        """A container's execve failed."""
        name = made.bundle.process.argv[0] if isinstance(made, Container) else made.id
        failed = Execve.failed(name, message["errno"])
        made.error = protocol.setup_failed(failed.step, failed.errno, failed.subject, failed.detail)

    # -- the deadline

    def _limit(self, made: Process) -> None:
        seconds = self._s.instance.setup_deadline
        made.timer = self._s.call_later(seconds, lambda: self._expired(made, seconds))

    def _expired(self, made: Process, seconds: float) -> None:
        """Give a set-up up: kill what it has, do not wait for it (it may hang in the kernel for ever)."""
        where = process.wait_channel(made.pidfd if made.pidfd >= 0 else made.setup_pidfd)
        hung = f"not done after {seconds:g} s{where and f' (the kernel waits in {where})'}, killed"
        made.error = protocol.setup_failed("set-up", errno.ETIMEDOUT, made.id, hung)
        self.abort(made)

    def abort(self, made: Process) -> None:
        """Kill what a set-up under way has; whoever waits for it is told.

        When this returns they make no cgroup and no file any more, unless one hangs in the kernel.
        """
        for pidfd in (made.setup_pidfd, made.pidfd):
            if pidfd >= 0:
                process.kill(pidfd, DEATH)
        if made.sync is not None:
            self._setup_ended(made)

    def _abandon(self, client: Client) -> None:
        """Give up what a client that has gone was having made: nobody would ever take it over."""
        for made in self.askers.of(client):
            if made.phase is Phase.SETTING_UP:
                self.abort(made)
            else:  # it is being started, and may as well go on
                self.askers.forget(made)

    def hear(self, made: Process) -> None:
        """Read what a set-up says until it has nothing more to say."""
        while made.sync is not None:
            try:
                message, received = sync.receive(made.sync)
            except BlockingIOError:
                return
            except ConnectionResetError:
                continue  # it ended with "go" unread; its words come after that (said once, net/unix/af_unix.c)
            except ConnectionError:
                message, received = None, []
            if message is None:
                self._setup_ended(made)
                return
            getattr(self, f"_said_{message['t']}")(made, message, received)

    def _said_forked(self, made: Process, message: protocol.Message, _: list[int]) -> None:
        pid = message["pid"]
        early = self._tables.early.pop(pid, None)
        if early is not None:  # it is gone already; its last words come next
            made.pid, made.exit, made.created_at = pid, early, time.time()
        else:
            self._forked(made, pid)
        if made.ready:
            self._created(made)

    def _forked(self, made: Process, pid: int) -> None:
        """The main process exists."""
        made.created_at = time.time()
        self._tables.by_pid[pid] = made
        made.found(pid)
        if isinstance(made, Container):
            made.write_state()
        elif isinstance(made, Exec):  # until it is told to go it ends by itself when we do
            made.slot = self.page.add(pid, made.start_time)

    def _said_warning(self, made: Process, message: protocol.Message, _: list[int]) -> None:
        logger.warning("%s: %s", made.id, message["text"])
        made.warnings.append(message["text"])

    def _said_console(self, made: Process, _: protocol.Message, received: list[int]) -> None:
        if isinstance(made, Container):
            made.streams.set_console(received[0])
            made.write_state()
        elif isinstance(made, Exec):
            made.console = received[0]

    def _said_ready(self, made: Process, message: protocol.Message, received: list[int]) -> None:
        if isinstance(made, SandboxSetup):
            answer = {"namespaces": message["namespaces"], "warnings": made.warnings}
            self.askers.answer(made, answer, received)
            for fd in received:
                os.close(fd)
            return
        made.ready = True
        if made.pid:
            self._created(made)

    def _created(self, made: Process) -> None:
        """The main process is parked and known. Two processes say the one and the other, in any order."""
        made.phase = Phase.CREATED
        made.set_up()
        self._s.setup_done()
        if isinstance(made, Container):
            # Who asked goes on while the pump is told; whatever is said of the container then, the pump hears it behind this.
            created = {"pid": made.pid, "created_at": made.created_at, "warnings": made.warnings}
            mounts = made.mount_namespace()
            self.askers.answer(made, created, mounts)
            for fd in mounts:
                os.close(fd)
            self._s.pump_add(made, new=True)
            if made.starter is not None:
                starter, made.starter = made.starter, None
                self.askers.add(made, *starter)
                self.go(made)
        elif made.sync is not None:  # an exec starts at once
            self.go(made)

    def _said_failed(self, made: Process, message: protocol.Message, _: list[int]) -> None:
        made.error = {"kind": "SetupFailed", **{k: v for k, v in message.items() if k != "t"}}

    def _setup_ended(self, made: Process) -> None:
        """The sync socket is at its end, or there is none: execve worked, or the set-up is over one way or another."""
        if made.sync is not None:
            self._s.unwatch(made.sync)
            made.held.append(made.sync.detach())
            made.sync = None
        made.set_up()
        made.long_way = None
        if made.held:  # to close them takes time, and wakes their readers: who waits for an exec's end comes first
            self._s.call_later(0, made.let_go)
        if made.phase is Phase.STARTING and made.error is None and made.exit is None:
            self._started(made)
        elif isinstance(made, SandboxSetup):
            self._s.setup_done()
            self.askers.answer_error(
                made, made.error or protocol.killed(made.id, "set-up")
            )  # unless it said ready
        elif made.phase is Phase.SETTING_UP:
            self._s.setup_done()
            self._failed_before_ready(made)
        elif made.phase is Phase.STARTING:
            self._failed_to_start(made)

    def _started(self, made: Process) -> None:
        made.phase = Phase.RUNNING
        made.started_at = time.time()
        if isinstance(made, Container):
            made.write_state()
            self.askers.answer(made, {"pid": made.pid, "started_at": made.started_at})
        elif isinstance(made, Exec) and made.console >= 0:
            self._s.reply(made.owner, {"event": "console", "id": made.id}, [made.console])
            os.close(made.console)
            made.console = -1

    def _failed_before_ready(self, made: Process) -> None:
        """Nothing is left in the tables; cgroup and directories are the caller's to undo."""
        if isinstance(made, Container):
            self._tables.containers.pop(made.id, None)
            made.streams.close()
        elif isinstance(made, Exec):
            self._tables.execs.pop(made.id, None)
        self._tables.by_pid.pop(made.pid, None)
        self.close(made)
        self.askers.answer_error(made, made.error or protocol.killed(made.id, "set-up"))
        if made.starter is not None:
            error = FailedPrecondition(f"container {made.id} could not be created")
            client, n = made.starter
            self._s.reply(client, {"n": n, "error": protocol.error_to_message(error)})

    def forget_exec(self, made: Exec) -> None:
        """Drop one that could not be begun, or has ended. Nobody is told. Idempotent."""
        self.askers.forget(made)
        self._tables.execs.pop(made.id, None)
        self.close(made)

    def _failed_to_start(self, made: Process) -> None:
        made.error = made.error or protocol.killed(made.id, "exec")
        self.askers.answer_error(made, made.error)
        if isinstance(made, Exec):
            self.forget_exec(made)
        elif isinstance(made, Container) and made.exit is not None:
            self.ends.container_ended(made, made.exit)

    # -- ends

    def _exited(self, made: Process, record: ExitRecord) -> None:
        """A process of ours ended; it is not reaped yet. Runs before its pid can be used again."""
        pid = made.pid
        if made.sync is not None:
            self.hear(made)  # its last words first
        if made.pid != pid:
            return  # they were that another process will do it
        made.exit = record
        if isinstance(made, Container):
            if made.sync is None and made.phase in (Phase.RUNNING, Phase.STARTING, Phase.CREATED):
                self.ends.container_ended(made, record)
        elif isinstance(made, Exec) and made.id in self._tables.execs:
            if made.phase is Phase.STARTING and made.error is None:
                self._started(made)
            self.askers.answer(made, {"code": record.code})
            self.forget_exec(made)

    # -- small things

    def close(self, made: Process) -> None:
        """Let go of all that is held for it. Idempotent."""
        if made.sync is not None:
            self._s.unwatch(made.sync)
        if isinstance(made, Exec):
            self._s.call_later(0, self.spare.make)
            if made.slot >= 0:
                self.page.remove(made.slot)
                made.slot = -1
        made.close()
