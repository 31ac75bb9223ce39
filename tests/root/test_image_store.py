"""The store under kill -9, under two who do the same at once, and when the disk is full.

Excluded: what a layer may hold (test_image_unpack, test_image_hostile), registries.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import shutil
import signal
import subprocess
import threading
import time

import pytest

from minipod.errors import FailedPrecondition, ImageError
from minipod.image import archive, gc, snapshot, unpack
from minipod.image.content import PARTIAL_AGE, digest_of
from minipod.image.manifest import LAYER_GZIP
from minipod.image.store import ImageStore
from tests.image_files import directory, entry, ingest, layer, parts, tree, write_layout

CONTENT = random.Random(7).randbytes(40_000)  # noqa: S311 the same layers in every run
BASE = layer(directory("d"), *(entry(f"d/f{n}", CONTENT[n * 300 :][:9000]) for n in range(100)))
TOP = layer(
    *(entry(f"d/f{n}", b"new") for n in range(0, 100, 3)), entry("d/.wh.f1"), entry("x", CONTENT)
)
IMAGE = parts([BASE, TOP], [gzip.compress(BASE, 1), gzip.compress(TOP, 1)], LAYER_GZIP)


@pytest.fixture
def store(tmp_path):
    return ImageStore(str(tmp_path / "store"))


def expected(tmp_path) -> list[dict[str, tuple[object, ...]]]:
    """Return what the layers hold when nothing disturbs."""
    undisturbed = ImageStore(str(tmp_path / "undisturbed"))
    return [tree(path) for path in undisturbed.layers(ingest(undisturbed, "app:1", IMAGE))]


def consistent(store: ImageStore, wanted: list[dict[str, tuple[object, ...]]]) -> bool:
    """Assert that whatever the store shows is right; tell whether the image is there."""
    for digest in store.content.digests():
        with store.content.open(digest) as blob:
            assert digest_of(blob.read()) == digest
    chains = snapshot.chain_ids([digest_of(BASE), digest_of(TOP)])
    for chain, content in zip(chains, reversed(wanted), strict=True):
        if store._layers.has(chain):
            assert tree(store._layers.path(chain)) == content
    return store.resolve("app:1") is not None


def in_child(work) -> int:
    """Run *work* in a forked child; return its pid."""
    pid = os.fork()
    if pid:
        return pid
    try:
        work()
    finally:
        os._exit(0)


def test_a_kill_at_any_moment_leaves_no_wrong_image_and_the_next_try_succeeds(store, tmp_path):
    wanted = expected(tmp_path)
    began = time.monotonic()
    pid = in_child(lambda: ingest(ImageStore(str(tmp_path / "timing")), "app:1", IMAGE))
    os.waitpid(pid, 0)
    whole = time.monotonic() - began
    chosen = random.Random(os.getpid())  # noqa: S311
    finished = 0
    for _ in range(15):
        pid = in_child(lambda: ingest(store, "app:1", IMAGE))
        time.sleep(chosen.uniform(0, whole))  # the moment of the kill: at random is the test
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        finished += consistent(store, wanted)
        if chosen.random() < 0.3 and store.resolve("app:1"):
            store.remove("app:1")
    ingest(store, "app:1", IMAGE)
    assert consistent(store, wanted)
    assert store.sweep()
    assert not [n for n in os.listdir(f"{store.root}/layers") if n.startswith(".")]
    assert len(list(store.content.digests())) == 4
    with open("/proc/self/mountinfo", encoding="utf-8") as mounts:
        assert store.root not in mounts.read()


# Calls of the system after which the child dies: each file operation of a pull, wherever it is.
POINTS = [
    ("rename", os), ("link", os), ("fsync", os), ("mkdir", os), ("utime", os), ("pwrite", os), ("open", os), ("unlink", os),
]  # fmt: skip


@pytest.mark.parametrize(("name", "module"), POINTS, ids=[name for name, _ in POINTS])
def test_a_kill_after_each_call_of_a_kind_leaves_no_wrong_image(store, tmp_path, name, module):
    wanted = expected(tmp_path)
    real = getattr(module, name)
    # The first ones, then some: there are some hundred calls of some kinds.
    for count in (1, 2, 3, 5, 12, 40):

        def work(dies_after: int = count) -> None:
            left = [dies_after]

            def wrapped(*arguments, **keywords):
                answer = real(*arguments, **keywords)
                left[0] -= 1
                if not left[0]:
                    os.kill(os.getpid(), signal.SIGKILL)
                return answer

            setattr(module, name, wrapped)
            ingest(ImageStore(store.root), "app:1", IMAGE)

        _, status = os.waitpid(in_child(work), 0)
        consistent(store, wanted)
        if os.WIFEXITED(status):
            break  # there are not so many calls
        store.drop([image.id for image in store.list()])
        assert store.sweep()
    ingest(store, "app:1", IMAGE)
    assert consistent(store, wanted)
    assert store.sweep()


def test_a_download_that_breaks_off_is_resumed(store):
    manifest, config, (base, top) = IMAGE

    def break_off() -> None:
        with store.ingest(manifest, config) as first:
            with first.writer(first.manifest.layers[0]) as writer:
                writer.write(base)
                writer.commit()
            with first.writer(first.manifest.layers[1]) as writer:
                writer.write(top[:100])
                raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        break_off()
    with store.ingest(manifest, config) as second:
        assert second.writer(second.manifest.layers[0]) is None
        with second.writer(second.manifest.layers[1]) as writer:
            assert writer.offset == 100
            writer.write(top[100:])
            writer.commit()
        assert second.commit(["app:1"]).tags == ("docker.io/library/app:1",)


def test_a_layer_is_unpacked_while_it_comes_in(store):
    manifest, config, (base, top) = parts([BASE, TOP])
    with store.ingest(manifest, config) as taken:
        upper = taken.writer(taken.manifest.layers[1])
        upper.write(top)
        upper.commit()
        lower = taken.writer(taken.manifest.layers[0])
        lower.write(base[:-100_000])
        deadline = time.monotonic() + 60
        chain = f"{store.root}/layers/.new-{digest_of(BASE)[7:39]}/fs/d"
        while not (os.path.isdir(chain) and len(os.listdir(chain)) > 50):
            assert time.monotonic() < deadline
            time.sleep(0.001)  # another thread of ours makes the files: nothing tells
        assert not store._layers.has(digest_of(BASE))
        lower.write(base[-100_000:])
        lower.commit()
        image = taken.commit(["app:1"])
    assert len(store.layers(image)) == 2


def test_a_pull_that_broke_off_is_kept_for_a_day_and_pruned_at_once(store):
    manifest, config, blobs = IMAGE
    with store.ingest(manifest, config) as taken:
        writer = taken.writer(taken.manifest.layers[0])
        writer.write(blobs[0][:10])
    assert store.sweep()
    assert len(os.listdir(f"{store.root}/ingest")) == 1
    assert store.sweep(partials=0.0)
    assert os.listdir(f"{store.root}/ingest") == []


def test_layers_that_images_share_are_unpacked_once(store, monkeypatch):
    unpacked = []
    real = unpack.apply

    def counted(stream, root, limits):
        unpacked.append(root)
        return real(stream, root, limits)

    monkeypatch.setattr(unpack, "apply", counted)
    others = [layer(entry(f"only{n}", b"x")) for n in range(4)]
    threads = [
        threading.Thread(target=ingest, args=(store, f"app:{n}", parts([BASE, other])))
        for n, other in enumerate(others)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [len(image.tags) for image in store.list()] == [1] * 4
    assert len(unpacked) == 5
    assert len({store.layers(image)[1] for image in store.list()}) == 1


def test_a_layer_that_a_power_cut_may_have_hurt_is_unpacked_again(store):
    image = ingest(store, "app:1", IMAGE)
    (mark,) = (f"{os.path.dirname(path)}/unsynced" for path in store.layers(image)[:1])
    with open(mark, "w", encoding="ascii") as file:
        file.write("another boot\n")
    with open(
        f"{store.layers.__self__._layers.path(digest_of(BASE))}/../unsynced", encoding="ascii"
    ) as file:
        assert file.read() == store._layers._boot
    top = os.path.dirname(mark)
    before = os.stat(top).st_ino
    store.layers(image)
    assert os.stat(top).st_ino != before
    store.settle()
    assert not os.path.exists(mark)
    assert store._layers.has(snapshot.chain_ids([digest_of(BASE), digest_of(TOP)])[1])


def test_an_image_in_use_is_never_removed(store):
    image = ingest(store, "app:1", IMAGE)
    with pytest.raises(FailedPrecondition, match="in use"):
        store.remove("app:1", in_use=lambda: {image.id})
    store.tag("app:1", "app:2")
    store.remove("app:1", in_use=lambda: {image.id})
    assert store.drop([image.id], in_use=lambda: {image.id}) == []
    assert store.resolve("app:2") is not None
    store.remove("app:2")
    assert list(store.content.digests()) == []
    assert os.listdir(f"{store.root}/layers") == []


def test_who_holds_an_image_keeps_it_or_hears_that_it_is_gone(store):
    """A container is made (record, hold) while others remove: what was held stays until the record is gone."""
    image = ingest(store, "app:1", IMAGE)
    records: set[str] = set()
    kept = gone = 0
    back, stop = threading.Event(), threading.Event()

    def remove() -> None:
        other = ImageStore(store.root)
        while not stop.is_set():
            if other.drop([image.id], in_use=lambda: set(records)):
                ingest(other, "app:1", IMAGE)
                back.set()

    remover = threading.Thread(target=remove)
    remover.start()
    deadline = time.monotonic() + 60
    try:
        while min(kept, gone) < 5 and time.monotonic() < deadline:
            back.clear()
            records.add(image.id)
            try:
                assert store.hold([image.id], wait=False) or store.hold([image.id])
            except ImageError:
                gone += 1
                records.clear()
                back.wait(5)
            else:
                kept += 1
                assert all(os.listdir(path) for path in store.layers(image))
                assert store.resolve("app:1") is not None
                records.clear()
                back.wait(0.002)  # the remover's turn
    finally:
        stop.set()
        remover.join()
    assert min(kept, gone) >= 5


def test_shared_layers_stay_with_the_image_that_needs_them(store):
    one, two = (ingest(store, f"app:{n}", parts([BASE, layer(entry(f"{n}"))])) for n in (1, 2))
    store.remove("app:1")
    assert len(os.listdir(f"{store.root}/layers")) == 2
    assert [len(tree(path)) for path in store.layers(two)] == [1, 101]
    assert one.id != two.id


def test_nothing_is_swept_while_something_is_on_its_way_in(store):
    with store.writing():
        digest = store.content.put(b"part of an image")
        assert not store.sweep()
        assert store.content.size(digest) is not None
    assert store.sweep()
    assert store.content.size(digest) is None


def test_the_collection_frees_the_disk_down_to_the_low_threshold_the_longest_unused_first(store):
    """The disk is a number here: 1,000 bytes, of which each image takes 100."""
    images = [ingest(store, f"app:{n}", parts([layer(entry(f"f{n}"))])) for n in range(4)]
    used = {images[0].id}

    def disk(path: str) -> gc.Disk:
        return gc.Disk(capacity=1000, available=500 - 100 * len(ImageStore(path).list()))

    collector = gc.Collector(store, gc.Policy(), lambda: used, disk=disk)
    assert collector.collect(1000.0) == []  # nothing is two minutes old
    used.add(images[2].id)
    assert collector.collect(1060.0) == []
    used.remove(images[2].id)
    assert collector.collect(1130.0) == [images[1].id]  # 30 % would be free with it: enough
    assert {i.id for i in store.list()} == {images[0].id, images[2].id, images[3].id}


def test_the_collection_leaves_what_a_pull_that_is_tried_again_can_use(store):
    digest = store.content.put(b"a layer of an image that is not complete")
    collector = gc.Collector(store, gc.Policy(), set)
    collector.collect(time.time())
    assert store.content.size(digest) is not None
    old = time.time() - PARTIAL_AGE - 10
    os.utime(store.content.path(digest), (old, old))
    collector.collect(time.time())
    assert store.content.size(digest) is None


@pytest.mark.skipif(
    shutil.which("skopeo") is None, reason="skopeo is not installed (scripts/setup --dev)"
)
@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
def test_a_saved_image_is_read_by_skopeo_and_comes_back_the_same(store, tmp_path, form):
    image = ingest(store, "app:1", IMAGE)
    with open(tmp_path / "saved.tar", "wb") as out:
        archive.save(store, ["app:1"], out)
    subprocess.run(
        [
            "skopeo", "copy", "-q", f"{form}:{tmp_path}/saved.tar:docker.io/library/app:1",
            f"docker-archive:{tmp_path}/copy.tar:again:2",
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    other = ImageStore(str(tmp_path / "other"))
    with open(tmp_path / "copy.tar", "rb") as file:
        (loaded,) = archive.load(other, file)
    assert loaded.tags == ("docker.io/library/again:2",)
    assert [tree(path) for path in other.layers(loaded)] == [
        tree(path) for path in store.layers(image)
    ]


def test_saving_and_loading_gives_the_same_image_and_the_same_bytes(store, tmp_path):
    image = ingest(store, "app:1", IMAGE)
    store.tag("app:1", "registry.local:5000/team/app:x")
    saved = []
    for _ in range(2):
        out = io.BytesIO()
        archive.save(store, ["app:1", "registry.local:5000/team/app:x"], out)
        saved.append(out.getvalue())
    assert saved[0] == saved[1]
    other = ImageStore(str(tmp_path / "other"))
    loaded = archive.load(other, io.BytesIO(gzip.compress(saved[0])))
    assert {i.id for i in loaded} == {image.id}
    assert set(other.list()[0].tags) == {
        "docker.io/library/app:1",
        "registry.local:5000/team/app:x",
    }
    archive.save_layout(other, ["app:1"], str(tmp_path / "layout"))
    third = ImageStore(str(tmp_path / "third"))
    (again,) = archive.load(third, str(tmp_path / "layout"))
    assert again.manifest == image.manifest


def test_of_an_index_the_image_of_this_machine_is_loaded(store, tmp_path):
    """The name keeps the digest of the index: it is what a registry pins it by."""
    from minipod.image.manifest import INDEX, MANIFEST
    from minipod.image.registry import platform
    from tests.image_files import described

    root = f"{tmp_path}/layout"
    here = platform.of_machine().architecture
    entries = []
    for architecture in ("s390x", here):
        image = parts([layer(entry(architecture, b"x"))])
        write_layout(root, "app:1", image)
        entries.append(
            described(image[0], MANIFEST)
            | {"platform": {"os": "linux", "architecture": architecture}}
        )
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).encode()
    with open(f"{root}/blobs/sha256/{digest_of(index)[7:]}", "wb") as file:
        file.write(index)
    listed = described(index, INDEX) | {
        "annotations": {"org.opencontainers.image.ref.name": "app:1"}
    }
    with open(f"{root}/index.json", "w", encoding="ascii") as file:
        json.dump({"schemaVersion": 2, "manifests": [listed]}, file)
    (loaded,) = archive.load(store, root)
    assert list(tree(store.layers(loaded)[0])) == [here]
    assert loaded.digests == (f"docker.io/library/app@{digest_of(index)}",)
