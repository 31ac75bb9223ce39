"""Starting, stopping and resetting a node, from the command line's side. Synchronous, light imports."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import select
import shutil
import signal
import sys
import time
from collections.abc import Iterable
from typing import Any

from minipod.api import unix_http
from minipod.apiserver import store_file
from minipod.apiserver.auth import ports
from minipod.daemon.systemd import notify_ready, scoped
from minipod.errors import DeadlineExceeded, FailedPrecondition, Internal, NotFound, Unavailable
from minipod.linux import inotify, process
from minipod.spec.instance import Instance
from minipod.supervisor import ANOTHER_RUNS, ENDED, sealing

START_DEADLINE = 180.0  # seconds until a node must be ready: an emulated machine with other work takes one minute; who dies is seen at once
NEXT_DEADLINE = 60.0  # seconds until another supervisor follows one that died
TRIES = 3  # of a daemon that ends while it starts
SILENCE = b"-"
ENDING = 10.0  # seconds between the end of a process's descriptors and its own, on a busy machine
STOP_DEADLINE = 60.0  # seconds for processes to end after their pods did

INHERITED = ("PATH", "LANG", "HOME", "PYTHONPATH", "SSL_CERT_FILE", "SSL_CERT_DIR")
PROXIES = ("http_proxy", "https_proxy", "no_proxy")  # in either case

PUMP = "minipod.supervisor.pump:main"
PROBER = "minipod.daemon.prober:main"
DAEMON = "minipod.daemon.start:main"


def supervisor_argv(instance: Instance, ready_fd: int) -> list[str]:
    """Return how a supervisor of *instance* is started; it starts pump, prober and daemon.

    With -P: a directory that root happens to be in, and a `minipod` in it, are nobody's business (python(1), safe path).
    """
    plain = dataclasses.asdict(instance)
    config = {
        "instance": plain,
        "pump": PUMP,
        "prober": PROBER
        if instance.face == "kubernetes"
        else "",  # a kubelet over the CRI has its own
        "daemon": DAEMON,
        "ready_fd": ready_fd,
    }
    return [sys.executable, "-P", "-m", "minipod.supervisor", json.dumps(config)]


def require_root() -> None:
    """Raises FailedPrecondition."""
    if os.geteuid() != 0:
        raise FailedPrecondition("minipod must run as root", hint="try it with sudo")


def start_node(instance: Instance, foreground: bool = False) -> bool:
    """Start the node and wait until its API answers; False when it ran already, or another started it meanwhile.

    In the foreground, stay until the supervisor ends (for systemd). Raises Unavailable: with what is taken, with the log's end;
    FailedPrecondition: with a store that is not ours to open.
    """
    require_root()
    if _answers(instance):
        if foreground:
            raise FailedPrecondition(
                f"node {instance.name} is running already", hint=f"{instance.command} down"
            )
        return False
    if not node_pids(instance):
        from minipod.network import routes  # only here: keeps the CLI's start short

        routes.check(instance)
        if instance.face == "kubernetes":
            ports.check(instance)
            store_file.check(store_path(instance))
    os.makedirs(instance.state_dir, 0o700, exist_ok=True)
    deadline = time.monotonic() + START_DEADLINE
    while not (pid := _start(instance)):
        if _await_other(instance, deadline):
            return start_node(instance, foreground)
    if foreground:
        notify_ready()
        _stay(instance, pid)
    return True


def log_path(instance: Instance) -> str:
    """Where supervisor and daemon write what an operator would read."""
    return f"{instance.state_dir}/minipod.log"


def store_path(instance: Instance) -> str:
    """Where the objects of the API are."""
    return f"{instance.state_dir}/store.db"


def start_supervisor(instance: Instance, ready_fd: int) -> int:
    """Start a supervisor in a session of its own; return its pid. *ready_fd* -1: nobody waits. Raises OSError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, log_path(instance), flags, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    if ready_fd >= 0:
        os.set_inheritable(ready_fd, True)
    environment = {k: v for k, v in os.environ.items() if k in INHERITED or k.lower() in PROXIES}
    environment |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}
    own = supervisor_argv(instance, ready_fd)
    argv = scoped(instance, own)
    with contextlib.ExitStack() as stack:
        path = argv[0]
        if argv is own:
            path = sealing.path(interpreter := sealing.interpreter())
            stack.callback(os.close, interpreter)
            environment = sealing.environment(environment)
        pid = os.posix_spawn(path, argv, environment, file_actions=actions, setsid=True)
    if ready_fd >= 0:
        os.set_inheritable(ready_fd, False)
    return pid


def _start(instance: Instance) -> int:
    """Return the pid of a supervisor whose node is ready, 0 when another supervisor of it runs.

    One whose daemon ends again and again is stopped, since it knows only the settings of its start. Raises Unavailable.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid = start_supervisor(instance, writer)
    os.close(writer)
    try:
        heard = _hear(reader)
    finally:
        os.close(reader)
    if b"ready" in heard:
        return pid
    if heard == b"" and _exit_code(pid) == ANOTHER_RUNS:
        return 0
    if ENDED in heard:
        with contextlib.suppress(NotFound, DeadlineExceeded):
            stop_node(instance, keep_pods=True)
    with open(log_path(instance), encoding="utf-8", errors="replace") as f:
        tail = "".join(f.readlines()[-15:])
    what = (
        f"was not ready after {START_DEADLINE:g} s" if heard == SILENCE else "ended while starting"
    )
    raise Unavailable(f"the node {what}:\n{tail}", hint=f"see {log_path(instance)}; minipod doctor")


def _hear(reader: int) -> bytes:
    """Return what is said of the start until that is decided; with no end to it after the deadline SILENCE."""
    heard = b""
    deadline = time.monotonic() + START_DEADLINE
    while b"ready" not in heard and heard.count(ENDED) < TRIES:
        ready, _, _ = select.select([reader], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return SILENCE
        if not (more := os.read(reader, 64)):
            break
        heard += more
    return heard


def _exit_code(pid: int) -> int:
    """Return the exit code of a child that has closed its descriptors, as one that ends does; -1 when it lives on."""
    pidfd = process.pidfd_open(pid)
    ended, _, _ = select.select([pidfd], [], [], ENDING)
    os.close(pidfd)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) if ended else -1


def _await_other(instance: Instance, deadline: float) -> bool:
    """Wait for the node whose supervisor is another's; False when that one ended. Raises Unavailable after the *deadline*."""
    while time.monotonic() < deadline:
        if _answers(instance):
            return True
        if not node_pids(instance):
            return False
        time.sleep(0.05)
    raise Unavailable(
        f"another supervisor of node {instance.name} runs, and its node does not answer",
        hint=f"see {log_path(instance)}; {instance.command} down --keep-pods ends it",
    )


def _stay(instance: Instance, pid: int) -> None:
    """Stand for the node before a service manager: pass SIGTERM on, leave when the node is gone.

    A supervisor that was killed is followed by another, which the daemon starts: stay for that one. Raises Unavailable when none
    comes, so that the service manager starts the node again.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(writer)
    stopped = False
    while pid:
        pidfd = process.pidfd_open(pid)
        ready, _, _ = select.select([pidfd, reader], [], [])
        gone = pidfd in ready
        os.close(pidfd)
        if gone:
            pid = 0 if stopped else _next_supervisor(instance, pid)
        else:
            os.read(reader, 64)
            stopped = True
            if node_pids(instance):
                stop_node(instance, keep_pods=True)


def _next_supervisor(instance: Instance, old: int) -> int:
    """Wait for the supervisor that follows one that died; return its pid, 0 when the old one ended on purpose. Raises Unavailable."""
    from minipod.supervisor import records  # only here: keeps the CLI's start short

    watch = inotify.inotify_init()
    try:
        inotify.inotify_add_watch(watch, instance.run_dir, inotify.IN_MOVED_TO)
        deadline = time.monotonic() + NEXT_DEADLINE
        while (left := deadline - time.monotonic()) > 0:
            if records.read_service(instance.run_dir, "supervisor") is None:
                return 0
            found = node_pids(instance)[:1]
            if found and found != [old]:
                return found[0]
            daemon = records.read_service(instance.run_dir, "daemon")
            if daemon is None or not records.alive(daemon.pid, daemon.start_time):
                break  # nobody is there to start one
            ends = process.pidfd_open(daemon.pid)
            select.select([watch, ends], [], [], left)
            os.close(ends)
            inotify.drain(watch)
    except (FileNotFoundError, ProcessLookupError):
        if not os.path.exists(instance.run_dir):
            return 0  # reset
    finally:
        os.close(watch)
    raise Unavailable(f"the supervisor of node {instance.name} died, and no other followed")


def request(
    instance: Instance, method: str, path: str, timeout: float | None = 10.0
) -> dict[str, Any]:
    """Ask the daemon. Raises Unavailable when there is none, Internal for an error answer."""
    try:
        answer = unix_http.request(instance.api_socket, method, path, headers={}, timeout=timeout)
        body = answer.read()
    except OSError as e:
        raise Unavailable(
            f"node {instance.name} is not running", hint=f"start it: {instance.command} up"
        ) from e
    if answer.status >= 400:
        raise Internal(f"{method} {path}: {answer.status} {body[:200].decode(errors='replace')}")
    parsed: dict[str, Any] = json.loads(body)
    return parsed


def _answers(instance: Instance) -> bool:
    try:
        request(instance, "GET", "/version")
    except (Unavailable, Internal):
        return False
    return True


def node_status(instance: Instance) -> dict[str, Any]:
    """Return what the daemon says of itself; {"running": False} when there is none."""
    try:
        return {"running": True, **request(instance, "GET", "/minipod/status")}
    except Unavailable:
        return {"running": False, "instance": instance.name}


def stop_node(instance: Instance, *, keep_pods: bool) -> None:
    """Stop the pods (gracefully, unless they are to be kept), then daemon, prober, supervisor and pump.

    The pump stays with pods that are kept, until the next start or their end: it writes their logs, and holds their stdins and
    terminals, without which they would read an end of file, or be hung up.

    Raises NotFound when it does not run; DeadlineExceeded when pods stay (the node runs on) or a process does.
    """
    require_root()
    pids = service_pids(instance)
    if "supervisor" not in pids:
        raise NotFound(f"node {instance.name} is not running")
    if not keep_pods:
        answer = request(instance, "POST", "/minipod/stop-pods", timeout=None)
        if left := answer.get("left"):
            raise DeadlineExceeded(
                f"pods are still there, long after their grace periods: {', '.join(left)}",
                hint="see minipod why; down --keep-pods leaves them, reset ends everything",
            )
    pidfds = {}
    for name, pid in pids.items():
        with contextlib.suppress(ProcessLookupError):
            pidfds[name] = process.pidfd_open(pid)
    os.kill(pids["supervisor"], signal.SIGTERM)  # it ends the others
    pump = pidfds.pop("pump", -1)
    deadline = time.monotonic() + STOP_DEADLINE
    _await_ends(instance, pidfds.values(), deadline)
    if pump >= 0 and not keep_pods:  # also where a container is left that no pod knows
        with contextlib.suppress(ProcessLookupError):
            process.pidfd_send_signal(pump, signal.SIGTERM)
        _await_ends(instance, [pump], deadline)
    elif pump >= 0:
        os.close(pump)


def _await_ends(instance: Instance, pidfds: Iterable[int], deadline: float) -> None:
    for pidfd in pidfds:
        if not select.select([pidfd], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise DeadlineExceeded(f"a process of node {instance.name} did not end")
        os.close(pidfd)


def node_pids(instance: Instance) -> list[int]:
    """Return the living processes of the node, the supervisor first; nothing when that does not live."""
    found = service_pids(instance)
    return list(found.values()) if "supervisor" in found else []


def service_pids(instance: Instance) -> dict[str, int]:
    """Return the processes of the node that live, by name, the supervisor first."""
    from minipod.supervisor import records  # only here: keeps the CLI's start short

    found = {}
    for name in ("supervisor", "daemon", "prober", "pump"):
        record = records.read_service(instance.run_dir, name)
        if record is not None and records.alive(record.pid, record.start_time):
            found[name] = record.pid
    return found


def reset_node(instance: Instance) -> None:
    """Stop the node and its pods and remove all state of the instance: run and state directory, network, cgroups."""
    require_root()
    if node_pids(instance):
        try:
            stop_node(instance, keep_pods=False)
        except (Unavailable, DeadlineExceeded):
            with contextlib.suppress(NotFound, DeadlineExceeded):
                # what is left of it is killed with its cgroup
                stop_node(instance, keep_pods=True)
    _kill_and_remove_cgroups(instance)
    _remove_network(instance)
    _unmount(instance)
    _forget_ids(instance)
    for directory in (instance.run_dir, instance.state_dir):
        shutil.rmtree(directory, ignore_errors=True)


def _kill_and_remove_cgroups(instance: Instance) -> None:
    from minipod.cgroups.hierarchy import of_node

    hierarchy = of_node(instance.run_dir)
    hierarchy.kill(instance.cgroup_root)
    hierarchy.remove(instance.cgroup_root)


def _remove_network(instance: Instance) -> None:
    from minipod.network.network import Network

    Network(instance).remove()


def _forget_ids(instance: Instance) -> None:
    from minipod.kubelet import userns

    userns.forget(instance)


def _unmount(instance: Instance) -> None:
    """Unmount everything of ours, the run directory's tmpfs last; the vault goes with its pin."""
    from minipod.linux import mount
    from minipod.linux.flags import UmountFlag

    roots = (f"{instance.run_dir}", f"{instance.state_dir}")
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        points = [line.split()[4] for line in f]
    for point in reversed(points):
        if any(point == root or point.startswith(f"{root}/") for root in roots):
            mount.umount2(point, UmountFlag.MNT_DETACH)
