"""An image of 100 MiB from a docker-registry on loopback: four layers of noise in small files, gzip. On a tmpfs."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.bench import Bench, timed
from benchmarks.peers import containerd as peer
from benchmarks.row import Figure, Missing, Once, Row
from tests.registry.server import Layout, Registry

LAYERS, FILES, SIZE = 4, 100, 256 << 10  # 4 x 100 x 256 KiB = 100 MiB
DOWNLOADED, UNPACKED = "downloaded and verified", "unpacked, too"
# The daemon has everything imported: so has this, before its clock starts.
PULL = """
import asyncio, json, os, sys, time
import aiohttp
from minipod.image.registry.pull import Puller
from minipod.image.store import ImageStore
os.mkdir(sys.argv[1])
store = ImageStore(sys.argv[1])
began = here = time.perf_counter()
def tell(news):
    global here
    if news.state == "Download complete":
        here = time.perf_counter()
asyncio.run(Puller(store).pull(sys.argv[2], tell=tell))
print(json.dumps([(here - began) * 1e3, (time.perf_counter() - began) * 1e3]))
"""


@contextmanager
def image(bench: Bench) -> Iterator[str]:
    """A registry that has the image; yields the image's name."""
    for program in ("docker-registry", "skopeo"):
        if shutil.which(program) is None:
            raise Missing(f"{program} is not installed: scripts/setup --dev")
    top = Path(bench.memory()) / "pull"
    noise = random.Random(0)  # noqa: S311 no secret
    count = bench.few(FILES)
    layers = [{f"d/{n}/{i}": noise.randbytes(SIZE) for i in range(count)} for n in range(LAYERS)]
    layout = Layout(top / "layout")
    layout.image("big", *layers)
    (top / "registry").mkdir()
    registry = Registry(top / "registry")
    try:
        registry.start()
        registry.fill(layout, "bench/big:1", "big")
        shutil.rmtree(top / "layout")
        yield f"{registry.host}/bench/big:1"
    finally:
        registry.stop()
        shutil.rmtree(top)


@contextmanager
def minipod(bench: Bench) -> Iterator[Once]:
    name, target = bench.shared("image", image), f"{bench.memory()}/store"
    command = [sys.executable, "-c", PULL, target, name]

    def once() -> dict[str, float]:
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=True)
        finally:
            shutil.rmtree(target, ignore_errors=True)
        return dict(zip((DOWNLOADED, UNPACKED), json.loads(done.stdout), strict=True))

    yield once


@contextmanager
def skopeo(bench: Bench) -> Iterator[Once]:
    name, target = bench.shared("image", image), f"{bench.memory()}/copy"
    command = [
        "skopeo", "--insecure-policy", "copy", "-q", "--src-tls-verify=false", f"docker://{name}", f"oci:{target}:x",
    ]  # fmt: skip

    def once() -> dict[str, float]:
        took = timed(command)
        shutil.rmtree(target)
        return {DOWNLOADED: took}

    yield once


@contextmanager
def containerd(bench: Bench) -> Iterator[Once]:
    daemon, name = peer.in_memory(bench), bench.shared("image", image)
    yield lambda: {UNPACKED: daemon.bring_in(name, "pull", "--plain-http", name)}


ROW = Row(
    title="Pulling an image of 100 MiB from a registry on loopback",
    figures=(Figure(DOWNLOADED), Figure(UNPACKED)),
    sides={"minipod": minipod, "skopeo": skopeo, "containerd": containerd},
    runs=7,
    note="docker-registry serves all of them. `skopeo copy` to an OCI layout does not unpack; `ctr images pull` does. The start of "
    "minipod's process is left out (a daemon has it behind it), that of skopeo and ctr is some 30 ms.",
)
