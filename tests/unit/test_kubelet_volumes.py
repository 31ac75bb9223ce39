"""hostPath checks and the pod's directory, without mounts."""

import os
import socket

import pytest

from minipod.errors import FailedPrecondition
from minipod.kubelet.rules.pods import compile_container, compile_pod
from minipod.kubelet.volumes import PodDirectory


@pytest.fixture
def host(tmp_path):
    (tmp_path / "dir").mkdir()
    (tmp_path / "file").touch()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "socket"))
    return tmp_path


def set_up(host, name: str, kind: str) -> str:
    source = {"path": name if name.startswith("/") else str(host / name), "type": kind}
    volume = {"name": "v", "hostPath": source}
    pod = compile_pod({"metadata": {"name": "a"}, "spec": {"volumes": [volume]}})
    return PodDirectory(str(host / "state"), "u").set_up_volumes(pod, 1 << 30)["v"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("dir", "Directory"),
        ("file", "File"),
        ("socket", "Socket"),
        ("/dev/null", "CharDevice"),
        ("new", "DirectoryOrCreate"),
        ("new", "FileOrCreate"),
        ("new", ""),
    ],
)
def test_a_host_path_that_fits_its_type(host, name, kind):
    assert set_up(host, name, kind).endswith(name)


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("file", "Directory", "a directory"),
        ("missing", "Directory", "a directory"),
        ("file", "DirectoryOrCreate", "a directory"),
        ("dir", "File", "a file"),
        ("dir", "FileOrCreate", "a file"),
        ("file", "Socket", "a socket file"),
        ("file", "CharDevice", "a character device"),
        ("file", "BlockDevice", "a block device"),
    ],
)
def test_a_host_path_that_does_not(host, name, kind, words):
    with pytest.raises(FailedPrecondition) as caught:
        set_up(host, name, kind)
    assert caught.value.message == (
        f'MountVolume.SetUp failed for volume "v" : hostPath type check failed: '
        f"{host / name} is not {words}"
    )


def test_every_instance_has_a_termination_file_that_any_user_writes(host):
    directory = PodDirectory(str(host), "u")
    container = compile_container({"name": "app"}, "spec.containers[0]")
    first, second = (directory.new_termination_file(container) for _ in range(2))
    assert first != second
    assert os.stat(first).st_mode & 0o777 == 0o666
