"""Small files read and written whole, by the system calls that it takes: open(2), read(2) or write(2), close(2).

`open()` makes six more of them for each file (fstat, ioctl, lseek), and three objects; a pod has a dozen files between its creation and
its execve. Raises OSError, with the path.
"""

from __future__ import annotations

import os
from typing import Final

READ_MAX: Final = 1 << 16  # bytes at once

_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


def read(path: str) -> bytes:
    """Return what is in the file."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        content = part = os.read(fd, READ_MAX)
        while len(part) == READ_MAX:
            part = os.read(fd, READ_MAX)
            content += part
    finally:
        os.close(fd)
    return content


def create(path: str, content: bytes, mode: int = 0o666, uid: int = -1, gid: int = -1) -> None:
    """Write a new file; *mode* is masked (umask(2)). Raises FileExistsError."""
    fd = os.open(path, _NEW, mode)
    try:
        write_all(fd, content)
        if uid >= 0 or gid >= 0:
            os.fchown(fd, uid, gid)
    finally:
        os.close(fd)


def append(path: str, content: bytes) -> None:
    """Add to a file's end; one that is missing is made."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
    try:
        write_all(fd, content)
    finally:
        os.close(fd)


def replace(path: str, content: bytes) -> None:
    """Replace a file, or make it, mode 0600: a reader sees all of the old or all of the new."""
    temporary = f"{path}.{os.getpid()}"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        try:
            write_all(fd, content)
        finally:
            os.close(fd)
        os.rename(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise


def write_all(fd: int, content: bytes) -> None:
    """Write all of *content*: a file system that fills up takes a part first."""
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]
