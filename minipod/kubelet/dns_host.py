"""The node's own resolver settings, read from resolv.conf(5)."""

from __future__ import annotations

from collections.abc import Callable

from minipod.linux import small_files
from minipod.spec.sandbox import DnsConfig

HostDns = Callable[[], DnsConfig]  # `read`, or who says so instead
# Where systemd-resolved and NetworkManager keep the servers behind their own on the loopback.
UPSTREAM = ("/run/systemd/resolve/resolv.conf", "/run/NetworkManager/no-stub-resolv.conf")


def read(path: str = "/etc/resolv.conf", upstream: tuple[str, ...] = UPSTREAM) -> DnsConfig:
    """Return the node's settings; a resolver on its loopback, which no pod can reach, is replaced by the real ones."""
    found = _read(path)
    if not found.servers or not all(is_loopback(server) for server in found.servers):
        return found
    for other in upstream:
        behind = _read(other)
        servers = tuple(s for s in behind.servers if not is_loopback(s))
        if servers:
            return DnsConfig(
                servers=servers, searches=found.searches or behind.searches, options=found.options
            )
    return found


def is_loopback(server: str) -> bool:
    return server.startswith("127.") or server == "::1"


def _read(path: str) -> DnsConfig:
    """Parse the file; a missing one has no servers."""
    try:
        return parse(small_files.read(path).decode("utf-8", "surrogateescape"))
    except FileNotFoundError:
        return DnsConfig()


def parse(text: str) -> DnsConfig:
    servers: list[str] = []
    searches: list[str] = []
    options: list[str] = []
    for line in text.splitlines():
        words = line.split()
        match words[:1]:
            case ["nameserver"] if len(words) > 1:
                servers.append(words[1])
            case ["search" | "domain"]:
                searches = words[1:]  # the last line counts
            case ["options"]:
                options += words[1:]
            case _:
                pass
    return DnsConfig(servers=tuple(servers), searches=tuple(searches), options=tuple(options))
