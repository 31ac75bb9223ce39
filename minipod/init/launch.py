"""The short way of an exec: its plan as a program of system calls, for a child without an interpreter (`minipod.linux.program`).

The supervisor itself enters the container's namespaces, forks, and comes back; machine code does it, so nothing else happens in
there. The child is born with everything that /proc/PID shows (mounts, network, names), and with no memory of the supervisor's.

    supervisor: open the cgroup's files; setns, clone3, setns back; oom_score_adj of the child; "go"
    child: close descriptors, die with the parent, keyring; cgroups; session; the plan's operations; await "go"; execve

The plan is that of the long way (`plan.exec_plan`): an operation that is nothing but system calls has a method `calls`. Where one has
not, or a call fails, the exec takes the long way, which says what is wrong: nothing that was done here outlives the child.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final, Protocol, runtime_checkable

from minipod.init.identity import ChangeProfile, SetOomScoreAdj, SetRlimits
from minipod.init.isolation import EnterCgroup, JoinContainer, OpenCgroup
from minipod.init.operation import Context, NotDirect, Operation, Plan
from minipod.init.sync import AGAIN
from minipod.linux import apparmor, prctl, process
from minipod.linux.flags import CloneFlag
from minipod.linux.program import FAIL, Buffer, Call, Machine
from minipod.spec.bundle import Bundle, Process
from minipod.spec.sandbox import NamespaceMode

HOME: Final = {
    "mnt": CloneFlag.CLONE_NEWNS, "net": CloneFlag.CLONE_NEWNET, "ipc": CloneFlag.CLONE_NEWIPC,
    "uts": CloneFlag.CLONE_NEWUTS, "pid": CloneFlag.CLONE_NEWPID,
}  # fmt: skip
TRACERS: Final = frozenset(("SYS_PTRACE", "SYS_ADMIN"))


@runtime_checkable
class Direct(Protocol):
    """An operation that is nothing but system calls."""

    def calls(self, context: Context) -> Sequence[Call]:
        """Return them. Raises NotDirect for what they can't do."""


def may_be_met(bundle: Bundle, process: Process) -> bool:
    """Whether a child of the supervisor's may be born among the processes of *bundle*.

    For a moment it has the supervisor's descriptors, so nobody in there may look into it: no tracer (CAP_SYS_PTRACE), nobody who
    mounts what the supervisor would walk into (CAP_SYS_ADMIN, an autofs over /), no other container that may have these. A user
    namespace can't be entered for a moment: the way back needs a capability outside of it.
    """
    alone = bundle.pid is NamespaceMode.CONTAINER and bundle.userns is None
    return alone and not bundle.privileged and not TRACERS & set(process.capabilities)


class Launcher:
    """Forks children by the short way. Raises OSError where this machine does not let it."""

    def __init__(self) -> None:
        self._machine = Machine()
        self._proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._home = {
            kind: os.open(f"/proc/self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in HOME
        }

    def launch(self, plan: Plan, context: Context, title: str) -> int:
        """Fork the main process of *plan* into its container; it awaits "go" before execve. Return its pid.

        Raises NotDirect, OSError: nothing has happened, and the long way is open.
        """
        opened: list[int] = []
        try:
            tasks = _open_cgroups(plan, context, opened)
            theirs = self._program(plan, context, title, tasks)
            back = [Call("setns", (fd, int(HOME[kind]))) for kind, fd in self._home.items()]
            pid = self._machine.launch(
                theirs,
                cgroup=context.fds.pop("cgroup", -1),
                enter=_entrance(plan, context),
                leave=back,
                failed=Call("write", (context.sync.fileno(), AGAIN, len(AGAIN))),
            )
        except OverflowError as e:
            raise NotDirect(str(e)) from e
        finally:
            for fd in opened:
                os.close(fd)
        return pid

    def _program(
        self, plan: Plan, context: Context, title: str, tasks: Sequence[int]
    ) -> list[Call]:
        """Return what the child does, up to execve."""
        sync, target = context.sync.fileno(), context.target_pidfd
        profiles = [o.profile for o in plan.inner if isinstance(o, ChangeProfile)]
        keep = [0, 1, 2, sync, target, *tasks, *(fd for fd in context.stdio if fd >= 0)]
        keep += [self._proc] * len(profiles)
        heard = Buffer(16)
        name = os.fsencode(f"minipod:[init] {title}")
        operations = [o for o in (*plan.outer, *plan.inner) if not isinstance(o, _OURS)]
        return [
            *(Call("close_range", (*between, 0)) for between in process.ranges_but(keep)),
            *_limit_descriptors(context),
            Call("prctl", (prctl.PR_SET_PDEATHSIG, _SIGKILL)),
            Call("keyctl", (process.KEYCTL_JOIN_SESSION_KEYRING, 0), on_error=0),
            *(Call("write", (fd, b"0", 1)) for fd in tasks),
            # By the host's procfs, and first: no directory of the host's is open when the working directory is entered.
            *(call for name in profiles for call in apparmor.calls_on_exec(name, self._proc)),
            Call("setsid", ()),
            Call("prctl", (prctl.PR_SET_NAME, name)),
            *_calls(operations, context),
            # "go" says that we are known, and what only the host's root could give us is there. Its end: the supervisor's.
            Call("read", (sync, heard, heard.size), on_zero=FAIL),
            Call("prctl", (prctl.PR_SET_PDEATHSIG, 0)),
            *_calls(plan.execute, context),
        ]


# What is done in another order, or by the supervisor.
_OURS = (JoinContainer, OpenCgroup, SetOomScoreAdj, EnterCgroup, ChangeProfile)
_SIGKILL = 9


def finish(plan: Plan, pid: int) -> list[str]:
    """Give the child *pid* what it can't give to itself, before "go"; return warnings."""
    operation = next(o for o in plan.outer if isinstance(o, SetOomScoreAdj))
    try:
        operation.write(pid)
    except PermissionError:
        return [operation.refused()]
    except ProcessLookupError:
        pass  # it has failed already, and says so
    return []


def _open_cgroups(plan: Plan, context: Context, opened: list[int]) -> list[int]:
    """Open what cgroups the child enters, from here: it sees no hierarchy of the host's."""
    tasks = []
    for operation in plan.outer:
        if isinstance(operation, EnterCgroup):
            for fd in context.hierarchy.open_tasks(operation.path):
                tasks.append(fd)
                opened.append(fd)
        elif isinstance(operation, OpenCgroup):
            operation.apply(context)
            opened += [fd for fd in (context.fds["cgroup"],) if fd >= 0]
    return tasks


def _limit_descriptors(context: Context) -> list[Call]:
    """Give up the supervisor's raised limit."""
    if context.nofile is None:
        return []
    return SetRlimits(limits=(("RLIMIT_NOFILE", *context.nofile),)).calls(context)


def _entrance(plan: Plan, context: Context) -> list[Call]:
    joins = (o for o in plan.outer if isinstance(o, JoinContainer))
    return [Call("setns", (context.target_pidfd, int(o.flags()))) for o in joins]


def _calls(operations: Sequence[Operation], context: Context) -> list[Call]:
    found: list[Call] = []
    for operation in operations:
        if not isinstance(operation, Direct):
            raise NotDirect(operation.describe())
        found += operation.calls(context)
    return found
