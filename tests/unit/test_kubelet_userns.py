"""Which ids a pod with hostUsers: false gets (KEP-127)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from minipod.config import load
from minipod.errors import Internal, InvalidSpec, Unavailable
from minipod.kubelet import userns
from minipod.spec.instance import Instance


def instance(place: Path, pods: int = 4) -> Instance:
    return Instance(name="t", state_root=str(place), userns_first=1 << 20, userns_pods=pods)


def test_every_pod_has_its_own_range_and_keeps_it(tmp_path) -> None:
    node = instance(tmp_path)
    given = {uid: userns.assign(node, uid) for uid in "abcd"}
    assert {ids.length for ids in given.values()} == {65536}
    assert {ids.first for ids in given.values()} == {(16 + n) << 16 for n in range(4)}
    assert {uid: userns.assign(node, uid) for uid in "abcd"} == given
    with pytest.raises(Unavailable, match="all 4 ranges"):
        userns.assign(node, "e")
    record = Path(f"{node.state_dir}/pods/b/userns")
    mapping = [{"hostId": given["b"].first, "containerId": 0, "length": 65536}]
    assert json.loads(record.read_text()) == {"uidMappings": mapping, "gidMappings": mapping}
    record.unlink()
    assert userns.assign(node, "e") == given["b"]


@pytest.mark.parametrize(
    "text",
    [
        "", "{}", "[]", '{"uidMappings": [], "gidMappings": []}',
        json.dumps({k: [{"hostId": 0, "containerId": 0, "length": 65536}] for k in ("uidMappings", "gidMappings")}),
        json.dumps({k: [{"hostId": 1 << 20, "containerId": 0, "length": 1}] for k in ("uidMappings", "gidMappings")}),
        json.dumps({k: [{"hostId": (1 << 20) + 1, "containerId": 0, "length": 65536}] for k in ("uidMappings", "gidMappings")}),
    ],
)  # fmt: skip
def test_a_record_that_can_not_be_right_is_an_error(tmp_path, text: str) -> None:
    """The pod must not run with the node's own ids, or with another pod's."""
    node = instance(tmp_path)
    userns.assign(node, "a")
    Path(f"{node.state_dir}/pods/a/userns").write_text(text)
    with pytest.raises(Internal, match="wrong user namespace mapping"):
        userns.assign(node, "a")


@pytest.mark.parametrize(("first", "pods"), [(0, 1), (65537, 1), (1 << 32, 1), (1 << 31, 1 << 16)])
def test_a_node_does_not_take_ids_of_the_host(first: int, pods: int) -> None:
    with pytest.raises(InvalidSpec, match="no ranges of 65536 ids"):
        Instance(userns_first=first, userns_pods=pods)


def test_nodes_side_by_side_have_ids_apart() -> None:
    here, there = load(name="minipod").instance, load(name="two").instance
    last = here.userns_first + (here.userns_pods << 16)
    assert last <= there.userns_first
    assert there.userns_first + (there.userns_pods << 16) <= 0x7FFE_0000
