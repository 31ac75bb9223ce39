"""A layer of 10,000 files and 100 MB as an OCI layout, and how minipod takes one in (`python -m benchmarks.layers LAYOUT TARGET`).

The latter is what happens to every layer that comes in, as a process of its own: the blob copied into the store and fsynced,
digest, decompression, diff id, unpacking.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import sys
import tarfile

from minipod.image.content import Descriptor, digest_of
from minipod.image.manifest import CONFIG, INDEX, LAYER, MANIFEST, plain
from minipod.linux.libc import GOARCH, MACHINE

NAME = "docker.io/bench/layer:1"


def archive(files: int = 10_000, size: int = 100_000_000) -> bytes:
    """Return a layer such as packages make: directories of 25 files, sizes spread, content half compressible."""
    chosen = random.Random(1)  # noqa: S311 the same layer every time
    sizes = [chosen.paretovariate(1.2) for _ in range(files)]
    scale = size / sum(sizes)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for number, share in enumerate(sizes):
            if number % 25 == 0:
                folder = tarfile.TarInfo(f"usr/share/package{number // 250}/part{number // 25}")
                folder.type, folder.mode, folder.mtime = tarfile.DIRTYPE, 0o755, 1_700_000_000
                tar.addfile(folder)
            info = tarfile.TarInfo(
                f"usr/share/package{number // 250}/part{number // 25}/file{number}"
            )
            info.size, info.mtime = int(share * scale), 1_700_000_000.25
            half = chosen.randbytes(info.size // 2)
            tar.addfile(info, io.BytesIO(half + b"a line of text\n" * (info.size // 30 + 1)))
    return out.getvalue()


def write_layout(root: str, raw: bytes) -> None:
    """Write an OCI layout with one image of one layer (gzip), named "bench" and, for containerd, NAME."""
    layer = gzip.compress(raw, 6)
    config = {
        "architecture": GOARCH[MACHINE], "os": "linux", "config": {},
        "rootfs": {"type": "layers", "diff_ids": [digest_of(raw)]},
    }  # fmt: skip
    blobs = {CONFIG: json.dumps(config).encode(), f"{LAYER}+gzip": layer}
    described = [
        plain(Descriptor(media_type=kind, digest=digest_of(data), size=len(data)))
        for kind, data in blobs.items()
    ]
    manifest = json.dumps(
        {"schemaVersion": 2, "mediaType": MANIFEST, "config": described[0], "layers": described[1:]}
    ).encode()
    entry = plain(
        Descriptor(media_type=MANIFEST, digest=digest_of(manifest), size=len(manifest))
    ) | {
        "annotations": {
            "org.opencontainers.image.ref.name": "bench",
            "io.containerd.image.name": NAME,
        }
    }
    os.makedirs(f"{root}/blobs/sha256")
    for data in (*blobs.values(), manifest):
        with open(f"{root}/blobs/sha256/{digest_of(data)[7:]}", "wb") as file:
            file.write(data)
    with open(f"{root}/oci-layout", "w", encoding="ascii") as file:
        file.write('{"imageLayoutVersion": "1.0.0"}')
    with open(f"{root}/index.json", "w", encoding="ascii") as file:
        json.dump({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}, file)


def take_in(layout: str, target: str) -> None:
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


if __name__ == "__main__":
    take_in(*sys.argv[1:])
