"""The short way: a plan as a program of system calls, for a child without an interpreter (`minipod.linux.machine_fork`).

A container's main process is born as on the long way. Its descriptors are moved to places that are always the same ones, so most of its
calls are the same as another container's, and were written down before:

    supervisor: clone3; oom_score_adj of the child
    child: its descriptors, die with the parent, keyring, session; the plan's operations; "ready", await "go"; execve

To make an exec the supervisor itself enters the container's namespaces, forks, and comes back; machine code does it, so nothing else
happens in there. The child is born with everything that /proc/PID shows (mounts, network, names), and with no memory of the supervisor's.

    supervisor: open the cgroup's files; setns, clone3, setns back; oom_score_adj of the child; "go"
    child: close descriptors, die with the parent, keyring; cgroups; session; the plan's operations; await "go"; execve

The plan is that of the long way (`minipod.init.plan`): an operation that is nothing but system calls has a method `calls`. Where one has
not, or a call fails, the long way is taken, which says what is wrong.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from typing import Final

from minipod.init.cgroup import CreateCgroup, EnterCgroup, OpenCgroup
from minipod.init.descriptors import Descriptors
from minipod.init.device import InstallStdio
from minipod.init.identity import ChangeProfile, FindExecutable, SetOomScoreAdj, SetRlimits
from minipod.init.namespaces import JoinContainer
from minipod.init.operation import Context, Direct, NotDirect, Operation, Plan, Repeats
from minipod.init.sync import AGAIN, OUTCOME, READY
from minipod.linux import apparmor, prctl, process
from minipod.linux.flags import CloneFlag
from minipod.linux.libc import MACHINE
from minipod.linux.machine import Piece
from minipod.linux.machine_fork import ForkMachine, Part
from minipod.linux.program import FAIL, Buffer, Call, Text
from minipod.spec.bundle import Bundle, Process
from minipod.spec.container import SeccompMode
from minipod.spec.sandbox import NamespaceMode

HOME: Final = {
    "mnt": CloneFlag.CLONE_NEWNS, "net": CloneFlag.CLONE_NEWNET, "ipc": CloneFlag.CLONE_NEWIPC,
    "uts": CloneFlag.CLONE_NEWUTS, "pid": CloneFlag.CLONE_NEWPID,
}  # fmt: skip
TRACERS: Final = frozenset(("SYS_PTRACE", "SYS_ADMIN"))
SYNC, VAULT, HOST_MOUNTS, ROOT = (
    3,
    4,
    5,
    6,
)  # where a container's child has what it is given; a root not each


def may_be_met(bundle: Bundle, process: Process) -> bool:
    """Whether a child of the supervisor's may be born among the processes of *bundle*.

    For a moment it has the supervisor's descriptors, so nobody in there may look into it: no tracer (CAP_SYS_PTRACE), nobody who
    mounts what the supervisor would walk into (CAP_SYS_ADMIN, an autofs over /), no other container that may have these (one that
    joined its pid namespace later is the caller's to look for). A user namespace can't be entered for a moment: the way back needs
    a capability outside of it.
    """
    return may_be_born(bundle) and not bundle.privileged and not TRACERS & set(process.capabilities)


def may_be_born(bundle: Bundle) -> bool:
    """Whether a container's main process is alone in its pid namespace, and of no user namespace; its filter is one that we know."""
    known = bundle.process.seccomp is not SeccompMode.LOCALHOST
    return bundle.pid is NamespaceMode.CONTAINER and bundle.userns is None and known


class Launcher:
    """Forks children by the short way. Raises OSError where this machine does not let it."""

    def __init__(self, vault_fd: int) -> None:
        self._machine = ForkMachine()
        self._home = {
            kind: os.open(f"/proc/self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in HOME
        }
        proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._proc, self._vault, self._mounts = map(_above, (proc, vault_fd, self._home["mnt"]))
        os.close(proc)
        # The places of a container's socket and root, for its launch.
        self._sync, self._root = _above(vault_fd), _above(vault_fd)

    # -- containers

    def launch_container(self, plan: Plan, context: Context, title: str, fail_at: str = "") -> int:
        """Fork a container's main process, which sets itself up, says "ready" and awaits "go". Return its pid.

        *context* may have its root, an fd of a detached mount. Raises NotDirect, OSError: nothing has happened, and the long way is open.
        """
        context.vault_fd, context.fds["home"] = VAULT, HOST_MOUNTS
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
            for operation in plan.inner:
                if isinstance(operation, CreateCgroup):
                    operation.limit_unified(context.hierarchy)
            os.dup2(context.sync.fileno(), self._sync, inheritable=False)
            return self._machine.launch(
                Part([made], Call("write", (SYNC, AGAIN, len(AGAIN)))),
                Part([executed], Call("write", (SYNC, outcome, outcome.size))),
                flags=plan.new,
                cgroup=cgroup,
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
        last = ROOT if "root" in context.fds else HOST_MOUNTS
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
        given = [(self._vault, VAULT), (self._mounts, HOST_MOUNTS), (self._root, ROOT)]
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

    def launch_exec(self, plan: Plan, context: Context, title: str) -> int:
        """Fork the main process of *plan* into its container; it awaits "go" before execve. Return its pid.

        Raises NotDirect, OSError: nothing has happened, and the long way is open.
        """
        opened: list[int] = []
        context.candidates = _candidates(plan)
        try:
            tasks = _open_cgroups(plan, context, opened)
            theirs = self._program(plan, context, title, tasks)
            back = [Call("setns", (fd, int(HOME[kind]))) for kind, fd in self._home.items()]
            again = Call("write", (context.sync.fileno(), AGAIN, len(AGAIN)))
            return self._machine.launch(
                Part(theirs, again),
                cgroup=context.fds.pop("cgroup", -1),
                enter=_entrance(plan, context),
                leave=back,
            )
        except OverflowError as e:
            raise NotDirect(str(e)) from e
        finally:
            for fd in opened:
                os.close(fd)

    def _program(
        self, plan: Plan, context: Context, title: str, tasks: Sequence[int]
    ) -> list[Piece]:
        """Return what the child does, up to execve. From where its streams are its own, execs do what many others do."""
        sync, target = context.sync.fileno(), context.target_pidfd
        profiles = [o.profile for o in plan.inner if isinstance(o, ChangeProfile)]
        keep = [0, 1, 2, sync, target, *tasks, *(fd for fd in context.stdio if fd >= 0)]
        keep += [self._proc] * len(profiles)
        heard = Buffer(16)
        name = os.fsencode(f"minipod:[init] {title}")
        done = (*_OURS, EnterCgroup)
        operations = [o for o in (*plan.outer, *plan.inner) if not isinstance(o, done)]
        behind = [isinstance(o, InstallStdio) for o in operations].index(True) + 1  # fmt: skip
        own, alike = operations[:behind], [o for o in operations[behind:] if isinstance(o, Repeats)]
        if len(own) + len(alike) < len(operations):
            raise NotDirect("an operation that is another one for each exec")
        born = [
            *(Call("close_range", (*between, 0)) for between in process.ranges_but(keep)),
            *_limit_descriptors(context),
            Call("prctl", (prctl.PR_SET_PDEATHSIG, _SIGKILL)),
            Call("keyctl", (process.KEYCTL_JOIN_SESSION_KEYRING, 0), on_error=0),
            *(Call("write", (fd, b"0", 1)) for fd in tasks),
            # By the host's procfs, and first: no directory of the host's is open when the working directory is entered.
            *(call for name in profiles for call in apparmor.calls_on_exec(name, self._proc)),
            Call("setsid", ()),
            Call("prctl", (prctl.PR_SET_NAME, name)),
            *_calls(own, context),
        ]
        key = (tuple(o.shape() for o in alike), context.filter)
        become = self._machine.once(key, (), lambda: _calls(alike, context))
        # "go" says that we are known, and what only the host's root could give us is there. Its end: the supervisor's.
        gone = [
            Call("read", (sync, heard, heard.size), on_zero=FAIL),
            Call("prctl", (prctl.PR_SET_PDEATHSIG, 0)),
            *_calls(plan.execute, context),
        ]
        return [born, become, gone]


# What is done in another order, or by the supervisor.
_OURS = (JoinContainer, OpenCgroup, SetOomScoreAdj, ChangeProfile)
_SIGKILL = 9
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


def _open_cgroups(plan: Plan, context: Context, opened: list[int]) -> list[int]:
    """Open what cgroups an exec's child enters, from here: it sees no hierarchy of the host's."""
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
