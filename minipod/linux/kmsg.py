"""The kernel's log, /dev/kmsg (Documentation/ABI/testing/dev-kmsg): one record for each read."""

from __future__ import annotations

import errno
import os

_RECORD_MAX = 8192  # bytes; the kernel's own limit is below that


def open_at_end() -> int:
    """Return a non-blocking descriptor after the newest record. Raises OSError (EPERM without CAP_SYSLOG)."""
    fd = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.lseek(fd, 0, os.SEEK_END)
    except OSError:
        os.close(fd)
        raise
    return fd


def read_messages(fd: int) -> list[str]:
    """Return the text of every record that is there now; what was overwritten meanwhile is skipped."""
    found: list[str] = []
    while True:
        try:
            record = os.read(fd, _RECORD_MAX)
        except BlockingIOError:
            return found
        except OSError as e:
            if e.errno == errno.EPIPE:  # overwritten before we read it: go on with the oldest
                continue
            raise
        # "6,339,5140900,-;text\n KEY=value\n": prefix, text, dictionary
        text = record.partition(b";")[2].partition(b"\n")[0]
        found.append(text.decode("utf-8", "replace"))
