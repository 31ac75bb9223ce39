"""A Debian system as a layer, made by debootstrap: packages verified by apt's keys, configured in a chroot.

What differs between two runs though the packages are the same (logs, caches, ids of the machine) is taken
out, times are fixed by `layer.commit`: the same packages give the same layer.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile

from minipod.errors import ImageError
from minipod.image.content import ContentStore, Descriptor
from minipod.image.layer import commit

EMPTIED = (
    "dev", "var/cache/apt", "var/lib/apt/lists", "var/cache/debconf", "var/cache/ldconfig", "var/log", "tmp", "run",
)  # fmt: skip
REMOVED = ("etc/machine-id", "etc/hostname", "etc/resolv.conf", "var/lib/dbus/machine-id")


def bootstrap(content: ContentStore, suite: str) -> Descriptor:
    """Return the layer of a minimal Debian *suite* (bookworm). Raises ImageError."""
    with tempfile.TemporaryDirectory(prefix="minipod-debian-", dir="/var/tmp") as here:
        root = f"{here}/root"
        _run("debootstrap", "--variant=minbase", suite, root, *mirror(suite))
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


def _run(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as e:
        raise ImageError(
            f"{command[0]} is not here",
            reason="ErrImageBuild",
            hint=f"apt-get install {command[0]}",
        ) from e
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise ImageError(f"{command[0]} failed: {''.join(last)}", reason="ErrImageBuild")
    return done.stdout
