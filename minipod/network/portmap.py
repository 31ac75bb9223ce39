"""Host ports: a port of the node that leads to a port of a pod, by destination NAT (nftables), for TCP, UDP and SCTP, IPv4 and IPv6.

    fib daddr local --jump--> ports: dnat to maps (address . protocol . port), then (protocol . port) -> pod . port

The rules never change; a pod is elements of maps, added and taken out in one transaction each. The table is one of its own, made
when the first pod asks for a port and kept over restarts of the daemon, so that connections keep working meanwhile.

* A client on the node itself is served too (the output hook). From 127.0.0.1 that takes route_localnet on the bridge, and a rule
  that lets no pod reach the node's loopback thereby (CVE-2020-8558). IPv6 has no such setting: the kernel takes an answer to ::1
  from the loopback device alone (rt6_need_strict). So ::1 is left alone: who tries it is refused at once and can try 127.0.0.1.
* A port for datagrams that changes hands takes the flows of before with it (`conntrack`).
* What comes from a pod or from the loopback and goes to a pod is masqueraded: the answer would bypass the node otherwise.

Synchronous, for the network's worker thread. Source of the behaviour: the CNI plugin portmap.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address

from minipod.errors import SetupFailed
from minipod.linux import nftables
from minipod.network import bridge
from minipod.network.conntrack import Conntrack
from minipod.network.masquerade import count_rules
from minipod.spec.sandbox import PortMapping

_ANY4, _ANY6 = ("", "0.0.0.0"), ("", "::")  # noqa: S104 what a mapping says, nothing listens here
Element = tuple[str, str, str]  # map, key, value


def table_name(instance_table: str) -> str:
    return f"{instance_table}-ports"


def script(table: str, link: str, subnet4: str, subnet6: str) -> str:
    """Return the table's rules in nft(8)'s language; maps that are there keep their elements."""
    lines = [f"add table inet {table}"]
    for version, kind in (("4", "ipv4_addr"), ("6", "ipv6_addr")):
        value = f"{kind} . inet_service"
        lines += [
            f"add map inet {table} any{version} {{ type inet_proto . inet_service : {value} ; }}",
            f"add map inet {table} at{version} {{ type {kind} . inet_proto . inet_service : {value} ; }}",
        ]
    for chain, kind, hook, priority in (
        ("prerouting", "nat", "prerouting", -100), ("output", "nat", "output", -100),
        ("postrouting", "nat", "postrouting", 90), ("guard", "filter", "prerouting", -300),
    ):  # fmt: skip
        lines.append(
            f"add chain inet {table} {chain} {{ type {kind} hook {hook} priority {priority} ; }}"
        )
    lines.append(f"add chain inet {table} ports")
    lines.append(f"flush table inet {table}")
    for hook in ("prerouting", "output"):
        lines.append(f"add rule inet {table} {hook} fib daddr type local jump ports")
    lines.append(f"add rule inet {table} ports ip6 daddr ::1 return")
    transport = "meta l4proto { tcp, udp, sctp }"
    for version, family in (("4", "ip"), ("6", "ip6")):
        lines += [
            f"add rule inet {table} ports {transport} dnat {family} to {family} daddr . meta l4proto . th dport map @at{version}",
            f"add rule inet {table} ports {transport} dnat {family} to meta l4proto . th dport map @any{version}",
        ]
    where = f'add rule inet {table} postrouting oifname "{link}" ct status dnat'
    lines += [
        f"{where} ip saddr {{ {subnet4}, 127.0.0.0/8 }} masquerade",
        f"{where} ip6 saddr {subnet6} masquerade",
        f'add rule inet {table} guard iifname "{link}" ip daddr 127.0.0.0/8 drop',
    ]
    return "\n".join(lines) + "\n"


def elements(ips: Iterable[str], mappings: Iterable[PortMapping]) -> list[Element]:
    """Return the elements of one sandbox; none for an address that must not get into a script. Pure."""
    found: list[Element] = []
    addresses = list(ips)
    for mapping in filter(is_plain, mappings):
        for ip in addresses:
            version, any_address = ("6", _ANY6) if ":" in ip else ("4", _ANY4)
            key = f"{mapping.protocol.lower()} . {mapping.host_port}"
            value = f"{ip} . {mapping.container_port}"
            if mapping.host_ip in any_address:
                found.append((f"any{version}", key, value))
            elif (":" in mapping.host_ip) == (version == "6") and mapping.host_ip not in (
                *_ANY4, *_ANY6,
            ):  # fmt: skip
                found.append((f"at{version}", f"{mapping.host_ip} . {key}", value))
    return found


def is_plain(mapping: PortMapping) -> bool:
    """Whether its address is one, without a zone: that ("fe80::1%...") may have any text in it."""
    try:
        return not mapping.host_ip or "%" not in str(ip_address(mapping.host_ip))
    except ValueError:
        return False


def _datagrams(owned: Iterable[Element]) -> Iterator[tuple[int, int, tuple[str, int]]]:
    """Yield family, port of the node and (address, port) of the pod for UDP: its flows outlive a change of the rules."""
    for name, key, value in owned:
        *_, protocol, port = key.split(" . ")
        address, _, inner = value.partition(" . ")
        if protocol == "udp":
            family = socket.AF_INET6 if name.endswith("6") else socket.AF_INET
            yield family, int(port), (address, int(inner))


@dataclass(slots=True, kw_only=True)
class HostPorts:
    """The host ports of all sandboxes of a node."""

    table: str
    link: str  # the pods' bridge
    subnet4: str
    subnet6: str
    _flows: Conntrack = field(default_factory=Conntrack)
    _installed: bool = False
    _owned: dict[str, list[Element]] = field(default_factory=dict)  # by sandbox

    def add(self, sandbox: str, ips: Iterable[str], mappings: Iterable[PortMapping]) -> None:
        """Open a sandbox's ports. Raises OSError, SetupFailed for an address that is none."""
        mappings = tuple(mappings)
        if bad := next((m.host_ip for m in mappings if not is_plain(m)), ""):
            raise SetupFailed("host ports", subject=repr(bad), detail="no IP address")
        wanted = elements(ips, mappings)
        if not wanted:
            return
        lost = {(e[0], e[1]) for e in wanted}
        after = {s: [e for e in o if (e[0], e[1]) not in lost] for s, o in self._owned.items()}
        taken = lost & {(e[0], e[1]) for owned in self._owned.values() for e in owned}
        commands = [self._command("delete", e) for e in wanted if (e[0], e[1]) in taken]
        commands += [self._command("add", e) for e in wanted]
        try:
            self._install()
            nftables.run_script("".join(commands))
        except OSError:  # somebody flushed the node's rules, ours with them
            self._installed = False
            self._hold({**after, sandbox: wanted})
        self._owned = {**after, sandbox: wanted}
        for family, port, backend in _datagrams(wanted):
            self._flows.forget_port(family, port, backend)

    def has(self, sandbox: str) -> bool:
        """Whether a sandbox has any."""
        return sandbox in self._owned

    def remove(self, sandbox: str) -> None:
        """Close a sandbox's ports. Idempotent; raises OSError."""
        owned = self._owned.pop(sandbox, [])
        try:
            if owned:
                nftables.run_script("".join(self._command("delete", e) for e in owned))
        except OSError:
            if self._exists():
                raise
        for family, _, backend in _datagrams(owned):
            self._flows.forget_backend(family, backend)

    def recover(self, live: Mapping[str, tuple[tuple[str, ...], tuple[PortMapping, ...]]]) -> None:
        """Hold exactly the ports of *live* sandboxes, in one transaction. Raises OSError."""
        self._owned = {s: e for s, (ips, ports) in live.items() if (e := elements(ips, ports))}
        if self._owned or self._exists():
            self._hold(self._owned)

    def restore(self) -> bool:
        """Put back what somebody deleted; whether anything was missing. Raises OSError."""
        wanted = script(self.table, self.link, self.subnet4, self.subnet6).count("add rule ")
        if not self._owned or count_rules(self.table) == wanted:
            return False
        self._installed = False
        self._hold(self._owned)
        return True

    def _hold(self, wanted: Mapping[str, list[Element]]) -> None:
        """Make the maps have these elements and no others."""
        self._install()
        flush = "".join(
            f"flush map inet {self.table} {m}\n" for m in ("any4", "any6", "at4", "at6")
        )
        adds = "".join(self._command("add", e) for owned in wanted.values() for e in owned)
        nftables.run_script(flush + adds)

    def destroy(self) -> None:
        """Remove the table. Idempotent."""
        nftables.run_script(f"add table inet {self.table}\ndelete table inet {self.table}\n")

    def _install(self) -> None:
        if not self._installed:
            nftables.run_script(script(self.table, self.link, self.subnet4, self.subnet6))
            bridge.write(f"/proc/sys/net/ipv4/conf/{self.link}/route_localnet", "1")
            self._installed = True

    def _exists(self) -> bool:
        listed = nftables.run([{"list": {"tables": None}}])
        return any(e.get("table", {}).get("name") == self.table for e in listed)

    def _command(self, verb: str, element: Element) -> str:
        name, key, value = element
        shown = key if verb == "delete" else f"{key} : {value}"
        return f"{verb} element inet {self.table} {name} {{ {shown} }}\n"
