"""The environment of a supervisor that runs from its read-only interpreter, and that everything it starts gets."""

from __future__ import annotations

import pytest

from minipod.supervisor import sealing


@pytest.mark.parametrize(
    "own", ["", "glibc.malloc.check=1", "glibc.malloc.check=1:glibc.malloc.perturb=3"]
)
def test_what_sealing_adds_to_an_environment_goes_again(
    own: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {"PATH": "/bin"} | ({sealing.TUNABLES: own} if own else {})
    sealed = sealing.environment(before)
    assert sealed[sealing.TUNABLES].split(":")[-1] == sealing.NO_RSEQ
    environ = dict(sealed)
    monkeypatch.setattr(sealing.os, "environ", environ)
    assert sealing.is_sealed()
    assert environ == before
    assert not sealing.is_sealed()
