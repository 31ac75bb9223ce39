"""Who else on this machine has the pods' addresses, by the main routing table. Light: the command line looks before it starts a node.

The kernel lets two bridges have one subnet, and sends what is meant for the second one's pods to the first's: each would take the
other's pods for its own.
"""

from __future__ import annotations

import socket
import struct
from ipaddress import IPv4Network

from minipod.errors import Unavailable
from minipod.network.ipam import Subnets
from minipod.spec.instance import Instance

# proc_net(5): addresses are hexadecimal and in the machine's order of bytes
TABLE = "/proc/net/route"


def check(instance: Instance) -> None:
    """Look for another interface than the node's bridge with addresses of its IPv4 subnet. Raises Unavailable.

    A route to more than the subnet is no harm: ours is more specific.
    """
    ours = Subnets.parse(instance.subnet4, instance.subnet6).v4
    for interface, theirs in _routes():
        if interface != instance.bridge and theirs.subnet_of(ours):
            raise Unavailable(
                f"the pods' subnet {ours} is taken: {interface} has {theirs}",
                hint="set subnet4 and subnet6 in minipod.toml",
            )


def _routes() -> list[tuple[str, IPv4Network]]:
    found = []
    with open(TABLE, encoding="ascii") as f:
        for line in f.readlines()[1:]:
            interface, destination, _, _, _, _, _, mask = line.split()[:8]
            place = f"{_address(destination)}/{_address(mask)}"
            found.append((interface, IPv4Network(place)))
    return found


def _address(word: str) -> str:
    return socket.inet_ntoa(struct.pack("=I", int(word, 16)))
