"""The node's own resolver settings, read from resolv.conf(5)."""

from __future__ import annotations

from minipod.spec.sandbox import DnsConfig


def read(path: str = "/etc/resolv.conf") -> DnsConfig:
    """Parse the file; a missing one has no servers."""
    try:
        with open(path, encoding="utf-8") as file:
            return parse(file.read())
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
