"""The short way: a plan as a program of system calls, for a child without an interpreter (`minipod.linux.machine_fork`).

A container's main process is born as on the long way. Its descriptors are moved to places that are always the same ones, so most of its
calls are the same as another container's, and were written down before:

    supervisor: clone3; oom_score_adj of the child
    child: its descriptors, die with the parent, keyring, session; the plan's operations; "ready", await "go"; execve

To make an exec the supervisor itself enters the container's namespaces, forks, and comes back; machine code does it, so nothing else
happens in there. The child is born with everything that /proc/PID shows (mounts, network, names), and with no memory of the supervisor's.
What it does up to execve is the same for all execs of one container, and for most containers, so it was written down before.

    supervisor: setns, clone3 (which notes the pid), setns back
    child: its descriptors, die with the parent; oom_score_adj, cgroups; close descriptors, keyring, session; the plan's operations; execve

The plan is that of the long way (`minipod.init.plan`): an operation that is nothing but system calls has a method `calls`. Where one has
not, or a call fails, the long way is taken, which says what is wrong.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Hashable, Sequence
from typing import Final

from minipod.cgroups.hierarchy import Hierarchy
from minipod.init.cgroup import CreateCgroup, EnterCgroup, OpenCgroup
from minipod.init.descriptors import Descriptors
from minipod.init.device import InstallStdio
from minipod.init.entrance import SYNC, TARGET, Entrance, Given, moved, open_tasks, tasks_of
from minipod.init.identity import (
    ChangeProfile,
    Execve,
    FindExecutable,
    SetOomScoreAdj,
    SetRlimits,
)
from minipod.init.namespaces import JoinContainer
from minipod.init.operation import Context, Direct, NotDirect, Operation, Plan, Repeats
from minipod.init.sync import AGAIN, OUTCOME, READY
from minipod.init.vault import open_bare
from minipod.linux import apparmor, prctl, process
from minipod.linux.flags import CloneFlag
from minipod.linux.libc import MACHINE
from minipod.linux.machine import Piece
from minipod.linux.machine_fork import ForkMachine, Part
from minipod.linux.program import FAIL, Buffer, Call, Number, Result, Text
from minipod.spec.bundle import Bundle
from minipod.spec.container import SeccompMode
from minipod.spec.sandbox import NamespaceMode

HOME: Final = {
    "mnt": CloneFlag.CLONE_NEWNS, "net": CloneFlag.CLONE_NEWNET, "ipc": CloneFlag.CLONE_NEWIPC,
    "uts": CloneFlag.CLONE_NEWUTS, "pid": CloneFlag.CLONE_NEWPID,
}  # fmt: skip
TRACERS: Final = frozenset(("SYS_PTRACE", "SYS_ADMIN"))
# Where a container's child has what it is given behind its socket; a root not each.
VAULT, HOST_MOUNTS, BARE, ROOT = 4, 5, 6, 7


def takes_container(bundle: Bundle) -> bool:
    """Whether the short way can make it: its main process is alone in its pid namespace, and of no user namespace; we know its filter."""
    known = bundle.process.seccomp is not SeccompMode.LOCALHOST
    return bundle.pid is NamespaceMode.CONTAINER and bundle.userns is None and known


def takes_exec(bundle: Bundle) -> bool:
    """Whether an exec in the container of *bundle* can go the short way: nobody in there can do anything to its child.

    For a moment it has the supervisor's descriptors, so nobody in there may look into it: no tracer (CAP_SYS_PTRACE), nobody who
    mounts what the supervisor would walk into (CAP_SYS_ADMIN, an autofs over /), no other container that may have these (one that
    joined its pid namespace later is the caller's to look for). A user namespace can't be entered for a moment: the way back needs
    a capability outside of it.
    """
    capabilities = set(bundle.process.capabilities)
    return takes_container(bundle) and not bundle.privileged and not TRACERS & capabilities


class Launcher:
    """Forks children by the short way. Raises OSError where this machine does not let it."""

    def __init__(self, vault_fd: int, stage: str) -> None:
        """*stage* is an empty directory, to make the mount namespace with which containers begin."""
        self._machine = ForkMachine()
        self._home = {
            kind: os.open(f"/proc/self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in HOME
        }
        proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._proc, self._vault, self._mounts = map(_above, (proc, vault_fd, self._home["mnt"]))
        os.close(proc)
        bare = open_bare(stage)
        self._bare = _above(bare)
        os.close(bare)
        # The places of a container's socket and root, for its launch.
        self._sync, self._root = _above(vault_fd), _above(vault_fd)
        back = [Call("setns", (fd, int(HOME[kind]))) for kind, fd in self._home.items()]
        self._back = self._machine.settle(back)
        self._trees: list[int] | None = None  # of the v1 cgroups, for an exec's child
        # What execs do alike has a number, which is hashed faster.
        self._kinds: dict[Hashable, int] = {}

    def show_memory(self) -> None:
        """Before the long way forks: its child has the memory that the short way has hidden."""
        self._machine.show()

    # -- containers

    def launch_container(self, plan: Plan, context: Context, title: str, fail_at: str = "") -> int:
        """Fork a container's main process, which sets itself up, says "ready" and awaits "go". Return its pid.

        *context* may have its root, an fd of a detached mount. Raises NotDirect, OSError: nothing has happened, and the long way is open.
        """
        context.vault_fd, context.fds["home"], context.fds["bare"] = VAULT, HOST_MOUNTS, BARE
        if (root := context.fds.get("root", -1)) >= 0:
            os.dup2(root, self._root, inheritable=False)
            context.fds["root"] = ROOT
        context.numbers = Descriptors(range(ROOT if root < 0 else ROOT + 1))
        context.outcome = outcome = Buffer(OUTCOME)
        context.candidates = _candidates(plan)
        cgroup = context.hierarchy.open_unified(plan.cgroup)
        try:
            made = self._made(plan, context, Text(os.fsencode(f"minipod:[init] {title}")), fail_at)
            executed = _calls(plan.execute, context)
            before: list[Call] = []
            for operation in plan.inner:
                if isinstance(operation, CreateCgroup):
                    before += operation.limit_unified(context.hierarchy, cgroup)
            os.dup2(context.sync.fileno(), self._sync, inheritable=False)
            return self._machine.launch(
                Part([made], Call("write", (SYNC, AGAIN, len(AGAIN)))),
                Part([executed], Call("write", (SYNC, outcome, outcome.size))),
                flags=plan.new,
                cgroup=cgroup,
                enter=before,
            )
        except OverflowError as e:
            raise NotDirect(str(e)) from e
        finally:
            for place in (self._sync, self._root):
                os.dup2(self._vault, place, inheritable=False)
            if cgroup >= 0:
                os.close(cgroup)

    def _made(self, plan: Plan, context: Context, title: Text, fail_at: str) -> Piece:
        """Return all up to "go": a block that many containers have, with the texts of this one."""
        if plan.outer:
            raise NotDirect("two forks")
        last = ROOT if "root" in context.fds else BARE
        operations = [o for o in plan.inner if not isinstance(o, _OURS)]
        repeating = [o for o in operations if isinstance(o, Repeats)]
        if fail_at or len(repeating) < len(operations):
            return self._up_to_go(
                plan, context, title, _failing(operations, context, fail_at), last
            )
        profiles = tuple(o for o in plan.inner if isinstance(o, ChangeProfile))
        key = (tuple(o.shape() for o in repeating), profiles, context.filter, last)
        texts = [title, *(text for o in repeating for text in o.texts(context))]

        def calls() -> list[Call]:
            return self._up_to_go(plan, context, title, _calls(operations, context), last)

        return self._machine.once(key, texts, calls)

    def _up_to_go(
        self, plan: Plan, context: Context, title: Text, operations: Sequence[Call], last: int
    ) -> list[Call]:
        """Return *operations* and what is around them: of what we have open the child keeps `SYNC` to *last*, no more."""
        given = [(self._vault, VAULT), (self._mounts, HOST_MOUNTS), (self._bare, BARE), (self._root, ROOT)]  # fmt: skip
        profiles = [o.profile for o in plan.inner if isinstance(o, ChangeProfile)]
        heard = Buffer(16)
        return [
            Call("dup3", (self._sync, SYNC, os.O_CLOEXEC)),  # first: a failure is told there
            *(call for name in profiles for call in apparmor.calls_on_exec(name, self._proc)),
            *(Call("dup3", (fd, place, os.O_CLOEXEC)) for fd, place in given if place <= last),
            Call("close_range", (last + 1, process.UINT_MAX, 0)),
            *_limit_descriptors(context),
            Call("prctl", (prctl.PR_SET_PDEATHSIG, _SIGKILL)),
            Call("keyctl", (process.KEYCTL_JOIN_SESSION_KEYRING, 0), on_error=0),
            Call("setsid", ()),
            Call("prctl", (prctl.PR_SET_NAME, title)),
            *operations,
            Call("write", (SYNC, READY, len(READY))),
            Call("read", (SYNC, heard, heard.size), on_zero=FAIL),
            Call("prctl", (prctl.PR_SET_PDEATHSIG, 0)),
        ]

    # -- execs

    def entrance(self, plan: Plan, context: Context) -> Entrance:
        """Return what all execs of *plan* into its container do, whatever their command. Raises NotDirect."""
        context.target_pidfd = TARGET
        operations = [
            o for o in (*plan.outer, *plan.inner, *plan.execute) if not isinstance(o, _EXECS)
        ]
        if any(not isinstance(o, Repeats) for o in operations):
            raise NotDirect("an operation that is another one for each exec")
        joined = next(o for o in plan.outer if isinstance(o, JoinContainer))
        score = next(o for o in plan.outer if isinstance(o, SetOomScoreAdj))
        profiles = [o.profile for o in plan.inner if isinstance(o, ChangeProfile)]
        shapes = tuple(o.shape() for o in operations if isinstance(o, Repeats))
        with contextlib.ExitStack() as stack:
            if (cgroup := context.hierarchy.open_unified(plan.cgroup)) >= 0:
                stack.callback(os.close, cgroup)
            kept = open_tasks(self._trees_of(context.hierarchy), plan.cgroup)
            stack.pop_all()
        key = (shapes, score.value, tuple(profiles), context.filter, bool(kept))
        return Entrance(
            context=context,
            key=self._kinds.setdefault(key, len(self._kinds)),
            cgroup=cgroup,
            kept=kept,
            tasks=Text(os.fsencode(tasks_of(plan.cgroup))),
            flags=int(joined.flags()),
            env=next(o.env for o in plan.execute if isinstance(o, Execve)),
            path=next(o.path for o in plan.inner if isinstance(o, FindExecutable)),
            calls=lambda entrance, given: [
                *moved(given),
                *self._born(entrance, score.value, profiles, operations),
            ],
        )

    def launch_exec(
        self, entrance: Entrance, argv: tuple[str, ...], given: Given, note: int
    ) -> int:
        """Fork a process into a container, where it executes *argv*. Return its pid.

        Its pid is at the address *note* before it runs. Raises NotDirect, OSError: nothing has happened, and the long way is open.
        """
        if min(given) <= TARGET:
            raise NotDirect("a descriptor where the child puts another one")
        executed = self._machine.once(
            (argv, entrance.env), (), lambda: entrance.executed(argv), most=_KEPT
        )
        trees = self._trees_of(entrance.context.hierarchy)
        texts = [entrance.tasks] if trees and not entrance.kept else []
        become = self._machine.once(
            entrance.key,
            texts,
            lambda: entrance.calls(entrance, given),
            numbers=(*given, *entrance.kept),
        )
        try:
            return self._machine.launch(
                Part([become, executed], Call("write", (SYNC, AGAIN, len(AGAIN)))),
                cgroup=entrance.cgroup,
                note=note,
                enter=[Call("setns", (given[1], entrance.flags))],
                leave=self._back,
            )
        except OverflowError as e:
            raise NotDirect(str(e)) from e

    def _born(
        self, entrance: Entrance, score: int, profiles: list[str], operations: list[Operation]
    ) -> list[Call]:
        """Return what an exec's child does up to execve: first what needs a descriptor of ours, for it sees nothing of the host's."""
        context, file = entrance.context, os.O_WRONLY | os.O_CLOEXEC
        own, said = Result(), str(score).encode()
        found = [
            Call("prctl", (prctl.PR_SET_PDEATHSIG, _SIGKILL)),
            # Lowering it may not be allowed: the long way warns of that.
            Call("openat", (self._proc, b"self/oom_score_adj", file), gives=own, on_error=1),
            Call("write", (own, said, len(said)), on_error=0),
        ]
        entered = [Call("write", (Number(fd), b"0", 1)) for fd in entrance.kept]
        for tree in () if entered else self._trees_of(context.hierarchy):
            fd = Result()
            found.append(Call("openat", (tree, entrance.tasks, file), gives=fd))
            found.append(Call("write", (fd, b"0", 1)))
        return [
            *found,
            *entered,
            *(call for name in profiles for call in apparmor.calls_on_exec(name, self._proc)),
            Call("close_range", (TARGET + 1, process.UINT_MAX, 0)),
            *_limit_descriptors(context),
            Call("keyctl", (process.KEYCTL_JOIN_SESSION_KEYRING, 0), on_error=0),
            Call("setsid", ()),
            Call("prctl", (prctl.PR_SET_NAME, b"minipod:[init]")),
            *_calls(operations, context),
            Call("prctl", (prctl.PR_SET_PDEATHSIG, 0)),
        ]

    def _trees_of(self, hierarchy: Hierarchy) -> list[int]:
        """Return descriptors of the v1 trees' roots, that stay open."""
        if self._trees is None:
            # All or none: who enters some only has what the others forbid.
            paths = [tree.path("") for tree in hierarchy.trees if not tree.unified]
            with contextlib.ExitStack() as stack:
                self._trees = [_directory(path, stack) for path in paths]
                stack.pop_all()
        return self._trees


# What is done in another order, or by the supervisor.
_OURS = (JoinContainer, OpenCgroup, SetOomScoreAdj, ChangeProfile)
_EXECS = (*_OURS, EnterCgroup, InstallStdio, FindExecutable, Execve)
_SIGKILL = 9
_KEPT = 4096  # bytes of an exec's last calls, command and environment: probes have the same ones every time
_HANG = (
    Call("pause", ()) if MACHINE == "x86_64" else Call("ppoll", (0, 0, 0, 0, 0))
)  # as signal.pause() does


def finish(plan: Plan, pid: int) -> list[str]:
    """Give the child *pid* what it can't give to itself, before "go"; return warnings."""
    operation = next(o for o in (*plan.outer, *plan.inner) if isinstance(o, SetOomScoreAdj))
    try:
        operation.write(pid)
    except PermissionError:
        return [operation.refused()]
    except ProcessLookupError:
        pass  # it has failed already, and says so
    return []


def _above(fd: int) -> int:
    """Return a copy of *fd* that is not where the child puts what it is given."""
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, ROOT + 1)


def _directory(path: str, stack: contextlib.ExitStack) -> int:
    """Open a directory as `_above`; *stack* closes it."""
    fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        found = _above(fd)
    finally:
        os.close(fd)
    stack.callback(os.close, found)
    return found


def _limit_descriptors(context: Context) -> list[Call]:
    """Give up the supervisor's raised limit."""
    if context.nofile is None:
        return []
    return SetRlimits(limits=(("RLIMIT_NOFILE", *context.nofile),)).calls(context)


def _candidates(plan: Plan) -> tuple[str, ...]:
    """Return where a plan's command may be."""
    return tuple(c for o in plan.inner if isinstance(o, FindExecutable) for c in o.candidates())


def _calls(operations: Sequence[Operation], context: Context) -> list[Call]:
    found: list[Call] = []
    for operation in operations:
        if not isinstance(operation, Direct):
            raise NotDirect(operation.describe())
        found += operation.calls(context)
    return found


def _failing(operations: Sequence[Operation], context: Context, fault: str) -> list[Call]:
    """Return the calls with one that fails, or hangs, in front of those of the operation that *fault* names (`child.run`), "": none."""
    hangs, name = fault.startswith("hang:"), fault.removeprefix("hang:")
    if name and all(type(o).__name__ != name for o in operations):
        raise NotDirect(f"a fault in {name}")
    stop = _HANG if hangs else Call("close", (-1,))
    found: list[Call] = []
    for operation in operations:
        found += [stop] if type(operation).__name__ == name else []
        found += _calls([operation], context)
    return found
