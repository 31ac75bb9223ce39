"""Images from recipes: `images/<name>/recipe.toml` and Debian's packages, nothing else from outside.

    tags         references                      packages     Debian packages whose files go in
    busybox      path of a busybox: its applets become links in /bin
    directories  "/path" or "/path:mode"         [files]      path = text
    entrypoint, cmd, env, user, working_dir      as in an image's config

The same recipe and packages give the same bytes: sorted entries, one fixed time. An image whose recipe label is current is not
built again.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import platform
import subprocess
import tarfile
import tempfile
import tomllib
from dataclasses import dataclass
from typing import Any

from minipod.errors import ImageError, InvalidSpec
from minipod.image.content import Descriptor
from minipod.image.store import LAYER, Image, ImageStore

LABEL = "org.minipod.recipe"
EPOCH = 1672531200  # 2023-01-01, the time of every file
KEYS = {
    "tags", "packages", "busybox", "directories", "files", "entrypoint", "cmd", "env", "user", "working_dir",
}  # fmt: skip
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True, slots=True)
class Recipe:
    """A recipe, read and checked; *digest* changes with its text."""

    raw: dict[str, Any]
    digest: str


def read_recipe(directory: str) -> Recipe:
    """Read `<directory>/recipe.toml`. Raises InvalidSpec naming file and key."""
    path = f"{directory}/recipe.toml"
    try:
        with open(path, "rb") as f:
            text = f.read()
        raw = tomllib.loads(text.decode())
    except FileNotFoundError as e:
        raise InvalidSpec("no recipe.toml", path=directory) from e
    except tomllib.TOMLDecodeError as e:
        raise InvalidSpec(str(e), path=path) from e
    if unknown := sorted(raw.keys() - KEYS):
        raise InvalidSpec(
            f"unknown keys {unknown}", path=path, hint=f"known: {', '.join(sorted(KEYS))}"
        )
    if not raw.get("tags"):
        raise InvalidSpec("an image needs a name: tags = [...]", path=path)
    return Recipe(raw, hashlib.sha256(text).hexdigest())


def build(recipe_dir: str, store: ImageStore) -> Image:
    """Build the image of a recipe, unless the store has it. Raises InvalidSpec, ImageError."""
    recipe = read_recipe(recipe_dir)
    have = store.resolve(recipe.raw["tags"][0])
    if have is not None and store.config(have).labels.get(LABEL) == recipe.digest:
        return have
    with tempfile.TemporaryDirectory() as root:
        for package in recipe.raw.get("packages", []):
            unpack_package(package, root)
        layer, diff_id = pack(entries(recipe.raw, root))
    with store.content.writer() as blob:
        blob.write(layer)
        digest = blob.commit()
    described = Descriptor(media_type=LAYER, digest=digest, size=len(layer))
    return store.put(image_config(recipe, diff_id), [described], recipe.raw["tags"])


def build_all(images_dir: str, store: ImageStore) -> list[Image]:
    """Build every recipe below *images_dir*."""
    names = sorted(os.listdir(images_dir))
    return [
        build(f"{images_dir}/{name}", store)
        for name in names
        if os.path.exists(f"{images_dir}/{name}/recipe.toml")
    ]


def unpack_package(package: str, root: str) -> None:
    """Put a package's files below *root*: from the installed package if it is there, else downloaded with apt."""
    listed = subprocess.run(
        ["dpkg-query", "-L", package], capture_output=True, text=True, check=False
    )
    if listed.returncode == 0:
        for path in listed.stdout.splitlines():
            if os.path.isfile(path) and not path.startswith("/usr/share/doc"):
                target = root + path
                os.makedirs(os.path.dirname(target), exist_ok=True)
                with open(path, "rb") as source, open(target, "wb") as copy:
                    copy.write(source.read())
                os.chmod(target, os.stat(path).st_mode & 0o7777)
        return
    with tempfile.TemporaryDirectory() as here:
        _run(["apt-get", "download", "-qq", package], here, package)
        archive = next(n for n in os.listdir(here) if n.endswith(".deb"))
        _run(["dpkg-deb", "-x", archive, root], here, package)


def _run(command: list[str], where: str, package: str) -> None:
    done = subprocess.run(command, cwd=where, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ImageError(
            f"package {package}: {done.stderr.strip() or 'download failed'}",
            reason="ErrImageBuild",
            hint="apt-get update, then try again",
        )


def entries(raw: dict[str, Any], root: str) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
    """Return the layer's members by path."""
    found: dict[str, tuple[tarfile.TarInfo, bytes]] = {}
    for spec in raw.get("directories", []):
        path, _, mode = spec.partition(":")
        _add(found, path, tarfile.DIRTYPE, int(mode or "755", 8))
    for base, _, names in os.walk(root):
        for name in names:
            full = f"{base}/{name}"
            # Debian's merged /usr: /bin is a link to /usr/bin; the image has plain directories.
            with open(full, "rb") as f:
                _add(
                    found,
                    full.removeprefix(root),
                    tarfile.REGTYPE,
                    os.stat(full).st_mode & 0o7777,
                    f.read(),
                )
    if "busybox" in raw:
        _applets(found, raw["busybox"], root)
    for path, text in raw.get("files", {}).items():
        _add(found, path, tarfile.REGTYPE, 0o644, text.lstrip("\n").encode())
    return found


def _applets(found: dict[str, tuple[tarfile.TarInfo, bytes]], busybox: str, root: str) -> None:
    binary = next((p for p in (root + busybox, f"{root}/usr{busybox}") if os.path.exists(p)), None)
    if binary is None:
        raise ImageError(f"no {busybox} in the recipe's packages", reason="ErrImageBuild")
    if not binary.startswith(root + busybox):
        data = found.pop(binary.removeprefix(root))[1]
        _add(found, busybox, tarfile.REGTYPE, 0o755, data)
    listed = subprocess.run([binary, "--list"], capture_output=True, text=True, check=True)
    for applet in listed.stdout.split():
        if applet != "busybox":
            _add(found, f"/bin/{applet}", tarfile.SYMTYPE, 0o777, link="busybox")


def _add(
    found: dict[str, tuple[tarfile.TarInfo, bytes]],
    path: str,
    kind: bytes,
    mode: int,
    data: bytes = b"",
    *,
    link: str = "",
) -> None:
    parent = os.path.dirname(path)
    if parent not in ("", "/") and parent not in found:
        _add(found, parent, tarfile.DIRTYPE, 0o755)
    info = tarfile.TarInfo(path.lstrip("/"))
    info.type, info.mode, info.size, info.mtime, info.linkname = kind, mode, len(data), EPOCH, link
    found[path] = (info, data)


def pack(members: dict[str, tuple[tarfile.TarInfo, bytes]]) -> tuple[bytes, str]:
    """Return (the layer, gzip; its diff id). The same members give the same bytes."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(members):
            info, data = members[path]
            archive.addfile(info, io.BytesIO(data))
    text = plain.getvalue()
    return gzip.compress(text, 6, mtime=0), f"sha256:{hashlib.sha256(text).hexdigest()}"


def image_config(recipe: Recipe, diff_id: str) -> dict[str, Any]:
    """Return the OCI image configuration."""
    raw = recipe.raw
    execution = {
        "Env": raw.get("env", []), "Entrypoint": raw.get("entrypoint"), "Cmd": raw.get("cmd"),
        "User": raw.get("user", ""), "WorkingDir": raw.get("working_dir", ""), "Labels": {LABEL: recipe.digest},
    }  # fmt: skip
    machine = platform.machine()
    return {
        "architecture": MACHINES.get(machine, machine),
        "os": "linux",
        "created": "2023-01-01T00:00:00Z",
        "config": {k: v for k, v in execution.items() if v},
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
    }
