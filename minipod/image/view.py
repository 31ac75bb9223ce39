"""A directory of a layer in the making, seen over the layers below it: an overlay mount that no process sees.

Only descriptors keep it, so that a kill leaves no mount (but for a moment's, which `detach` takes away). Apart from
`snapshot`, because that one is imported by each `minipod image`, and this one needs ctypes.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence

from minipod.errors import ImageError
from minipod.linux import mount
from minipod.linux.flags import AT_FDCWD, MountAttr, MountFlag, OpenTree, UmountFlag

PAGE = 4096  # bytes that mount(2) takes as options
OVERLAY_OPTIONS = "index=off,metacopy=off,redirect_dir=off"  # the upper directory must stand alone


@contextlib.contextmanager
def opened(top: str, below: Sequence[str], temporary: str) -> Iterator[int]:
    """Yield an fd of *top*, or of an overlay with *top* over *below*."""
    root = _overlay(top, below, temporary) if below else _open_path(top)
    try:
        yield root
    finally:
        os.close(root)


def _overlay(top: str, below: Sequence[str], temporary: str) -> int:
    merged, work = f"{temporary}/merged", f"{temporary}/work"
    os.mkdir(merged)
    os.mkdir(work)
    _copy_attributes(below[0], top)
    options = f"lowerdir={':'.join(below)},upperdir={top},workdir={work},{OVERLAY_OPTIONS}"
    if len(options) >= PAGE:
        return _overlay_of_many(top, below, work)
    mount.mount("overlay", merged, "overlay", MountFlag(0), options)
    try:
        # Its copy is in a mount namespace of its own, if one without a process. A mount in none takes mount_lock for each
        # symlink that is followed (mntput), and a `..` behind one then fails with EAGAIN for ever (openat2(2)).
        return mount.open_tree(AT_FDCWD, merged, OpenTree.CLONE | OpenTree.CLOEXEC)
    finally:
        mount.umount2(merged, UmountFlag.MNT_DETACH)


def _overlay_of_many(top: str, below: Sequence[str], work: str) -> int:
    """Name the layers one by one, as overlayfs lets us since Linux 6.5. Raises ImageError."""
    fd = mount.fsopen("overlay")
    try:
        for directory in below:
            mount.fsconfig_set_string(fd, "lowerdir+", directory)
        options = (option.split("=") for option in OVERLAY_OPTIONS.split(","))
        for key, value in (("upperdir", top), ("workdir", work), *options):
            mount.fsconfig_set_string(fd, key, value)
        mount.fsconfig_create(fd)
        return mount.fsmount(fd, MountAttr(0))
    except OSError as e:
        raise ImageError(
            f"can't mount an overlay of {len(below) + 1} layers: {(e.strerror or '').lower()}",
            reason="ErrImagePull",
            hint="so many layers need Linux 6.5",
        ) from e
    finally:
        os.close(fd)


def _open_path(directory: str) -> int:
    return os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def _copy_attributes(source: str, target: str) -> None:
    """The root directory of an overlay has the attributes of the uppermost layer's."""
    found = os.stat(source)
    os.chown(target, found.st_uid, found.st_gid)
    os.chmod(target, stat.S_IMODE(found.st_mode))
    os.utime(target, ns=(found.st_mtime_ns, found.st_mtime_ns))


def detach(path: str) -> None:
    """Take away the mount that a kill left in the directory *path*, if there is one."""
    with contextlib.suppress(OSError):  # EINVAL: no mount here, as it should be
        mount.umount2(f"{path}/merged", UmountFlag.MNT_DETACH)
