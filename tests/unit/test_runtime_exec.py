"""An exec whose waiter goes away. Excluded: what the supervisor does with it (tests/root)."""

from __future__ import annotations

import asyncio
import os
from types import SimpleNamespace
from typing import Any

import pytest

from minipod import errors
from minipod.runtime import exec as execs
from minipod.runtime.service import ContainerState

CONTAINER: Any = SimpleNamespace(
    state=ContainerState.RUNNING, record=SimpleNamespace(id="c", spec=SimpleNamespace(name="app"))
)


class Supervisor:
    """Starts whatever it is asked to, and notes what it hears; *lost*: it can't be asked to kill."""

    def __init__(self, *, lost: bool) -> None:
        self.heard: list[tuple[str, Any]] = []
        self.asked = asyncio.Event()
        self._lost = lost

    async def ask(self, op: str, **_: Any) -> asyncio.Future[Any]:
        self.heard.append((op, None))
        self.asked.set()
        return asyncio.get_running_loop().create_future()

    async def request(self, op: str, **fields: Any) -> tuple[dict[str, Any], list[int]]:
        self.heard.append((op, fields["signal"]))
        if self._lost:
            raise errors.Unavailable("the supervisor went away")
        return {}, []


@pytest.mark.parametrize("lost", [False, True])
async def test_a_command_that_nobody_waits_for_any_more_is_killed_and_forgotten(
    tmp_path, monkeypatch: pytest.MonkeyPatch, lost: bool
) -> None:
    """A hook of a pod that must end at once: its task is cancelled."""
    process = SimpleNamespace(uid=0, gid=0)
    monkeypatch.setattr(
        execs, "_bundle_of", lambda _: SimpleNamespace(process=process, userns=None)
    )
    supervisor: Any = Supervisor(lost=lost)
    running = execs.Execs(supervisor, str(tmp_path))
    hook = asyncio.create_task(running.sync(CONTAINER, ("sleep", "1000"), 0, 100))
    await asyncio.wait_for(supervisor.asked.wait(), 10)
    await asyncio.sleep(0)
    hook.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hook
    assert supervisor.heard == [("exec", None), ("signal_exec", 9)]
    assert not running._running


async def test_a_session_that_nobody_waits_for_any_more_is_forgotten(tmp_path) -> None:
    """Its client left long ago, and it was killed. Our copy of its terminal is closed."""
    running = execs.Execs(Supervisor(lost=False), str(tmp_path))  # type: ignore[arg-type]
    ended: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    session = running._running["s"] = execs.Running(ended, os.open(os.devnull, os.O_RDONLY))
    waiter = asyncio.create_task(running.wait("s"))
    await asyncio.sleep(0)
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert ended.cancelled()
    assert not running._running
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(session.master)
