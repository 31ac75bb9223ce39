"""Whether the code on the disk is newer than the processes that run it.

The daemon is a fork of the supervisor: what that has imported stays as it was, what is imported later comes from the disk. So a daemon
that starts again after the code has changed is made of both. Nothing forbids that; who asks for the node's status is told.
"""

from __future__ import annotations

import os

import minipod
from minipod.spec.instance import Instance

CODE = os.path.dirname(minipod.__file__)


def changed(instance: Instance, code: str = CODE) -> str:
    """Return a file below *code* that was written after the supervisor of *instance* started, "" for none.

    Both times are the file system's: of that file, and of the record that a supervisor writes first.
    """
    try:
        started = os.stat(f"{instance.run_dir}/supervisor.json").st_mtime_ns
    except OSError:  # it does not run
        return ""
    for directory, _, names in os.walk(code):
        for name in names:
            path = f"{directory}/{name}"
            if name.endswith(".py") and _written(path) > started:
                return path
    return ""


def _written(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except FileNotFoundError:  # it is being replaced: the next question finds it
        return 0


def told(instance: Instance) -> str:
    """Return what there is to say of it, "" for nothing."""
    path = changed(instance)
    return path and (
        f"note: {path} has changed since node {instance.name} started;"
        f" {instance.command} down --keep-pods and up take it, the pods run on"
    )
