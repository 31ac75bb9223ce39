"""The order in which a process gives its rights up. Excluded: that the kernel takes them (tests/root)."""

from __future__ import annotations

import os

import pytest

from minipod.init import identity


@pytest.mark.parametrize("uid", [0, 1000])
def test_nobody_may_trace_it_before_it_is_an_equal(
    monkeypatch: pytest.MonkeyPatch, uid: int
) -> None:
    """CVE-2016-9962: with the rights of the container's processes and still dumpable, they could read its memory."""
    calls: list[str] = []

    def note(name: str) -> object:
        return lambda *_, **__: calls.append(name)

    for target, names in (
        (identity.prctl, ("set_keepcaps", "clear_ambient", "set_no_new_privs", "set_dumpable")),
        (identity.credentials, ("limit_bounding_set", "set_capabilities")),
        (os, ("setgroups", "setresgid", "setresuid")),
    ):
        for name in names:
            monkeypatch.setattr(target, name, note(name))
    operation = identity.SetIdentity(
        uid=uid, gid=uid, groups=(), capabilities=("CHOWN",), no_new_privs=True
    )
    operation.apply(None)  # type: ignore[arg-type]  # it uses no context
    assert calls.index("setresuid") < calls.index("set_dumpable") < calls.index("set_capabilities")
