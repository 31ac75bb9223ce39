"""Pull an image of about 100 MB from a registry on loopback: minipod (download, verify, unpack) beside `skopeo copy` to an OCI layout
(download, verify). Medians; the image has four layers of noise and small files, in gzip.

    .venv/bin/python scripts/bench_pull.py [ROUNDS]
"""

from __future__ import annotations

import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.registry.server import Layout, Registry

LAYERS, FILES, FILE = 4, 100, 256 << 10  # 4 x 100 x 256 KiB = 100 MiB
PULL = """
import asyncio, os, sys, time
import aiohttp  # the daemon has it loaded
from minipod.image.registry.pull import Puller
from minipod.image.store import ImageStore
os.mkdir(sys.argv[1])
store = ImageStore(sys.argv[1])
began = time.monotonic()
here = began
def tell(news):
    global here
    if news.state == "Download complete":
        here = time.monotonic()
asyncio.run(Puller(store).pull(sys.argv[2], tell=tell))
print(time.monotonic() - began, here - began)
"""


def main(rounds: int) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="minipod-bench-") as here:
        top = Path(here)
        noise = random.Random(0)  # noqa: S311 no secret
        layers = [
            {f"d/{n}/{i}": noise.randbytes(FILE) for i in range(FILES)} for n in range(LAYERS)
        ]
        layout = Layout(top / "layout")
        layout.image("big", *layers)
        (top / "registry").mkdir()
        registry = Registry(top / "registry").start()
        try:
            registry.fill(layout, "bench/big:1", "big")
            name = f"{registry.host}/bench/big:1"
            ours, inside, downloads, theirs = [], [], [], []
            for _ in range(rounds):
                began = time.monotonic()
                done = subprocess.run(
                    [sys.executable, "-c", PULL, str(top / "store"), name],
                    capture_output=True, text=True, check=True,
                )  # fmt: skip
                ours.append(time.monotonic() - began)
                pull, download = map(float, done.stdout.split())
                inside.append(pull)
                downloads.append(download)
                shutil.rmtree(top / "store")
                began = time.monotonic()
                subprocess.run(
                    ["skopeo", "--insecure-policy", "copy", "-q", "--src-tls-verify=false",
                     f"docker://{name}", f"oci:{top}/out:x"], check=True,
                )  # fmt: skip
                theirs.append(time.monotonic() - began)
                shutil.rmtree(top / "out")
        finally:
            registry.stop()
    for title, times in (
        ("minipod: a process that pulls and unpacks", ours),
        ("minipod: the pull alone, as in the daemon", inside),
        ("minipod: until all is downloaded and verified", downloads),
        ("skopeo copy to an OCI layout, not unpacked", theirs),
    ):
        print(
            f"{title:<46} median {statistics.median(times):.2f} s, least {min(times):.2f} s, n={rounds}"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 7)
