"""Images from recipes: `images/<name>/recipe.toml` and Debian's packages, nothing else from outside.

The same recipe and package versions give the same image id on every machine (see layer). An image is
built again only when its recipe, the builder or an installed package has changed; a second builder
waits for the first and finds its work done.
"""

from __future__ import annotations

import dataclasses
import os
import subprocess
import tempfile
import time
from typing import Any

from minipod.errors import ImageError
from minipod.image import debian, packages, recipe
from minipod.image.config import RECIPE_LABEL
from minipod.image.content import Descriptor
from minipod.image.layer import EPOCH, Member, pack
from minipod.image.manifest import LAYER
from minipod.image.store import Image, ImageStore
from minipod.linux.libc import GOARCH, MACHINE

PACKAGES_LABEL = "org.minipod.packages"  # "busybox-static=1:1.35.0-4 ..."


def build(recipe_dir: str, store: ImageStore) -> Image:
    """Build the image of a recipe, unless the store has it. Raises InvalidSpec, ImageError."""
    wanted = recipe.read(recipe_dir)
    with store.lock("build.lock"), store.writing():
        image = _current(wanted, store) or _build(wanted, store)
    store.layers(image)  # unpacked now, not when the first pod waits for it
    return image


def build_all(images_dir: str, store: ImageStore) -> list[Image]:
    """Build every recipe below *images_dir*, but for those that are built on request only."""
    names = sorted(os.listdir(images_dir))
    directories = [f"{images_dir}/{name}" for name in names]
    found = [d for d in directories if os.path.exists(f"{d}/recipe.toml")]
    return [build(d, store) for d in found if not recipe.read(d).debootstrap]


def _current(wanted: recipe.Recipe, store: ImageStore) -> Image | None:
    """Return the image that an earlier build made, if it is what a build would make now."""
    found = {store.resolve(tag) for tag in wanted.tags}
    image = found.pop()
    if image is None or found:
        return None
    labels = store.config(image).labels
    if labels.get(RECIPE_LABEL) != wanted.digest:
        return None
    built_from = labels.get(PACKAGES_LABEL, "").split()
    for name in wanted.packages:
        version = packages.installed_version(name)
        if version and f"{name}={version}" not in built_from:
            return None
    return image


def _build(wanted: recipe.Recipe, store: ImageStore) -> Image:
    fetched = [packages.fetch(name, wanted.keeps) for name in wanted.packages]
    members = [member for package in fetched for member in package.members]
    if wanted.busybox:
        members = _with_applets(members, wanted.busybox)
    layers = []
    if wanted.debootstrap:
        layers.append(debian.bootstrap(store.content, wanted.debootstrap, wanted.tarball))
    if packed := [*members, *wanted.members]:
        layer = pack(packed)
        digest = store.content.put(layer)
        layers.append(Descriptor(media_type=LAYER, digest=digest, size=len(layer)))
    labels = {
        RECIPE_LABEL: wanted.digest,
        PACKAGES_LABEL: " ".join(f"{p.name}={p.version}" for p in fetched),
    }
    config = _image_config(wanted, [layer.digest for layer in layers], labels)
    return store.put(config, layers, wanted.tags)


def _with_applets(members: list[Member], busybox: str) -> list[Member]:
    """Put busybox at its place and a link in /bin for each applet that it says it has."""
    # With Debian's merged /usr a package may bring /usr/bin/busybox for what we call /bin/busybox.
    binary = next((m for m in members if m.path in (busybox, f"/usr{busybox}")), None)
    if binary is None:
        raise ImageError(f"no {busybox} in the recipe's packages", reason="ErrImageBuild")
    applets = _applets(binary.content)
    return [
        *(m for m in members if m is not binary),
        dataclasses.replace(binary, path=busybox),
        *(Member(path=f"/bin/{a}", type="2", mode=0o777, target=busybox) for a in applets),
    ]


def _applets(program: bytes) -> list[str]:
    with tempfile.TemporaryDirectory(prefix="minipod-build-") as here:
        with open(f"{here}/busybox", "wb") as file:
            file.write(program)
        os.chmod(f"{here}/busybox", 0o700)
        command = [f"{here}/busybox", "--list"]
        listed = subprocess.run(command, capture_output=True, text=True, check=True)
    return [applet for applet in listed.stdout.split() if applet != "busybox"]


def _image_config(
    wanted: recipe.Recipe, diff_ids: list[str], labels: dict[str, str]
) -> dict[str, Any]:
    """Return the OCI image configuration."""
    return {
        "architecture": GOARCH[MACHINE],
        "os": "linux",
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(EPOCH)),
        "config": {**wanted.execution, "Labels": labels},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
