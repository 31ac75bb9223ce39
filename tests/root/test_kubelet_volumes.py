"""emptyDir on real mounts: sizes, and removal that unmounts first. Excluded: the inside view."""

import asyncio
import os
import time

import pytest

from minipod.kubelet.objects import ObjectReader
from minipod.kubelet.rules.env import NodeFacts
from minipod.kubelet.rules.pods import compile_pod
from minipod.kubelet.tokens import PodTokens
from minipod.kubelet.volumes import PodDirectory
from minipod.kubelet.volumes.setup import PodVolumes
from tests.fakes.store import FakeStore

pytestmark = pytest.mark.requires("root")


def test_a_memory_volume_is_a_sized_tmpfs_and_goes_with_the_pod(tmp_path):
    directory = PodDirectory(str(tmp_path), str(tmp_path / "run"), "u1")
    volumes = PodVolumes(directory, ObjectReader(FakeStore()), PodTokens(None, time.time), 1 << 30)
    volume = {"name": "scratch", "emptyDir": {"medium": "Memory", "sizeLimit": "8Mi"}}
    pod = compile_pod({"metadata": {"name": "a"}, "spec": {"volumes": [volume]}})
    made = asyncio.run(volumes.set_up(pod, NodeFacts()))
    assert asyncio.run(volumes.set_up(pod, NodeFacts())) == made  # again: nothing is mounted twice
    path = made["scratch"].path
    size = os.statvfs(path)
    assert size.f_blocks * size.f_frsize == 8 << 20
    assert os.stat(path).st_mode & 0o7777 == 0o777
    directory.remove()
    assert not os.path.exists(directory.path)
    directory.remove()
