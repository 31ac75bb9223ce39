"""Who has which address: a pure round-robin allocator, and leases that outlive the daemon.

A lease is an *index* into the pod subnets: the same one in IPv4 and IPv6 (10.88.0.5 and fd00:6d70:88::5 for 5).
Index 0 is the network, 1 the gateway, the last one of IPv4 the broadcast address. The allocator goes round, so that an
address is free for as long as possible before someone else has it: peers keep stale connections and cache entries.

On disk a lease is a symbolic link `<run_dir>/leases/<IPv4 address> -> <sandbox id>`: symlink(2) writes name and
content at once, and refuses an address that is taken, in one call. Nothing is synced: leases die with the machine.
One owner; of its two threads (the loop leases, the worker frees) one at a time is inside.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network, ip_address, ip_network
from typing import Final

from minipod.errors import AlreadyExists, InvalidSpec, Unavailable

GATEWAY_INDEX: Final = 1
FIRST_INDEX: Final = 2

# The IANA special-purpose registries (RFC 6890): addresses that the kernel gives to no link, or that mean something else on each.
NOT_FOR_PODS: Final = {
    ip_network("0.0.0.0/8"): "unusable",
    ip_network("127.0.0.0/8"): "loopback",
    ip_network("169.254.0.0/16"): "link-local",
    ip_network("224.0.0.0/4"): "multicast",
    ip_network("240.0.0.0/4"): "reserved",
    ip_network("::/128"): "unspecified",
    ip_network("::1/128"): "loopback",
    ip_network("::ffff:0:0/96"): "IPv4-mapped",
    ip_network("fe80::/10"): "link-local",
    ip_network("ff00::/8"): "multicast",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Subnets:
    """The pods' two address ranges, and how an index maps into them."""

    v4: IPv4Network
    v6: IPv6Network

    @classmethod
    def parse(cls, subnet4: str, subnet6: str) -> Subnets:
        """Read both; raise InvalidSpec for what is no subnet, too small for one pod, or of addresses that no pod can have."""
        v4, v6 = _network(subnet4, "subnet4"), _network(subnet6, "subnet6")
        if not isinstance(v4, IPv4Network) or v4.prefixlen > 29:
            raise InvalidSpec(f"{subnet4} is not an IPv4 subnet of 8 or more", path="subnet4")
        if not isinstance(v6, IPv6Network) or 128 - v6.prefixlen < 32 - v4.prefixlen:
            raise InvalidSpec(f"{subnet6} is not an IPv6 subnet as large as {v4}", path="subnet6")
        return cls(v4=v4, v6=v6)

    @property
    def last_index(self) -> int:
        return self.v4.num_addresses - 2  # the last address is IPv4's broadcast

    def at(self, index: int) -> tuple[IPv4Interface, IPv6Interface]:
        """Return the addresses of *index*, with their subnets' prefix lengths."""
        return (
            IPv4Interface((int(self.v4.network_address) + index, self.v4.prefixlen)),
            IPv6Interface((int(self.v6.network_address) + index, self.v6.prefixlen)),
        )

    def index_of(self, address: str) -> int | None:
        """Return the index of the IPv4 *address*, None when it is no pod's."""
        try:
            index = int(ip_address(address)) - int(self.v4.network_address)
        except ValueError:
            return None
        return index if FIRST_INDEX <= index <= self.last_index else None


def _network(text: str, path: str) -> IPv4Network | IPv6Network:
    try:
        found = ip_network(text)
    except ValueError as e:
        raise InvalidSpec(str(e), path=path) from e
    for special, kind in NOT_FOR_PODS.items():
        if found.version == special.version and found.overlaps(special):
            words = f"{found} has {kind} addresses ({special}), which no pod can have"
            raise InvalidSpec(
                words, path=path, hint="take a private one: 10.88.0.0/16, fd00:6d70:88::/64"
            )
    return found


def next_free(taken: Collection[int], last: int, after: int) -> int | None:
    """Return the first index not *taken* in round-robin order behind *after*; None when all are.

    >>> next_free({2, 3}, last=5, after=5)
    4
    """
    size = last - FIRST_INDEX + 1
    start = after + 1 - FIRST_INDEX
    for step in range(min(size, len(taken) + 1)):
        index = FIRST_INDEX + (start + step) % size
        if index not in taken:
            return index
    return None


class Leases:
    """The leases of one instance, in memory and in *directory*; loads what is there."""

    def __init__(self, directory: str, subnets: Subnets) -> None:
        self._directory = directory
        self._subnets = subnets
        self._by_index: dict[int, str] = {}
        self._by_sandbox: dict[str, int] = {}
        self._newest = FIRST_INDEX - 1
        self._lock = threading.Lock()
        os.makedirs(directory, mode=0o700, exist_ok=True)
        self._load()

    def _load(self) -> None:
        newest = 0
        with os.scandir(self._directory) as entries:
            for entry in entries:
                index = self._subnets.index_of(entry.name)
                if index is None:
                    continue  # of another subnet: the configuration changed; the pods will go
                self._remember(index, os.readlink(entry.path))
                if (made := entry.stat(follow_symlinks=False).st_mtime_ns) >= newest:
                    newest, self._newest = made, index

    def _remember(self, index: int, sandbox_id: str) -> None:
        self._by_index[index] = sandbox_id
        self._by_sandbox[sandbox_id] = index

    def _path(self, index: int) -> str:
        return f"{self._directory}/{self._subnets.at(index)[0].ip}"

    def allocate(self, sandbox_id: str) -> int:
        """Lease an index to *sandbox_id*: one system call. Raises AlreadyExists, and Unavailable when none is left."""
        with self._lock:
            return self._allocate(sandbox_id)

    def _allocate(self, sandbox_id: str) -> int:
        if sandbox_id in self._by_sandbox:
            raise AlreadyExists(f"sandbox {sandbox_id} has an address already")
        last = self._subnets.last_index
        while (index := next_free(self._by_index, last, self._newest)) is not None:
            self._newest = index
            try:
                os.symlink(sandbox_id, self._path(index))
            except FileExistsError:  # someone else's, after all: see whose it is
                self._remember(index, os.readlink(self._path(index)))
                continue
            self._remember(index, sandbox_id)
            return index
        raise Unavailable(
            f"all {last - FIRST_INDEX + 1} pod addresses of {self._subnets.v4} are in use",
            hint="remove pods, or give the node a larger subnet4",
        )

    def free(self, sandbox_id: str) -> None:
        """End the lease of *sandbox_id*, if it has one."""
        with self._lock:
            self._free(sandbox_id)

    def _free(self, sandbox_id: str) -> None:
        index = self._by_sandbox.pop(sandbox_id, None)
        if index is None:
            return
        del self._by_index[index]
        try:
            os.unlink(self._path(index))
        except FileNotFoundError:
            pass  # someone cleaned the directory: the result is the same

    def index_of(self, sandbox_id: str) -> int | None:
        """Return the index of *sandbox_id*, None without a lease."""
        return self._by_sandbox.get(sandbox_id)

    @property
    def by_sandbox(self) -> Mapping[str, int]:
        return self._by_sandbox
