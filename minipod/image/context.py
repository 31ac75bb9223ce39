"""COPY and ADD: files of a build's directory, or of another stage, into the root of an image in the making.

Sources and target are resolved inside their own roots (openat2 RESOLVE_IN_ROOT): a symlink in the directory or in
the image leads nowhere else. Rules of the target as Docker has them: with a slash at its end, or with several sources, it
is a directory; of a directory its content is copied.
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from minipod.errors import InvalidSpec
from minipod.linux import files

PATH = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
Ignored = Callable[[str], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributes:
    """What COPY gives to all that it makes; *mode* None keeps the source's."""

    uid: int = 0
    gid: int = 0
    mode: int | None = None


def find(source: int, patterns: Sequence[str], ignored: Ignored) -> list[str]:
    """Return what matches *patterns* below the directory fd *source*. Raises InvalidSpec: nothing does."""
    found = [path for pattern in patterns for path in matches(source, pattern) if not ignored(path)]
    if not found:
        raise InvalidSpec(f"no such file in the build's directory: {' '.join(patterns)}")
    return found


def copy(
    source: int, paths: Sequence[str], root: int, target: str, attributes: Attributes, *, ignored: Ignored
) -> None:  # fmt: skip
    """Copy *paths* below the directory fd *source* to *target* below *root*. Raises InvalidSpec, OSError."""
    into_directory = target.endswith("/") or len(paths) > 1 or _is_directory(root, target)
    for path in paths:
        copier = _Copier(source, root, attributes, ignored)
        if _is_directory(source, path):
            copier.content(path, target)
        elif into_directory:
            copier.one(path, f"{target}/{os.path.basename(path)}")
        else:
            copier.one(path, target)


def matches(root: int, pattern: str) -> list[str]:
    """Return the paths below *root* that fit a pattern with *, ? and [...] in any part; sorted."""
    found = [""]
    for part in pattern.split("/"):
        if part in ("", "."):
            continue
        if part == "..":
            raise InvalidSpec(f"{pattern!r} leads out of the build's directory")
        found = [
            f"{above}/{name}".lstrip("/") for above in found for name in _fitting(root, above, part)
        ]
    return [path or "." for path in found]  # fmt: skip


def _fitting(root: int, above: str, part: str) -> list[str]:
    try:
        with _opened(root, above or ".", os.O_RDONLY | os.O_DIRECTORY) as fd:
            names = os.listdir(fd)
    except (FileNotFoundError, NotADirectoryError):
        return []
    if not re.search(r"[*?\[]", part):
        return [part] if part in names else []
    return sorted(name for name in names if fnmatch.fnmatchcase(name, part))


def read_ignore(text: str) -> Ignored:
    """Return whether .dockerignore leaves a path out: the last line that fits counts, ! takes back."""
    rules: list[tuple[bool, re.Pattern[str]]] = []
    for raw in text.splitlines():
        line = raw.strip()
        if line and not line.startswith("#"):
            keeps = line.startswith("!")
            parts = [p for p in line.lstrip("!").strip().split("/") if p not in ("", ".")]
            rules.append(
                (keeps, re.compile("/".join(map(_part, parts)).replace("(?:.*/)?/", "(?:.*/)?")))
            )

    def ignored(path: str) -> bool:
        answer = False
        parts = path.split("/")
        prefixes = ["/".join(parts[:n]) for n in range(1, len(parts) + 1)]
        for keeps, pattern in rules:
            if any(pattern.fullmatch(prefix) for prefix in prefixes):
                answer = not keeps
        return answer

    return ignored


def _part(part: str) -> str:
    if part == "**":
        return "(?:.*/)?"
    return "".join("[^/]*" if c == "*" else "[^/]" if c == "?" else re.escape(c) for c in part)


@contextlib.contextmanager
def _opened(root: int, path: str, flags: int) -> Iterator[int]:
    fd = files.open_in_root(root, path, flags)
    try:
        yield fd
    finally:
        os.close(fd)


def _is_directory(root: int, path: str) -> bool:
    try:
        with _opened(root, path or ".", PATH):
            return True
    except (FileNotFoundError, NotADirectoryError):
        return False


class _Copier:
    """Copies between two roots with the same attributes for all."""

    def __init__(self, source: int, root: int, attributes: Attributes, ignored: Ignored) -> None:
        self._source = source
        self._root = root
        self._attributes = attributes
        self._ignored = ignored

    def content(self, path: str, target: str) -> None:
        """Copy what is in the directory *path* into the directory *target*."""
        os.close(files.open_or_make_directory(self._root, target or "/", 0o755))
        with _opened(self._source, path, os.O_RDONLY | os.O_DIRECTORY) as fd:
            for name in sorted(os.listdir(fd)):
                inner = f"{path}/{name}".removeprefix("./")
                self.one(inner, f"{target}/{name}")

    def one(self, path: str, target: str) -> None:
        """Copy the file, symlink or directory *path* to *target*, replacing a file there."""
        above, name = os.path.split(target.rstrip("/"))
        if self._ignored(path):
            return
        parent = files.open_or_make_directory(self._root, above or "/", 0o755)
        try:
            with _opened(self._source, os.path.dirname(path) or ".", PATH) as directory:
                found = os.stat(os.path.basename(path), dir_fd=directory, follow_symlinks=False)
                if stat.S_ISDIR(found.st_mode):
                    self._directory(path, target, parent, name, found)
                else:
                    self._file(directory, os.path.basename(path), parent, name, found)
        finally:
            os.close(parent)

    def _directory(
        self, path: str, target: str, parent: int, name: str, found: os.stat_result
    ) -> None:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, dir_fd=parent)
            self._own(parent, name, found)
        self.content(path, target)

    def _file(
        self, directory: int, last: str, parent: int, name: str, found: os.stat_result
    ) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=parent)
        if stat.S_ISLNK(found.st_mode):
            os.symlink(os.readlink(last, dir_fd=directory), name, dir_fd=parent)
        elif stat.S_ISREG(found.st_mode):
            read = os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
            write = os.open(
                name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=parent
            )
            try:
                while os.sendfile(write, read, None, 1 << 30):
                    pass
            finally:
                os.close(read)
                os.close(write)
        else:
            raise InvalidSpec(f"{last} is neither a file nor a directory nor a symlink")
        self._own(parent, name, found)

    def _own(self, parent: int, name: str, found: os.stat_result) -> None:
        attributes = self._attributes
        os.chown(name, attributes.uid, attributes.gid, dir_fd=parent, follow_symlinks=False)
        if not stat.S_ISLNK(found.st_mode):
            mode = stat.S_IMODE(found.st_mode) if attributes.mode is None else attributes.mode
            os.chmod(name, mode, dir_fd=parent)
