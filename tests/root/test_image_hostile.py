"""Layers and images of a stranger who means harm: refused with a clear error, nothing outside touched, nothing left behind."""

from __future__ import annotations

import gzip
import io
import json
import os
import stat
import tarfile
from dataclasses import replace

import pytest

from minipod.errors import ImageError
from minipod.image import archive, stream
from minipod.image.config import parse_config
from minipod.image.content import digest_of
from minipod.image.limits import Limits
from minipod.image.manifest import LAYER_GZIP, parse_manifest
from minipod.image.store import ImageStore
from minipod.runtime.images import read_in_layers
from tests.image_files import (
    directory,
    entry,
    hardlink,
    ingest,
    layer,
    parts,
    symlink,
    tree,
    write_layout,
)

BOUNDS = Limits(image_layer_max=1 << 20, image_layer_entries=50, image_devices=False)


@pytest.fixture
def store(tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text("untouched")
    return ImageStore(str(tmp_path / "store"), BOUNDS)


def nothing_left(store: ImageStore, tmp_path) -> None:
    """Assert that the store holds nothing of the refused image, and what is outside is as it was."""
    assert store.sweep()
    assert list(store.content.digests()) == []
    assert os.listdir(f"{store.root}/layers") == []
    assert os.listdir(f"{store.root}/ingest") == []
    assert store.list() == []
    assert sorted(os.listdir(tmp_path)) == ["outside", "store"]
    assert (tmp_path / "outside" / "file").read_text() == "untouched"
    assert (tmp_path / "outside" / "file").stat().st_nlink == 1
    with open("/proc/self/mountinfo", encoding="utf-8") as mounts:
        assert str(tmp_path) not in mounts.read()


def deep(name: str) -> str:
    """Return a path from a layer's directory to *name* beside the store."""
    return f"../../../../{name}"


REFUSED = {
    "a name with ..": ([entry(deep("outside/new"), b"x")], "leads out of its directory"),
    "a name with .. inside": ([directory("a"), entry("a/../../b", b"x")], "leads out"),
    "a hard link to .. outside": ([hardlink("link", deep("outside/file"))], "leads out"),
    "a hard link through a symlink": (
        [symlink("out", deep("outside")), hardlink("link", "out/file")],
        "can't unpack /link",
    ),
    "a hard link to an absolute file": ([hardlink("link", "/etc/passwd")], "can't unpack /link"),
    "a directory loop": ([symlink("a", "b"), symlink("b", "a"), entry("a/x", b"x")], "symbolic"),
    "a device": ([entry("sda", type=tarfile.BLKTYPE, devmajor=8)], "image_devices"),
    "a file where the root is": ([entry(".", b"x")], "the root is not a directory"),
    "a whiteout of the directory above": ([directory("a"), entry("a/.wh...")], "a whiteout of"),
    "an unknown kind": ([entry("x", type=b"Z")], "unknown kind"),
    "an owner beyond 32 bits": ([entry("x", uid=2**32 - 1)], "belongs to 4294967295"),
    "a name of 5000 bytes": ([entry("n" * 5000, b"x")], "file name too long"),
    "a name with a zero": ([entry("x", pax_headers={"path": "a\0b"})], "a name with a zero byte"),
    "too many entries": ([entry(f"f{n}") for n in range(60)], "more than 50 entries"),
    "a file that is too large": ([entry("big", b"0" * (1 << 20 | 1))], "too many|unpacks to more"),
    "a sparse file of 8 EiB": (
        [
            entry(
                "holes",
                pax_headers={"GNU.sparse.map": "0,0", "GNU.sparse.size": str(10**17), "GNU.sparse.name": "h"},
            )
        ],
        "too many",
    ),
    "a size that is no number": ([entry("x", pax_headers={"size": "-5"})], "is not a number"),
}  # fmt: skip


@pytest.mark.parametrize(("members", "message"), REFUSED.values(), ids=REFUSED)
def test_a_hostile_layer_is_refused_and_leaves_nothing(store, tmp_path, members, message):
    image = parts([layer(entry("before", b"fine"), *members)])
    with pytest.raises(ImageError, match=message):
        ingest(store, "evil:1", image)
    nothing_left(store, tmp_path)


CONFINED = {
    "a symlink to what is not there, written through": [
        symlink("out", deep("outside")),
        entry("out/file", b"inside"),
    ],
    "a symlink with .. outside, written through": [
        symlink("out", deep("outside")),
        directory("outside"),
        entry("out/file", b"inside"),
    ],
    "an absolute symlink, written through": [
        symlink("out", "/outside"),
        directory("outside"),
        entry("out/file", b"inside"),
    ],
    "an absolute name": [directory("/outside"), entry("/outside/file", b"inside")],
    "a file that replaces a symlink": [
        directory("outside"),
        symlink("outside/file", deep("outside/file")),
        entry("outside/file", b"inside"),
    ],
}


@pytest.mark.parametrize("members", CONFINED.values(), ids=CONFINED)
def test_what_points_outside_means_a_place_inside_as_it_does_in_the_container(
    store, tmp_path, members
):
    """The kernel reads these links so in the container, too; base images have them (/var/run -> /run)."""
    image = ingest(store, "links:1", parts([layer(*members)]))
    root = store.layers(image)[0]
    with open(f"{root}/outside/file", "rb") as file:
        assert file.read() == b"inside"
    assert not os.path.islink(f"{root}/outside/file")
    store.drop([image.id])
    nothing_left(store, tmp_path)


@pytest.mark.parametrize(
    "evil", [entry("/etc/x", b"x"), hardlink("link", "/before")], ids=["name", "link"]
)
def test_absolute_names_are_refused_where_the_settings_say_so(tmp_path, evil):
    store = ImageStore(str(tmp_path / "store"), replace(BOUNDS, image_absolute_names=False))
    with pytest.raises(
        ImageError, match="is absolute, which the setting image_absolute_names forbids"
    ):
        ingest(store, "evil:1", parts([layer(entry("before", b"fine"), evil)]))
    assert os.listdir(f"{store.root}/layers") == os.listdir(f"{store.root}/blobs/sha256") == []


def test_a_layer_can_not_make_overlayfs_read_other_files(store):
    """trusted.overlay.* and the device 0:0 mean something to overlayfs: a layer may not say them."""
    image = ingest(
        ImageStore(store.root),
        "overlay:1",
        parts(
            [
                layer(
                    directory("d", pax_headers={"SCHILY.xattr.trusted.overlay.redirect": "/etc"}),
                    entry("white", type=tarfile.CHRTYPE),
                )
            ]
        ),
    )
    (root,) = store.layers(image)
    assert os.listxattr(f"{root}/d") == []
    assert list(tree(root)) == ["d"]


def test_devices_are_made_where_the_settings_allow_them(tmp_path):
    store = ImageStore(str(tmp_path))
    null = entry("null", type=tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666)
    (root,) = store.layers(ingest(store, "dev:1", parts([layer(null)])))
    assert os.stat(f"{root}/null").st_rdev == os.makedev(1, 3)


def bomb(form: str) -> bytes:
    """Return 64 MB of nothing, in a few kilobytes."""
    zeros = layer(entry("zeros", bytes(64 << 20)))
    return gzip.compress(zeros) if form == "gzip" else stream.zstd().compress(zeros)


@pytest.mark.parametrize("form", ["gzip", "zstd"])
def test_a_compression_bomb_stops_at_the_limit(tmp_path, form):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text("untouched")
    store = ImageStore(str(tmp_path / "store"), Limits(image_layer_max=32 << 20))
    packed = bomb(form)
    assert len(packed) < 100_000
    image = parts([layer(entry("a", b"x"))], [packed], LAYER_GZIP)
    with pytest.raises(ImageError, match="too many") as refused:  # its header says so already
        ingest(store, "bomb:1", image)
    assert "image_layer_max" in refused.value.message
    nothing_left(store, tmp_path)


def test_a_bomb_of_many_small_files_stops_at_the_limit(store, tmp_path):
    files = [entry(f"f{n}", bytes(100_000)) for n in range(20)]
    with pytest.raises(ImageError, match="unpacks to more than 1048576 bytes") as refused:
        ingest(store, "bomb:2", parts([layer(*files)], [gzip.compress(layer(*files))], LAYER_GZIP))
    assert "image_layer_max" in refused.value.hint
    nothing_left(store, tmp_path)


GOOD = layer(entry("file", b"content" * 1000))
DAMAGED = {
    "a truncated gzip stream": (gzip.compress(GOOD)[:-20], "ends inside its gzip stream"),
    "a damaged gzip stream": (gzip.compress(GOOD)[:30] + b"????", "can't be decompressed"),
    "garbage behind gzip": (gzip.compress(GOOD) + b"garbage", "can't be decompressed"),
    "a truncated zstd stream": (stream.zstd().compress(GOOD)[:-5], "ends inside its zstd stream"),
    "a truncated archive": (GOOD[:4000], "ends inside a file"),
    "another archive": (layer(entry("other", b"x")), "has diff id"),
    "no archive": (b"#!/bin/sh\necho\n" * 100, "not a valid tar archive"),
}


@pytest.mark.parametrize(("blob", "message"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_layer_is_refused_though_its_blob_has_the_right_digest(
    store, tmp_path, blob, message
):
    with pytest.raises(ImageError, match=message):
        ingest(store, "bad:1", parts([GOOD], [blob]))
    nothing_left(store, tmp_path)


@pytest.mark.parametrize(
    "diff_id",
    ["sha256:../../outside", "../../outside", "sha256:.", "sha256:", "", "sha256:" + "A" * 64, "sha256:" + "a" * 63,
     "sha256:" + "a" * 64 + "\n"],
)  # fmt: skip
def test_a_diff_id_that_is_a_path_never_becomes_a_directory(store, tmp_path, diff_id):
    """The first layer's directory has its name from it: `../../outside/fs` would be mounted as a layer."""
    (tmp_path / "outside/fs").mkdir()
    manifest, config, blobs = parts([layer(entry("x"))])
    raw, listed = json.loads(config), json.loads(manifest)
    raw["rootfs"]["diff_ids"] = [diff_id]
    config = json.dumps(raw).encode()
    listed["config"] |= {"digest": digest_of(config), "size": len(config)}
    with pytest.raises(ImageError, match="is not a sha256 digest"):
        ingest(store, "evil:1", (json.dumps(listed).encode(), config, blobs))
    (tmp_path / "outside/fs").rmdir()
    nothing_left(store, tmp_path)


@pytest.mark.parametrize(
    "config",
    [
        {"User": 5}, {"Env": "A=1"}, {"Env": [1]}, {"ExposedPorts": ["80"]}, {"Labels": [1]}, {"WorkingDir": ["/"]},
        {"StopSignal": 9}, {"Volumes": "x"}, {"Cmd": {"a": 1}}, [1], "x",
    ],
)  # fmt: skip
def test_a_configuration_of_other_types_is_refused(config):
    with pytest.raises(ImageError, match="image config is not valid"):
        parse_config(json.dumps({"config": config}).encode())


def test_a_blob_with_the_wrong_digest_is_never_unpacked_under_its_name(store, tmp_path):
    manifest, config, (blob,) = parts([GOOD])
    other = bytearray(blob)
    other[600] ^= 1  # in the content: the archive is still a good one
    with pytest.raises(ImageError, match="has digest"):
        ingest(store, "bad:1", (manifest, config, [bytes(other)]))
    nothing_left(store, tmp_path)


def test_a_config_of_another_digest_is_refused(store, tmp_path):
    manifest, config, blobs = parts([GOOD])
    with pytest.raises(ImageError, match="config has digest"):
        ingest(store, "bad:1", (manifest, config + b" ", blobs))
    nothing_left(store, tmp_path)


MANIFEST, CONFIG, _ = parts([GOOD])
RAW = json.loads(MANIFEST)
MANIFESTS = {
    "100 MB": (b" " * (100 << 20), "104857600 bytes, more than 4194304"),
    "an unknown type": ({**RAW, "mediaType": "text/html"}, "unsupported media type 'text/html'"),
    "schema 1": ({**RAW, "schemaVersion": 1}, "schema version 1"),
    "a helm chart": (
        {**RAW, "config": {**RAW["config"], "mediaType": "application/vnd.cncf.helm.config.v1+json"}},
        "no container image",
    ),
    "an unknown kind of layer": (
        {**RAW, "layers": [{**RAW["layers"][0], "mediaType": "application/octet-stream"}]},
        "unsupported media type 'application/octet-stream' of layer",
    ),
    "a negative size": ({**RAW, "layers": [{**RAW["layers"][0], "size": -1}]}, "size -1"),
    "no layers": ({"schemaVersion": 2, "config": RAW["config"]}, "layers"),
    "1000 layers": ({**RAW, "layers": RAW["layers"] * 1000}, "1000 layers, more than"),
    "nested a million times": (b"[" * 1_000_000, "not valid"),
    "no object": (b"[]", "not valid"),
}  # fmt: skip


@pytest.mark.parametrize(("raw", "message"), MANIFESTS.values(), ids=MANIFESTS)
def test_a_wrong_manifest_is_refused(raw, message):
    text = raw if isinstance(raw, bytes) else json.dumps(raw).encode()
    with pytest.raises(ImageError, match=message):
        parse_manifest(text)


def test_an_archive_whose_blob_is_not_what_it_is_called_is_refused(store, tmp_path):
    """Files of an archive become blobs by what they hold: one that lies is simply missing."""
    write_layout(f"{tmp_path}/store/lay", "bad:1", parts([GOOD]))
    path = f"{tmp_path}/store/lay/blobs/sha256/{digest_of(GOOD)[7:]}"
    with open(path, "r+b") as file:
        file.seek(600)
        file.write(b"?")
    with pytest.raises(ImageError, match="is missing"):
        archive.load(store, f"{tmp_path}/store/lay", base="x")
    nothing_left(store, tmp_path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "neither index.json"),
        (b"hello" * 300, "not a valid tar"),
        (GOOD, "neither index.json"),
    ],
    ids=["nothing", "no tar", "another tar"],
)
def test_what_is_no_image_archive_is_refused(store, tmp_path, data, message):
    with pytest.raises(ImageError, match=message):
        archive.load(store, io.BytesIO(data))
    nothing_left(store, tmp_path)


def test_an_image_that_is_refused_leaves_the_old_one_its_name(store):
    old = ingest(store, "app:1", parts([GOOD]))
    with pytest.raises(ImageError):
        ingest(store, "app:1", parts([GOOD, layer(hardlink("x", "missing"))]))
    found = store.resolve("app:1")
    assert found is not None
    assert found.id == old.id


@pytest.fixture
def layers(tmp_path) -> tuple[str, str]:
    """An upper one with an empty /etc, a lower one with a passwd in its."""
    for name in ("upper", "lower"):
        (tmp_path / name / "etc").mkdir(parents=True)
    (tmp_path / "lower" / "etc" / "passwd").write_text("lower")
    return str(tmp_path / "upper"), str(tmp_path / "lower")


def plain(path: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write("upper")


@pytest.mark.parametrize(
    ("make", "wanted"),
    [
        (lambda _: None, b"lower"),
        (plain, b"upper"),
        (lambda path: os.symlink("../../../../../../../../etc/other", path), b"other"),
        (os.mkdir, b""),
        (os.mkfifo, b""),
        (lambda path: os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 5)), b""),  # /dev/zero
        (lambda path: os.mknod(path, stat.S_IFCHR, 0), b""),  # a whiteout
    ],
    ids=["nothing", "file", "link", "directory", "pipe", "device", "whiteout"],
)
def test_an_account_file_is_read_as_the_overlay_shows_it_and_a_plain_one_only(
    layers, make, wanted: bytes
) -> None:
    with open(f"{layers[0]}/etc/other", "w", encoding="ascii") as file:
        file.write("other")
    make(f"{layers[0]}/etc/passwd")
    before = len(os.listdir("/proc/self/fd"))
    assert read_in_layers(layers, "etc/passwd") == wanted
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_directory_that_is_new_or_none_hides_the_account_files_below(layers) -> None:
    os.setxattr(f"{layers[0]}/etc", "trusted.overlay.opaque", b"y")
    assert read_in_layers(layers, "etc/passwd") == b""
    os.rmdir(f"{layers[0]}/etc")
    assert read_in_layers(layers, "etc/passwd") == b"lower"
    plain(f"{layers[0]}/etc")
    assert read_in_layers(layers, "etc/passwd") == b""
