"""JSONPath on the command line: what it prints of an object, and what it says of a path that it can't read."""

from __future__ import annotations

from typing import Any

import pytest

from minipod.cli import jsonpath
from minipod.errors import FailedPrecondition

POD: dict[str, Any] = {
    "metadata": {"name": "web", "labels": {"app.kubernetes.io/name": "shop"}},
    "spec": {"containers": [{"name": "a", "ports": [{"containerPort": 80}]}, {"name": "b-c"}]},
    "status": {"podIP": "10.88.0.2", "ready": True},
}


@pytest.mark.parametrize(
    ("template", "printed"),
    [
        ("{.status.podIP}", "10.88.0.2"),
        (".status.podIP", "10.88.0.2"),
        ("status.podIP", "10.88.0.2"),
        ("{$.status.ready}", "true"),
        ("{.spec.containers[0].name}", "a"),
        ("{.spec.containers[-1].name}", "b-c"),
        ("{.spec.containers[*].name}", "a b-c"),
        ("{.spec.containers[*].ports[*].containerPort}", "80"),
        ("{.spec.containers[0].ports}", '[{"containerPort": 80}]'),
        ("{.metadata.labels.*}", "shop"),
        ("{.metadata.labels.app\\.kubernetes\\.io/name}", "shop"),
        ("{.metadata.labels['app.kubernetes.io/name']}", "shop"),
        ('{.metadata.name}{"\\n"}{.status.podIP}', "web\n10.88.0.2"),
        ("{.metadata.name} at {.status.podIP}", "web at 10.88.0.2"),
        ("{.nothing.here}", ""),
        ("{.spec.containers[7].name}", ""),
        ("{.metadata.name[0]}", ""),
    ],
)
def test_what_a_template_prints(template: str, printed: str) -> None:
    assert jsonpath.parse(template)(POD) == printed


@pytest.mark.parametrize(
    ("template", "rest"),
    [
        ("{.status", "{.status"),
        ("status}", "}"),
        ('{.items[?(@.name=="x")]}', '[?(@.name=="x")]'),
        ("{.items[0:2]}", "[0:2]"),
        ("{.items[}", "["),
        ("{range .items[*]}", " .items[*]"),
        ("{..name}", "..name"),
    ],
)
def test_what_can_not_be_read_is_said(template: str, rest: str) -> None:
    """Excluded: an empty answer, which looks like a field that is not set."""
    with pytest.raises(FailedPrecondition) as caught:
        jsonpath.parse(template)
    assert f"can't read {rest!r}" in caught.value.message
    assert "kubectl" in caught.value.hint
