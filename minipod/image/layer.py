"""Making a layer: files as values, and the one archive that they always give.

Reproducible by construction: members sorted by path, one fixed time, numbers for owners, no compression
(its output differs between zlib versions, and the layer is unpacked on this very machine).
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass

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
