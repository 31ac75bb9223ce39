"""Who an image's `user[:group]` is, by the passwd and group files of the image itself.

Pure functions on bytes: the host's NSS must never be asked (a library that the image plants would run in
our process, CVE-2019-14271). The rules are those of containerd's WithUser and WithAdditionalGIDs:

* a number is always an id, never a name; it need not be in passwd (gid is then 0, home "/");
* an explicit group replaces the primary one; the memberships of the user's name are added anyhow;
* the primary gid is among the supplementary groups (CVE-2023-25173).

Lines that are not well formed are skipped, as glibc does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from minipod.errors import ImageError

MAX_ID = 2**31 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A user, resolved. *groups* begins with *gid*; *name* is "" for an id that passwd does not have."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str
    name: str = ""
    shell: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Account:
    name: str
    uid: int
    gid: int
    home: str
    shell: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    name: str
    gid: int
    members: tuple[str, ...]


@lru_cache(maxsize=64)
def resolve(user: str, passwd: bytes, group: bytes) -> User:
    """Resolve *user* (`name`, `uid`, `name:group`...; "" is root). Raises ImageError."""
    user_part, colon, group_part = user.partition(":")
    if ":" in group_part or (colon and not group_part and not user_part):
        raise _error(f"invalid USER value {user}")
    account = _find_account(user_part or "0", passwd)
    gid = _find_group(group_part, group) if group_part else account.gid
    memberships = [g.gid for g in _groups(group) if account.name and account.name in g.members]
    return User(
        uid=account.uid,
        gid=gid,
        groups=tuple(dict.fromkeys([gid, *memberships])),
        home=account.home or "/",
        name=account.name,
        shell=account.shell,
    )


def _find_account(part: str, passwd: bytes) -> _Account:
    uid = _number(part)
    for account in _accounts(passwd):
        if account.name == part if uid is None else account.uid == uid:
            return account
    if uid is None:
        raise _error(f"unable to find user {part}: no matching entries in passwd file")
    return _Account(name="", uid=uid, gid=0, home="/", shell="")


def _find_group(part: str, group: bytes) -> int:
    gid = _number(part)
    if gid is not None:
        return gid
    for entry in _groups(group):
        if entry.name == part:
            return entry.gid
    raise _error(f"unable to find group {part}: no matching entries in group file")


def _accounts(passwd: bytes) -> Iterator[_Account]:
    for fields in _lines(passwd, 7):
        uid, gid = _lenient_number(fields[2]), _lenient_number(fields[3])
        if uid is not None and gid is not None:
            yield _Account(name=fields[0], uid=uid, gid=gid, home=fields[5], shell=fields[6])


def _groups(group: bytes) -> Iterator[_Group]:
    for fields in _lines(group, 4):
        gid = _lenient_number(fields[2])
        if gid is not None:
            members = tuple(m.strip() for m in fields[3].split(",") if m.strip())
            yield _Group(name=fields[0], gid=gid, members=members)


def _lines(text: bytes, count: int) -> Iterator[list[str]]:
    """Yield the fields of each line, padded to *count* (an absent shell or member list is empty)."""
    for line in text.decode("utf-8", "surrogateescape").split("\n"):
        stripped = line.strip()
        if not stripped or stripped[0] in "#+-":  # +/- are NIS includes
            continue
        fields = stripped.split(":")
        if len(fields) >= 3 and fields[0]:
            yield (fields + [""] * count)[:count]


def _lenient_number(text: str) -> int | None:
    """Return an id of a file's field; None when it is none (ten digits are enough for MAX_ID)."""
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        return None
    return int(text) if int(text) <= MAX_ID else None


def _number(part: str) -> int | None:
    """Return an id, or None for a name; a number out of range is an error, not a name."""
    if not (part.isascii() and part.removeprefix("-").isdigit()):
        return None
    if _lenient_number(part) is None:
        raise _error(f"uids and gids must be in range 0-{MAX_ID}: {part}")
    return int(part)


def _error(message: str) -> ImageError:
    return ImageError(message, reason="CreateContainerError")
