"""The daemon's process: forked by the supervisor, whose modules it shares, before that imports what a daemon has no use for."""

from __future__ import annotations

import gc
import signal

from minipod.daemon.lean_aiohttp import import_server
from minipod.late_methods import late_methods
from minipod.spec.instance import Instance

IGNORED = (signal.SIGPIPE, signal.SIGXFSZ)  # as Python does: a write fails instead


def main(instance: Instance, ready_fd: int) -> None:
    """Import and run what has the instance's face, until SIGTERM. *ready_fd* is written to when it is ready, if it is not -1."""
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    gc.disable()  # what is imported stays: nothing of it is to be collected
    import_server()
    with late_methods():
        if instance.face == "cri":
            from minipod.daemon.cri import main as run
        else:
            from minipod.daemon.serve import main as run
    gc.freeze()
    gc.enable()
    run(instance, ready_fd)
