"""Images for tests: layers from a few words, OCI layouts on disk, and trees as values that can be compared."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from minipod.image.content import Descriptor, digest_of
from minipod.image.manifest import CONFIG, INDEX, LAYER, MANIFEST, plain
from minipod.image.store import Image, ImageStore
from minipod.linux import mount
from minipod.linux.flags import MountFlag, UmountFlag
from minipod.linux.libc import GOARCH, MACHINE

Member = tuple[tarfile.TarInfo, bytes]


def entry(name: str, content: bytes = b"", **fields: Any) -> Member:
    """Return a member; *fields* are TarInfo's (type, mode, linkname, pax_headers ...)."""
    info = tarfile.TarInfo(name)
    for key, value in fields.items():
        setattr(info, key, value)
    if info.type == tarfile.REGTYPE:
        info.size = len(content)
    return info, content


def symlink(name: str, target: str) -> Member:
    return entry(name, type=tarfile.SYMTYPE, linkname=target)


def hardlink(name: str, target: str) -> Member:
    return entry(name, type=tarfile.LNKTYPE, linkname=target)


def directory(name: str, **fields: Any) -> Member:
    return entry(name, type=tarfile.DIRTYPE, **{"mode": 0o755, **fields})


def layer(*members: Member) -> bytes:
    """Return the archive of *members*, in their order."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def parts(
    archives: list[bytes], blobs: list[bytes] | None = None, media_type: str = LAYER, **config: Any
) -> tuple[bytes, bytes, list[bytes]]:
    """Return manifest, config and blobs of an image; *blobs* are the archives as they are stored."""
    blobs = archives if blobs is None else blobs
    raw = {
        "architecture": GOARCH[MACHINE], "os": "linux", "config": config,
        "rootfs": {"type": "layers", "diff_ids": [digest_of(a) for a in archives]},
    }  # fmt: skip
    text = json.dumps(raw).encode()
    manifest = {
        "schemaVersion": 2, "mediaType": MANIFEST, "config": described(text, CONFIG),
        "layers": [described(blob, media_type) for blob in blobs],
    }  # fmt: skip
    return json.dumps(manifest).encode(), text, blobs


def described(data: bytes, media_type: str) -> dict[str, object]:
    return plain(Descriptor(media_type=media_type, digest=digest_of(data), size=len(data)))


def ingest(store: ImageStore, name: str, image: tuple[bytes, bytes, list[bytes]]) -> Image:
    """Bring an image in as a pull does."""
    manifest, config, blobs = image
    with store.ingest(manifest, config) as taken:
        for wanted, blob in zip(taken.manifest.layers, blobs, strict=True):
            writer = taken.writer(wanted)
            if writer is not None:
                for at in range(writer.offset, len(blob), 1 << 16):
                    writer.write(blob[at : at + (1 << 16)])
                writer.commit()
        return taken.commit([name])


def write_layout(root: str, name: str, image: tuple[bytes, bytes, list[bytes]]) -> None:
    """Write an OCI layout that holds one image."""
    manifest, config, blobs = image
    os.makedirs(f"{root}/blobs/sha256", exist_ok=True)
    for data in (manifest, config, *blobs):
        with open(f"{root}/blobs/sha256/{digest_of(data)[7:]}", "wb") as file:
            file.write(data)
    listed = described(manifest, MANIFEST)
    listed["annotations"] = {"org.opencontainers.image.ref.name": name}
    with open(f"{root}/oci-layout", "w", encoding="ascii") as file:
        file.write('{"imageLayoutVersion": "1.0.0"}')
    with open(f"{root}/index.json", "w", encoding="ascii") as file:
        json.dump({"schemaVersion": 2, "mediaType": INDEX, "manifests": [listed]}, file)


@contextlib.contextmanager
def mounted(store: ImageStore, name: str, tmp_path: Path) -> Iterator[str]:
    """The image as a container sees it."""
    target = str(tmp_path / "merged")
    os.makedirs(target, exist_ok=True)
    found = store.resolve(name)
    assert found is not None
    lower = ":".join((*store.layers(found), str(tmp_path / "nothing")))
    os.makedirs(tmp_path / "nothing", exist_ok=True)
    mount.mount("overlay", target, "overlay", MountFlag.MS_RDONLY, f"lowerdir={lower}")
    try:
        yield target
    finally:
        mount.umount2(target, UmountFlag.MNT_DETACH)


def tree(root: str) -> dict[str, tuple[object, ...]]:
    """Return all below *root*: kind and mode, owner, time, content or target, xattrs, and what shares its inode."""
    found: dict[str, tuple[object, ...]] = {}
    inodes: dict[int, str] = {}
    for above, directories, files in os.walk(root):
        for name in sorted((*directories, *files)):
            path = os.path.join(above, name)
            status = os.lstat(path)
            first = inodes.setdefault(status.st_ino, os.path.relpath(path, root))
            if stat.S_ISCHR(status.st_mode) and not status.st_rdev:
                found[os.path.relpath(path, root)] = ("whiteout",)  # the rest of it means nothing
                continue
            is_link = status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode)
            found[os.path.relpath(path, root)] = (
                oct(status.st_mode), status.st_uid, status.st_gid, status.st_mtime_ns,
                status.st_rdev, _content(path, status), _xattrs(path), first if is_link else "",
            )  # fmt: skip
    return found


def _content(path: str, status: os.stat_result) -> str:
    if stat.S_ISLNK(status.st_mode):
        return os.readlink(path)
    if not stat.S_ISREG(status.st_mode):
        return ""
    with open(path, "rb") as file:
        return f"{status.st_size} {hashlib.file_digest(file, 'sha256').hexdigest()}"


def _xattrs(path: str) -> tuple[tuple[str, bytes], ...]:
    keys = sorted(os.listxattr(path, follow_symlinks=False))
    return tuple(
        (key, os.getxattr(path, key, follow_symlinks=False))
        for key in keys
        if not key.startswith("trusted.overlay.")
    )
