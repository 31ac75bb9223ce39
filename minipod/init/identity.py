"""Operations that take from a process what it may not keep: limits, identity, capabilities, syscalls."""

from __future__ import annotations

import errno
import os
import resource
import struct
from collections.abc import Hashable
from dataclasses import dataclass
from functools import lru_cache

from minipod.init.operation import Context, NotDirect, Repeats
from minipod.init.sync import StepFailed
from minipod.linux import apparmor, credentials, prctl, seccomp, seccomp_json
from minipod.linux.flags import AT_FDCWD
from minipod.linux.program import FAIL, Buffer, Call, Text, Words, unless
from minipod.spec.bundle import Process
from minipod.spec.container import SeccompMode

PATH_MAX = 4096
RLIM_INFINITY = 2**64 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SetOomScoreAdj:
    """Tell the OOM killer how dear the process is; lowering needs CAP_SYS_RESOURCE."""

    value: int
    cause: str = ""

    def describe(self) -> str:
        return f"oom_score_adj {self.value}"

    def apply(self, context: Context) -> None:
        try:
            self.write("self")
        except PermissionError:
            context.warn(self.refused())

    def write(self, pid: int | str) -> None:
        """Set it for *pid*. Raises PermissionError, ProcessLookupError."""
        fd = os.open(f"/proc/{pid}/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, str(self.value).encode())
        finally:
            os.close(fd)

    def refused(self) -> str:
        """Return the warning for a PermissionError."""
        return f"oom_score_adj {self.value}: permission denied (no CAP_SYS_RESOURCE)"


@dataclass(frozen=True, slots=True, kw_only=True)
class SetRlimits(Repeats):
    """Set resource limits; raising a hard limit needs CAP_SYS_RESOURCE."""

    limits: tuple[tuple[str, int, int], ...]
    cause: str = ""

    def describe(self) -> str:
        return "setrlimit " + " ".join(f"{n}={soft}:{hard}" for n, soft, hard in self.limits)

    def apply(self, context: Context) -> None:
        for name, soft, hard in self.limits:
            try:
                resource.setrlimit(getattr(resource, name), (soft, hard))
            except (PermissionError, ValueError):
                context.warn(f"setrlimit {name}={soft}:{hard}: not permitted (no CAP_SYS_RESOURCE)")

    def calls(self, context: Context) -> list[Call]:
        limits = ((getattr(resource, name), *pair) for name, *pair in self.limits)
        return [
            Call("prlimit64", (0, kind, struct.pack("<QQ", *(n & RLIM_INFINITY for n in pair)), 0))
            for kind, *pair in limits
        ]


def compiled_filter(process: Process, *, privileged: bool) -> bytes:
    """Return the seccomp program of a process; b"" for none. It is compiled before the fork (`Context.filter`)."""
    if privileged or process.seccomp is SeccompMode.UNCONFINED:
        return b""
    if process.seccomp is SeccompMode.LOCALHOST:
        return seccomp_json.compile_json(process.seccomp_profile, frozenset(process.capabilities))
    return seccomp.compile_profile(frozenset(process.capabilities))


def compile_default_filter() -> None:
    """Compile the usual filter before the first container needs it."""
    seccomp.compile_profile(frozenset(credentials.DEFAULT))


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadSeccomp(Repeats):
    """Load the filter. Without no_new_privs it needs CAP_SYS_ADMIN, so it comes before the capabilities go."""

    cause: str = ""

    def describe(self) -> str:
        return "seccomp filter"

    def apply(self, context: Context) -> None:
        if context.filter:
            seccomp.load(context.filter)

    def calls(self, context: Context) -> list[Call]:
        if not context.filter:
            return []
        program = (len(context.filter) // 8, context.filter)  # struct sock_fprog
        mode = seccomp.SECCOMP_SET_MODE_FILTER
        return [Call("seccomp", (mode, 0, program), gives=context.outcome)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeProfile:
    """Enter an AppArmor profile at execve. Before the user changes: /proc may hide from him what is ours to write."""

    profile: str
    cause: str = ""

    def describe(self) -> str:
        return f"AppArmor profile {self.profile} on exec"

    def apply(self, context: Context) -> None:
        try:
            apparmor.change_on_exec(self.profile)
        except FileNotFoundError:
            words = f"AppArmor profile {self.profile} is not loaded"
            raise StepFailed("apparmor", errno.ENOENT, self.profile, detail=words) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeDirectory(Repeats):
    """Enter the working directory, made when it is missing; EACCES may pass after the user changed."""

    path: str
    create: bool = False
    final: bool = False  # the second try, as the user
    cause: str = ""

    def describe(self) -> str:
        return f"chdir {self.path}" + (" (as the user)" if self.final else "")

    def apply(self, context: Context) -> None:
        if self.final and "cwd" in context.fds:
            return
        try:
            os.chdir(self.path)
        except FileNotFoundError:
            if not self.create:
                raise
            os.makedirs(self.path, 0o755, exist_ok=True)
            os.chdir(self.path)
        except PermissionError:
            if self.final:
                raise
            return
        context.fds["cwd"] = -1

    def calls(self, context: Context) -> list[Call]:
        """Once: what only the user may enter takes the long way; so does what is no path, and that says so."""
        if self.final:
            return []
        if "\0" in self.path:
            raise NotDirect(self.describe())
        enter = Call("chdir", (os.fsencode(self.path),))
        if not self.create:
            return [enter]
        parts = [part for part in self.path.split("/") if part]
        paths = (os.fsencode("/" + "/".join(parts[: n + 1])) for n in range(len(parts)))
        made = [Call("mkdirat", (AT_FDCWD, path, 0o755), on_error=0) for path in paths]
        return unless(enter, [*made, enter])


@dataclass(frozen=True, slots=True, kw_only=True)
class SetIdentity(Repeats):
    """Bounding set, groups, user, capability sets; in the order in which each may still be done.

    A process that is not root keeps no capability (Kubernetes passes no ambient ones).
    """

    uid: int
    gid: int
    groups: tuple[int, ...]
    capabilities: tuple[str, ...]
    no_new_privs: bool
    cause: str = ""

    def describe(self) -> str:
        nnp = ", no_new_privs" if self.no_new_privs else ""
        return (
            f"uid={self.uid} gid={self.gid} groups={list(self.groups)} "
            f"caps={','.join(self.capabilities) or 'none'}{nnp}"
        )

    def apply(self, context: Context) -> None:
        numbers = frozenset(credentials.number(name) for name in self.capabilities)
        credentials.limit_bounding_set(numbers)
        os.setgroups(self.groups)
        os.setresgid(self.gid, self.gid, self.gid)
        prctl.set_keepcaps(True)
        os.setresuid(self.uid, self.uid, self.uid)
        prctl.set_keepcaps(False)
        kept = numbers if self.uid == 0 else frozenset()
        prctl.clear_ambient()
        # execve resets it; until then nobody may ptrace us or open our /proc/PID (CVE-2016-9962). After the user, whose
        # change would reset it, too; before the capabilities go: from then on the container's own processes are our equals.
        prctl.set_dumpable(False)
        credentials.set_capabilities(effective=kept, permitted=kept, inheritable=frozenset())
        if self.no_new_privs:
            prctl.set_no_new_privs()

    def calls(self, context: Context) -> list[Call]:
        """The same in the same order, from where the supervisor is: its child has its capabilities."""
        numbers = frozenset(credentials.number(name) for name in self.capabilities)
        kept = numbers if self.uid == 0 else frozenset()
        uids, gids = (self.uid,) * 3, (self.gid,) * 3
        groups = struct.pack(f"<{len(self.groups)}I", *self.groups)
        header, sets = credentials.capset_arguments(
            effective=kept, permitted=kept, inheritable=frozenset()
        )
        return [
            *(Call("prctl", (prctl.PR_CAPBSET_DROP, n)) for n in credentials.to_drop(numbers)),
            Call("setgroups", (len(self.groups), groups)),
            Call("setresgid", gids),
            Call("prctl", (prctl.PR_SET_KEEPCAPS, 1)),
            Call("setresuid", uids),
            Call("prctl", (prctl.PR_SET_KEEPCAPS, 0)),
            Call("prctl", (prctl.PR_CAP_AMBIENT, prctl.PR_CAP_AMBIENT_CLEAR_ALL)),
            Call("prctl", (prctl.PR_SET_DUMPABLE, 0)),
            Call("capset", (header, sets)),
            *([Call("prctl", (prctl.PR_SET_NO_NEW_PRIVS, 1))] if self.no_new_privs else []),
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyDirectory(Repeats):
    """The working directory must be inside the root: getcwd(2) says "(unreachable)" otherwise (CVE-2024-21626)."""

    cause: str = ""

    def describe(self) -> str:
        return "getcwd is inside the root"

    def apply(self, context: Context) -> None:
        where = os.getcwd()
        if not where.startswith("/"):
            raise PermissionError(errno.EPERM, "working directory is outside the root", where)

    def calls(self, context: Context) -> tuple[Call, ...]:
        """What begins with "(" is not found below a descriptor that is none; what begins with "/" needs no descriptor (openat(2))."""
        where = Buffer(PATH_MAX)
        return Call("getcwd", (where, where.size)), Call("faccessat", (-1, where, os.F_OK))


@dataclass(frozen=True, slots=True, kw_only=True)
class FindExecutable(Repeats):
    """Look argv[0] up as the container's user sees it: its PATH, its root. Told at start, not here."""

    name: str
    path: str  # the PATH of the container's environment
    parked: bool = False  # a start comes later, and is too late to take the long way
    cause: str = ""

    def describe(self) -> str:
        return f"find {self.name} in PATH {self.path}"

    def apply(self, context: Context) -> None:
        if "/" in self.name:
            context.executable = self.name
            return
        error = errno.ENOENT
        for directory in self.path.split(":"):
            candidate = f"{directory or '.'}/{self.name}"
            if os.access(candidate, os.X_OK, effective_ids=False) and not os.path.isdir(candidate):
                context.executable = candidate
                return
            if os.path.exists(candidate):
                error = errno.EACCES
        context.executable_errno = error

    def candidates(self) -> list[str]:
        """Return where it may be."""
        if "/" in self.name:
            return [self.name]
        return [f"{directory or '.'}/{self.name}" for directory in self.path.split(":")]

    def calls(self, context: Context) -> list[Call]:
        """`Execve` tries the candidates. Who will be *parked* looks now whether there is one, and that it is no directory."""
        found: list[Call] = []
        texts = self.texts(context)
        for number in range(0, len(texts), 2):
            found.append(Call("faccessat", (AT_FDCWD, texts[number], os.X_OK), on_error=1))
            left = len(texts) - number - 1  # behind the next call
            test = (AT_FDCWD, texts[number + 1], os.F_OK)
            found.append(Call("faccessat", test, then=FAIL, on_error=left))
        return [*found, Call("close", (-1,))] if found else []

    def shape(self) -> Hashable:
        return type(self), len(self.candidates()) if self._looks() else 0

    def texts(self, context: Context) -> list[Text]:
        if not self._looks():
            return []
        names = map(os.fsencode, self.candidates())
        return [Text(name + end) for name in names for end in (b"", b"/")]

    def _looks(self) -> bool:
        return self.parked and "/" not in self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Execve:
    """Become the container's process. Returning is failure."""

    argv: tuple[str, ...]
    env: tuple[str, ...]
    cause: str = ""

    def describe(self) -> str:
        return f"execve {' '.join(self.argv)}"

    def apply(self, context: Context) -> None:
        name = self.argv[0]
        if context.executable_errno == errno.ENOENT:
            raise StepFailed(
                "exec", errno.ENOENT, name, detail="executable file not found in $PATH"
            )
        if context.executable_errno:
            raise StepFailed("exec", context.executable_errno, name, detail="permission denied")
        environment = dict(pair.partition("=")[::2] for pair in self.env)
        try:
            os.execve(context.executable, self.argv, environment)
        except OSError as e:
            raise self.failed(name, e.errno or 0) from None

    @staticmethod
    def failed(name: str, number: int) -> StepFailed:
        """Return the error for an execve of *name* that gave errno *number*."""
        return StepFailed("exec", number, name, detail=os.strerror(number).lower())

    def calls(self, context: Context) -> list[Call]:
        """Execute the first candidate that may be executed. To find none takes the long way, which tells why.

        So do words that C can't hold: the kernel would read them up to the null byte.
        """
        if any("\0" in word for word in self.argv):
            raise NotDirect("a word with a null byte")
        argv, envp = Words([*map(os.fsencode, self.argv)]), _environment(self.env)
        found: list[Call] = []
        for candidate in map(os.fsencode, context.candidates):
            if len(context.candidates) > 1:  # cheaper than an execve that fails
                may = (AT_FDCWD, candidate, os.X_OK)
                found.append(Call("faccessat", may, on_error=1, gives=context.outcome))
            found.append(Call("execve", (candidate, argv, envp), gives=context.outcome))
        return found


@lru_cache(maxsize=64)
def _environment(pairs: tuple[str, ...]) -> Words:
    """Return variables for execve(2): of those that stand there twice the last one. Raises NotDirect."""
    environment = dict(pair.partition("=")[::2] for pair in pairs)
    if "" in environment or any("\0" in pair for pair in pairs):
        raise NotDirect("a variable with a null byte, or without a name")
    return Words([os.fsencode(f"{name}={value}") for name, value in environment.items()])
