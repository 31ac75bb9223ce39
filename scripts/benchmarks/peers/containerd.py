"""containerd with the bridge plugin of CNI: a daemon of its own, root, state, socket and CNI configuration in our directory.

It puts its containers below the cgroup /k8s.io (its default) and its bridge is `mpbench0`; both go with it. `restrict_oom_score_adj`
lets it run without CAP_SYS_RESOURCE.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.bench import IMAGE, PAUSE, Bench, ms, pss, timed
from benchmarks.peers import cri
from benchmarks.peers.oci import remove_cgroup
from benchmarks.row import Missing, Once

BRIDGE, SUBNET = "mpbench0", "10.250.0.0/16"
CNI = "/usr/lib/cni"
HERE = os.path.dirname(os.path.abspath(__file__))
INSTALL = "scripts/bench --with-peers"
NAMESPACE = "k8s.io"  # of its pods
# One that its CRI plugin does not watch: in its own, it gives each image a second name, which keeps all of it.
OTHER_NAMESPACE = "bench"


class Containerd(cri.Engine):
    """A running daemon and the verbs that rows use."""

    def __init__(self, home: str) -> None:
        if shutil.which("containerd") is None:
            raise Missing(f"containerd is not installed: {INSTALL}")
        if not os.path.exists(f"{CNI}/bridge"):
            raise Missing(f"containernetworking-plugins is not installed: {INSTALL}")
        if importlib.util.find_spec("grpclib") is None:
            raise Missing("grpclib is not installed: scripts/setup --dev")
        super().__init__(f"{home}/s", f"{home}/logs")
        self.home = home
        self._write_configuration()
        self.process: subprocess.Popen[bytes] | None = None

    def _write_configuration(self) -> None:
        for name in ("net", "logs"):
            os.makedirs(f"{self.home}/{name}")
        routes = {"routes": [{"dst": "0.0.0.0/0"}], "ranges": [[{"subnet": SUBNET}]]}
        ipam = {"type": "host-local", "dataDir": f"{self.home}/ipam", **routes}
        bridge = {
            "type": "bridge",
            "bridge": BRIDGE,
            "isGateway": True,
            "ipMasq": False,
            "ipam": ipam,
        }
        plugins = {"cniVersion": "0.4.0", "name": "bench", "plugins": [bridge]}
        with open(f"{self.home}/net/10-bench.conflist", "w", encoding="utf-8") as f:
            json.dump(plugins, f)
        with open(f"{self.home}/config.toml", "w", encoding="utf-8") as f:
            f.write(CONFIGURATION.format(home=self.home, socket=self.socket, pause=PAUSE, cni=CNI))

    def start(self) -> None:
        """Start it; return when its CRI answers."""
        from grpclib import GRPCError  # a tool of scripts/setup --dev

        with open(f"{self.home}/log", "ab") as log:
            self.process = subprocess.Popen(
                ["containerd", "--config", f"{self.home}/config.toml"], stdout=log, stderr=log,
                start_new_session=True,  # Ctrl-C is for the benchmark, which ends it
            )  # fmt: skip
        deadline = time.monotonic() + 20
        while True:
            try:
                self.connect()
            except (OSError, GRPCError):  # no socket yet, or no plugin behind it
                pass
            else:
                return
            if time.monotonic() > deadline or self.process.poll() is not None:
                self.stop()
                with open(f"{self.home}/log", encoding="utf-8", errors="replace") as log_file:
                    raise Missing(f"containerd does not start: {log_file.read()[-300:]}")
            time.sleep(0.01)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
            self.process = None

    def load(self, archive: str) -> None:
        """Import our images."""
        timed([*self.ctr(), "images", "import", "--all-platforms", archive])

    def ctr(self, namespace: str = NAMESPACE) -> list[str]:
        return ["ctr", "--address", self.socket, "--namespace", namespace]

    def bring_in(self, image: str, *words: str) -> float:
        """Return the milliseconds of `ctr images WORDS`, which brings in *image*; the next one finds nothing of it.

        Raises RuntimeError when something remains: then the next one would have nothing to do.
        """
        ctr = self.ctr(OTHER_NAMESPACE)
        took = timed([*ctr, "images", *words])
        timed([*ctr, "images", "remove", "--sync", image])
        for kind, columns in (("content", ("ls", "-q")), ("snapshots", ("ls",))):
            listed = subprocess.run(
                [*ctr, kind, *columns], capture_output=True, text=True, check=True
            )
            if left := [x for x in listed.stdout.splitlines() if not x.startswith("KEY")]:
                raise RuntimeError(f"containerd keeps {kind} of {image}: {left}")
        return took

    def remove_all(self) -> None:
        """Remove what a row that failed has left, also when a call was cut off in the middle."""
        super().remove_all()
        listed = subprocess.run(
            [*self.ctr(), "containers", "list", "-q"], capture_output=True, text=True, check=False
        )
        for name in listed.stdout.split():
            for words in (("tasks", "delete", "--force"), ("containers", "delete")):
                command = [*self.ctr(), *words, name]
                subprocess.run(command, capture_output=True, check=False)

    def log_of_newest(self) -> str:
        """Return the path of the newest container's log."""
        directories = [f"{self.logs}/{name}" for name in os.listdir(self.logs)]
        newest = max(directories, key=os.path.getmtime)
        return f"{newest}/c.log"

    def pids(self) -> list[int]:
        assert self.process is not None
        return [self.process.pid]

    def shims(self) -> list[int]:
        """Return its shims and the pause processes of their sandboxes, as pids."""
        found = []
        for name in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError), open(f"/proc/{name}/cmdline", "rb") as f:
                words = f.read().decode(errors="replace").split("\0")
                if words[0].endswith("containerd-shim-runc-v2") and self.socket in words:
                    found.append(int(name))
        return found


CONFIGURATION = """version = 2
root = "{home}/root"
state = "{home}/state"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.internal.v1.opt"]
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  disable_tcp_service = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{cni}"
    conf_dir = "{home}/net"
"""


@contextmanager
def running(home: str) -> Iterator[Containerd]:
    """The daemon with its files below *home*."""
    daemon = Containerd(home)
    try:
        daemon.start()
        yield daemon
    finally:
        if daemon.process is not None:
            daemon.remove_all()
            daemon.cri.close()
        daemon.stop()
        for pid in daemon.shims():
            os.kill(pid, signal.SIGKILL)
        subprocess.run(["ip", "link", "delete", BRIDGE], capture_output=True, check=False)
        remove_cgroup("k8s.io")
        for name in ("s", "fifo", "runc/k8s.io", "runc", ""):
            with contextlib.suppress(OSError):  # not empty: another containerd is there
                os.rmdir(f"/run/containerd/{name}")


@contextmanager
def _with_images(bench: Bench) -> Iterator[Containerd]:
    with running(f"{bench.directory}/containerd") as daemon:
        daemon.load(bench.archive())
        yield daemon


def shared(bench: Bench) -> Containerd:
    """Return the daemon that has our images; one for all rows."""
    found: Containerd = bench.shared("containerd", _with_images)
    return found


def in_memory(bench: Bench) -> Containerd:
    """Return a daemon whose files are on a tmpfs."""
    found: Containerd = bench.shared(
        "containerd in memory", lambda b: running(f"{b.memory()}/containerd")
    )
    return found


@contextmanager
def forwarding(daemon: Containerd, sandbox: str) -> Iterator[int]:
    """Forward a local port to port 80 of a sandbox, as kubectl's connection reaches containerd; yield it.

    The client is `minipod port-forward`'s, in a process of its own.
    """
    url = daemon.cri.call("PortForward", {1: sandbox, 2: [80]})
    command = [sys.executable, "-m", "benchmarks.peers.forward", url]
    environment = {**os.environ, "PYTHONPATH": os.path.dirname(os.path.dirname(HERE))}
    started = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    try:
        assert started.stdout is not None
        yield int(started.stdout.readline())
    finally:
        started.terminate()
        started.communicate()


@contextmanager
def containers(bench: Bench) -> Iterator[Once]:
    """CreateContainer, StartContainer, its end, RemoveContainer in a sandbox that is there."""
    daemon = shared(bench)
    sandbox = daemon.sandbox()
    yield lambda: {"create, start, exit, delete": ms(lambda: daemon.cycle(sandbox))}
    daemon.remove(sandbox[0])


@contextmanager
def ctr_run(bench: Bench) -> Iterator[Once]:
    daemon = shared(bench)
    numbers = itertools.count()

    def once() -> dict[str, float]:
        command = [*daemon.ctr(), "run", "--rm", IMAGE, f"ctr{next(numbers)}", "/bin/true"]
        return {"create, start, exit, delete": timed(command)}

    yield once


@contextmanager
def pods(bench: Bench) -> Iterator[Once]:
    daemon = shared(bench)

    def once() -> dict[str, float]:
        begin = time.perf_counter()
        sandbox, container = daemon.pod()
        executed = time.perf_counter()
        time.sleep(0.05)  # until its process handles SIGTERM
        deleted = time.perf_counter()
        daemon.delete(sandbox, container)
        gone = time.perf_counter()
        return {
            "create -> execve": (executed - begin) * 1e3,
            "delete -> gone": (gone - deleted) * 1e3,
        }

    yield once


@contextmanager
def execs(bench: Bench) -> Iterator[Once]:
    daemon = shared(bench)
    sandbox, container = daemon.pod()
    yield lambda: {"by API": ms(lambda: daemon.exec(container))}
    daemon.delete(sandbox, container)


@contextmanager
def verbs(bench: Bench) -> Iterator[Once]:
    yield shared(bench).verbs


@contextmanager
def memory(bench: Bench) -> Iterator[Once]:
    daemon, count = shared(bench), bench.few(20)

    def once() -> dict[str, float]:
        idle = pss(daemon.pids())
        made = [daemon.pod() for _ in range(count)]
        first = pss([*daemon.pids(), *daemon.shims()]) - idle
        made += [daemon.pod() for _ in range(count)]
        more = pss([*daemon.pids(), *daemon.shims()]) - idle - first
        for sandbox, container in made:
            daemon.delete(sandbox, container)
        return {
            "idle": idle / 1e6,
            "per pod, the first 50": first / count / 1e3,
            "per pod, 100 more": more / count / 1e3,
        }

    yield once


@contextmanager
def start(bench: Bench) -> Iterator[Once]:
    """Stop and start it: until its CRI answers."""
    daemon = shared(bench)

    def once() -> dict[str, float]:
        daemon.cri.close()
        daemon.stop()
        return {"start": ms(daemon.start)}

    yield once
