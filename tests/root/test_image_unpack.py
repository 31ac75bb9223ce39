"""Unpacked layers compared file by file with what umoci and GNU tar unpack of images that other tools made.

Excluded: hostile layers (test_image_hostile), and who brings the blobs (test_image_store).
"""

from __future__ import annotations

import os
import shutil
import socket
import stat
import struct
import subprocess

import pytest

from minipod.image import archive
from minipod.image.store import ImageStore
from tests.image_files import directory, entry, ingest, layer, mounted, parts, symlink, tree

CAP_NET_RAW = bytes.fromhex("0100000200200000000000000000000000000000")  # cap_net_raw=ep
NSEC = 1_700_000_000_123_456_789


@pytest.fixture
def store(tmp_path):
    return ImageStore(str(tmp_path / "store"))


def run(*command: str, **options) -> None:
    subprocess.run(command, check=True, capture_output=True, **options)


def fill(root: str) -> None:
    """Make one of everything that a layer can hold."""
    os.makedirs(f"{root}/usr/bin")
    os.makedirs(f"{root}/var/lib/gone/deep")
    os.makedirs(f"{root}/opaque/old")
    os.makedirs(f"{root}/tmp")
    os.chmod(f"{root}/tmp", 0o1777)  # noqa: S103 as /tmp is
    for name in (
        "usr/bin/tool",
        "usr/bin/cap",
        "var/lib/gone/deep/file",
        "var/lib/stays",
        "opaque/old/x",
    ):
        with open(f"{root}/{name}", "w") as file:
            file.write(name * 100)
    os.symlink("usr/bin", f"{root}/bin")
    os.symlink("/absolute/target", f"{root}/usr/absolute")
    os.link(f"{root}/usr/bin/tool", f"{root}/usr/bin/same")
    os.chown(f"{root}/var/lib/stays", 1234, 4294967294)
    os.chmod(f"{root}/usr/bin/tool", 0o6755)  # noqa: S103 setuid and setgid
    os.setxattr(f"{root}/usr/bin/cap", "security.capability", CAP_NET_RAW)
    os.setxattr(f"{root}/usr/bin/cap", "user.note", b"bytes \x00\xff")
    os.setxattr(f"{root}/opaque", "user.kept", b"yes")
    os.mknod(f"{root}/device", 0o640 | stat.S_IFCHR, os.makedev(1, 3))
    os.mkfifo(f"{root}/fifo", 0o611)
    long = "/".join(["a name of some length " * 5] * 3)
    os.makedirs(f"{root}/{long}")
    os.symlink(long + "/target", f"{root}/{long}/link")
    with open(f"{root}/ünïcode \t name", "w"):
        pass
    with open(os.fsencode(f"{root}/not-utf8-") + b"\xff\xfe", "w"):
        pass
    with open(f"{root}/sparse", "wb") as file:
        file.truncate(3 << 20)
        for at in (0, 1 << 20, 2 << 20):
            file.seek(at)
            file.write(b"data" * 1000)
    for above, directories, files in os.walk(root, topdown=False):
        for name in (*files, *directories):
            os.utime(f"{above}/{name}", ns=(NSEC, NSEC + len(name)), follow_symlinks=False)


def change(root: str) -> None:
    """Make a second layer: removals, an exchanged directory, files through a symlink of the first."""
    shutil.rmtree(f"{root}/var/lib/gone")
    shutil.rmtree(f"{root}/opaque")
    os.mkdir(f"{root}/opaque")
    with open(f"{root}/opaque/new", "w") as file:
        file.write("new")
    os.unlink(f"{root}/usr/absolute")
    os.mkdir(f"{root}/usr/absolute")
    os.unlink(f"{root}/fifo")
    with open(f"{root}/bin/late", "w") as file:
        file.write("through the link")


@pytest.fixture(scope="module")
def umoci_image(tmp_path_factory):
    """An OCI layout with two layers that umoci packed, and what umoci unpacks of it."""
    if shutil.which("umoci") is None:
        pytest.skip("umoci is not installed (scripts/setup --dev)")
    here = tmp_path_factory.mktemp("umoci")
    image = f"{here}/layout:all"
    run("umoci", "init", "--layout", f"{here}/layout")
    run("umoci", "new", "--image", image)
    for step in (fill, change):
        run("umoci", "unpack", "--image", image, f"{here}/bundle")
        step(f"{here}/bundle/rootfs")
        run("umoci", "repack", "--image", image, f"{here}/bundle")
        shutil.rmtree(f"{here}/bundle")
    run("umoci", "raw", "unpack", "--image", image, f"{here}/rootfs")
    return here


def test_layers_of_umoci_unpack_as_umoci_unpacks_them(store, umoci_image, tmp_path):
    (image,) = archive.load(store, f"{umoci_image}/layout", base="umoci")
    assert image.tags == ("docker.io/library/umoci:all",)
    assert len(image.layer_digests) == 2
    with mounted(store, "umoci:all", tmp_path) as merged:
        ours, theirs = tree(merged), tree(f"{umoci_image}/rootfs")
    assert len(theirs) > 20
    assert "security.capability" in dict(theirs["usr/bin/cap"][6])
    assert ours == theirs


@pytest.mark.parametrize("form", ["gzip", "zstd", "zstd:chunked"])
def test_an_image_that_skopeo_recompressed_unpacks_the_same(store, umoci_image, tmp_path, form):
    run(
        "skopeo", "copy", "-q", "--dest-compress", "--dest-compress-format", form,
        f"oci:{umoci_image}/layout:all", f"oci-archive:{tmp_path}/image.tar:again/it:1",
    )  # fmt: skip
    with open(tmp_path / "image.tar", "rb") as file:
        (image,) = archive.load(store, file)
    assert {layer.media_type.rpartition("+")[2] for layer in store.manifest(image).layers} == {
        form.partition(":")[0]
    }
    with mounted(store, "again/it:1", tmp_path) as merged:
        assert tree(merged) == tree(f"{umoci_image}/rootfs")


def test_an_image_of_buildah_unpacks_as_umoci_unpacks_it(store, tmp_path):
    if shutil.which("buildah") is None:
        pytest.skip("buildah is not installed (scripts/setup --dev)")
    where = [
        "--root",
        f"{tmp_path}/root",
        "--runroot",
        f"{tmp_path}/run",
        "--storage-driver",
        "vfs",
    ]

    def buildah(*words: str) -> str:
        done = subprocess.run(
            ["buildah", *where, *words], check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    os.makedirs(tmp_path / "files")
    fill(str(tmp_path / "files"))
    container = buildah("from", "scratch")
    buildah("copy", "-q", container, f"{tmp_path}/files", "/")
    buildah("config", "--cmd", "/usr/bin/tool", "--user", "1234", container)
    buildah("commit", "-q", "--format", "docker", container, f"oci:{tmp_path}/layout:one")
    run("umoci", "raw", "unpack", "--image", f"{tmp_path}/layout:one", f"{tmp_path}/rootfs")
    (image,) = archive.load(store, f"{tmp_path}/layout", base="made")
    assert store.config(image).user == "1234"
    with mounted(store, "made:one", tmp_path) as merged:
        ours, theirs = tree(merged), tree(f"{tmp_path}/rootfs")
    assert "usr/bin/tool" in theirs
    assert ours == theirs


GNU = {
    "gnu": ["--format=gnu"],
    "gnu sparse": ["--format=gnu", "--sparse"],
    "pax": ["--format=posix"],
    "pax sparse 0.0": ["--format=posix", "--sparse", "--sparse-version=0.0"],
    "pax sparse 0.1": ["--format=posix", "--sparse", "--sparse-version=0.1"],
    "pax sparse 1.0": ["--format=posix", "--sparse", "--sparse-version=1.0"],
}


@pytest.mark.parametrize("options", GNU.values(), ids=GNU)
def test_archives_of_gnu_tar_unpack_as_gnu_tar_unpacks_them(store, tmp_path, options):
    made, theirs = tmp_path / "made", tmp_path / "theirs"
    made.mkdir()
    theirs.mkdir()
    fill(str(made))
    with open(made / "holes", "wb") as file:  # more than the four segments of a header
        file.truncate(8 << 20)
        for at in range(0, 8 << 20, 1 << 18):
            file.seek(at)
            file.write(b"x" * 4096)
    xattrs = ["--xattrs", "--xattrs-include=*"] if "posix" in options[0] else []
    packed = f"{tmp_path}/layer.tar"
    run("tar", "-C", str(made), *options, *xattrs, "-cf", packed, ".")
    run("tar", "-C", str(theirs), "-xpf", packed, "--numeric-owner", *xattrs)
    with open(packed, "rb") as file:
        archive.import_tree(store, file, ["gnu:1"], {})
    (ours,) = store.layers(store.resolve("gnu:1"))
    assert tree(ours) == tree(str(theirs))
    if "--sparse" in options:
        for name in ("sparse", "holes"):
            assert os.stat(f"{ours}/{name}").st_blocks * 512 < 2 << 20


@pytest.mark.smoke
def test_whiteouts_and_opaque_directories_are_those_of_overlayfs(store, tmp_path):
    base = layer(
        directory("d"), entry("d/a", b"1"), entry("d/b", b"2"), directory("d/sub"), entry("d/sub/c", b"3"),
        directory("late"), entry("late/low", b"4"),
    )  # fmt: skip
    top = layer(
        directory("d"), entry("d/.wh..wh..opq"), entry("d/new", b"5"), entry(".wh.missing"),
        directory("late"), entry("late/high", b"6"), entry("late/.wh..wh..opq"),
    )  # fmt: skip
    image = ingest(store, "wh:1", parts([base, top]))
    upper = store.layers(image)[0]
    assert os.getxattr(f"{upper}/d", "trusted.overlay.opaque") == b"y"
    assert sorted(os.listdir(f"{upper}/d")) == ["new"]
    assert os.stat(f"{upper}/late/low").st_rdev == 0
    with mounted(store, "wh:1", tmp_path) as merged:
        assert sorted(tree(merged)) == ["d", "d/new", "late", "late/high"]


def test_a_layer_adds_through_a_symlink_of_the_layer_below(store, tmp_path):
    base = layer(
        directory("usr"),
        directory("usr/lib"),
        symlink("lib", "usr/lib"),
        symlink("abs", "/usr/lib"),
    )
    top = layer(entry("lib/one", b"1"), entry("abs/two", b"2"))
    ingest(store, "links:1", parts([base, top]))
    with mounted(store, "links:1", tmp_path) as merged:
        assert sorted(os.listdir(f"{merged}/usr/lib")) == ["one", "two"]
        assert os.readlink(f"{merged}/lib") == "usr/lib"


def test_a_path_goes_through_a_symlink_and_then_up(store):
    """In an overlay that no mount namespace has, openat2(2) says EAGAIN for ever to the second half of such a path."""
    base = layer(directory("a"), directory("b"), symlink("l", "a"), symlink("a/up", "../b"))
    ingest(store, "app:1", parts([base, layer(entry("l/up/new", b"new"))]))
    top = store.layers(store.resolve("app:1"))[0]
    assert list(tree(top)) == ["b", "b/new"]


def test_a_directory_that_only_a_symlink_names_is_made(store):
    """As containerd and umoci: /var/run is a link in many bases, and not each of them has /run."""
    made = layer(
        directory("var"),
        symlink("var/run", "/run"),
        symlink("x", "var/none/../y"),
        entry("var/run/a/pid"),
        entry("x/z"),
    )
    (root,) = store.layers(ingest(store, "app:1", parts([made])))
    regular = {path for path, found in tree(root).items() if str(found[0]).startswith("0o100")}
    assert regular == {"run/a/pid", "var/y/z"}


def test_a_whiteout_hides_what_is_below_and_nothing_of_its_own_layer(store, tmp_path):
    """Wherever it stands in the archive, and whatever name its directory has there."""
    base = layer(
        directory("d"), entry("d/old"), directory("o"), entry("o/old"), symlink("alias", "o")
    )
    top = layer(
        directory("d"), entry("d/new"), entry(".wh.d"), entry("alias/new"), entry("o/.wh..wh..opq")
    )
    ingest(store, "app:1", parts([base, top]))
    with mounted(store, "app:1", tmp_path) as merged:
        assert sorted(tree(merged)) == ["alias", "d", "d/new", "o", "o/new"]


def test_an_absolute_name_is_one_inside_the_root_as_ko_writes_them(store):
    image = ingest(store, "ko:1", parts([layer(entry("/ko-app/app", b"binary", mode=0o555))]))
    assert list(tree(store.layers(image)[0])) == ["ko-app", "ko-app/app"]


def test_a_directory_that_comes_again_has_the_attributes_of_the_last_entry_alone(store, tmp_path):
    base = layer(directory("d", pax_headers={"SCHILY.xattr.user.old": "1"}, uid=5))
    top = layer(directory("d", pax_headers={"SCHILY.xattr.user.new": "2"}, mode=0o700, mtime=7))
    ingest(store, "again:1", parts([base, top]))
    with mounted(store, "again:1", tmp_path) as merged:
        (found,) = tree(merged).values()
    assert found[:4] == (oct(stat.S_IFDIR | 0o700), 0, 0, 7 * 10**9)
    assert found[6] == (("user.new", b"2"),)


# A default ACL (acl(5)): the owner may all, nobody else anything.
PRIVATE = struct.pack("<I" + "HHI" * 3, 2, 1, 7, 2**32 - 1, 4, 0, 2**32 - 1, 0x20, 0, 2**32 - 1)
ACL = {"SCHILY.xattr.system.posix_acl_default": PRIVATE.decode("utf-8", "surrogateescape")}


@pytest.mark.parametrize("where", [".", "d"])
@pytest.mark.parametrize(
    "change", [{"mode": 0o2755, "gid": 7}, {"pax_headers": ACL}], ids=["setgid", "ACL"]
)
def test_files_have_their_owner_and_mode_whatever_their_directory_gives_to_new_ones(
    store, where, change
):  # fmt: skip
    members = [
        directory("z"), directory(where), entry(f"{where}/a"), directory(where, **change), entry(f"{where}/b"),
        directory("z"), entry("z/c"), entry(f"{where}/d"), entry("z/e"), entry("z/.wh.none"), entry("f"),
    ]  # fmt: skip
    (root,) = store.layers(ingest(store, "given:1", parts([layer(*members)])))
    found = [t[:3] for n, t in tree(root).items() if os.path.isfile(f"{root}/{n}")]
    assert found == [(oct(stat.S_IFREG | 0o644), 0, 0)] * 6


@pytest.mark.requires("kernel>=6.5")
def test_more_layers_than_mount_options_have_room_for(store):
    archives = [layer(entry(f"file{n}", b"x")) for n in range(80)]
    image = ingest(store, "many:1", parts([*archives, layer(entry("file1", b"again"))]))
    with store.scratch(image) as (root, _):
        assert len(os.listdir(f"/proc/self/fd/{root}")) == 80


def test_a_socket_is_left_out_when_a_directory_becomes_a_layer(store, tmp_path):
    from minipod.image.layer import commit

    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{tmp_path}/s")
        os.mkdir(tmp_path / "upper")
        os.rename(tmp_path / "s", tmp_path / "upper" / "s")
        assert commit(store.content, str(tmp_path / "upper")) is None
