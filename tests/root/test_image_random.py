"""Random layers, one over the other, unpacked by us and by umoci: names through symlinks, whiteouts behind what they hide, links to links.

Compared: kind, mode, owner, time, content, target and xattrs of each file. Excluded: the times of directories (umoci forgets those in which
a whiteout fell), and directories that an opaque whiteout alone names (made, as containerd does; umoci does not).
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import tarfile

import pytest

from minipod.errors import ImageError
from minipod.image.store import ImageStore
from tests.image_files import (  # fmt: skip
    directory,
    entry,
    hardlink,
    ingest,
    layer,
    mounted,
    parts,
    symlink,
    tree,
    write_layout,
)

SEEDS = range(40)  # of these umoci and we refuse about half: hard links to nothing
DIRECTORIES = ("a", "b", "a/c", "b/d", "a/c/e", "l", "l/x")
TARGETS = ("a", "/b", "../b", "/a/c", "/nowhere", "f")


class Maker:
    """Makes the members of one layer."""

    def __init__(self, seed: random.Random, *, is_base: bool) -> None:
        self._random = seed
        self._made = ["f"]
        kinds = [self.directory, self.file, self.file, self.link, self.hard_link, self.fifo]
        self._kinds = kinds if is_base else [*kinds, self.whiteout, self.opaque]

    def members(self) -> list:
        return [self._random.choice(self._kinds)() for _ in range(self._random.randint(3, 14))]

    def _name(self) -> str:
        """Return a new name; now and then what was a directory becomes something else."""
        choose = self._random.choice
        name = choose(
            [f"{choose(DIRECTORIES)}/{choose('fgh')}", choose("fgh"), choose(("l", "b", "a/c"))]
        )
        self._made.append(name)
        return choose(("", "./", "/")) + name

    def _fields(self) -> dict:
        choose = self._random.choice
        noted = {"pax_headers": {"SCHILY.xattr.user.x": str(self._random.random())}}
        return {
            "mode": choose([0o644, 0o4755, 0o600, 0o1777]), "uid": choose([0, 1000]), "gid": choose([0, 50]),
            "mtime": choose([1_600_000_000, 1_700_000_000.25]), **choose([{}, {}, noted]),
        }  # fmt: skip

    def directory(self):
        return directory(self._random.choice(DIRECTORIES) + "/", **self._fields())

    def file(self):
        return entry(self._name(), self._random.randbytes(5), **self._fields())

    def link(self):
        return symlink(self._name(), self._random.choice(TARGETS))

    def hard_link(self):
        return hardlink(self._name(), self._random.choice(self._made))

    def fifo(self):
        return entry(self._name(), type=tarfile.FIFOTYPE, **self._fields())

    def whiteout(self):
        above, name = os.path.split(self._name())
        return entry(os.path.join(above, f".wh.{name}"))

    def opaque(self):
        return entry(f"{self._random.choice(DIRECTORIES)}/.wh..wh..opq")


def seen(root: str) -> dict[str, tuple[object, ...]]:
    """Return what is compared of all below *root*."""
    found = {}
    for path, (mode, uid, gid, mtime, device, content, xattrs, _) in tree(root).items():
        is_directory = str(mode).startswith("0o4")
        time = 0 if is_directory else mtime
        found[path] = (mode, uid, gid, time, device, content, xattrs)
    return found


@pytest.mark.parametrize("number", SEEDS)
def test_random_layers_unpack_as_umoci_unpacks_them(tmp_path, number):
    if shutil.which("umoci") is None:
        pytest.skip("umoci is not installed (scripts/setup --dev)")
    seed = random.Random(number)  # noqa: S311 no secret
    count = seed.randint(2, 4)
    layers = [layer(*Maker(seed, is_base=not n).members()) for n in range(count)]
    image = parts(layers)
    write_layout(f"{tmp_path}/layout", "x", image)
    command = ["umoci", "raw", "unpack", "--image", f"{tmp_path}/layout:x", f"{tmp_path}/rootfs"]
    refused = subprocess.run(command, capture_output=True, check=False).returncode != 0
    store = ImageStore(f"{tmp_path}/store")
    with pytest.raises(ImageError, match="can't unpack") if refused else contextlib.nullcontext():
        ingest(store, "x:1", image)
    if refused:
        return
    with mounted(store, "x:1", tmp_path) as merged:
        ours, theirs = seen(merged), seen(f"{tmp_path}/rootfs")
    more = {path for path in ours.keys() - theirs.keys() if str(ours[path][0]) == "0o40755"}
    assert {path: value for path, value in ours.items() if path not in more} == theirs
