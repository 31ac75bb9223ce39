"""What probes cost: `python scripts/bench_probes.py [SECONDS]` prints figures. As root it measures exec probes, too.

    cpu      CPU of one TCP and one HTTP probe, 64 under way at once, by getrusage(2) of this process alone
    pace     1,000 targets with three probes a second each (two HTTP, one TCP) for SECONDS (default 60): lateness, CPU
    exec     /bin/true as an exec probe in a pod beside `runc exec`: time, and CPU of all processes that take part

The load stays on loopback: a server in a process of its own, 1,000 listening sockets on 127.1.0.0/16. The prober is the one that the
node runs, without a daemon behind it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import os
import resource
import select
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any

from minipod.kubelet.probe import http, tcp
from minipod.kubelet.probe.flight import Engine
from minipod.kubelet.probe.metrics import Histogram
from minipod.kubelet.probe.prober import Prober, prefer
from minipod.kubelet.probe.targets import Command, Handler, HttpGet, Target, TcpSocket
from minipod.kubelet.probe.timers import Timers
from minipod.kubelet.rules.probe import ProbeKind

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

TARGETS = 1000
AT_ONCE = 64
NAME = "benchp"  # of the node for exec probes
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nok\n"


# -- the server


def addresses() -> list[str]:
    """One address for each target."""
    return [f"127.1.{n // 250}.{n % 250 + 1}" for n in range(TARGETS)]


def serve(told: Connection) -> None:
    """Answer every request head on every address, on one port that is free on all."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    epoll, listening, connected = select.epoll(), {}, {}
    port = 0
    for address in addresses():
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
        sock.listen(256)
        sock.setblocking(False)
        port = sock.getsockname()[1]
        listening[sock.fileno()] = sock
        epoll.register(sock.fileno(), select.EPOLLIN)
    told.send(port)
    while True:
        for fd, _ in epoll.poll():
            if (sock := listening.get(fd)) is not None:
                _accept(sock, epoll, connected)
            else:
                _answer(fd, connected)


def _accept(sock: socket.socket, epoll: select.epoll, connected: dict[int, socket.socket]) -> None:
    with contextlib.suppress(BlockingIOError):
        while True:
            made, _ = sock.accept()
            made.setblocking(False)
            connected[made.fileno()] = made
            epoll.register(made.fileno(), select.EPOLLIN)


def _answer(fd: int, connected: dict[int, socket.socket]) -> None:
    try:
        if connected[fd].recv(4096):
            connected[fd].send(ANSWER)
            return
    except OSError:  # reset, as probes do
        pass
    connected.pop(fd).close()


@contextlib.contextmanager
def server() -> Iterator[int]:
    """Yield the port."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.Process(target=serve, args=(theirs,), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        process.terminate()
        process.join()


# -- figures


def cpu(kind: str, port: int, count: int = 20_000) -> float:
    """CPU of one probe in microseconds; *kind* is "tcp" or "http"."""
    listed = addresses()
    if kind == "http":
        requests = [http.request(HttpGet(host=a, port=port, path="/healthz"), a) for a in listed]
        made: list[Callable[[], Coroutine[Any, Any, Any]]] = [
            lambda request=request: http.ask(request) for request in requests
        ]
    else:
        made = [lambda a=a: tcp.ask(a, port) for a in listed]
    before = used()
    asyncio.run(_many(made, count))
    return (used() - before) / count * 1e6


async def _many(made: list[Callable[[], Coroutine[Any, Any, Any]]], count: int) -> None:
    loop = asyncio.get_running_loop()
    timers = Timers(loop)
    engine, done, left, flying = Engine(timers), loop.create_future(), count, 0

    def landed(attempt: Any) -> None:
        nonlocal flying
        flying -= 1
        if isinstance(attempt, Exception) or attempt.outcome.value != "success":
            raise RuntimeError(f"the server does not keep up: {attempt}")
        if left:
            loop.call_soon(fly)
        elif not flying and not done.done():
            done.set_result(None)

    def fly() -> None:
        nonlocal left, flying
        if left:
            left, flying = left - 1, flying + 1
            engine.start(made[left % len(made)](), loop.time() + 10, landed)

    for _ in range(AT_ONCE):
        loop.call_soon(fly)
    await done
    engine.close()
    timers.close()


class Every(Histogram):
    """Keeps every value."""

    def __init__(self) -> None:
        super().__init__((1.0,))
        self.values: list[float] = []

    def observe(self, value: float) -> None:
        self.values.append(value)


def pace(port: int, seconds: float) -> dict[str, float]:
    """Lateness in ms and CPU in cores, at three probes per second of each target."""
    return asyncio.run(_pace(port, seconds))


def _targets(uid: str, address: str, port: int) -> tuple[Target, ...]:
    web = Handler(http_get=HttpGet(host=address, port=port, path="/healthz"))
    dialled = Handler(tcp_socket=TcpSocket(host=address, port=port))
    probes = (
        ("a", ProbeKind.READINESS, web),
        ("a", ProbeKind.LIVENESS, dialled),
        ("b", ProbeKind.READINESS, web),
    )
    return tuple(
        Target(
            pod_uid=uid, pod=uid, container=container, kind=kind, handler=handler, container_id="c", running=True,
            started_at=time.time() - 60, period=1.0,
        )
        for container, kind, handler in probes
    )  # fmt: skip


async def _pace(port: int, seconds: float) -> dict[str, float]:
    prober = Prober(None, clock=time.time)  # type: ignore[arg-type]  # no exec probes here
    for number, address in enumerate(addresses()):
        uid = f"pod{number}"
        prober.handle(Command(uids=(uid,), targets=_targets(uid, address, port)))
    await asyncio.sleep(2)  # the random waits at the start are over
    lateness = prober.lateness = Every()
    before, begin = used(), time.monotonic()
    await asyncio.sleep(seconds)
    cores = (used() - before) / (time.monotonic() - begin)
    workers = [w for pod in prober._pods.values() for w in pod.values()]  # noqa: SLF001 - its counters
    failed = sum(w.counters.results.get("failed", 0) for w in workers)
    await prober.close()
    values = sorted(lateness.values)
    return {
        "probes per second": len(values) / seconds, "failed": failed, "CPU, cores": cores,
        "lateness p50, ms": values[len(values) // 2] * 1e3, "lateness p99, ms": values[int(len(values) * 0.99)] * 1e3,
        "lateness max, ms": values[-1] * 1e3,
    }  # fmt: skip


def used() -> float:
    """CPU seconds of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


# -- exec


def exec_probe(count: int = 200) -> dict[str, float]:
    """Milliseconds of one exec probe, and its CPU in this process, the supervisor and what it forked."""
    from minipod import config
    from minipod.cli.client import Client
    from minipod.daemon import reset_node, start_node

    instance = config.load(name=NAME).instance
    minipod = [f"{os.path.dirname(sys.executable)}/minipod", "--instance", NAME]
    subprocess.run([*minipod, "image", "build"], check=True, capture_output=True)
    start_node(instance)
    try:
        container = {"name": "c", "image": "busybox:1.36", "command": ["sleep", "1000"]}
        pod = {
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "b"}, "spec": {"containers": [container]},
        }  # fmt: skip
        Client(instance).request("POST", "/api/v1/namespaces/default/pods", body=pod)
        wait = [*minipod, "wait", "pod/b", "--for=condition=Ready", "--timeout=30s"]
        subprocess.run(wait, check=True, capture_output=True)
        status = json.loads(subprocess.check_output([*minipod, "status", "-o", "json"]))
        (identifier,) = os.listdir(f"{instance.run_dir}/containers")
        return asyncio.run(_exec_probes(instance, identifier, status["supervisor_pid"], count))
    finally:
        reset_node(instance)


async def _exec_probes(
    instance: Any, identifier: str, supervisor: int, count: int
) -> dict[str, float]:
    from minipod.runtime.probe_exec import ProbeExec

    runner = ProbeExec(instance)
    await runner.exec_sync(identifier, ("/bin/true",), 10)
    times, before, there = [], used(), of_process(supervisor)
    for _ in range(count):
        begin = time.perf_counter()
        code, _ = await runner.exec_sync(identifier, ("/bin/true",), 10)
        times.append((time.perf_counter() - begin) * 1e3)
        assert code == 0
    spent = used() - before + of_process(supervisor) - there
    return {"time, ms": statistics.median(times), "CPU, ms": spent / count * 1e3}


def of_process(pid: int) -> float:
    """CPU seconds of a process and of its children that ended."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        fields = f.read().rpartition(")")[2].split()
    return sum(int(n) for n in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def exec_runc(count: int = 50) -> dict[str, float]:
    """The same with `runc exec`; FileNotFoundError where there is none."""
    if shutil.which("runc") is None:
        raise FileNotFoundError("runc is not installed")
    with tempfile.TemporaryDirectory() as bundle, _runc(bundle) as base:
        times, before = [], _children()
        for _ in range(count):
            begin = time.perf_counter()
            subprocess.run([*base, "exec", NAME, "/bin/true"], check=True)
            times.append((time.perf_counter() - begin) * 1e3)
        return {
            "time, ms": statistics.median(times),
            "CPU, ms": (_children() - before) / count * 1e3,
        }


@contextlib.contextmanager
def _runc(bundle: str) -> Iterator[list[str]]:
    os.makedirs(f"{bundle}/rootfs/bin")
    shutil.copy("/bin/busybox", f"{bundle}/rootfs/bin/busybox")
    for name in ("true", "sleep"):
        os.symlink("busybox", f"{bundle}/rootfs/bin/{name}")
    os.mkdir(f"{bundle}/rootfs/proc")
    spec = {
        "ociVersion": "1.0.2",
        "process": {"user": {"uid": 0, "gid": 0}, "args": ["/bin/sleep", "1000"], "cwd": "/", "env": ["PATH=/bin"]},
        "root": {"path": "rootfs"},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "linux": {
            "namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts", "network")],
            "cgroupsPath": f"/{NAME}",
        },
    }  # fmt: skip
    with open(f"{bundle}/config.json", "w", encoding="utf-8") as f:
        json.dump(spec, f)
    base = ["runc", "--root", f"{bundle}/state"]
    with open(os.devnull, "r+b") as null:
        command = [*base, "run", "--detach", "--bundle", bundle, NAME]
        subprocess.run(command, check=True, stdin=null, stdout=null, stderr=null)
    try:
        yield base
    finally:
        subprocess.run([*base, "delete", "--force", NAME], check=True)


def _children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def alone() -> None:
    """Run before the machine's other work, which is not to be measured (sched(7), autogroup): in a session of our own."""
    prefer()  # as the prober does; the server inherits both
    with contextlib.suppress(OSError):
        os.setsid()
        with open("/proc/self/autogroup", "w", encoding="ascii") as f:
            f.write("-10")


def main() -> None:
    """Print all figures."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    alone()
    with server() as port:
        for kind in ("tcp", "http"):
            best = min(cpu(kind, port) for _ in range(3))
            print(f"{kind}: {best:.0f} us of CPU for one probe, {AT_ONCE} at once", flush=True)
        print(f"{TARGETS} targets, three probes a second each, for {seconds:g} s:")
        for name, value in pace(port, seconds).items():
            print(f"    {name}: {value:.2f}", flush=True)
    if os.geteuid() != 0:
        print("exec probes: not measured, that needs root")
        return
    for name, measure in (("minipod exec probe", exec_probe), ("runc exec", exec_runc)):
        try:
            found = measure()
        except FileNotFoundError as error:
            print(f"{name}: {error}")
        else:
            print(
                f"{name}: " + ", ".join(f"{key} {value:.1f}" for key, value in found.items()),
                flush=True,
            )


if __name__ == "__main__":
    main()
