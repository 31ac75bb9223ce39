"""Applying one layer's archive to a directory: the file system of the layers below, or an empty one.

Every path is resolved inside the directory (openat2 RESOLVE_IN_ROOT), so that no symlink, of an
earlier entry or of a lower layer, leads out; the last component is never followed. An absolute name
or link target means one inside, as it does for containerd, umoci and podman (ko, Nix, kaniko and
buildpacks write such layers), unless a setting refuses it; a `..` in a name is refused. Owners,
modes with setuid, times, xattrs (security.capability) and hard links are kept.

Whiteouts (OCI image-spec, layer.md) remove what the lower layers have: applied to an overlay mount
they become what overlayfs itself writes, a character device 0:0 in the upper directory, and for an
opaque directory `trusted.overlay.opaque`. What this layer brings is never hidden by its own whiteouts.

The cost of a layer is its system calls: the directory of the last entry stays open for the next one, a
file is made with the owner and mode that it most likely has and only corrected where fstat(2) of the first
file like it in its directory says so.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable
from typing import TypeVar

from minipod.errors import ImageError
from minipod.image import xattrs
from minipod.image.limits import DEFAULT, Limits
from minipod.image.tar import Entry, Readable, TarReader
from minipod.image.tarheader import corrupt
from minipod.linux import files

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"
METADATA = ".wh..wh."  # of aufs (.wh..wh.plnk): nothing of the image
NODES = {"3": stat.S_IFCHR, "4": stat.S_IFBLK, "6": stat.S_IFIFO}
NO_ID = 2**32 - 1  # chown(2) would leave the owner as it is
NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
DIRECTORY = os.O_PATH | os.O_DIRECTORY
UNPLAIN = frozenset(("", ".", ".."))  # parts of a path that are no names
MAX_LINKS = 40  # symlinks on the way to one place, as the kernel has it

T = TypeVar("T")


def apply(stream: Readable, root: int, limits: Limits = DEFAULT) -> None:
    """Apply the archive in *stream* to the directory *root* (an O_PATH fd). Raises ImageError."""
    reader = TarReader(stream)
    with contextlib.ExitStack() as stack:
        layer = _Layer(root, reader, limits)
        stack.callback(layer.close)
        for number, entry in enumerate(reader):
            if number >= limits.image_layer_entries:
                raise corrupt(f"it has more than {limits.image_layer_entries} entries")
            path = _inside(entry.name, limits)
            try:
                layer.add(path, entry)
            except (OSError, OverflowError, RecursionError) as e:  # a number or depth out of range
                why = getattr(e, "strerror", None) or str(e)
                raise ImageError(
                    f"can't unpack /{path}: {why.lower()}", reason="ErrImagePull"
                ) from e
        layer.finish()


def _inside(name: str, limits: Limits) -> str:
    """Return *name* relative to the root, without empty parts and dots. Raises ImageError."""
    if name.startswith("/") and not limits.image_absolute_names:
        raise corrupt(f"{name!r} is absolute, which the setting image_absolute_names forbids")
    parts = name.split("/")
    if UNPLAIN.isdisjoint(parts):
        return name
    if ".." in parts:
        raise corrupt(f"{name!r} leads out of its directory")
    return "/".join(part for part in parts if part not in UNPLAIN)


class _Layer:
    """One layer on its way to the directory *root*."""

    def __init__(self, root: int, reader: TarReader, limits: Limits) -> None:
        self._root = root
        self._reader = reader
        self._limits = limits
        # Paths of what follows are real ones: two names that lead to one place are that place.
        self._own: set[str] = {""}  # what this layer brought, with all that is above it
        self._filled: set[str] = set()  # directories in which this layer brought something
        # In nanoseconds, of directories that the layer says: what comes in changes them.
        self._times: dict[str, int] = {}
        # Of those below that it only adds to: they keep theirs, as in umoci.
        self._before: dict[str, int] = {}
        # What owner, group and mode a file really has that is made in _parent with a mode (O_CREAT): what its
        # directory's default ACL, its setgid bit and the umask make of that.
        self._made: dict[int, tuple[int, int, int]] = {}
        self._parent = files.open_in_root(root, ".", DIRECTORY)  # the next entry's directory
        self._above = self._real = ""  # its name in the archive, and its real path
        self._base = _path_of(root)
        self._before[""] = os.stat(self._parent).st_mtime_ns

    def close(self) -> None:
        os.close(self._parent)

    def add(self, path: str, entry: Entry) -> None:
        """Make what *entry* says at *path* ("" is the root itself). Raises ImageError, OSError."""
        above, _, name = path.rpartition("/")
        if above != self._above:
            self._enter(above)
        if name.startswith(WHITEOUT):
            self._white_out(name)
        elif entry.type == "3" and entry.device == (0, 0):
            return  # overlayfs would read it as a whiteout
        else:
            self._make(name, entry)
            place = f"{self._real}/{name}" if self._real and name else self._real or name
            self._own_up(place)
            if entry.type == "5":
                self._times[place] = entry.mtime_ns

    def finish(self) -> None:
        """Give the directories their times, now that nothing changes in them any more."""
        for path, mtime in (self._before | self._times).items():
            try:
                fd = files.open_in_root(self._root, path or ".", os.O_RDONLY | os.O_DIRECTORY)
            except OSError:
                continue  # replaced by a later entry
            try:
                if os.stat(fd).st_mtime_ns != mtime:  # else it would be copied up for nothing
                    os.utime(fd, ns=(mtime, mtime))
            finally:
                os.close(fd)

    def _own_up(self, path: str) -> None:
        while path not in self._own:
            self._own.add(path)
            path = path.rpartition("/")[0]
            self._filled.add(path)

    def _enter(self, path: str) -> None:
        """Make *path* the open directory; what is missing of it gets the default owner and mode."""
        try:
            fd = files.open_in_root(self._root, path or ".", DIRECTORY)
            old = True
        except FileNotFoundError:
            fd, old = self._make_directories(path, MAX_LINKS), False
        self._be_in(fd, path, _path_of(fd).removeprefix(self._base).lstrip("/"))
        if old and self._real not in self._before:
            self._before[self._real] = os.stat(fd).st_mtime_ns

    def _be_in(self, parent: int, above: str, real: str) -> None:
        os.close(self._parent)
        self._parent, self._above, self._real = parent, above, real
        self._made.clear()

    def _make_directories(self, path: str, links: int) -> int:
        here = files.open_in_root(self._root, ".", DIRECTORY)
        done = ""
        for name in path.split("/"):
            done = f"{done}/{name}"
            try:
                following = self._open_or_make(here, name, done, links)
            finally:
                os.close(here)
            here = following
        return here

    def _open_or_make(self, parent: int, name: str, path: str, links: int) -> int:
        try:
            return files.open_in_root(self._root, path, DIRECTORY)
        except FileNotFoundError:
            try:
                os.mkdir(name, dir_fd=parent)
            except FileExistsError:
                # A symlink to what is not there: it is made, as containerd and umoci do.
                if not links:
                    raise
                above = _path_of(parent).removeprefix(self._base)
                target = os.path.join("/", above, os.readlink(name, dir_fd=parent))
                return self._make_directories(os.path.normpath(target).strip("/"), links - 1)
            os.chmod(name, 0o755, dir_fd=parent)  # noqa: S103 mkdir obeys the umask
            return files.open_in_root(self._root, path, DIRECTORY)

    # -- whiteouts

    def _white_out(self, name: str) -> None:
        if name == OPAQUE:
            self._make_opaque(self._real)
        elif not name.startswith(METADATA):
            name = name.removeprefix(WHITEOUT)
            if name in ("", ".", ".."):  # `.wh...` would name the directory above
                raise corrupt(f"a whiteout of {name!r}")
            self._remove_below(self._parent, name, f"{self._real}/{name}".lstrip("/"))
        # Open the next entry's directory anew: what was removed may have been on the way to it.
        self._be_in(files.open_in_root(self._root, ".", DIRECTORY), "", "")

    def _make_opaque(self, path: str) -> None:
        """Remove all that the lower layers have in *path*, and keep what this layer brought."""
        above, _, name = path.rpartition("/")
        if not path or path in self._filled:
            self._remove_lower(self._parent, path)
            return
        # Made anew over its own whiteout, overlayfs marks the directory as opaque.
        self._enter(above)
        self._renew(name, os.stat(name, dir_fd=self._parent, follow_symlinks=False))

    def _renew(self, name: str, before: os.stat_result) -> None:
        parent = self._parent
        place = f"/proc/self/fd/{parent}/{name}"
        kept = xattrs.read(place)
        _remove(parent, name)
        os.mkdir(name, dir_fd=parent)
        os.chown(name, before.st_uid, before.st_gid, dir_fd=parent)
        os.chmod(name, stat.S_IMODE(before.st_mode), dir_fd=parent)
        xattrs.write(place, kept)
        os.utime(name, ns=(before.st_atime_ns, before.st_mtime_ns), dir_fd=parent)

    def _remove_lower(self, directory: int, path: str) -> None:
        """Remove all below *directory* that this layer did not bring."""
        listing = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
        try:
            for name in os.listdir(listing):
                self._remove_below(listing, name, f"{path}/{name}".lstrip("/"))
        finally:
            os.close(listing)

    def _remove_below(self, parent: int, name: str, path: str) -> None:
        """Remove what is at *name* (*path* from the root on), but for what this layer brought."""
        if path not in self._own:
            _remove(parent, name)
        elif _is_directory(parent, name):
            fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
            try:
                self._remove_lower(fd, path)
            finally:
                os.close(fd)

    # -- members

    def _make(self, name: str, entry: Entry) -> None:
        if not (0 <= entry.uid < NO_ID and 0 <= entry.gid < NO_ID):
            raise corrupt(f"{entry.name!r} belongs to {entry.uid}:{entry.gid}")
        if entry.size > self._limits.image_layer_max:
            raise corrupt(f"{entry.name!r} has {entry.size} bytes, too many (image_layer_max)")
        if entry.type == "5":
            self._make_directory(name or ".", entry)
        elif not name:
            raise corrupt("the root is not a directory")
        elif entry.type == "0":
            self._make_file(name, entry)
        elif entry.type == "1":
            self._link(name, entry.linkname)
        else:
            self._make_node(name, entry)

    def _fresh(self, name: str, make: Callable[[], T]) -> T:
        """Call *make*, and again without what was at *name* if there was something."""
        try:
            return make()
        except FileExistsError:
            parent = os.dup(self._parent)
            try:
                _remove(parent, name)
            finally:
                os.close(parent)
            return make()

    def _make_directory(self, name: str, entry: Entry) -> None:
        parent = self._parent
        if name == "." or _is_directory(parent, name):
            xattrs.drop(f"/proc/self/fd/{parent}/{name}")
        else:
            self._fresh(name, lambda: os.mkdir(name, dir_fd=parent))
        os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
        os.chmod(name, entry.mode, dir_fd=parent)  # a directory: no symlink to follow
        _set_xattrs(parent, name, entry)
        self._made.clear()  # it may be _parent itself

    def _make_node(self, name: str, entry: Entry) -> None:
        parent = self._parent
        if entry.type == "2":
            self._fresh(name, lambda: os.symlink(entry.linkname, name, dir_fd=parent))
        elif entry.type not in NODES:
            raise corrupt(f"{entry.name!r} is of the unknown kind {entry.type!r}")
        elif entry.type != "6" and not self._limits.image_devices:
            raise corrupt(f"{entry.name!r} is a device, which the setting image_devices forbids")
        else:
            mode, device = NODES[entry.type] | 0o600, os.makedev(*entry.device)
            self._fresh(name, lambda: os.mknod(name, mode, device, dir_fd=parent))
        os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
        if entry.type != "2":
            os.chmod(name, entry.mode, dir_fd=parent)
        _set_xattrs(parent, name, entry)
        times = (entry.mtime_ns, entry.mtime_ns)
        os.utime(name, ns=times, dir_fd=parent, follow_symlinks=False)

    def _make_file(self, name: str, entry: Entry) -> None:
        """Owner before mode, both after the content: chown(2), write(2) clear setuid and capabilities."""
        parent, mode = self._parent, entry.mode & 0o777
        fd = self._fresh(name, lambda: os.open(name, NEW_FILE, mode, dir_fd=parent))
        try:
            self._write_content(fd, entry)
            if mode not in self._made:
                made = os.fstat(fd)
                self._made[mode] = (made.st_uid, made.st_gid, stat.S_IMODE(made.st_mode))
            uid, gid, mode = self._made[mode]
            if (uid, gid) != (entry.uid, entry.gid):
                os.fchown(fd, entry.uid, entry.gid)
            if mode != entry.mode:
                os.fchmod(fd, entry.mode)
            if entry.xattrs:
                _set_xattrs(parent, name, entry)
            os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(fd)

    def _write_content(self, fd: int, entry: Entry) -> None:
        if entry.segments is None:
            for chunk in self._reader.chunks():
                _write(fd, chunk)
            return
        os.truncate(fd, entry.size)
        for offset, length in entry.segments:
            os.lseek(fd, offset, os.SEEK_SET)
            for chunk in self._reader.chunks(length):
                _write(fd, chunk)

    def _link(self, name: str, target: str) -> None:
        """Hard link to *target*: its directory is resolved in the root, itself is not followed."""
        above, _, last = _inside(target, self._limits).rpartition("/")
        parent = self._parent
        directory = files.open_in_root(self._root, above or ".", DIRECTORY)
        try:
            self._fresh(
                name,
                lambda: os.link(
                    last, name, src_dir_fd=directory, dst_dir_fd=parent, follow_symlinks=False
                ),
            )
        finally:
            os.close(directory)


def _path_of(fd: int) -> str:
    """Return where an open directory is; of a detached mount, from the mount's root on."""
    path = os.readlink(f"/proc/self/fd/{fd}")
    return "" if path == "/" else path


def _write(fd: int, chunk: memoryview) -> None:
    while chunk:
        chunk = chunk[os.write(fd, chunk) :]


def _set_xattrs(parent: int, name: str, entry: Entry) -> None:
    xattrs.write(f"/proc/self/fd/{parent}/{name}", entry.xattrs, is_link=entry.type == "2")


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
