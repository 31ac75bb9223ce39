"""Applying a layer's archive to a directory, as overlayfs wants it.

Every path is resolved inside the directory (openat2 RESOLVE_IN_ROOT), so neither `..` nor a symlink of an earlier entry leads
out. Whiteouts become what overlayfs reads: `.wh.x` a character device 0:0, `.wh..wh..opq` the xattr trusted.overlay.opaque.
Owners, modes with setuid, times, xattrs (security.capability) and hard links are kept.
"""

from __future__ import annotations

import errno
import os
import stat

from minipod.errors import ImageError
from minipod.image.tar import Entry, Readable, TarReader
from minipod.linux import files

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"


def apply(stream: Readable, directory: str) -> None:
    """Apply the archive in *stream* to *directory*. Raises ImageError, OSError."""
    root = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    times: list[tuple[str, int]] = []  # directories: their time changes with what comes into them
    try:
        reader = TarReader(stream)
        for entry in reader:
            path = os.path.normpath("/" + entry.name)
            if path == "/":
                continue
            _entry(root, path, entry, reader)
            if entry.type == "5":
                times.append((path, entry.mtime_ns))
        for path, mtime in reversed(times):
            _set_time(root, path, mtime)
    finally:
        os.close(root)


def _entry(root: int, path: str, entry: Entry, reader: TarReader) -> None:
    above, name = os.path.split(path)
    parent = files.open_or_make_directory(root, above, 0o755)
    try:
        if name == OPAQUE:
            os.setxattr(f"/proc/self/fd/{parent}", "trusted.overlay.opaque", b"y")
        elif name.startswith(WHITEOUT):
            _remove(parent, name.removeprefix(WHITEOUT))
            os.mknod(name.removeprefix(WHITEOUT), stat.S_IFCHR, os.makedev(0, 0), dir_fd=parent)
        else:
            _make(root, parent, name, entry, reader)
    except OSError as e:
        raise ImageError(f"can't unpack {path}: {e.strerror}", reason="ErrImagePull") from e
    finally:
        os.close(parent)


def _make(root: int, parent: int, name: str, entry: Entry, reader: TarReader) -> None:
    kind = entry.type
    if kind == "5":
        try:
            os.mkdir(name, dir_fd=parent)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                _remove(parent, name)
                os.mkdir(name, dir_fd=parent)
    else:
        _remove(parent, name)
        if kind == "1":
            _link(root, parent, name, entry.linkname)
            return
        if kind == "2":
            os.symlink(entry.linkname, name, dir_fd=parent)
        elif kind in "346":
            _node(parent, name, entry)
        elif kind == "0":
            _file(parent, name, entry, reader)
        else:
            raise OSError(errno.EINVAL, f"unknown kind of entry {kind!r}", name)
    _finish(parent, name, entry)


def _link(root: int, parent: int, name: str, target: str) -> None:
    """Hard link: the target is opened inside the root, then linked by its descriptor."""
    above, last = os.path.split(os.path.normpath("/" + target))
    directory = files.open_in_root(root, above, os.O_PATH | os.O_DIRECTORY)
    try:
        os.link(last, name, src_dir_fd=directory, dst_dir_fd=parent, follow_symlinks=False)
    finally:
        os.close(directory)


def _node(parent: int, name: str, entry: Entry) -> None:
    kinds = {"3": stat.S_IFCHR, "4": stat.S_IFBLK, "6": stat.S_IFIFO}
    os.mknod(name, kinds[entry.type] | 0o600, os.makedev(*entry.device), dir_fd=parent)


def _file(parent: int, name: str, entry: Entry, reader: TarReader) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(name, flags, 0o600, dir_fd=parent)
    try:
        if entry.segments is None:
            for chunk in reader.chunks():
                _write(fd, chunk)
        else:
            data = b"".join(reader.chunks())
            for offset, length in entry.segments:
                os.pwrite(fd, data[:length], offset)
                data = data[length:]
            os.truncate(fd, entry.size)
    finally:
        os.close(fd)


def _write(fd: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(fd, view) :]


def _finish(parent: int, name: str, entry: Entry) -> None:
    """Owner first: chown clears setuid and security.capability."""
    os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
    if entry.type != "2":
        os.chmod(name, entry.mode & 0o7777, dir_fd=parent)
    for key, value in entry.xattrs.items():
        os.setxattr(f"/proc/self/fd/{parent}/{name}", key, value, follow_symlinks=False)
    os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=parent, follow_symlinks=False)


def _set_time(root: int, path: str, mtime: int) -> None:
    try:
        fd = files.open_in_root(root, path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return  # replaced by a later entry
    os.utime(fd, ns=(mtime, mtime))
    os.close(fd)


def _remove(parent: int, name: str) -> None:
    """Remove what is at *name*, a whole tree too."""
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
        try:
            for inner in os.listdir(fd):
                _remove(fd, inner)
        finally:
            os.close(fd)
        os.rmdir(name, dir_fd=parent)
