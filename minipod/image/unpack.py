"""Applying one layer's archive to a directory: the file system of the layers below, or an empty one.

Every path is resolved inside the directory (openat2 RESOLVE_IN_ROOT), so that neither `..` nor a
symlink, of an earlier entry or of a lower layer, leads out; the last component is never followed.
Owners, modes with setuid, times, xattrs (security.capability) and hard links are kept.

Whiteouts (OCI image-spec, layer.md) remove what the lower layers have: applied to an overlay mount
they become what overlayfs itself writes, a character device 0:0 in the upper directory. What
this layer brings is never hidden by its own whiteouts.
"""

from __future__ import annotations

import errno
import os
import stat

from minipod.errors import ImageError
from minipod.image.limits import DEFAULT, Limits
from minipod.image.tar import Entry, Readable, TarReader
from minipod.image.tarheader import corrupt
from minipod.linux import files

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"
METADATA = ".wh..wh."  # of aufs (.wh..wh.plnk): nothing of the image
# A layer that could set these would redirect overlayfs to other files of the lower layers.
FORBIDDEN_XATTRS = ("trusted.overlay.", "user.overlay.")
NODES = {"3": stat.S_IFCHR, "4": stat.S_IFBLK, "6": stat.S_IFIFO}
NO_ID = 2**32 - 1  # chown(2) would leave the owner as it is


def apply(stream: Readable, root: int, limits: Limits = DEFAULT) -> None:
    """Apply the archive in *stream* to the directory *root* (an O_PATH fd). Raises ImageError."""
    reader = TarReader(stream)
    layer = _Layer(root, reader)
    for entry in reader:
        path = os.path.normpath("/" + entry.name).lstrip("/")
        try:
            layer.add(path, entry)
        except (OSError, OverflowError, RecursionError) as e:  # a number or depth out of range
            why = getattr(e, "strerror", None) or str(e)
            raise ImageError(f"can't unpack /{path}: {why}", reason="ErrImagePull") from e
    layer.finish()


class _Layer:
    """One layer on its way to the directory *root*."""

    def __init__(self, root: int, reader: TarReader) -> None:
        self._root = root
        self._reader = reader
        self._own: set[str] = set()  # paths that this layer brought, with all that is above them
        self._times: list[tuple[str, int]] = []  # of directories: they change with what comes in

    def add(self, path: str, entry: Entry) -> None:
        """Make what *entry* says at *path* ("" is the root itself). Raises ImageError, OSError."""
        above, name = os.path.split(path)
        parent = self._open_directory(above)
        try:
            if name == OPAQUE:
                self._remove_lower(parent, above)
            elif name.startswith(METADATA):
                return
            elif name.startswith(WHITEOUT):
                self._white_out(parent, above, name.removeprefix(WHITEOUT))
            elif entry.type == "3" and entry.device == (0, 0):
                return  # overlayfs would read it as a whiteout
            else:
                self._make(parent, name or ".", entry)
                self._own_up(path)
                if entry.type == "5":
                    self._times.append((path, entry.mtime_ns))
        finally:
            os.close(parent)

    def finish(self) -> None:
        """Give the directories their times, now that nothing changes in them any more."""
        for path, mtime in self._times:
            try:
                fd = files.open_in_root(self._root, path or ".", os.O_RDONLY | os.O_DIRECTORY)
            except OSError:
                continue  # replaced by a later entry
            try:
                os.utime(fd, ns=(mtime, mtime))
            finally:
                os.close(fd)

    def _own_up(self, path: str) -> None:
        while path not in self._own:
            self._own.add(path)
            path = os.path.dirname(path)

    def _open_directory(self, path: str) -> int:
        """Open *path* inside the root; what is missing of it gets the default owner and mode."""
        flags = os.O_PATH | os.O_DIRECTORY
        try:
            return files.open_in_root(self._root, path or ".", flags)
        except FileNotFoundError:
            pass
        here = files.open_in_root(self._root, ".", flags)
        done = ""
        for name in path.split("/"):
            done = os.path.join(done, name)
            try:
                following = self._open_or_make(here, name, done)
            finally:
                os.close(here)
            here = following
        return here

    def _open_or_make(self, parent: int, name: str, path: str) -> int:
        flags = os.O_PATH | os.O_DIRECTORY
        try:
            return files.open_in_root(self._root, path, flags)
        except FileNotFoundError:
            os.mkdir(name, dir_fd=parent)  # EEXIST: a dangling symlink is in the way
            os.chmod(name, 0o755, dir_fd=parent)  # noqa: S103 mkdir obeys the umask
            return files.open_in_root(self._root, path, flags)

    # -- whiteouts

    def _white_out(self, parent: int, above: str, name: str) -> None:
        if name in ("", ".", ".."):  # `.wh...` would name the directory above
            raise corrupt(f"a whiteout of {name!r}")
        if os.path.join(above, name) not in self._own:
            _remove(parent, name)

    def _remove_lower(self, directory: int, path: str) -> None:
        """Opaque: remove all below *directory* that this layer did not bring."""
        listing = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
        try:
            for name in os.listdir(listing):
                child = os.path.join(path, name)
                if child not in self._own:
                    _remove(listing, name)
                elif _is_directory(listing, name):
                    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=listing)
                    try:
                        self._remove_lower(fd, child)
                    finally:
                        os.close(fd)
        finally:
            os.close(listing)

    # -- members

    def _make(self, parent: int, name: str, entry: Entry) -> None:
        if not (0 <= entry.uid < NO_ID and 0 <= entry.gid < NO_ID):
            raise corrupt(f"{entry.name!r} belongs to {entry.uid}:{entry.gid}")
        if entry.type == "5":
            if name != "." and not _is_directory(parent, name):
                _remove(parent, name)
                os.mkdir(name, dir_fd=parent)
        elif name == ".":
            raise corrupt("the root is not a directory")
        else:
            _remove(parent, name)
            self._make_file(parent, name, entry)
        if entry.type != "1":  # a hard link has the attributes of its target
            _set_attributes(parent, name, entry)

    def _make_file(self, parent: int, name: str, entry: Entry) -> None:
        match entry.type:
            case "0":
                self._write_file(parent, name, entry)
            case "1":
                self._link(parent, name, entry.linkname)
            case "2":
                os.symlink(entry.linkname, name, dir_fd=parent)
            case "3" | "4" | "6":
                mode = NODES[entry.type] | 0o600
                os.mknod(name, mode, os.makedev(*entry.device), dir_fd=parent)
            case _:
                raise corrupt(f"{entry.name!r} is of the unknown kind {entry.type!r}")

    def _write_file(self, parent: int, name: str, entry: Entry) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(name, flags, 0o600, dir_fd=parent)
        try:
            if entry.segments is None:
                for chunk in self._reader.chunks():
                    _write(fd, chunk)
                return
            for offset, length in entry.segments:
                os.lseek(fd, offset, os.SEEK_SET)
                for chunk in self._reader.chunks(length):
                    _write(fd, chunk)
            os.truncate(fd, entry.size)
        finally:
            os.close(fd)

    def _link(self, parent: int, name: str, target: str) -> None:
        """Hard link to *target*: its directory is resolved in the root, itself is not followed."""
        above, last = os.path.split(os.path.normpath("/" + target).lstrip("/"))
        directory = files.open_in_root(self._root, above or ".", os.O_PATH | os.O_DIRECTORY)
        try:
            os.link(last, name, src_dir_fd=directory, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(directory)


def _write(fd: int, chunk: memoryview) -> None:
    while chunk:
        chunk = chunk[os.write(fd, chunk) :]


def _set_attributes(parent: int, name: str, entry: Entry) -> None:
    """Owner first, all of it after the content: chown(2), write(2) clear setuid and capabilities."""
    os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
    if entry.type != "2":
        os.chmod(name, entry.mode, dir_fd=parent)  # we made it, so it is no symlink to follow
    for key, value in entry.xattrs.items():
        if not key.startswith(FORBIDDEN_XATTRS):
            _set_xattr(f"/proc/self/fd/{parent}/{name}", key, value, is_link=entry.type == "2")
    if entry.type != "5":
        times = (entry.mtime_ns, entry.mtime_ns)
        os.utime(name, ns=times, dir_fd=parent, follow_symlinks=False)


def _set_xattr(path: str, key: str, value: bytes, *, is_link: bool) -> None:
    try:
        os.setxattr(path, key, value, follow_symlinks=False)
    except OSError as e:
        # As containerd: a file system without this kind loses it; symlinks have no user.*
        if e.errno != errno.ENOTSUP and not (is_link and e.errno == errno.EPERM):
            raise


def _is_directory(parent: int, name: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _remove(parent: int, name: str) -> None:
    """Remove what is at *name*, a whole tree too; nothing is fine. Follows no symlink."""
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        return
    except IsADirectoryError:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(name, flags, dir_fd=parent)
        try:
            for inner in os.listdir(fd):
                _remove(fd, inner)
        finally:
            os.close(fd)
        os.rmdir(name, dir_fd=parent)
