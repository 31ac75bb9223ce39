"""Logging: one line per record with the pod and container it is about.

The subject travels in a contextvar (`pod=default/web container=app`), so that code below the
kubelet need not know whom it works for. Decisions go to `minipod.journal`, not here. What a message quotes (paths, image names) may
come from anybody: line ends and control characters in it are escaped.
"""

from __future__ import annotations

import contextvars
import logging
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_subject: contextvars.ContextVar[str] = contextvars.ContextVar("minipod_subject", default="")


@contextmanager
def subject(**names: str) -> Iterator[None]:
    """Add `key=value` words to every record logged inside."""
    words = " ".join(f"{key}={value}" for key, value in names.items())
    token = _subject.set(f"{_subject.get()} {words}".strip())
    try:
        yield
    finally:
        _subject.reset(token)


class _Subject(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        words = _subject.get()
        record.subject = f" [{words}]" if words else ""
        return True


class _OneLine(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 logging's name
        line = super().formatMessage(record)
        if line.isprintable():
            return line
        return "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)


def setup(*, verbose: bool = False, process: str = "daemon") -> None:
    """Log to stderr; DEBUG shows one line per operation."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_Subject())
    handler.setFormatter(
        _OneLine(
            f"%(asctime)s.%(msecs)03d %(levelname).1s {process} %(name)s:%(subject)s %(message)s",
            datefmt="%Y-%m-%dT%H:%M:%S",
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if verbose else logging.INFO)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
