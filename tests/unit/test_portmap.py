"""What may get into the script of the host ports. Excluded: what the kernel makes of it (tests/root/test_host_ports.py)."""

from __future__ import annotations

import pytest

from minipod.errors import SetupFailed
from minipod.network.portmap import HostPorts, elements
from minipod.spec.sandbox import PortMapping

HOSTILE = ["fe80::1%x }\nflush ruleset\n", "10.0.0.1 }\nflush ruleset\n", "host"]


@pytest.mark.parametrize("address", HOSTILE)
def test_an_address_that_is_none_never_reaches_nftables(address: str) -> None:
    mapping = PortMapping(protocol="TCP", container_port=80, host_port=8080, host_ip=address)
    assert elements(("10.0.0.2", "fd00::2"), [mapping]) == []
    ports = HostPorts(table="none", link="none", subnet4="10.0.0.0/8", subnet6="fd00::/64")
    with pytest.raises(SetupFailed, match="host ports"):
        ports.add("sandbox", ("10.0.0.2",), [mapping])
