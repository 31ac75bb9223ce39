"""Static pods and their mirrors, over the fake runtime and store; the directory and inotify are real, so is the clock."""

import asyncio
import os
import shutil

import pytest
import yaml

from minipod.api import static
from minipod.errors import Unavailable
from minipod.kubelet.manifests import Manifests
from tests.fakes.kubelet import Node, running
from tests.fakes.runtime import FakeRuntime
from tests.fakes.store import FakeStore

KEY = ("pods", "default", "web-node")
POD = "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: c, image: i}]}}"


@pytest.fixture
def node(tmp_path):
    def clock() -> float:
        return 1_700_000_000.0 + asyncio.get_running_loop().time()

    return Node(tmp_path, FakeRuntime(clock=clock), FakeStore())


def write(node: Node, name: str = "web.yaml", **spec) -> str:
    directory = node.kubelet.context.instance.static_pod_dir
    os.makedirs(directory, exist_ok=True)
    containers = [{"name": "app", "image": "busybox:1.36"}]
    manifest = {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"},
        "spec": {"containers": containers, "terminationGracePeriodSeconds": 1, **spec},
    }  # fmt: skip
    path = f"{directory}/{name}"
    with open(f"{directory}/.{name}", "w") as file:
        yaml.safe_dump(manifest, file)
    os.rename(f"{directory}/.{name}", path)
    return path


def starts(node: Node) -> int:
    return node.runtime.calls.count("start_container app")


async def test_a_file_becomes_a_pod_with_a_mirror_and_goes_with_it(node):
    async with running(node):
        path = write(node)
        await node.until(lambda: node.status("web-node").get("phase") == "Running", 30)
        mirror = node.store.objects[KEY]
        notes = mirror["metadata"]["annotations"]
        assert notes[static.MIRROR] == notes[static.HASH] == static.node_uid(mirror)
        assert (notes[static.SOURCE], mirror["spec"]["nodeName"]) == ("file", "node")
        assert len(node.runtime.sandboxes) == 1
        assert {s.spec.metadata.uid for s in node.runtime.sandboxes.values()} == {
            notes[static.HASH]
        }
        os.unlink(path)
        await node.until(lambda: KEY not in node.store.objects, 30)
        assert not node.runtime.sandboxes


async def test_a_deleted_mirror_comes_back_and_the_pod_runs_on(node):
    async with running(node):
        write(node)
        await node.until(lambda: node.status("web-node").get("phase") == "Running", 30)
        for grace in (0, 30):
            before = node.store.objects[KEY]
            await node.store.delete("pods", "default", "web-node", grace_period=grace)
            # The fake store gives the same uid again; the version is another.
            await node.until(
                lambda old=before: (
                    KEY in node.store.objects
                    and "deletionTimestamp" not in node.store.objects[KEY]["metadata"]
                    and int(node.store.objects[KEY]["metadata"]["resourceVersion"])
                    > int(old["metadata"]["resourceVersion"])
                    and node.status("web-node").get("phase") == "Running"
                ),
                30,
            )
        assert starts(node) == 1


@pytest.mark.parametrize("verb", ["create", "delete"])
async def test_a_mirror_that_the_store_did_not_take_is_tried_again(node, monkeypatch, verb):
    """Nothing changes in between that would wake anybody."""
    refused, real = [], getattr(node.store, verb)

    async def once(resource, *words, **options):
        if resource == "pods" and not refused:
            refused.append(words)
            raise Unavailable("the store is busy")
        return await real(resource, *words, **options)

    async with running(node):
        if verb == "create":
            monkeypatch.setattr(node.store, verb, once)
        path = write(node)
        await node.until(lambda: node.status("web-node").get("phase") == "Running", 30)
        monkeypatch.setattr(node.store, verb, once)
        os.unlink(path)
        await node.until(lambda: KEY not in node.store.objects, 30)
        assert refused


async def test_a_changed_file_ends_the_old_pod_before_the_new_one_starts(node):
    async with running(node):
        write(node)
        await node.until(lambda: node.status("web-node").get("phase") == "Running", 30)
        old = static.node_uid(node.store.objects[KEY])
        write(node, restartPolicy="Never")
        await node.until(lambda: starts(node) == 2, 30)
        calls = node.runtime.calls
        assert calls.index("remove_pod_sandbox") < len(calls) - 1 - calls[::-1].index(
            "start_container app"
        )
        await node.until(
            lambda: KEY in node.store.objects and static.node_uid(node.store.objects[KEY]) != old,
            30,
        )


async def test_a_restarted_kubelet_keeps_the_container(node, tmp_path):
    async with running(node):
        write(node)
        await node.until(lambda: node.status("web-node").get("phase") == "Running", 30)
    second = Node(tmp_path, node.runtime, node.store)
    async with running(second):
        await second.until(lambda: KEY[1:] in second.kubelet.static._running, 30)
        await asyncio.sleep(0.3)  # in which it could start another
        assert starts(node) == 1
        assert second.status("web-node")["phase"] == "Running"
        await second.kubelet.static.stop()
        assert KEY not in node.store.objects
        assert not node.runtime.sandboxes


async def test_a_bad_file_is_told_and_stops_no_other(node, caplog):
    async with running(node):
        write(node)
        bad = write(node, "bad.yaml", restartPolicy="Sometimes")
        await node.until(lambda: node.status("web-node").get("phase") == "Running", 30)
        events = lambda: [  # noqa: E731
            o["message"]
            for (kind, *_), o in node.store.objects.items()
            if kind == "events" and o["reason"] == "FailedValidation"
        ]
        await node.until(lambda: len(events()) == 1, 30)
        assert events()[0].startswith(f"{bad}: ")
        assert "spec.restartPolicy" in events()[0]


async def test_a_directory_that_goes_takes_its_pods_and_one_that_comes_back_is_read(node):
    async with running(node):
        directory = os.path.dirname(write(node))
        for away in (shutil.rmtree, lambda path: os.rename(path, path + ".away")):
            await node.until(lambda: node.status("web-node").get("phase") == "Running", 30)
            away(directory)
            await node.until(lambda: KEY not in node.store.objects, 30)
            assert not node.runtime.sandboxes
            write(node)


async def test_a_mirror_is_made_when_the_pod_in_its_way_is_gone(node):
    async with running(node):
        other = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web-node"}}
        await node.store.create("pods", "default", {**other, "spec": {"nodeName": "another"}})
        write(node)
        await node.until(lambda: starts(node) == 1, 30)
        assert not static.mirrored(node.store.objects[KEY])
        await node.store.delete("pods", "default", "web-node", grace_period=0)
        await node.until(lambda: node.status("web-node").get("phase") == "Running", 30)
        assert static.mirrored(node.store.objects[KEY])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "flow"),
        ("[]", "not a manifest of one pod"),
        ("kind: Pod", "spec"),
        ("[" * 3000, "nest"),
        (POD.replace("name: a", "generateName: a"), "metadata.name: Required value"),
        (POD.replace("name: a", f"name: {'a' * 253}"), "no more than 253 characters"),
    ],
    ids=["yaml", "list", "empty", "deep", "generated name", "long with the node's name"],
)
def test_what_is_wrong_with_a_file_is_said(tmp_path, content, words):
    (tmp_path / "x.yaml").write_text(content)
    (tmp_path / ".hidden").write_text("{")
    pods, errors = Manifests(str(tmp_path), "node").read()
    assert pods == []
    assert len(errors) == 1
    assert words in errors[0]


def test_a_date_is_text_for_a_static_pod_too(tmp_path):
    (tmp_path / "x.yaml").write_text(
        POD.replace("name: a", "name: a, annotations: {day: 2026-11-30}")
    )
    (pod,), errors = Manifests(str(tmp_path), "node").read()
    assert pod["metadata"]["annotations"]["day"] == "2026-11-30"
    assert not errors


def test_the_same_pod_in_two_files_is_refused(tmp_path):
    for name in ("1.yaml", "2.yaml"):
        (tmp_path / name).write_text(POD)
    pods, errors = Manifests(str(tmp_path), "node").read()
    assert [p["metadata"]["name"] for p in pods] == ["a-node"]
    assert "is in another file already" in errors[0]
