"""Random patches, selectors, protobuf and JSON bodies: whatever comes, it is an object or a clear refusal, never a defect."""

from __future__ import annotations

import json
import string

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from minipod.api import decoding, selectors, types
from minipod.apiserver import codec, fieldset, kinds, managed, patch, protobuf, strategic, wire
from minipod.apiserver.status import ApiError
from minipod.errors import FailedPrecondition, MinipodError

REGISTRY = kinds.registry()
MAP = REGISTRY.stored("configmaps")
FAST = settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))

words = st.sampled_from(
    [
        "metadata",
        "spec",
        "labels",
        "containers",
        "name",
        "image",
        "ports",
        "containerPort",
        "volumes",
        "finalizers",
        "env",
        "$patch",
        "$retainKeys",
        "$setElementOrder/containers",
        "$deleteFromPrimitiveList/finalizers",
        "delete",
        "replace",
        "merge",
        "data",
        "managedFields",
        "fieldsV1",
        "tolerations",
        "emptyDir",
        "status",
        "conditions",
        "type",
    ]
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
    words,
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(words, inner, max_size=4)),
    max_leaves=20,
)
objects = st.dictionaries(words, values, max_size=5)
POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "p", "labels": {"a": "b"}, "finalizers": ["x/y"]},
    "spec": {
        "containers": [
            {"name": "a", "image": "1", "ports": [{"containerPort": 80}]},
            {"name": "b"},
        ],
        "volumes": [{"name": "v", "emptyDir": {}}],
    },
}
pointers = st.one_of(
    st.sampled_from(
        [
            "",
            "/",
            "/metadata/labels/a",
            "/spec/containers/0",
            "/spec/containers/-",
            "/spec/containers/9",
            "/x/y",
        ]
    ),
    st.text(alphabet="/~01ab-", max_size=8).map("/".__add__),
)
operations = st.fixed_dictionaries(
    {
        "op": st.sampled_from(["add", "remove", "replace", "move", "copy", "test", "x"]),
        "path": pointers,
    },
    optional={"from": pointers, "value": values},
)


def refused_or(run):
    """Return what *run* returns, None when it refuses; everything else is a defect."""
    try:
        return run()
    except MinipodError:
        return None


@FAST
@given(objects)
def test_strategic_merges(wanted) -> None:
    media = patch.STRATEGIC
    patched = refused_or(
        lambda: patch.apply(
            POD, patch.parse(json.dumps(wanted).encode(), media).value, media, "core.v1.Pod"
        )
    )
    assert patched is None or isinstance(patched, dict)


@FAST
@given(st.lists(operations, max_size=5))
def test_json_patches(wanted) -> None:
    media = patch.JSON_PATCH
    patched = refused_or(
        lambda: patch.apply(
            POD, patch.parse(json.dumps(wanted).encode(), media).value, media, "core.v1.Pod"
        )
    )
    assert patched is None or isinstance(patched, dict)


@FAST
@given(objects)
def test_a_merge_patch_applied_twice_is_applied_once(wanted) -> None:
    once = patch.apply(POD, wanted, patch.MERGE_PATCH, "core.v1.Pod")
    assert patch.apply(once, wanted, patch.MERGE_PATCH, "core.v1.Pod") == once


@FAST
@given(st.text(max_size=40))
@example("a in (")
@example("a notin (b,")
@example("!")
def test_label_selectors(text) -> None:
    try:
        fits = selectors.label_selector(text)
    except FailedPrecondition:
        return
    assert fits({"metadata": {"labels": {"a": "b"}}}) in (True, False)


@FAST
@given(st.text(alphabet=string.printable, max_size=40))
def test_field_selectors(text) -> None:
    try:
        fits = selectors.field_selector(text)
    except FailedPrecondition:
        return
    assert fits(POD) in (True, False)


@FAST
@given(st.binary(max_size=200))
def test_json_bodies(content) -> None:
    refused_or(lambda: codec.parse_json(content))
    refused_or(lambda: codec.parse_yaml(content))


@FAST
@given(st.text(alphabet="{}[]:,-*&!|> \nab01'\"#", max_size=60))
def test_yaml_bodies(text) -> None:
    refused_or(lambda: codec.parse_yaml(text.encode()))


@FAST
@given(
    objects,
    st.sampled_from(
        ["core.v1.Pod", "core.v1.ConfigMap", "rbac.v1.Role", "core.v1.PersistentVolume"]
    ),
)
def test_decoding_leaves_only_what_the_type_has(obj, name) -> None:
    findings = decoding.decode(obj, name)
    assert obj.keys() <= types.object_type(name).fields.keys()
    if not findings.wrong:
        again = decoding.decode(json.loads(json.dumps(obj)), name)
        assert not again.unknown
        assert not again.wrong


def envelope(raw: bytes, version: str = "v1", kind: str = "Pod") -> bytes:
    return (
        protobuf.MAGIC
        + wire.field(1, wire.field(1, version) + wire.field(2, kind))
        + wire.field(2, raw)
    )


@FAST
@given(
    st.binary(max_size=100),
    st.sampled_from(["Pod", "ConfigMap", "Secret", "DeleteOptions", "Burn"]),
)
def test_protobuf_bodies(raw, kind) -> None:
    refused_or(lambda: protobuf.decode(envelope(raw, kind=kind)))
    refused_or(lambda: protobuf.decode(protobuf.MAGIC + raw))
    refused_or(lambda: protobuf.decode(raw))


@st.composite
def messages(draw, depth: int = 3):
    """Well-formed messages with any fields: they reach deeper than random bytes."""
    out = b""
    for _ in range(draw(st.integers(0, 4))):
        number = draw(st.integers(1, 12))
        if draw(st.booleans()):
            out += wire.number(number << 3) + wire.number(draw(st.integers(0, (1 << 64) - 1)))
        elif depth and draw(st.booleans()):
            out += wire.field(number, draw(messages(depth - 1)))
        else:
            out += wire.field(number, draw(st.binary(max_size=6)))
    return out


@FAST
@given(messages(), st.sampled_from(["Pod", "Event", "Node", "PersistentVolume", "Binding"]))
def test_protobuf_messages(raw, kind) -> None:
    obj = refused_or(lambda: protobuf.decode(envelope(raw, kind=kind)))
    if obj is not None:
        json.dumps(obj)


def test_protobuf_is_read_as_kubectl_writes_it() -> None:
    """A ConfigMap with gogo's zeros: name and data stay, empty strings and zero times do not."""
    zero_time = wire.field(8, b"")
    metadata = (
        wire.field(1, "c1")
        + wire.field(2, "")
        + wire.field(3, "")
        + wire.number(7 << 3)
        + b"\0"
        + zero_time
    )
    entry = wire.field(1, "a") + wire.field(2, "b")
    content = envelope(wire.field(1, metadata) + wire.field(2, entry), kind="ConfigMap")
    assert protobuf.decode(content) == {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "c1"},
        "data": {"a": "b"},
    }
    with pytest.raises(ApiError) as told:
        protobuf.decode(envelope(b"", kind="Burn"))
    assert told.value.code == 415


@FAST
@given(
    st.dictionaries(words, st.text(max_size=3), max_size=4),
    st.dictionaries(words, st.text(max_size=3), max_size=4),
)
def test_an_apply_ends_with_what_was_applied(first, second) -> None:
    def config(data: dict) -> dict:
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": data}

    obj = config(dict(first))
    managed.applied_new(obj, "me", MAP)
    obj = managed.applied(obj, config(dict(second)), "me", MAP, "", force=False)
    assert (obj.get("data") or {}) == second
    paths = {p for m in obj["metadata"]["managedFields"] for p in fieldset.flatten(m["fieldsV1"])}
    assert {p[1][2:] for p in paths if len(p) == 2} == set(second)


@FAST
@given(objects, objects)
def test_managed_fields_of_anything(current, wanted) -> None:
    for obj in (current, wanted):
        obj["metadata"] = {
            "name": "a",
            "managedFields": [
                {
                    "manager": "m",
                    "operation": "Update",
                    "apiVersion": "v1",
                    "fieldsV1": obj.get("data"),
                }
            ],
        }
        obj.update({"apiVersion": "v1", "kind": "Pod"})
        decoding.decode(obj, "core.v1.Pod")
    managed.updated(current, wanted, "me", REGISTRY.stored("pods"), "")
    json.dumps(wanted)


@FAST
@given(objects)
def test_a_strategic_merge_of_any_shape_is_an_object_or_refused(obj) -> None:
    merged = refused_or(
        lambda: strategic.merge({"spec": {"containers": [{"name": "a"}]}}, obj, None)
    )
    assert merged is None or isinstance(merged, dict)
