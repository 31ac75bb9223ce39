"""The node's certificates, below `<state_dir>/pki` (0700): a CA of its own, the server's, the administrator's; and the key of tokens.

    ca.crt ca.key                     ten years, made once
    server.crt server.key             serverAuth; a year, made again when the names change or 30 days are left
    admin.crt admin.key               clientAuth, O=system:masters
    <name>.json                       what a certificate was made for: written last, so it vouches for the two others
    sa.key                            32 random bytes that sign service account tokens

Making one needs `cryptography` (15 MB, 40 ms): that happens in a process that exits (`issue`). This module looks at the JSON
files only: a node that starts again starts no process.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from minipod.errors import Internal

RENEW = 30 * 86400.0  # seconds before its end that a certificate is made again
YEAR = 365 * 86400
ISSUE = "minipod.apiserver.auth.issue"


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """A certificate that is wanted: for a server (*hosts*), or for the user *common_name* in the groups *organizations*."""

    name: str  # of its files
    common_name: str
    organizations: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()  # DNS names and addresses; none: a client
    lifetime: int = YEAR


class Pki:
    """The files of one node."""

    def __init__(self, directory: str, ca_name: str) -> None:
        self._directory = directory
        self._ca_name = ca_name

    def path(self, name: str) -> str:
        return f"{self._directory}/{name}"

    def read(self, name: str) -> bytes:
        with open(self.path(name), "rb") as f:
            return f.read()

    async def ensure(self, leaves: Sequence[Leaf]) -> None:
        """Make what is missing, was made for something else, or ends soon. Raises Internal."""
        os.makedirs(self._directory, 0o700, exist_ok=True)
        missing = [leaf for leaf in leaves if not self._good(leaf)]
        if missing:
            await issue(self._directory, self._ca_name, missing)

    def _good(self, leaf: Leaf) -> bool:
        try:
            made = json.loads(self.read(f"{leaf.name}.json"))
            voucher = vouch(leaf, self.read("ca.crt"), made["not_after"])
        except FileNotFoundError:
            return False
        ends = float(made["not_after"])
        return bool(made == json.loads(voucher)) and ends - time.time() > RENEW

    def next_renewal(self, leaf: Leaf) -> float:
        """Return when `ensure` will make it anew, in seconds since the epoch."""
        made = json.loads(self.read(f"{leaf.name}.json"))
        return float(made["not_after"]) - RENEW

    def token_key(self) -> bytes:
        """Return the key that signs tokens, made at the first call."""
        try:
            return self.read("sa.key")
        except FileNotFoundError:
            os.makedirs(self._directory, 0o700, exist_ok=True)
            write_private(self.path("sa.key"), os.urandom(32))
            return self.read("sa.key")


def vouch(leaf: Leaf, ca: bytes, not_after: float) -> str:
    """Return the JSON that says what a certificate was made for, and by which CA."""
    fields = asdict(leaf)
    return json.dumps(
        {"leaf": fields, "ca": hashlib.sha256(ca).hexdigest(), "not_after": not_after}
    )


async def issue(directory: str, ca_name: str, leaves: Sequence[Leaf]) -> None:
    """Make certificates, in a process of their own. Raises Internal."""
    leaf_fields = [asdict(leaf) for leaf in leaves]
    try:
        await run(ISSUE, {"directory": directory, "ca_name": ca_name, "leaves": leaf_fields})
    except Internal as e:
        words = f"certificates below {directory} were not made: {e.message}"
        raise Internal(words, hint=e.hint) from e


async def run(module: str, request: dict[str, Any]) -> dict[str, Any]:
    """Run a module that reads a JSON object and writes one; return that. Raises Internal when it fails.

    posix_spawn: the daemon has threads and never forks. Both go through files in memory, which no side waits for.
    """
    with contextlib.ExitStack() as stack:
        given, written = (
            stack.enter_context(os.fdopen(os.memfd_create(n), "r+b")) for n in ("in", "out")
        )
        given.write(json.dumps(request).encode())
        given.seek(0)
        await _run(module, given.fileno(), written.fileno())
        written.seek(0)
        answer: dict[str, Any] = json.loads(written.read())
        return answer


async def _run(module: str, given: int, written: int) -> None:
    import asyncio  # here: the modules that it runs import this one and exit

    from minipod.linux import process

    argv = [sys.executable, "-P", "-m", module]
    actions = [(os.POSIX_SPAWN_DUP2, given, 0), (os.POSIX_SPAWN_DUP2, written, 1)]
    pid = os.posix_spawn(argv[0], argv, os.environ, file_actions=actions)  # noqa: ASYNC221 a millisecond
    pidfd = process.pidfd_open(pid)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(pidfd, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])  # noqa: ASYNC222 it has ended
    if code:
        raise Internal(f"{module} ended with code {code}", hint="see the node's log")


def write_private(path: str, content: bytes, mode: int = 0o600) -> None:
    """Write a file whole: durable, and never half there under its name."""
    temporary = f"{path}.{os.getpid()}.new"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with open(fd, "wb") as f:
            f.write(content)
            f.flush()
            os.fsync(f.fileno())
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
