"""Making a layer: from files as values (`pack`) or from a directory that overlayfs wrote (`commit`), one archive.

Reproducible by construction: members sorted by path, one fixed time, numbers for owners, no compression
(its output differs between zlib versions, and the layer is unpacked on this very machine). So the digest of the
blob is the diff id, too.
"""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from minipod.errors import ImageError
from minipod.image import xattrs
from minipod.image.content import ContentStore, Descriptor, Writer
from minipod.image.manifest import LAYER
from minipod.image.tar import XATTR_PREFIX
from minipod.image.unpack import OPAQUE, WHITEOUT

EPOCH = 1672531200  # 2023-01-01T00:00:00Z, the time of every file and image we make
TYPES = {"0": tarfile.REGTYPE, "2": tarfile.SYMTYPE, "5": tarfile.DIRTYPE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One file, directory ("5") or symlink ("2") of a layer; *path* is absolute."""

    path: str
    type: str = "0"
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    content: bytes = b""
    target: str = ""


def pack(members: Iterable[Member]) -> bytes:
    """Return the tar archive of *members*; of one path the last counts, missing parents are added."""
    tree: dict[str, Member] = {}
    for member in members:
        path = os.path.normpath("/" + member.path)
        _add_parents(tree, path)
        tree[path] = member
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(tree):
            archive.addfile(_info(path, tree[path]), io.BytesIO(tree[path].content))
    return plain.getvalue()


def _add_parents(tree: dict[str, Member], path: str) -> None:
    parent = os.path.dirname(path)
    while parent != "/" and parent not in tree:
        tree[parent] = Member(path=parent, type="5", mode=0o755)
        parent = os.path.dirname(parent)


def _info(path: str, member: Member) -> tarfile.TarInfo:
    info = tarfile.TarInfo(path.lstrip("/"))
    info.type = TYPES[member.type]
    info.mode, info.uid, info.gid = member.mode, member.uid, member.gid
    info.size, info.mtime, info.linkname = len(member.content), EPOCH, member.target
    return info


# -- from what overlayfs wrote

Skip = Callable[[str, os.stat_result], bool]  # whether the path (relative) is left out


def _nothing(path: str, found: os.stat_result) -> bool:
    del path, found
    return False


def commit(content: ContentStore, upper: str, *, skip: Skip = _nothing) -> Descriptor | None:
    """Store the layer of an overlay's *upper* directory, which nobody changes any more; None when it is empty.

    Whiteouts and opaque directories become those of image-spec, layer.md; sockets are left out. Raises ImageError.
    """
    with content.writer() as blob:
        count = 0
        with tarfile.open(
            fileobj=_Out(blob), mode="w|", format=tarfile.PAX_FORMAT, bufsize=1 << 18
        ) as archive:
            links: dict[int, str] = {}  # by inode
            for path, found in _walk(upper, "", skip):
                count += 1
                _add(archive, upper, path, found, links)
        if not count:
            return None
        digest = blob.commit()
        return Descriptor(media_type=LAYER, digest=digest, size=blob.offset)


class _Out(io.RawIOBase):
    """A blob's writer as tarfile wants a file."""

    def __init__(self, blob: Writer) -> None:
        self._blob = blob

    def write(self, data: bytes) -> int:  # type: ignore[override]  # only bytes come
        return self._blob.write(data)


def _walk(top: str, below: str, skip: Skip) -> Iterator[tuple[str, os.stat_result]]:
    """Yield (path, status) of all in a directory, sorted, parents first."""
    for name in sorted(os.listdir(f"{top}/{below}")):
        path = f"{below}/{name}".lstrip("/")
        found = os.lstat(f"{top}/{path}")
        if stat.S_ISSOCK(found.st_mode) or skip(path, found):
            continue
        yield path, found
        if stat.S_ISDIR(found.st_mode):
            yield from _walk(top, path, skip)


def _add(
    archive: tarfile.TarFile, top: str, path: str, found: os.stat_result, links: dict[int, str]
) -> None:
    """Add one file as it is, or the whiteout that it stands for."""
    above, name = os.path.split(path)
    if stat.S_ISCHR(found.st_mode) and found.st_rdev == 0:
        archive.addfile(_marker(os.path.join(above, WHITEOUT + name)))
        return
    info = tarfile.TarInfo(path)
    info.mode, info.uid, info.gid = stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid
    info.mtime = EPOCH
    has = _xattrs(f"{top}/{path}")
    info.pax_headers = {
        XATTR_PREFIX + key: value.decode("utf-8", "surrogateescape")
        for key, value in sorted(xattrs.allowed(has).items())
    }
    if stat.S_ISREG(found.st_mode) and found.st_ino not in links:
        links[found.st_ino] = path
        info.size = found.st_size
        with _open(f"{top}/{path}") as file:
            archive.addfile(info, file)
        return
    _describe(info, found, f"{top}/{path}", links)
    archive.addfile(info)
    if has.get("trusted.overlay.opaque") == b"y":
        archive.addfile(_marker(os.path.join(path, OPAQUE)))


def _describe(
    info: tarfile.TarInfo, found: os.stat_result, path: str, links: dict[int, str]
) -> None:
    kind = stat.S_IFMT(found.st_mode)
    if kind == stat.S_IFREG:
        info.type, info.linkname, info.pax_headers = tarfile.LNKTYPE, links[found.st_ino], {}
    elif kind == stat.S_IFLNK:
        info.type, info.linkname = tarfile.SYMTYPE, os.readlink(path)
    elif kind == stat.S_IFDIR:
        info.type = tarfile.DIRTYPE
    elif kind == stat.S_IFIFO:
        info.type = tarfile.FIFOTYPE
    else:
        info.type = tarfile.CHRTYPE if kind == stat.S_IFCHR else tarfile.BLKTYPE
        info.devmajor, info.devminor = os.major(found.st_rdev), os.minor(found.st_rdev)


def _marker(path: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(path)
    info.mtime, info.mode = EPOCH, 0o600
    return info


def _xattrs(path: str) -> dict[str, bytes]:
    found = xattrs.read(path)
    for key in ("trusted.overlay.redirect", "trusted.overlay.metacopy"):
        if key in found:
            raise ImageError(f"{path} can't be committed: it has {key}", reason="ErrImageBuild")
    return found


def _open(path: str) -> BinaryIO:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    return os.fdopen(fd, "rb")
