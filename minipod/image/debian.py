"""A Debian system as a layer, made by debootstrap: packages verified by apt's keys, configured in a chroot.

What differs between two runs though the packages are the same (logs, caches, ids of the machine) is taken
out, times are fixed by `layer.commit`: the same packages give the same layer. Packages come from the mirror, or from
what `debootstrap --make-tarball` has fetched before.

Both halves of debootstrap run in a mount namespace of their own: what they mount goes with them, also when they are killed.
Between them dpkg is told not to wait for the disk, which only holds up what may be thrown away anyhow.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence

from minipod.errors import ImageError
from minipod.image.content import ContentStore, Descriptor
from minipod.image.layer import commit

EMPTIED = (
    "dev", "var/cache/apt", "var/lib/apt/lists", "var/cache/debconf", "var/cache/ldconfig", "var/log", "tmp", "run",
)  # fmt: skip
DPKG_OPTIONS = "etc/dpkg/dpkg.cfg.d/minipod"
REMOVED = (
    DPKG_OPTIONS,
    "etc/machine-id",
    "etc/hostname",
    "etc/resolv.conf",
    "var/lib/dbus/machine-id",
)


def bootstrap(content: ContentStore, suite: str, tarball: str = "") -> Descriptor:
    """Return the layer of a minimal Debian *suite* (bookworm). Raises ImageError."""
    with tempfile.TemporaryDirectory(prefix="minipod-debian-", dir="/var/tmp") as here:
        root = f"{here}/root"
        given = [f"--unpack-tarball={tarball}"] if tarball else []
        alone = ("unshare", "--mount", "--propagation", "private")
        options = ("--variant=minbase", "--foreign", *given)
        _run("debootstrap", *options, suite, root, *mirror(suite), within=alone)
        with open(f"{root}/{DPKG_OPTIONS}", "w", encoding="ascii") as file:
            file.write("force-unsafe-io\n")
        _run("chroot", root, "/debootstrap/debootstrap", "--second-stage", within=alone)
        for path in EMPTIED:
            for name in os.listdir(f"{root}/{path}") if os.path.isdir(f"{root}/{path}") else ():
                _remove(f"{root}/{path}/{name}")
        for path in REMOVED:
            _remove(f"{root}/{path}")
        layer = commit(content, root)
    if layer is None:
        raise ImageError(f"debootstrap made nothing of {suite}", reason="ErrImageBuild")
    return layer


def mirror(suite: str) -> tuple[str, ...]:
    """Return the mirror that this machine's apt has *suite* from; nothing for debootstrap's own choice."""
    known = _run("apt-cache", "policy") if shutil.which("apt-cache") else ""
    found = re.search(rf"^ *\d+ (\S+) {re.escape(suite)}/main ", known, re.MULTILINE)
    return (found[1],) if found else ()


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


def _run(*command: str, within: Sequence[str] = ()) -> str:
    if shutil.which(command[0]) is None:
        raise ImageError(
            f"{command[0]} is not here",
            reason="ErrImageBuild",
            hint=f"apt-get install {command[0]}",
        )
    done = subprocess.run([*within, *command], capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise ImageError(f"{command[0]} failed: {''.join(last)}", reason="ErrImageBuild")
    return done.stdout
