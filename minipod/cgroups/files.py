"""One directory of one cgroup tree, and its files: read, written, listed, its processes killed. Knows no tree, no pod."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterator

from minipod.cgroups.resources import Setting

CHUNK = 1 << 16  # bytes


def field(content: bytes, name: bytes) -> int:
    """Return one number of a file of names and numbers; 0 where the kernel has no such line."""
    for line in content.splitlines():
        key, _, value = line.partition(b" ")
        if key == name:
            return int(value)
    return 0


def leaves_first(directory: str) -> Iterator[str]:
    """Yield the cgroups below *directory* and itself last; a leaf is not listed: it has files only."""
    children: list[str] = []
    try:
        if os.stat(directory).st_nlink > 2:  # 2 and one for each child (fs/kernfs/inode.c)
            with os.scandir(directory) as entries:
                children = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return  # it went meanwhile
    for child in children:
        yield from leaves_first(child)
    yield directory


def inherit_cpuset(directory: str) -> None:
    """Copy cpus and mems from the parent: a new v1 cpuset is empty, and nobody can enter it."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        value = read(f"{os.path.dirname(directory)}/{name}").decode().strip()
        write(f"{directory}/{name}", value)


def delegate(directory: str, controllers: frozenset[str]) -> None:
    """Hand our controllers down to the children of *directory*."""
    try:
        enabled = set(read(f"{directory}/cgroup.subtree_control").decode().split())
        if controllers <= enabled:
            return
        available = set(read(f"{directory}/cgroup.controllers").decode().split())
    except FileNotFoundError:
        return
    for name in (available & controllers) - enabled:
        try:
            write(f"{directory}/cgroup.subtree_control", f"+{name}")
        except OSError as e:
            if e.errno not in (errno.ENOENT, errno.EINVAL):
                raise  # EBUSY: processes live in this inner node. EINVAL: cpu, while there are realtime processes


def kill_listed(path: str) -> None:
    """Kill the pids that a cgroup.procs file lists, until it lists none that can be killed."""
    for _ in range(100):
        try:
            pids = [int(p) for p in read(path).split()]
        except FileNotFoundError:
            pids = []
        if not pids:
            return
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


def apply(directory: str, setting: Setting) -> None:
    """Write one setting."""
    try:
        write(f"{directory}/{setting.file}", setting.value)
    except FileNotFoundError:
        if not setting.optional:
            raise


def write(path: str, *values: str) -> None:
    """Write each value with one write(2); OSError names path and value."""
    fd, value = os.open(path, os.O_WRONLY | os.O_CLOEXEC), ""
    try:
        for value in values:
            os.write(fd, value.encode())
    except OSError as e:
        raise OSError(_errno(e, path), f"{e.strerror} (writing {value!r})", path) from None
    finally:
        os.close(fd)


def read(path: str) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # A page for each read(2) at most, where a file has many lines (fs/seq_file.c): some 600 pids of cgroup.procs.
        return b"".join(iter(lambda: os.read(fd, CHUNK), b""))
    except OSError as e:
        raise OSError(_errno(e, path), e.strerror, path) from None
    finally:
        os.close(fd)


def _errno(e: OSError, path: str) -> int:
    """ENODEV is what kernfs says of an open file whose cgroup was removed since; of others it is the controller's word."""
    gone = e.errno == errno.ENODEV and not os.path.exists(path)
    return errno.ENOENT if gone else e.errno or 0
