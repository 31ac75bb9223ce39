"""podman kube play with a store of its own in our directory. Its command is part of every figure: podman has no daemon."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from benchmarks.bench import EXITS_ON_TERM, IMAGE, PAUSE, Bench, manifest, timed
from benchmarks.peers.oci import remove_cgroup
from benchmarks.row import Missing, Once
from minipod.linux.flags import UmountFlag
from minipod.linux.mount import umount2

CGROUP = "libpod_parent"
# Its own defaults are above the limits of a process without CAP_SYS_RESOURCE. Soft and hard are equal: podman 4.3 swaps them.
LIMITS = '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]\n'


class Podman:
    """The command with our places, and the images loaded."""

    def __init__(self, bench: Bench) -> None:
        if shutil.which("podman") is None:
            raise Missing("podman is not installed: scripts/bench --with-peers")
        # With the other manager, on cgroup v2, podman 4.3 gives a pod's cgroup a BPF program that denies every device: no container starts.
        manager = "systemd" if os.path.isdir("/run/systemd/system") else "cgroupfs"
        home = f"{bench.directory}/podman"
        os.makedirs(home)
        self.home = home
        self._images = f"{bench.node().instance.state_dir}/images"
        self._numbers = itertools.count()
        self.base = [
            "podman", "--root", f"{home}/root", "--runroot", f"{home}/run", "--tmpdir", f"{home}/tmp",  # noqa: S108 below our own
            "--cgroup-manager", manager, "--events-backend", "none", "--runtime", "runc",
            "--network-config-dir", f"{home}/net",
        ]  # fmt: skip
        with open(f"{home}/containers.conf", "w", encoding="utf-8") as f:
            f.write(LIMITS)
            f.write(f'[engine]\ninfra_image = "{PAUSE}"\n')
        with open(f"{home}/policy.json", "w", encoding="utf-8") as f:
            json.dump({"default": [{"type": "insecureAcceptAnything"}]}, f)
        self.environment = {**os.environ, "CONTAINERS_CONF": f"{home}/containers.conf"}

    def load(self) -> None:
        """Copy our images into its store."""
        policy = f"{self.home}/policy.json"
        for image in (IMAGE, PAUSE):
            self.run("pull", "--quiet", "--signature-policy", policy, f"oci:{self._images}:{image}")
            # Pulled from a directory, an image is named after the directory.
            self.run("tag", f"localhost{self._images}:latest", image)

    def run(self, *words: str) -> float:
        return timed([*self.base, *words], env=self.environment)

    def play(self, command: list[str] = EXITS_ON_TERM) -> tuple[str, float]:
        """Run a pod of one container; return the manifest's path and the milliseconds."""
        name = f"p{next(self._numbers)}"
        path = f"{self.home}/{name}.json"
        with open(path, "w", encoding="utf-8") as f:
            json.dump(manifest(name, command), f)
        return path, self.run("kube", "play", "--network", "none", path)

    def container(self, path: str) -> str:
        """Return the name of the container of a manifest."""
        return f"{os.path.basename(path).removesuffix('.json')}-c"

    def down(self, path: str) -> float:
        return self.run("kube", "down", path)


@contextmanager
def running(bench: Bench) -> Iterator[Podman]:
    podman = Podman(bench)
    try:
        try:
            podman.load()
            path, _ = podman.play()
            podman.down(path)
        except RuntimeError as e:
            why = " / ".join(
                str(e).strip().splitlines()[-3:]
            )  # the reason stands above the last line
            raise Missing(f"podman fails here: {why[-300:]}") from e
        yield podman
    finally:
        podman.run("pod", "rm", "--all", "--force", "--time", "0")
        with suppress(OSError):  # EINVAL when it has done so itself
            umount2(f"{podman.home}/root/overlay", UmountFlag.MNT_DETACH)
        remove_cgroup(CGROUP)


@contextmanager
def pods(bench: Bench) -> Iterator[Once]:
    podman: Podman = bench.shared("podman", running)

    def once() -> dict[str, float]:
        path, played = podman.play()
        return {"create -> execve": played, "delete -> gone": podman.down(path)}

    yield once


@contextmanager
def execs(bench: Bench) -> Iterator[Once]:
    podman: Podman = bench.shared("podman", running)
    path, _ = podman.play()
    name = podman.container(path)
    yield lambda: {"by command": podman.run("exec", name, "/bin/true")}
    podman.down(path)
