"""What can be counted is a test: the modules that the supervisor and the command line load."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Loaded now; a few more may be right, but each costs memory in every fork and time at every start. Raise it with a reason.
MODULES = {
    "minipod.supervisor.start": 103, "minipod.supervisor.serving": 144, "minipod.supervisor.__main__": 42, "minipod.cli": 50,
    "minipod.cli.run": 84, "minipod.daemon.prober": 158, "minipod.daemon.serve": 631,
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
    "minipod.cli.run": ("asyncio", "ssl", "yaml", "http", "ast", "socket", "minipod.spec.instance"),
}  # fmt: skip

# A verb -> the modules that its command has loaded when it looks for its node.
VERBS = {
    "get pods": 62,
    "exec x -- true": 73,
    "logs x": 62,
    "wait pod x --for=delete": 63,
    "delete pod x": 63,
}
NOT_FOR_VERBS = (
    "ast", "socket", "urllib.parse", "hashlib", "uuid", "datetime", "gettext", "yaml", "minipod.cli.jsonpath",
)  # fmt: skip


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


@pytest.mark.parametrize("verb", list(VERBS))
def test_a_command_loads_little_before_it_asks_its_node(verb: str) -> None:
    """Excluded: what comes with an answer, a terminal or a manifest."""
    words = ["minipod", "--instance", "nosuch", *verb.split()]
    code = "import sys; before = set(sys.modules); from minipod import cli; cli.main(); print(*(set(sys.modules) - before))"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.argv = {words}; {code}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = set(done.stdout.split())
    assert "node nosuch is not running" in done.stderr
    assert not found & set(NOT_FOR_VERBS)
    assert len(found) <= VERBS[verb], sorted(found)
