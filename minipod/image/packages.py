"""Files of Debian packages, from where they can be had without trusting anything but Debian:

1. the package is installed here: its files, if all have the checksums that dpkg recorded;
2. its archive is in apt's cache, with the checksum that the (signed) index says;
3. `apt-get download`, which verifies by itself.

Nothing of a package is run or configured: only files go into an image.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from minipod.errors import ImageError
from minipod.image.layer import Member
from minipod.image.tar import TarReader

CACHE = "/var/cache/apt/archives"
# Slim installations leave these out by dpkg's path-exclude; an image does not need them either.
OPTIONAL = ("/usr/share/doc/", "/usr/share/man/", "/usr/share/locale/", "/usr/share/info/")

Keep = Callable[[str], bool]  # whether the file of this absolute path is wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """What a package brings into an image."""

    name: str
    version: str
    members: tuple[Member, ...]


def fetch(name: str, keep: Keep) -> Package:
    """Return the wanted files of the package. Raises ImageError."""
    return _installed(name, keep) or _cached(name, keep) or _downloaded(name, keep)


def installed_version(name: str) -> str:
    """Return the version that is installed here, "" when none is."""
    done = _run("dpkg-query", "-W", "-f", "${db:Status-Abbrev}${Version}", name)
    return done[3:] if done.startswith("ii ") else ""


# -- installed


def _installed(name: str, keep: Keep) -> Package | None:
    version = installed_version(name)
    if not version:
        return None
    paths = [p for p in _run("dpkg-query", "-L", name).splitlines() if p != "/."]
    sums = _checksums(name)
    directories = {os.path.dirname(p) for p in paths}  # on a merged /usr, /bin is a link: not ours
    members = []
    for path in paths:
        if path in directories or not keep(path):
            continue
        member = _from_disk(path, sums)
        if member is not None:
            members.append(member)
        elif not path.startswith(OPTIONAL):
            return None
    return Package(name=name, version=version, members=tuple(members))


def _checksums(name: str) -> dict[str, str]:
    control = _run("dpkg-query", "--control-path", name, "md5sums").strip()
    if not control:
        return {}
    with open(control, encoding="utf-8") as file:
        lines = (line.rstrip("\n").partition("  ") for line in file)
        return {f"/{path}": md5 for md5, _, path in lines}


def _from_disk(path: str, sums: dict[str, str]) -> Member | None:
    """Return the file as it is, None when it is not what the package brought."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return None
    known = Member(path=path, mode=stat.S_IMODE(found.st_mode), uid=found.st_uid, gid=found.st_gid)
    if stat.S_ISLNK(found.st_mode):
        return replace(known, type="2", target=os.readlink(path))
    if stat.S_ISDIR(found.st_mode):
        return replace(known, type="5")
    with open(path, "rb") as file:
        content = file.read()
    if hashlib.md5(content, usedforsecurity=False).hexdigest() != sums.get(path):
        return None  # changed on this machine, or a configuration file
    return replace(known, content=content)


# -- archives


def _cached(name: str, keep: Keep) -> Package | None:
    known = {
        line.split()[1]
        for line in _run("apt-cache", "show", name).splitlines()
        if line.startswith("SHA256: ")
    }
    names = os.listdir(CACHE) if known and os.path.isdir(CACHE) else []
    for archive in sorted(names):
        if not (archive.startswith(f"{name}_") and archive.endswith(".deb")):
            continue
        with open(f"{CACHE}/{archive}", "rb") as file:
            content = file.read()
        if hashlib.sha256(content).hexdigest() in known:
            return _from_archive(name, f"{CACHE}/{archive}", keep)
    return None


def _downloaded(name: str, keep: Keep) -> Package:
    with tempfile.TemporaryDirectory(prefix="minipod-build-") as here:
        done = subprocess.run(
            ["apt-get", "download", "-qq", name],
            cwd=here, capture_output=True, text=True, check=False,
        )  # fmt: skip
        archives = [n for n in os.listdir(here) if n.endswith(".deb")]
        if not archives:
            raise ImageError(
                f"package {name}: {done.stderr.strip() or 'download failed'}",
                reason="ErrImageBuild",
                hint="apt-get update, then try again",
            )
        return _from_archive(name, f"{here}/{archives[0]}", keep)


def _from_archive(name: str, archive: str, keep: Keep) -> Package:
    listing = subprocess.run(
        ["dpkg-deb", "--fsys-tarfile", archive], capture_output=True, check=True
    )
    members = tuple(read_archive(listing.stdout, keep))
    version = _run("dpkg-deb", "-f", archive, "Version").strip()
    return Package(name=name, version=version, members=members)


def read_archive(archive: bytes, keep: Keep) -> Iterator[Member]:
    """Yield the wanted members of a package's tar archive; a hard link becomes a copy."""
    contents: dict[str, Member] = {}
    reader = TarReader(io.BytesIO(archive))
    for entry in reader:
        path = os.path.normpath("/" + entry.name)
        member = Member(path=path, mode=entry.mode, uid=entry.uid, gid=entry.gid)
        if entry.type == "5":
            continue  # pack() adds the directories that the wanted files need
        if entry.type == "0":
            member = replace(member, content=b"".join(reader.chunks()))
        elif entry.type == "1":
            target = os.path.normpath("/" + entry.linkname)
            member = replace(member, content=contents[target].content)
        elif entry.type == "2":
            member = replace(member, type="2", target=entry.linkname)
        else:
            raise ImageError(f"{path} is a device", reason="ErrImageBuild")
        contents[path] = member
        if keep(path):
            yield member


def _run(*command: str) -> str:
    """Return what a query prints; "" when it fails: the caller then has another source."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout
    except FileNotFoundError as e:
        raise ImageError(
            f"{command[0]} is not here", reason="ErrImageBuild", hint="recipes need a Debian system"
        ) from e
