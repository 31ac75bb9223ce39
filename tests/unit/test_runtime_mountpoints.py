"""The layer of mount points: what is in it for which mounts, made whole, left out where it can't be."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from minipod.linux.flags import OVL_MAX_STACK
from minipod.runtime.mountpoints import NODE_RESOLV, SECRETS, MountPoints, secrets_in
from minipod.spec.container import Mount


def paths(layer: str) -> set[str]:
    """Return what is in *layer* and is no directory above another one."""
    found = {f"/{p.relative_to(layer)}" for p in Path(layer).rglob("*") if p.is_file() or not any(p.iterdir())}  # fmt: skip
    return found - {"/dev", "/proc", "/sys"}


@pytest.fixture
def ours(tmp_path) -> Path:
    """A directory of the node's, with a file and a directory; an image's layer beside it."""
    (tmp_path / "ours" / "directory").mkdir(parents=True)
    (tmp_path / "ours" / "file").write_text("")
    (tmp_path / "image").mkdir()
    return tmp_path / "ours"


def below(ours: Path, *mounts: Mount) -> str:
    """Return the layer that *mounts* get below an image's one."""
    points = MountPoints(str(ours.parent / "points"), [str(ours)])
    image, layer = points.below((str(ours.parent / "image"),), mounts)
    assert image.endswith("/image")
    assert all(os.path.isdir(layer + path) for path in ("/dev", "/proc", "/sys"))
    return layer


@pytest.mark.parametrize(
    ("mount", "wanted"),
    [
        pytest.param(Mount(host_path="{0}/file", container_path="/etc/hosts"), {"/etc/hosts"}, id="a file"),
        pytest.param(Mount(host_path="{0}/directory", container_path=SECRETS), {SECRETS}, id="a directory"),
        pytest.param(Mount(host_path="{0}/directory", container_path="/etc/hosts"), set(), id="no file"),
        pytest.param(Mount(host_path="{0}/file", container_path=SECRETS), set(), id="no directory"),
        pytest.param(Mount(host_path="/etc/passwd", container_path="/etc/hosts"), set(), id="not ours"),
        pytest.param(Mount(host_path=NODE_RESOLV, container_path="/etc/resolv.conf"), {"/etc/resolv.conf"}, id="the node's"),
        pytest.param(Mount(host_path="{0}", sub_path="file", container_path="/etc/hosts"), set(), id="a part"),
        pytest.param(Mount(host_path="{0}/file", container_path="/data"), set(), id="elsewhere"),
    ],
)  # fmt: skip
def test_what_is_mounted_in_every_container_has_its_place(ours, mount, wanted) -> None:
    asked = Mount(
        host_path=mount.host_path.format(ours), sub_path=mount.sub_path, container_path=mount.container_path
    )  # fmt: skip
    assert paths(below(ours, asked)) == wanted


def test_a_layer_is_one_for_all_and_made_whole_again(ours) -> None:
    mount = Mount(host_path=f"{ours}/file", container_path="/etc/hosts")
    layer = below(ours, mount)
    os.unlink(f"{layer}/etc/hosts")  # a loss of power
    assert below(ours, mount, mount) == layer
    assert paths(layer) == {"/etc/hosts"}
    assert below(ours) != layer


@pytest.mark.parametrize(
    ("link", "where"),
    [("/run", SECRETS.removeprefix("/var")), ("../run", SECRETS.removeprefix("/var")), ("/other", "")],
)  # fmt: skip
def test_an_images_link_is_followed_to_run_and_nowhere_else(tmp_path, link, where) -> None:
    for name in ("lower", "upper"):
        (tmp_path / name / "var").mkdir(parents=True)
    lower, upper = str(tmp_path / "lower"), str(tmp_path / "upper")
    assert secrets_in((upper, lower)) == SECRETS
    secrets_in.cache_clear()
    os.symlink(link, f"{lower}/var/run")
    assert secrets_in((upper, lower)) == where
    secrets_in.cache_clear()
    os.mkdir(f"{upper}/var/run")
    assert secrets_in((upper, lower)) == SECRETS


def test_no_link_of_an_image_leads_to_the_node(tmp_path) -> None:
    """Its /var leads to a directory of the node's, which has a /var/run of its own."""
    (tmp_path / "node").mkdir()
    os.symlink("/run", tmp_path / "node" / "run")
    (tmp_path / "layer").mkdir()
    os.symlink(tmp_path / "node", tmp_path / "layer" / "var")
    assert secrets_in((str(tmp_path / "layer"),)) == ""


@pytest.mark.parametrize(
    ("layers", "more"), [(0, 0), (1, 1), (OVL_MAX_STACK - 1, 1), (OVL_MAX_STACK, 0)]
)
def test_there_are_not_more_layers_than_overlayfs_takes(ours, layers: int, more: int) -> None:
    image = (str(ours.parent / "image"),) * layers
    points = MountPoints(str(ours.parent / "points"), [str(ours)])
    assert len(points.below(image, ())) == layers + more


def test_on_another_file_system_there_is_none(ours) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        if os.stat(other).st_dev == os.stat(ours).st_dev:
            pytest.skip("one file system only")
        points = MountPoints(f"{other}/points", [str(ours)])
        assert points.below((str(ours),), ()) == (str(ours),)
