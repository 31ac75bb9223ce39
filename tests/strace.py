"""strace on a process of a node and on what it forks, which both run on untraced afterwards: to count its calls, or to slow them down."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

needs_strace = pytest.mark.skipif(
    shutil.which("strace") is None, reason="no strace here (scripts/setup --dev)"
)


def traced(pid: int, path: str) -> AbstractContextManager[None]:
    """Write every system call of *pid* and of what it forks to *path*."""
    return _strace(pid, "-s", "8", "-o", path)


def slowed(pid: int, call: str, seconds: float) -> AbstractContextManager[None]:
    """Let *pid*, and what it forks, wait before each *call*."""
    delay = f"inject={call}:delay_enter={seconds * 1e6:.0f}"
    return _strace(pid, "-o", os.devnull, "-e", f"trace={call}", "-e", delay)


@contextmanager
def _strace(pid: int, *words: str) -> Iterator[None]:
    strace = subprocess.Popen(
        ["strace", "-f", *words, "-p", str(pid)], stderr=subprocess.PIPE, text=True
    )
    try:
        assert strace.stderr is not None
        assert "attached" in strace.stderr.readline()
        yield
    finally:
        strace.send_signal(signal.SIGINT)  # detach: what it looked at runs on
        strace.communicate()
