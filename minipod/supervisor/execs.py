"""Execs: one more process in a running container, and what becomes of it.

    short way   forked --------> [BRIEF: is held, and followed like any set-up] --> ended: answered
                  `-- a call fails, it ends: the long way
    long way    forked, set up by Python --> executes (a tty: its console is sent) --> ended: answered

Most are over within BRIEF, and until then nobody asks whether they have executed their command. What they may do comes from their
container's bundle, only the command from who asks.
"""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from typing import Final

from minipod import errors
from minipod.init import launch, plan, sync
from minipod.init.entrance import Entrance
from minipod.init.identity import compiled_filter
from minipod.init.operation import Context, NotDirect
from minipod.linux import process
from minipod.spec.bundle import ExecBundle
from minipod.spec.bundle import Process as ProcessSpec
from minipod.spec.sandbox import NamespaceMode
from minipod.supervisor import protocol
from minipod.supervisor.children import Container, Exec, Phase
from minipod.supervisor.server import Client, Supervisor
from minipod.supervisor.setups import DEATH, Setups

logger = logging.getLogger(__name__)

BRIEF: Final = 0.05  # seconds


class Execs:
    """Starts them; `setups` sees their end."""

    def __init__(self, supervisor: Supervisor, setups: Setups) -> None:
        self._s = supervisor
        self._setups = setups
        self._tables = supervisor.tables

    def start(
        self, client: Client, message: protocol.Message, container: Container, stdio: list[int]
    ) -> None:
        """Start what a request asks for; *stdio* is ours from now on. Raises FailedPrecondition, OSError: nothing is left of it then."""
        made_with = container.bundle
        started = Exec(
            id=message["id"], sandbox_id=made_with.sandbox_id, cgroup=made_with.cgroup, owner=client, held=stdio
        )  # fmt: skip
        started.long_way = lambda: self._fork(started, container, message)
        self._tables.execs[started.id] = started
        self._setups.askers.add(started, client, message["n"])
        try:
            _require_streams(stdio, message)
            # The process that it is now: its pid may be another's by then.
            started.held.append(_running(container))
            if not self._launch(started, container, message):
                started.long_way()
                started.let_go()
        except BaseException:
            self._setups.forget_exec(started)
            raise

    def begin_anew(self, sandbox_id: str) -> None:
        """Before a container joins a pid namespace of this sandbox: nobody may be met there with what is ours (`launch.takes_exec`).

        Who is on the way into it by the short way, and may have been stopped, takes the long one.
        """
        for started in [e for e in self._tables.execs.values() if e.sandbox_id == sandbox_id]:
            if started.long_way is not None:
                self._setups.hear(started)  # it may have executed its command meanwhile
            if started.long_way is not None:
                started.hold()
                process.kill(started.pidfd, DEATH)
                self._setups.take_long_way(started)

    def _launch(self, started: Exec, container: Container, message: protocol.Message) -> bool:
        """Fork it by the short way (`init.launch`); False: that can't be, and nothing has happened."""
        launcher = self._setups.launcher
        if (
            launcher is None
            or message["tty"]
            or message.get("fail_at")
            or self._is_joined(container)
        ):
            return False
        page, argv = self._setups.page, tuple(message["argv"])
        stdin, stdout, stderr, target = started.held
        ours, theirs = self._setups.spare.take()
        try:
            started.slot = page.reserve()
            if container.entrance is None:
                container.entrance = self._entrance(launcher, container, argv)
            given = (theirs.fileno(), target, stdin, stdout, stderr)
            note = page.address(started.slot)
            pid = launcher.launch_exec(container.entrance, argv, given, note)
        except (NotDirect, OSError) as e:
            logger.debug("%s takes the long way: %s", started.id, e)
            if started.slot >= 0:
                page.remove(started.slot)
                started.slot = -1
            ours.close()
            return False
        finally:
            theirs.close()
        started.sync, started.pid, started.phase = ours, pid, Phase.STARTING
        self._tables.by_pid[pid] = started
        started.timer = self._s.call_later(BRIEF, lambda: self._hold(started))
        return True

    def _entrance(
        self, launcher: launch.Launcher, container: Container, argv: tuple[str, ...]
    ) -> Entrance:
        """Return how execs enter *container*. Raises NotDirect."""
        made_with = container.bundle
        if not launch.takes_exec(made_with):
            raise NotDirect("a process of the container could look into its child")
        made = _process(made_with.process, argv, tty=False)
        bundle = ExecBundle(id="", container_id=container.id, process=made)
        context = Context(
            sync=sync.Unheard(),
            hierarchy=self._s.hierarchy,
            filter=compiled_filter(made, privileged=made_with.privileged),
            nofile=self._s.nofile,
        )
        return launcher.entrance(plan.exec_plan(bundle, made_with.cgroup), context)

    def _hold(self, started: Exec) -> None:
        """It goes on for longer: has it executed its command? Its socket is at its end then."""
        try:
            started.hold()
        except OSError as e:  # no descriptor is left
            logger.warning("exec %s can't be watched yet: %s", started.id, e)
            started.timer = self._s.call_later(BRIEF, lambda: self._hold(started))
        else:
            self._setups.follow(started)

    def _fork(self, started: Exec, container: Container, message: protocol.Message) -> None:
        """Fork it by the long way, which comes after the short one, too, when that fails."""
        made_with, target, stdio = container.bundle, started.held.pop(), tuple(started.held)
        made = _process(made_with.process, tuple(message["argv"]), tty=message["tty"])
        fault = message.get("fail_at", "")
        bundle = ExecBundle(id=started.id, container_id=container.id, process=made, fail_at=fault)
        steps = plan.exec_plan(bundle, started.cgroup, userns=made_with.userns is not None)
        program = compiled_filter(made, privileged=made_with.privileged)
        self._setups.fork(
            started, steps, f"exec {made_with.title}", fault,
            target=target, stdio=stdio, program=program,
        )  # fmt: skip

    def _is_joined(self, container: Container) -> bool:
        """Whether another container may live in its pid namespace (`kubectl debug --target`), which may have rights that it has not."""
        return any(
            c.bundle.pid is NamespaceMode.TARGET
            and (
                c.bundle.target_pid == container.pid
                or c.bundle.sandbox_id == container.bundle.sandbox_id
            )
            for c in self._tables.containers.values()
        )


def _running(container: Container) -> int:
    """Return a pidfd of its main process, a copy. Raises FailedPrecondition."""
    if container.phase is not Phase.RUNNING:
        raise errors.FailedPrecondition(f"container {container.id} is {container.phase.value}")
    return os.dup(container.pidfd)


def _require_streams(stdio: list[int], message: protocol.Message) -> None:
    """Raise FailedPrecondition where some are missing: the kernel drops descriptors that find no place (unix(7), MSG_CTRUNC)."""
    if len(stdio) != (0 if message["tty"] else 3):
        raise errors.FailedPrecondition("no descriptors are left for the streams of an exec")


def _process(made: ProcessSpec, argv: tuple[str, ...], *, tty: bool) -> ProcessSpec:
    """Return what its container's process becomes with another command."""
    env = made.env
    if tty and not any(e.startswith("TERM=") for e in env):
        env = (*env, "TERM=xterm")
    return replace(made, argv=argv, env=env, tty=tty, stdin=False, stdin_once=False)
