"""What can be counted is a test: the modules that the supervisor and the command line load."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Loaded now; a few more may be right, but each costs memory in every fork and time at every start. Raise it with a reason.
MODULES = {
    "minipod.supervisor.start": 102, "minipod.supervisor.serving": 142, "minipod.supervisor.__main__": 42, "minipod.cli": 70,
    "minipod.daemon.prober": 158, "minipod.daemon.serve": 629,
}  # fmt: skip
DATACLASSES = "from minipod.late_inspect import import_dataclasses; import_dataclasses(); "
BEFORE = {
    "minipod.supervisor.start": DATACLASSES, "minipod.supervisor.serving": DATACLASSES, "minipod.daemon.prober": DATACLASSES,
    "minipod.daemon.serve": "from minipod.daemon.lean_aiohttp import import_server; import_server(); ",
}  # fmt: skip  # what their __main__ does
NEVER = {
    "minipod.supervisor.serving": (
        "asyncio", "subprocess", "ssl", "http", "yaml", "click", "aiohttp", "pyroute2", "tempfile",
        "inspect", "ast",
    ),
    "minipod.daemon.prober": (
        "ssl", "aiohttp", "pyroute2", "sqlite3", "yaml", "http", "inspect", "ast", "hashlib", "minipod.runtime",
    ),
    "minipod.daemon.serve": (
        "minipod.kubelet.probe.prober", "minipod.image.build", "minipod.image.registry.pull",
        "aiohttp.client", "frozenlist._frozenlist", "backports.zstd",
    ),
    "minipod.cli": ("asyncio", "ssl", "yaml", "aiohttp", "pyroute2", "sqlite3", "http"),
}  # fmt: skip


def loaded(module: str) -> set[str]:
    code = f"import sys; before = set(sys.modules); {BEFORE.get(module, '')}import {module}; print(*(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("module", list(MODULES))
def test_a_small_process_loads_little(module: str) -> None:
    """Excluded: what the interpreter and site load before."""
    found = loaded(module)
    assert not found & set(NEVER.get(module, ()))
    assert len(found) <= MODULES[module], sorted(found)
