"""Patches: strategic merge with all its directives, JSON merge, JSON patch; each a row of what was, the patch, what comes of it."""

from __future__ import annotations

import json
import time

import pytest

from minipod.apiserver import patch
from minipod.apiserver.status import ApiError


def apply(current: dict, wanted: object, media: str = patch.STRATEGIC) -> dict:
    parsed = patch.parse(json.dumps(wanted).encode(), media).value
    return patch.apply(current, parsed, media, "core.v1.Pod")


def containers(*names: str) -> dict:
    return {"spec": {"containers": [{"name": n, "image": "1"} for n in names]}}


def names(pod: dict) -> list[str]:
    return [c["name"] for c in pod["spec"]["containers"]]


STRATEGIC = [
    (
        "null removes",
        {"metadata": {"labels": {"a": "1", "b": "2"}}},
        {"metadata": {"labels": {"a": None}}},
        {"metadata": {"labels": {"b": "2"}}},
    ),
    (
        "a list merges by its key",
        containers("a", "b"),
        {"spec": {"containers": [{"name": "b", "image": "2"}]}},
        {"spec": {"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "2"}]}},
    ),
    (
        "an item is deleted by its key",
        containers("a", "b"),
        {"spec": {"containers": [{"name": "a", "$patch": "delete"}]}},
        containers("b"),
    ),
    (
        "a list is replaced",
        containers("a", "b"),
        {"spec": {"containers": [{"$patch": "replace"}, {"name": "c", "image": "1"}]}},
        containers("c"),
    ),
    (
        "an object is replaced",
        {"metadata": {"labels": {"a": "1"}}},
        {"metadata": {"labels": {"$patch": "replace", "b": "2"}}},
        {"metadata": {"labels": {"b": "2"}}},
    ),
    (
        "an object is deleted",
        {"metadata": {"labels": {"a": "1"}}},
        {"metadata": {"labels": {"$patch": "delete"}}},
        {"metadata": {"labels": {}}},
    ),
    (
        "a list without a key is replaced",
        {"spec": {"tolerations": [{"key": "a"}]}},
        {"spec": {"tolerations": [{"key": "b"}]}},
        {"spec": {"tolerations": [{"key": "b"}]}},
    ),
    (
        "scalars are a set",
        {"metadata": {"finalizers": ["a"]}},
        {"metadata": {"finalizers": ["b", "a"]}},
        {"metadata": {"finalizers": ["a", "b"]}},
    ),
    (
        "scalars are deleted",
        {"metadata": {"finalizers": ["a", "b"]}},
        {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}},
        {"metadata": {"finalizers": ["b"]}},
    ),
    (
        "only the retained keys stay",
        {"spec": {"volumes": [{"name": "v", "emptyDir": {}}]}},
        {
            "spec": {
                "volumes": [
                    {"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/x"}}
                ]
            }
        },
        {"spec": {"volumes": [{"name": "v", "hostPath": {"path": "/x"}}]}},
    ),
    (
        "nulls do not enter a new object",
        {},
        {"metadata": {"labels": {"a": None, "b": "1"}}},
        {"metadata": {"labels": {"b": "1"}}},
    ),
]


@pytest.mark.parametrize(
    ("current", "wanted", "result"), [r[1:] for r in STRATEGIC], ids=[r[0] for r in STRATEGIC]
)
def test_a_strategic_merge_follows_the_type(current: dict, wanted: dict, result: dict) -> None:
    assert apply(current, wanted) == result


ORDERS = [
    ("the client's order wins", "abc", "cba", "", "cba"),
    ("an item that the client does not know keeps its place", "axb", "ba", "", "xba"),
    ("a new item goes where the client has it", "ab", "acb", "c", "acb"),
    ("a server's item before a known one stays before it", "xab", "ab", "", "xab"),
]


@pytest.mark.parametrize(
    ("before", "order", "new", "after"), [r[1:] for r in ORDERS], ids=[r[0] for r in ORDERS]
)
def test_the_order_of_a_merged_list(before: str, order: str, new: str, after: str) -> None:
    spec: dict = {"$setElementOrder/containers": [{"name": n} for n in order]}
    if new:
        spec["containers"] = [{"name": n, "image": "1"} for n in new]
    assert names(apply(containers(*before), {"spec": spec})) == list(after)


def test_the_patched_object_is_another_one() -> None:
    current = containers("a")
    apply(current, {"spec": {"containers": [{"name": "a", "image": "2"}]}})
    assert current == containers("a")


REFUSED = [
    ("an item without its key", {"spec": {"containers": [{"image": "x"}]}}),
    ("an unknown directive", {"spec": {"$patch": "burn"}}),
    (
        "a retained key that the list does not name",
        {"spec": {"$retainKeys": ["volumes"], "hostNetwork": True}},
    ),
    ("an order of a list that does not merge", {"spec": {"$setElementOrder/tolerations": [{}]}}),
]


@pytest.mark.parametrize("wanted", [r[1] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_a_strategic_merge_that_can_not_be_is_a_400(wanted: dict) -> None:
    with pytest.raises(ApiError) as told:
        apply(containers("a"), wanted)
    assert told.value.code == 400


JSON = [
    (
        "add",
        [{"op": "add", "path": "/metadata", "value": {"labels": {}}}],
        {"metadata": {"labels": {}}, "list": [1, 2]},
    ),
    ("append", [{"op": "add", "path": "/list/-", "value": 3}], {"list": [1, 2, 3]}),
    ("insert", [{"op": "add", "path": "/list/0", "value": 0}], {"list": [0, 1, 2]}),
    ("remove", [{"op": "remove", "path": "/list/0"}], {"list": [2]}),
    ("move", [{"op": "move", "from": "/list/0", "path": "/x"}], {"list": [2], "x": 1}),
    ("copy", [{"op": "copy", "from": "/list", "path": "/x"}], {"list": [1, 2], "x": [1, 2]}),
    ("test", [{"op": "test", "path": "/list/1", "value": 2}], {"list": [1, 2]}),
    (
        "an escaped name",
        [{"op": "add", "path": "/a~1b~0c", "value": 1}],
        {"list": [1, 2], "a/b~c": 1},
    ),
]


@pytest.mark.parametrize(("operations", "result"), [r[1:] for r in JSON], ids=[r[0] for r in JSON])
def test_a_json_patch(operations: list, result: dict) -> None:
    assert apply({"list": [1, 2]}, operations, patch.JSON_PATCH) == result


BAD = [
    (422, [{"op": "test", "path": "/list/1", "value": 3}]),
    (422, [{"op": "remove", "path": "/nothing"}]),
    (422, [{"op": "replace", "path": "/list/7", "value": 1}]),
    (422, [{"op": "move", "from": "/list", "path": "/list/0"}]),
    (422, [{"op": "replace", "path": "", "value": 1}]),
    (400, [{"op": "burn", "path": "/list"}]),
    (400, [{"op": "add", "path": "list", "value": 1}]),
    (400, [{"op": "add", "path": "/list"}]),
    (400, {"op": "add"}),
    (413, [{"op": "test", "path": "/list", "value": 1}] * 10_001),
]


@pytest.mark.parametrize(("code", "operations"), BAD, ids=[str(b)[:50] for b in BAD])
def test_a_json_patch_that_can_not_be(code: int, operations: object) -> None:
    with pytest.raises(ApiError) as told:
        apply({"list": [1, 2]}, operations, patch.JSON_PATCH)
    assert told.value.code == code


def test_a_merge_patch_replaces_lists_and_makes_objects() -> None:
    merged = apply(
        {"list": [1, 2], "x": 1}, {"list": [3], "x": {"y": 1, "z": None}}, patch.MERGE_PATCH
    )
    assert merged == {"list": [3], "x": {"y": 1}}


def test_large_lists_merge_in_linear_time() -> None:
    """A body of the largest size must not hold the server up: ten thousand items, each merged and ordered."""
    many = [{"name": f"c{i}", "image": "1"} for i in range(10_000)]
    order = [{"name": c["name"]} for c in reversed(many)]
    spec = {"$setElementOrder/containers": order, "containers": many}
    before = time.process_time()
    merged = apply({"spec": {"containers": many}}, {"spec": spec})
    assert len(names(merged)) == 10_000
    assert time.process_time() - before < 5.0
