"""Where the API listens over TLS, and what is said when it can't. Light: the command line looks before it starts a node."""

from __future__ import annotations

import errno
import os
import socket

from minipod.errors import Unavailable
from minipod.spec.instance import Instance

LOOPBACK = "127.0.0.1"
EVERYWHERE = {"0.0.0.0": ".", "::": ":"}  # noqa: S104 only when it is asked for; the mark of their families


def addresses(instance: Instance) -> list[str]:
    """Return the addresses, each once: loopback, the pods' gateways, and what the settings ask for."""
    found = [LOOPBACK, instance.gateways[0]]
    if os.path.exists("/proc/sys/net/ipv6"):
        found.append(instance.gateways[1])
    found += instance.api_addresses
    for everywhere, mark in EVERYWHERE.items():
        if everywhere in found:
            found = [a for a in found if a == everywhere or mark not in a]
    return list(dict.fromkeys(found))


def check(instance: Instance) -> None:
    """Try all addresses before the node starts; its own bridge may not be there yet. Raises Unavailable."""
    for address in addresses(instance):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                tried.bind((address, instance.api_port))
            except OSError as e:
                if e.errno == errno.EADDRNOTAVAIL and address in instance.gateways:
                    continue
                raise refusal(instance, address, e) from e


def refusal(instance: Instance, address: str, error: OSError) -> Unavailable:
    """Return the error that says which address can't be had, and what to do."""
    port = instance.api_port
    where = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    hint = ""
    if error.errno == errno.EADDRINUSE:
        hint = (
            f"see who has the port (ss -ltnp 'sport = {port}'), or set secure_port in minipod.toml"
        )
    elif error.errno == errno.EADDRNOTAVAIL:
        hint = "no interface has this address; see api_addresses in minipod.toml"
    why = os.strerror(error.errno or 0).lower()
    return Unavailable(f"the API can't listen on {where}: {why}", hint=hint)
