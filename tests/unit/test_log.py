"""A record is one line. Excluded: where the lines go, and their rotation."""

from __future__ import annotations

import io
import logging
from typing import TYPE_CHECKING

from minipod import log

if TYPE_CHECKING:
    import pytest


def test_what_a_message_quotes_makes_no_line_and_no_escape(monkeypatch: pytest.MonkeyPatch) -> None:
    root, written = logging.getLogger(), io.StringIO()
    handlers, level = root.handlers[:], root.level
    monkeypatch.setattr("sys.stderr", written)
    try:
        log.setup(process="daemon")
        with log.subject(pod="default/web"):
            logging.getLogger("test").warning("image %s", "a\n2026-01-01 W daemon forged\x1b[2J")
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    (line,) = written.getvalue().splitlines()
    assert line.endswith("[pod=default/web] image a\\n2026-01-01 W daemon forged\\x1b[2J")
