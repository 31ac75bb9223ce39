"""What we say that this machine is: the same everywhere, in the words that images and Kubernetes use."""

from __future__ import annotations

from minipod.apiserver.discovery import VERSION
from minipod.image.registry import platform
from minipod.kubelet import node
from minipod.linux.libc import GOARCH, MACHINE


def test_the_version_the_node_and_the_images_name_one_platform() -> None:
    here = platform.of_machine()
    assert VERSION["platform"] == f"{here.os}/{here.architecture}"
    assert node._node_info("1")["architecture"] == here.architecture
    assert platform.parse(f"linux/{MACHINE}").architecture == GOARCH[MACHINE]
