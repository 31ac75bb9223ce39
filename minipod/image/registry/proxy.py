"""Which proxy the environment names for a URL: http_proxy, https_proxy, no_proxy, in either case, as Go reads them.

no_proxy lists hosts, domains (`.example` and `example` with all below), `*`, addresses and networks
(10.0.0.0/8), each with an optional port. This machine itself is never asked through a proxy.
Source: golang.org/x/net/http/httpproxy.
"""

from __future__ import annotations

import ipaddress
import os
from urllib.parse import urlsplit

from minipod.image.registry.hosts import is_loopback


def proxy_for(url: str) -> str | None:
    """Return the proxy's URL, None for a direct connection."""
    parts = urlsplit(url)
    proxy = _variable(f"{parts.scheme}_proxy")
    if not proxy or is_loopback(parts.netloc):
        return None
    host = (parts.hostname or "").rstrip(".")
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    if any(
        _excluded(entry.strip().lower(), host, port) for entry in _variable("no_proxy").split(",")
    ):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _variable(name: str) -> str:
    return os.environ.get(name) or os.environ.get(name.upper()) or ""


def _excluded(entry: str, host: str, port: int) -> bool:
    if entry in ("", "*"):
        return entry == "*"
    if "/" in entry:
        return _in_network(host, entry)
    bare6 = entry.count(":") > 1 and entry[0] != "["
    try:
        parts = urlsplit(f"//[{entry}]" if bare6 else f"//{entry}")
        if parts.port not in (None, port):
            return False
    except ValueError:  # no address, no number
        return False
    name = (parts.hostname or "").removeprefix("*")
    return (host == name.lstrip(".") and name[:1] != ".") or host.endswith(f".{name.lstrip('.')}")


def _in_network(host: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
