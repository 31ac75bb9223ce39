"""Which ids a pod with hostUsers: false gets (KEP-127)."""

from __future__ import annotations

import concurrent.futures
import json
import shutil
from pathlib import Path

import pytest

from minipod.config import load
from minipod.errors import Internal, InvalidSpec, Unavailable
from minipod.kubelet import userns
from minipod.spec.instance import Instance


def instance(place: Path, pods: int = 4) -> Instance:
    return node_of(place, "t", pods)


def node_of(place, name: str, pods: int = 4) -> Instance:
    return Instance(
        name=name,
        state_root=str(place),
        run_root=str(place),
        userns_first=1 << 20,
        userns_pods=pods,
    )


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


def test_pods_of_nodes_with_the_same_ranges_have_ids_apart(tmp_path) -> None:
    """The two meet when their names, or their settings, lead to the same ids."""
    one, two = node_of(tmp_path, "one"), node_of(tmp_path, "two")
    given = [userns.assign(node, f"{node.name}-{n}").first for n in (1, 2) for node in (one, two)]
    assert len(set(given)) == 4
    for node in (one, two):
        with pytest.raises(Unavailable, match="all 4 ranges"):
            userns.assign(node, "more")
    shutil.rmtree(one.state_dir)
    userns.forget(one)
    assert userns.assign(two, "more").first in (given[0], given[2])
    userns.forget(two)
    assert not (tmp_path / "minipod-userns").exists()


def test_a_node_that_starts_again_tells_the_others_of_its_pods(tmp_path) -> None:
    """The links are gone with the machine's /run; the records are not."""
    one, two = node_of(tmp_path, "one"), node_of(tmp_path, "two")
    kept = userns.assign(one, "a")
    shutil.rmtree(tmp_path / "minipod-userns")
    assert userns.assign(one, "a") == kept
    assert kept.first not in {userns.assign(two, uid).first for uid in "bcd"}


def test_nodes_that_ask_at_once_get_ids_apart(tmp_path) -> None:
    names = [f"n{n}" for n in range(8)]

    def ask(name: str) -> set[int]:
        node = node_of(tmp_path, name, pods=64)
        return {userns.assign(node, f"{name}-{n}").first for n in range(8)}

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        given = list(pool.map(ask, names))
    assert len(set().union(*given)) == 64


def test_nodes_side_by_side_have_ids_apart() -> None:
    here, there = load(name="minipod").instance, load(name="two").instance
    last = here.userns_first + (here.userns_pods << 16)
    assert last <= there.userns_first
    assert there.userns_first + (there.userns_pods << 16) <= 0x7FFE_0000
