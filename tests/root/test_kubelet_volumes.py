"""emptyDir on real mounts: sizes, and removal that unmounts first. Excluded: the inside view."""

import os

import pytest

from minipod.kubelet.rules.pods import compile_pod
from minipod.kubelet.volumes import PodDirectory

pytestmark = pytest.mark.requires("root")


def test_a_memory_volume_is_a_sized_tmpfs_and_goes_with_the_pod(tmp_path):
    directory = PodDirectory(str(tmp_path), "u1")
    volume = {"name": "scratch", "emptyDir": {"medium": "Memory", "sizeLimit": "8Mi"}}
    pod = compile_pod({"metadata": {"name": "a"}, "spec": {"volumes": [volume]}})
    paths = directory.set_up_volumes(pod, 1 << 30)
    assert directory.set_up_volumes(pod, 1 << 30) == paths  # again: nothing is mounted twice
    size = os.statvfs(paths["scratch"])
    assert size.f_blocks * size.f_frsize == 8 << 20
    assert os.stat(paths["scratch"]).st_mode & 0o7777 == 0o777
    directory.remove()
    assert not os.path.exists(directory.path)
    directory.remove()
