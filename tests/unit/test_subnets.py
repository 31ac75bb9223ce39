"""The pods' subnets of the settings: what is one, and which addresses no pod can have."""

from __future__ import annotations

import pytest

from minipod.errors import InvalidSpec
from minipod.network.ipam import Subnets

V4, V6 = "10.88.0.0/16", "fd00:6d70:88::/64"


@pytest.mark.parametrize(
    ("v4", "v6"),
    [
        pytest.param(V4, V6, id="the-defaults"),
        pytest.param("10.0.0.0/8", V6, id="large"),
        pytest.param("192.168.7.8/29", "fd00::/125", id="the-smallest"),
        pytest.param("100.64.0.0/10", V6, id="shared-addresses"),
        pytest.param(V4, "2001:db8::/64", id="documentation"),
    ],
)
def test_a_subnet_for_pods(v4: str, v6: str) -> None:
    found = Subnets.parse(v4, v6)
    assert (str(found.v4), str(found.v6)) == (v4, v6)


@pytest.mark.parametrize(
    ("v4", "v6", "words"),
    [
        pytest.param("127.0.0.0/8", V6, "subnet4: 127.0.0.0/8 has loopback addresses", id="loopback"),
        pytest.param("127.44.0.0/16", V6, "has loopback addresses (127.0.0.0/8)", id="a-part-of-loopback"),
        pytest.param("224.0.0.0/8", V6, "has multicast addresses", id="multicast"),
        pytest.param("169.254.16.0/20", V6, "has link-local addresses", id="link-local"),
        pytest.param("0.0.0.0/16", V6, "has unusable addresses", id="this-network"),
        pytest.param("0.0.0.0/0", V6, "no pod can have", id="everything"),
        pytest.param("126.0.0.0/7", V6, "has loopback addresses", id="more-than-loopback"),
        pytest.param("250.0.0.0/8", V6, "has reserved addresses", id="reserved"),
        pytest.param("10.88.0.0/30", V6, "is not an IPv4 subnet of 8 or more", id="too-small"),
        pytest.param("10.88.0.1/16", V6, "has host bits set", id="host-bits"),
        pytest.param("10.88/16", V6, "does not appear to be an IPv4", id="no-subnet"),
        pytest.param(V6, V6, "is not an IPv4 subnet", id="v6-for-v4"),
        pytest.param(V4, V4, "subnet6: 10.88.0.0/16 is not an IPv6 subnet", id="v4-for-v6"),
        pytest.param(V4, "fd00::/113", "is not an IPv6 subnet as large as 10.88.0.0/16", id="v6-too-small"),
        pytest.param(V4, "fe80::/64", "subnet6: fe80::/64 has link-local addresses", id="v6-link-local"),
        pytest.param(V4, "ff02::/64", "has multicast addresses", id="v6-multicast"),
        pytest.param(V4, "::/64", "has unspecified addresses", id="v6-loopback"),
        pytest.param(V4, "::ffff:0:0/96", "has IPv4-mapped addresses", id="v6-mapped"),
    ],
)  # fmt: skip
def test_nonsense_is_refused_with_its_setting(v4: str, v6: str, words: str) -> None:
    with pytest.raises(InvalidSpec) as refused:
        Subnets.parse(v4, v6)
    assert words in str(refused.value)
