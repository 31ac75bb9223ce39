"""Id-mapped mounts, asked of the kernel: owners on the mount are those of the user namespace, those on the disk stay."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from minipod.linux import mount, namespaces
from minipod.linux.flags import (
    AT,
    AT_FDCWD,
    CloneFlag,
    MountAttr,
    OpenTree,
)

BASE = 1 << 20


@pytest.fixture
def userns() -> Iterator[int]:
    """A user namespace with 65536 ids from BASE on; only the fd keeps it."""
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        try:
            namespaces.unshare(CloneFlag.CLONE_NEWUSER)
            theirs.send(b"1")
            signal.pause()
        finally:
            os._exit(1)
    try:
        theirs.close()
        assert ours.recv(1) == b"1"
        for name in ("uid_map", "gid_map"):
            with open(f"/proc/{pid}/{name}", "w", encoding="ascii") as f:
                f.write(f"0 {BASE} 65536")
        fd = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        ours.close()
    yield fd
    os.close(fd)


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory on a disk: tmpfs can be id-mapped only since Linux 6.3."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as path:
        yield Path(path)


def mapped(path: object, userns: int) -> int:
    tree = mount.open_tree(AT_FDCWD, str(path), OpenTree.CLONE | OpenTree.CLOEXEC)
    try:
        mount.mount_setattr(tree, "", MountAttr.IDMAP, flags=AT.EMPTY_PATH, userns_fd=userns)
    except OSError:
        os.close(tree)
        raise
    return tree


@pytest.mark.smoke
def test_owners_are_mapped_on_the_mount_and_not_on_the_disk(directory, userns) -> None:
    (directory / "roots").touch()
    (directory / "users").touch()
    os.chown(directory / "users", 1000, 1001)
    tree = mapped(directory, userns)
    try:
        roots, users = (os.stat(name, dir_fd=tree) for name in ("roots", "users"))
        assert (roots.st_uid, roots.st_gid) == (BASE, BASE)
        assert (users.st_uid, users.st_gid) == (BASE + 1000, BASE + 1001)
        os.chown("users", BASE + 7, BASE, dir_fd=tree)
    finally:
        os.close(tree)
    on_disk = os.stat(directory / "users")
    assert (on_disk.st_uid, on_disk.st_gid) == (7, 0)


def test_a_tree_is_not_mapped_without_a_user_namespace(directory) -> None:
    file = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    with pytest.raises(OSError, match="Invalid argument"):
        mapped(directory, file)
    os.close(file)
