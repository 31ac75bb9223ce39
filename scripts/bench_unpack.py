"""Measure how fast a layer is unpacked, beside umoci: 10,000 files, 100 MB, gzip or zstd; alternating, medians.

    .venv/bin/python scripts/bench_unpack.py [ROUNDS]        as root; needs umoci (scripts/packages-dev)

On a tmpfs (/dev/shm), so that neither the disk nor ext4's search for free inodes after the last run's removal is measured.
Each run is a whole process from start to exit with the blob in the page cache and an empty directory: ours is
`ImageStore.ingest` (blob copied into the store and fsynced, digest, decompression, diff id, unpacking), umoci's is `umoci raw unpack`,
which writes no mtree manifest, and, for what people run, `umoci unpack`. Prints medians in ms and ours / theirs.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time

from minipod.image.content import Descriptor, digest_of
from minipod.image.manifest import CONFIG, INDEX, LAYER, MANIFEST, plain

FILES = 10_000
SIZE = 100_000_000


def archive() -> bytes:
    """Return a layer such as packages make: directories of 25 files, sizes spread, content half compressible."""
    chosen = random.Random(1)  # noqa: S311 the same layer every time
    sizes = [chosen.paretovariate(1.2) for _ in range(FILES)]
    scale = SIZE / sum(sizes)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for number, size in enumerate(sizes):
            if number % 25 == 0:
                folder = tarfile.TarInfo(f"usr/share/package{number // 250}/part{number // 25}")
                folder.type, folder.mode, folder.mtime = tarfile.DIRTYPE, 0o755, 1_700_000_000
                tar.addfile(folder)
            info = tarfile.TarInfo(
                f"usr/share/package{number // 250}/part{number // 25}/file{number}"
            )
            info.size, info.mtime = int(size * scale), 1_700_000_000.25
            half = chosen.randbytes(info.size // 2)
            tar.addfile(info, io.BytesIO(half + b"a line of text\n" * (info.size // 30 + 1)))
    return out.getvalue()


def write_layout(root: str, layer: bytes, raw: bytes, form: str) -> None:
    """Write an OCI layout with one image of one layer."""
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(raw)]},
        }
    ).encode()
    described = [
        Descriptor(media_type=kind, digest=digest_of(data), size=len(data))
        for kind, data in ((CONFIG, config), (LAYER + form, layer))
    ]
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": plain(described[0]),
            "layers": [plain(described[1])],
        }
    ).encode()
    entry = plain(
        Descriptor(media_type=MANIFEST, digest=digest_of(manifest), size=len(manifest))
    ) | {"annotations": {"org.opencontainers.image.ref.name": "bench"}}
    os.makedirs(f"{root}/blobs/sha256")
    for data in (config, layer, manifest):
        with open(f"{root}/blobs/sha256/{digest_of(data)[7:]}", "wb") as file:
            file.write(data)
    with open(f"{root}/oci-layout", "w", encoding="ascii") as file:
        file.write('{"imageLayoutVersion": "1.0.0"}')
    with open(f"{root}/index.json", "w", encoding="ascii") as file:
        json.dump({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}, file)


def ours(layout: str, target: str) -> None:
    """What `minipod` does with an image that comes in: one process of its own."""
    from minipod.image.store import ImageStore

    os.mkdir(target)
    with open(f"{layout}/index.json", encoding="ascii") as file:
        digest = json.load(file)["manifests"][0]["digest"]

    def blob(digest: str) -> bytes:
        with open(f"{layout}/blobs/sha256/{digest[7:]}", "rb") as found:
            return found.read()

    manifest = blob(digest)
    store = ImageStore(target)
    with store.ingest(manifest, blob(json.loads(manifest)["config"]["digest"])) as ingest:
        (layer,) = ingest.manifest.layers
        writer = ingest.writer(layer)
        assert writer is not None
        with open(f"{layout}/blobs/sha256/{layer.digest[7:]}", "rb") as source:
            while data := source.read(1 << 18):
                writer.write(data)
        writer.commit()
        ingest.commit(["bench"])


def timed(command: list[str], target: str) -> float:
    began = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    took = time.monotonic() - began
    shutil.rmtree(target)
    return took * 1000


def compare(layout: str, here: str, rounds: int) -> dict[str, float]:
    target = f"{here}/target"
    image = f"{layout}:bench"
    commands = {
        "minipod": [sys.executable, __file__, "--ours", layout, target],
        "umoci raw unpack": ["umoci", "raw", "unpack", "--image", image, target],
        "umoci unpack": ["umoci", "unpack", "--image", image, target],
    }
    if layout.endswith("zstd"):  # umoci 0.4 refuses these
        commands = {"minipod": commands["minipod"]}
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            times[name].append(timed(command, target))
    return {name: statistics.median(found) for name, found in times.items()}


def main() -> None:
    if sys.argv[1:2] == ["--ours"]:
        ours(*sys.argv[2:])
        return
    from minipod.image import stream

    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    raw = archive()
    layers = {"gzip": gzip.compress(raw, 6), "zstd": stream.zstd().compress(raw)}
    with tempfile.TemporaryDirectory(prefix="minipod-bench-", dir="/dev/shm") as here:
        print(f"{FILES} files, {len(raw) / 1e6:.0f} MB, median of {rounds} runs")
        for form, layer in layers.items():
            write_layout(f"{here}/{form}", layer, raw, f"+{form}")
            medians = compare(f"{here}/{form}", here, rounds)
            for name, median in medians.items():
                ratio = medians["minipod"] / median
                print(
                    f"{form} ({len(layer) / 1e6:.0f} MB)   {name:18}{median:7.0f} ms   ours/theirs {ratio:.2f}"
                )


if __name__ == "__main__":
    main()
