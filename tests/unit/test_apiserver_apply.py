"""Server-side apply: merges by type, ownership, conflicts, removal; and what updates record (structured-merge-diff's rules)."""

from __future__ import annotations

import copy

import pytest

from minipod.apiserver import fieldset, kinds, managed
from minipod.apiserver.status import ApiError

REGISTRY = kinds.registry()
POD = REGISTRY.stored("pods")
MAP = REGISTRY.stored("configmaps")


def config_map(**data: str) -> dict:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data}


def pod(*containers: dict, **metadata: object) -> dict:
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", **metadata},
        "spec": {"containers": list(containers)},
    }  # fmt: skip


def apply(
    current: dict | None, config: dict, manager: str, kind=MAP, *, force: bool = False
) -> dict:
    config = copy.deepcopy(config)
    if current is None:
        managed.applied_new(config, manager, kind)
        return config
    return managed.applied(current, config, manager, kind, "", force=force)


def update(current: dict, wanted: dict, manager: str, kind=MAP) -> dict:
    wanted = copy.deepcopy(wanted)
    managed.updated(current, wanted, manager, kind, "")
    return wanted


def owners(obj: dict) -> dict[str, set[str]]:
    return {
        m["manager"]: {fieldset.written(p) for p in fieldset.flatten(m["fieldsV1"])}
        for m in obj["metadata"]["managedFields"]
    }


def test_an_applier_owns_what_it_applies_and_removes_what_it_no_longer_does() -> None:
    obj = apply(None, config_map(a="1", b="1"), "me")
    assert owners(obj) == {"me": {".data.a", ".data.b"}}
    obj = apply(obj, config_map(b="2"), "me")
    assert obj["data"] == {"b": "2"}
    assert owners(obj) == {"me": {".data.b"}}


def test_what_others_have_stays_when_one_lets_go() -> None:
    obj = apply(None, config_map(a="1", b="1"), "me")
    obj = apply(obj, config_map(a="1"), "you")
    obj = apply(obj, config_map(b="1"), "me")
    assert obj["data"] == {"a": "1", "b": "1"}
    assert owners(obj) == {"me": {".data.b"}, "you": {".data.a"}}


def test_a_conflict_names_the_manager_and_the_field_unless_it_is_forced() -> None:
    obj = apply(None, config_map(a="1", b="1"), "me")
    with pytest.raises(ApiError, match=r'conflict with "me": .data.a') as told:
        apply(obj, config_map(a="2"), "you")
    assert told.value.code == 409
    assert told.value.details["causes"] == [
        {"reason": "FieldManagerConflict", "message": 'conflict with "me"', "field": ".data.a"}
    ]
    with pytest.raises(ApiError, match=r"2 conflicts: conflicts with .me.:\n- .data.a\n- .data.b"):
        apply(obj, config_map(a="2", b="2"), "you")
    obj = apply(obj, config_map(a="2"), "you", force=True)
    assert owners(obj) == {"me": {".data.b"}, "you": {".data.a"}}


def test_an_update_takes_the_fields_that_it_changes() -> None:
    obj = apply(None, config_map(a="1", b="1"), "me")
    obj = update(obj, {**obj, "data": {"a": "2", "b": "1", "c": "1"}}, "editor")
    assert owners(obj) == {"me": {".data.b"}, "editor": {".data.a", ".data.c"}}
    with pytest.raises(ApiError, match=r'conflict with "editor" using v1: .data.a'):
        apply(obj, config_map(a="1", b="1"), "me")
    obj = update(obj, {**obj, "data": {"b": "1"}}, "editor")
    assert owners(obj) == {"me": {".data.b"}}


def test_lists_merge_by_their_keys_in_order() -> None:
    a, b, c = ({"name": n, "image": "1"} for n in "abc")
    obj = apply(None, pod(a, b), "me", POD)
    obj = apply(obj, pod(c, {"name": "a", "command": ["x"]}), "you", POD)
    assert [x["name"] for x in obj["spec"]["containers"]] == ["b", "c", "a"] or [
        x["name"] for x in obj["spec"]["containers"]
    ] == ["c", "a", "b"]
    merged = {x["name"]: x for x in obj["spec"]["containers"]}
    assert merged["a"] == {"name": "a", "image": "1", "command": ["x"]}
    obj = apply(obj, pod({"name": "a", "image": "1"}), "me", POD)
    assert sorted(x["name"] for x in obj["spec"]["containers"]) == ["a", "c"]
    assert '.spec.containers[name="a"].image' in owners(obj)["me"]


def test_ports_without_a_protocol_are_tcp_ports() -> None:
    web = {"name": "a", "ports": [{"containerPort": 80}]}
    obj = apply(None, pod(web), "me", POD)
    assert '.spec.containers[name="a"].ports[containerPort=80,protocol="TCP"]' in owners(obj)["me"]
    both = {"name": "a", "ports": [{"containerPort": 80, "protocol": "TCP", "name": "web"}]}
    obj = apply(obj, pod(both), "you", POD)
    assert len(obj["spec"]["containers"][0]["ports"]) == 1


def test_atomic_values_are_replaced_as_one() -> None:
    obj = apply(None, pod({"name": "a", "command": ["x", "y"]}), "me", POD)
    with pytest.raises(ApiError, match=r"\.spec\.containers\[name=.a.\]\.command$"):
        apply(obj, pod({"name": "a", "command": ["x"]}), "you", POD)


def test_what_nobody_recorded_was_there_before() -> None:
    obj = config_map(a="1", b="1")
    with pytest.raises(ApiError, match=r'conflict with "before-first-apply" using v1: .data.a'):
        apply(obj, config_map(a="2"), "me")
    obj = apply(obj, config_map(a="1"), "me")
    assert owners(obj)["before-first-apply"] >= {".data.a", ".data.b"}


def test_field_sets_survive_their_written_form() -> None:
    obj = pod(
        {"name": "a", "env": [{"name": "X", "value": "1"}]}, labels={"x": "y"}, finalizers=["f/f"]
    )
    paths = set(fieldset.collect(obj, "core.v1.Pod", maps=True))
    nested = fieldset.nest(paths)
    assert fieldset.flatten(nested) == paths
    assert nested["f:metadata"]["f:labels"] == {".": {}, "f:x": {}}
    assert nested["f:metadata"]["f:finalizers"] == {'v:"f/f"': {}}
    assert "f:name" not in nested["f:metadata"]


def test_a_configuration_must_not_bring_managed_fields() -> None:
    config = config_map(a="1")
    config["metadata"]["managedFields"] = [{}]
    with pytest.raises(ApiError, match="must be nil"):
        apply(None, config, "me")
