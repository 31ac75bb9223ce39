"""The processes of a set-up: fork, run the plan's operations, park, execve.

The main process is the supervisor's child, born in its cgroup and its pid namespace. It runs the inner operations, in which it
may hang on a slow disk without stopping anybody else, says ready, waits for "go" and becomes the command. A plan with outer
operations takes two forks: the first process runs those, forks the main one, tells its pid and exits, and the supervisor as
subreaper inherits the main process. So it is where the main one is born into a pid namespace that others are in: they see it at once, and
in /proc what it has (connections and mounts need no right), so by then it must have no namespace of the host's.

**Imports are over** after the fork: `forbid_imports` empties every way to find a module. All that runs afterwards, error paths
included, must have been loaded and used before (`warm_up`).
"""

from __future__ import annotations

import gc
import os
import resource
import signal
import sys
from typing import NoReturn

from minipod.init.operation import Context, Operation, Plan
from minipod.init.sync import StepFailed
from minipod.linux import prctl, process

STDIO = (0, 1, 2)


def forbid_imports() -> None:
    """Make every later import fail: it could only load code from a container's image. Without finders nothing looks at sys.path."""
    sys.meta_path.clear()


def warm_up() -> None:
    """Load what the children will use lazily: codecs, strerror, the json encoder, glob of errors."""
    "x".encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
    "x".encode("latin-1").decode("latin-1")
    "x".encode("ascii").decode("ascii")
    os.fsencode("x"), os.fsdecode(b"x"), os.strerror(1)
    os.get_exec_path({"PATH": "/bin"})
    # Here and not in each child: freeing what the finders know of directories means to copy its pages.
    sys.path_importer_cache.clear()
    gc.collect()
    gc.freeze()


def fork_setup(
    plan: Plan, context: Context, *, title: str, keep: tuple[int, ...], fail_at: str
) -> int:
    """Fork the first process of a set-up: the main one, unless the plan has outer operations; return its pid.

    *keep* lists the fds it may use. Until execve it dies with us: it must not go on behind the back of the supervisor that follows.
    Raises OSError.
    """
    parent = os.getpid()
    pid = process.clone3() if plan.outer else fork_main(plan, context)
    if pid == 0:
        prctl.set_pdeathsig(signal.SIGKILL)
        # One in a pid namespace of its own sees no parent; it finds its sync socket at its end.
        if plan.outer and os.getppid() != parent:
            os._exit(1)
        _child(plan, context, title, (*keep, context.sync.fileno()), fail_at)
    return pid


def fork_main(plan: Plan, context: Context) -> int:
    """Fork the main process, into its cgroup of the unified tree and its pid namespace. Raises OSError."""
    cgroup = context.fds.pop("cgroup", -1)
    if cgroup < 0 and plan.cgroup:
        cgroup = context.hierarchy.open_unified(plan.cgroup)
    try:
        return process.clone3(plan.new, cgroup=cgroup)
    finally:
        if cgroup >= 0:
            os.close(cgroup)


def _child(
    plan: Plan, context: Context, title: str, keep: tuple[int, ...], fail_at: str
) -> NoReturn:
    """Never return, whatever happens: this process must not run its caller's code."""
    try:
        _become_clean(keep, context.nofile)
        run(plan.outer, context, fail_at)
        if not plan.inner:
            _tell_ready(context)
        elif plan.outer and (pid := _fork_again(plan, context)):
            context.sync.forked(pid)
        else:
            _main(plan, context, title, fail_at)
        os._exit(0)
    except StepFailed as e:
        context.sync.failed(e)
    except BaseException as e:
        context.sync.failed(StepFailed("set-up", 0, "", detail=f"{type(e).__name__}: {e}"))
    finally:
        os._exit(1)


def _fork_again(plan: Plan, context: Context) -> int:
    try:
        return fork_main(plan, context)
    except OSError as e:
        raise StepFailed("clone3", e.errno or 0, "", detail=str(e.strerror)) from None


def _become_clean(keep: tuple[int, ...], nofile: tuple[int, int] | None) -> None:
    """Keep nothing of the supervisor's: no import, no fd, no raised limit, no keyring. Signals are clean (clone3), its mask and umask are
    a container's."""
    forbid_imports()
    gc.disable()
    process.close_all_but((*STDIO, *keep))
    if nofile is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, nofile)
    process.join_session_keyring()


def _tell_ready(context: Context) -> None:
    """Report a sandbox: the numbers of its namespaces, and the network namespace itself."""
    opened = {k[3:]: fd for k, fd in context.fds.items() if k.startswith("ns:")}
    numbers = {kind: os.fstat(fd).st_ino for kind, fd in opened.items()}
    context.sync.ready([opened["net"]] if "net" in opened else [], namespaces=numbers)


def _main(plan: Plan, context: Context, title: str, fail_at: str) -> None:
    """Run in the container's first process, up to execve."""
    os.setsid()
    prctl.set_title(f"minipod:[init] {title}")
    run(plan.inner, context, fail_at)
    context.sync.ready()
    if not context.sync.await_go():
        os._exit(1)
    prctl.set_pdeathsig(0)  # the command outlives the supervisor
    run(plan.execute, context, fail_at)


def run(operations: tuple[Operation, ...], context: Context, fail_at: str) -> None:
    """Apply them in their order. Raises StepFailed."""
    for operation in operations:
        try:
            if fail_at:
                _inject(fail_at, type(operation).__name__)
            operation.apply(context)
        except OSError as e:
            subject = os.fsdecode(e.filename) if e.filename else ""
            raise StepFailed(
                operation.describe(),
                e.errno or 0,
                subject,
                cause=operation.cause,
                detail=str(e.strerror),
            ) from None


def _inject(fault: str, name: str) -> None:
    """Fail, or hang, where a test asks for it. Raises OSError."""
    if fault == name:
        raise OSError(5, "injected fault", name)
    if fault == f"hang:{name}":
        signal.pause()
