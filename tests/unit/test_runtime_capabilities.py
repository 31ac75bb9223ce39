"""What of add and drop remains to a process."""

from __future__ import annotations

import pytest

from minipod.linux.credentials import DEFAULT, NAMES
from minipod.runtime.bundle import capabilities
from minipod.spec.container import Security


@pytest.mark.parametrize(
    ("add", "drop", "kept"),
    [
        pytest.param((), (), set(DEFAULT), id="the default"),
        pytest.param(("SYS_TIME",), ("CHOWN",), {*DEFAULT, "SYS_TIME"} - {"CHOWN"}, id="one of each"),
        pytest.param(("ALL",), (), set(NAMES), id="add all"),
        pytest.param(("ALL",), ("CHOWN",), {*NAMES} - {"CHOWN"}, id="all but one"),
        pytest.param(("cap_chown",), ("all",), {"CHOWN"}, id="only one"),
        pytest.param(("ALL",), ("ALL",), set(), id="drop all wins"),
        pytest.param(("ALL", "CHOWN"), ("ALL",), {"CHOWN"}, id="over all but what is named"),
    ],
)  # fmt: skip
def test_all_stands_for_what_the_others_are_added_to_or_dropped_from(add, drop, kept) -> None:
    found = capabilities(Security(add_capabilities=add, drop_capabilities=drop))
    assert set(found) == kept
