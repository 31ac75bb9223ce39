"""Writes the files of a volume so that a reader sees all of the old or all of the new (K8S pkg/volume/util/atomic_writer.go).

    <volume>/..2026_11_24_10_00_00.123456789/key    the data, a new directory for each change
    <volume>/..data -> ..2026_11_24_...             swapped by one rename
    <volume>/key -> ..data/key                      what the container reads

A payload that changed nothing writes nothing. Synchronous: call it in a thread.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from minipod.errors import FailedPrecondition
from minipod.linux import small_files

if TYPE_CHECKING:
    from collections.abc import Callable

    from minipod.kubelet.rules.payload import File, Payload

_DATA, _NEW_DATA = "..data", "..data_tmp"
_PATH_MAX, _NAME_MAX = 4096, 255


def write(volume: str, payload: Payload, own: Callable[[str], None] = lambda _: None) -> bool:
    """Make *volume* show *payload*; return whether anything changed.

    *own* gives the new directory its owner before anybody sees it. Raises FailedPrecondition for a
    path that leads out, OSError.
    """
    for path in payload:
        _check(path)
    old = _current(volume)
    if old is None and not os.listdir(volume):
        _write_first(volume, payload, own)
        return True
    if old is not None and _same(f"{volume}/{old}", payload) and _shown(volume, payload):
        return False
    new = _write_directory(volume, payload)
    own(f"{volume}/{new}")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{volume}/{_NEW_DATA}")  # of a write that was cut off
    os.symlink(new, f"{volume}/{_NEW_DATA}")
    os.rename(f"{volume}/{_NEW_DATA}", f"{volume}/{_DATA}")
    _show(volume, payload)
    _remove_others(volume, new)
    return True


def _write_first(volume: str, payload: Payload, own: Callable[[str], None]) -> None:
    """Fill a volume that nobody has seen."""
    new = _write_directory(volume, payload)
    own(f"{volume}/{new}")
    os.symlink(new, f"{volume}/{_DATA}")
    for name in _names(payload):
        os.symlink(f"{_DATA}/{name}", f"{volume}/{name}")


def _check(path: str) -> None:
    parts = path.split("/")
    if path.startswith("/") or ".." in parts or parts[0].startswith(".."):
        raise FailedPrecondition(f"invalid path {path!r}: must be relative and below the volume")
    if len(path) > _PATH_MAX or any(len(part) > _NAME_MAX for part in parts):
        raise FailedPrecondition(f"invalid path {path[:64]!r}...: too long")


def _current(volume: str) -> str | None:
    try:
        return os.readlink(f"{volume}/{_DATA}")
    except FileNotFoundError:
        return None


def _same(directory: str, payload: Payload) -> bool:
    found = set()
    for base, _, names in os.walk(directory):
        found |= {os.path.relpath(f"{base}/{name}", directory) for name in names}
    if found != set(map(os.path.normpath, payload)):
        return False
    for path, file in payload.items():
        with open(f"{directory}/{path}", "rb") as f:
            if f.read(len(file.data) + 1) != file.data:
                return False
    return True


def _shown(volume: str, payload: Payload) -> bool:
    return all(os.path.islink(f"{volume}/{name}") for name in _names(payload))


def _names(payload: Payload) -> set[str]:
    return {os.path.normpath(path).split("/")[0] for path in payload}


def _write_directory(volume: str, payload: Payload) -> str:
    now = datetime.now(UTC)
    name = f"..{now:%Y_%m_%d_%H_%M_%S}.{now.microsecond * 1000 + os.getpid() % 1000:09d}"
    os.mkdir(f"{volume}/{name}", 0o755)
    for path, file in payload.items():
        whole = f"{volume}/{name}/{path}"
        if "/" in path:
            os.makedirs(os.path.dirname(whole), 0o755, exist_ok=True)
        _write_file(whole, file)
    return name


def _write_file(path: str, file: File) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        small_files.write_all(fd, file.data)
        if file.uid is not None:
            os.fchown(fd, file.uid, -1)
        os.fchmod(fd, file.mode)  # whatever the umask
    finally:
        os.close(fd)


def _show(volume: str, payload: Payload) -> None:
    wanted = _names(payload)
    for entry in os.scandir(volume):
        if entry.name.startswith(".."):
            continue
        if entry.name in wanted and entry.is_symlink():
            wanted.discard(entry.name)
        elif entry.is_symlink():
            os.unlink(entry.path)
    for name in wanted:
        os.symlink(f"{_DATA}/{name}", f"{volume}/{name}")


def _remove_others(volume: str, kept: str) -> None:
    for entry in os.scandir(volume):
        is_ours = entry.name.startswith("..") and entry.name not in (_DATA, kept)
        if is_ours and stat.S_ISDIR(entry.stat(follow_symlinks=False).st_mode):
            shutil.rmtree(entry.path)
