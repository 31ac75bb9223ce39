"""The lowest layer of a container's root: what is mounted on in every container, and is missing in many images.

Where something is mounted there must be something. In an image that does not have it the set-up would make it: in the container's upper
directory, where overlayfs makes each directory above it, too. Those are ten inodes less for each container, to be made before its start
and removed at its end. A container sees what it would see: only what is mounted in it is in its layer, of which there
are a few for the whole node. What the image has is over it, and counts.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import lru_cache

from minipod.linux.flags import OVL_MAX_STACK
from minipod.spec.container import Mount

ALWAYS = ("/dev", "/proc", "/sys")
NODE_RESOLV = "/etc/resolv.conf"
FILES = ("/etc/hostname", "/etc/hosts", NODE_RESOLV)
SECRETS = "/var/run/secrets/kubernetes.io/serviceaccount"
LINKED_SECRETS = SECRETS.removeprefix("/var")
_LINKS = ("/run", "../run")


class MountPoints:
    """Makes the layers below *directory*, each at its first use: what is left of one, after a loss of power, is made whole then."""

    def __init__(self, directory: str, ours: Sequence[str]) -> None:
        self._directory = directory
        self._ours = tuple(
            f"{path}/" for path in ours
        )  # what is below them is on no file system that hangs; nor is the node's own resolv.conf
        self._made: dict[tuple[str, ...], str] = {}

    def below(self, layers: tuple[str, ...], mounts: Sequence[Mount]) -> tuple[str, ...]:
        """Return *layers* (top first), and below them the one for *mounts*. Raises OSError.

        It is left out where it is on another file system: overlayfs would show files and directories with different devices
        (overlayfs.rst, "Inode properties"). So it is where it would be one layer too many.
        """
        if not 0 < len(layers) < OVL_MAX_STACK:
            return layers
        wanted = tuple(sorted({path for m in mounts if (path := self._place(m, layers))}))
        if (layer := self._made.get(wanted)) is None:
            layer = self._made[wanted] = self._make(wanted)
        if os.stat(layers[-1]).st_dev == os.stat(layer).st_dev:
            return (*layers, layer)
        return layers

    def _place(self, mount: Mount, layers: tuple[str, ...]) -> str:
        """Return where the image is to have something for *mount*; "" where the set-up shall see to it."""
        source, target = mount.host_path, mount.container_path
        if mount.sub_path or not (source == NODE_RESOLV or source.startswith(self._ours)):
            return ""
        if target in FILES and os.path.isfile(source):
            return target
        if target == SECRETS and os.path.isdir(source):
            return secrets_in(layers)
        return ""

    def _make(self, wanted: tuple[str, ...]) -> str:
        names = [os.path.basename(path) for path in wanted if path != LINKED_SECRETS]
        names += ["run"] if LINKED_SECRETS in wanted else []
        layer = f"{self._directory}/{'+'.join(names) or 'none'}"
        for path in (*ALWAYS, *wanted):
            is_file = path in FILES
            os.makedirs(layer + (os.path.dirname(path) if is_file else path), 0o755, exist_ok=True)
            if is_file:
                os.close(os.open(layer + path, os.O_CREAT | os.O_RDONLY | os.O_CLOEXEC, 0o644))
        return layer


@lru_cache(maxsize=64)
def secrets_in(layers: tuple[str, ...]) -> str:
    """Return where `SECRETS` leads in an image: /var/run is a link to /run in most; "" for another link.

    No link of an image's is followed here: it leads to a place of ours, which may hang (autofs), or be another one in the container.
    """
    for layer in layers:
        path = f"{layer}/var/run"
        if os.path.islink(f"{layer}/var"):
            return ""
        if os.path.islink(path):
            return LINKED_SECRETS if os.readlink(path) in _LINKS else ""
        if os.path.isdir(path):
            break
    return SECRETS
