"""The node's resolver settings: a resolver on the loopback is replaced by the real upstream."""

from __future__ import annotations

from minipod.kubelet import dns_host


def test_a_loopback_resolver_is_replaced_by_the_upstream(tmp_path) -> None:
    stub, real = tmp_path / "stub", tmp_path / "real"
    stub.write_text("nameserver 127.0.0.53\noptions edns0\nsearch lab\n")
    real.write_text("nameserver 192.0.2.53\nsearch lab\n")
    found = dns_host.read(str(stub), (str(tmp_path / "none"), str(real)))
    assert (found.servers, found.searches, found.options) == (("192.0.2.53",), ("lab",), ("edns0",))


def test_a_real_resolver_stays(tmp_path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text("nameserver 192.0.2.1\nnameserver 127.0.0.1\n")
    assert dns_host.read(str(file)).servers == ("192.0.2.1", "127.0.0.1")
