"""Which images may go, as tables (pkg/kubelet/images/image_gc_manager.go)."""

from __future__ import annotations

import pytest

from minipod.image.gc import Policy, Record, candidates, outdated

DAY = 86400.0
RECORDS = {
    "new": Record(first_seen=10 * DAY),
    "old": Record(first_seen=0.0),
    "used long ago": Record(first_seen=0.0, last_used=2 * DAY),
    "used lately": Record(first_seen=0.0, last_used=9.9 * DAY),
}


@pytest.mark.parametrize(
    ("max_age", "used", "gone"),
    [
        pytest.param(0.0, set(), [], id="no maximum"),
        pytest.param(DAY, set(), ["old", "used long ago"], id="unused for a day"),
        pytest.param(DAY, {"old"}, ["used long ago"], id="in use now"),
        pytest.param(20 * DAY, set(), [], id="none is that old"),
    ],
)
def test_images_go_for_their_age(max_age: float, used: set[str], gone: list[str]) -> None:
    assert outdated(RECORDS, used, Policy(max_age=max_age), 10 * DAY) == gone


def test_the_longest_unused_goes_first_and_a_young_one_not_at_all() -> None:
    found = candidates(RECORDS, set(), Policy(min_age=120.0), 10 * DAY + 60)
    assert found == ["old", "used long ago", "used lately"]
