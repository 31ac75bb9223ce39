"""The vocabulary of `images/<name>/recipe.toml`. Reading only; minipod.image.build does what it says.

tags         references; the image's names        packages     Debian packages whose files go in
keep         only files that match one of these patterns ("/usr/share/doc/*/copyright")
debootstrap  a Debian suite: the image is that system, and is only built when it is asked for by name
tarball      of that suite's packages, made by `debootstrap --make-tarball=FILE`; default: they are fetched
busybox      path of a busybox: its applets become links in /bin
directories  "/path" or "/path:mode"
[files]      path = "text", or path = { text = "...", mode = "755" }, or { from = "file", mode = ... }
[symlinks]   path = "target"
entrypoint, cmd, env, user, working_dir, exposed, stop_signal      as in an image's config
"""

from __future__ import annotations

import fnmatch
import hashlib
import os
import tomllib
from dataclasses import dataclass
from typing import Any

from minipod.errors import InvalidSpec
from minipod.image import reference
from minipod.image.layer import Member

BUILDER = "2"  # to be raised when the same recipe gives other images
STRINGS = ("tags", "packages", "keep", "directories", "entrypoint", "cmd", "env", "exposed")
STRING = ("busybox", "debootstrap", "tarball", "user", "working_dir", "stop_signal")
TABLES = ("files", "symlinks")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A recipe, read and checked; *digest* changes with its text and with the files it names."""

    tags: tuple[str, ...]
    packages: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    busybox: str = ""
    debootstrap: str = ""
    tarball: str = ""  # its path
    members: tuple[Member, ...] = ()  # directories, files and symlinks
    execution: dict[str, Any]  # the "config" of an image config
    digest: str

    def keeps(self, path: str) -> bool:
        """Tell whether a package's file goes in."""
        return not self.keep or any(fnmatch.fnmatchcase(path, pattern) for pattern in self.keep)


def read(directory: str) -> Recipe:
    """Read `<directory>/recipe.toml`. Raises InvalidSpec naming file and key."""
    path = f"{directory}/recipe.toml"
    try:
        with open(path, "rb") as file:
            text = file.read()
        raw = tomllib.loads(text.decode())
    except FileNotFoundError as e:
        raise InvalidSpec("no recipe.toml", path=directory) from e
    except ValueError as e:  # broken TOML, or not UTF-8
        raise InvalidSpec(str(e), path=path) from e
    _check(raw, path)
    members = (*_directories(raw), *_files(raw, directory), *_symlinks(raw))
    fingerprint = hashlib.sha256(f"{BUILDER}\n".encode() + text)
    for member in members:
        fingerprint.update(member.content)
    tarball = os.path.join(directory, raw["tarball"]) if raw.get("tarball") else ""
    if tarball:
        fingerprint.update(_digest(tarball))
    return Recipe(
        tags=tuple(reference.parse(tag).canonical() for tag in raw["tags"]),
        packages=tuple(raw.get("packages", ())),
        keep=tuple(raw.get("keep", ())),
        busybox=raw.get("busybox", ""),
        debootstrap=raw.get("debootstrap", ""),
        tarball=tarball,
        members=members,
        execution=_execution(raw),
        digest=fingerprint.hexdigest(),
    )


def _check(raw: dict[str, Any], path: str) -> None:
    known = sorted((*STRINGS, *STRING, *TABLES))
    if unknown := sorted(raw.keys() - set(known)):
        raise InvalidSpec(f"unknown keys {unknown}", path=path, hint=f"known: {', '.join(known)}")
    for key, value in raw.items():
        if key in STRINGS and not _is_strings(value):
            raise InvalidSpec(f"{key}: expected a list of strings", path=path)
        if key in STRING and not isinstance(value, str):
            raise InvalidSpec(f"{key}: expected a string", path=path)
        if key in TABLES and not isinstance(value, dict):
            raise InvalidSpec(f"{key}: expected a table", path=path)
    if not raw.get("tags"):
        raise InvalidSpec("an image needs a name: tags = [...]", path=path)


def _is_strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _directories(raw: dict[str, Any]) -> list[Member]:
    pairs = (spec.partition(":") for spec in raw.get("directories", ()))
    return [Member(path=path, type="5", mode=_mode(mode or "755")) for path, _, mode in pairs]


def _symlinks(raw: dict[str, Any]) -> list[Member]:
    pairs = raw.get("symlinks", {}).items()
    return [Member(path=path, type="2", mode=0o777, target=target) for path, target in pairs]


def _files(raw: dict[str, Any], directory: str) -> list[Member]:
    return [_file(path, value, directory) for path, value in raw.get("files", {}).items()]


def _file(path: str, value: Any, directory: str) -> Member:
    if isinstance(value, str):
        value = {"text": value}
    if not isinstance(value, dict) or ("text" in value) == ("from" in value):
        raise InvalidSpec("expected a text, or a table with `text` or `from`", path=f"files.{path}")
    if "text" in value:
        content = value["text"].removeprefix("\n").encode()
    else:
        try:
            with open(os.path.join(directory, value["from"]), "rb") as file:
                content = file.read()
        except OSError as e:
            raise InvalidSpec(f"{value['from']}: {e.strerror}", path=f"files.{path}") from e
    return Member(path=path, mode=_mode(value.get("mode", "644")), content=content)


def _digest(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as e:
        raise InvalidSpec(f"{path}: {e.strerror}", path="tarball") from e


def _mode(text: str) -> int:
    try:
        return int(text, 8) & 0o7777
    except ValueError as e:
        raise InvalidSpec(f"{text!r} is not an octal mode", path="mode") from e


def _execution(raw: dict[str, Any]) -> dict[str, Any]:
    execution: dict[str, Any] = {
        "Env": raw.get("env"),
        "Entrypoint": raw.get("entrypoint"),
        "Cmd": raw.get("cmd"),
        "User": raw.get("user"),
        "WorkingDir": raw.get("working_dir"),
        "StopSignal": raw.get("stop_signal"),
        "ExposedPorts": {port: {} for port in raw.get("exposed", ())},
    }
    return {key: value for key, value in execution.items() if value}
