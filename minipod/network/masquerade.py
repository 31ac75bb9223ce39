"""Our nftables table: pods reach the outside under the node's address, and are let through where the host's policy is drop.

One table of family inet for each instance, rebuilt in one transaction at the start; nobody else's table is touched.
"""

from __future__ import annotations

from typing import Any

from minipod.linux import nftables

Rule = dict[str, Any]


def rules(table: str, bridge: str, subnet4: str, subnet6: str) -> list[Rule]:
    """Return the commands that make the table anew, whether it is there or not."""
    where = {"family": "inet", "table": table}
    commands: list[Rule] = [
        {"add": {"table": {"family": "inet", "name": table}}},
        {"delete": {"table": {"family": "inet", "name": table}}},
        {"add": {"table": {"family": "inet", "name": table}}},
        _chain(where, "postrouting", "nat", "postrouting", 100),
        _chain(where, "forward", "filter", "forward", -10),
    ]
    for protocol, subnet in (("ip", subnet4), ("ip6", subnet6)):
        address, _, bits = subnet.partition("/")
        prefix = {"prefix": {"addr": address, "len": int(bits)}}
        commands.append(
            _rule(
                where,
                "postrouting",
                _match(_field(protocol, "saddr"), prefix),
                # From one pod to another nothing is rewritten: the other sees who calls.
                _match({"meta": {"key": "oifname"}}, bridge, "!="),
                {"masquerade": None},
            )
        )
    commands += [
        _rule(where, "forward", _match({"meta": {"key": direction}}, bridge), {"accept": None})
        for direction in ("iifname", "oifname")
    ]
    return commands


def _chain(where: Rule, name: str, kind: str, hook: str, priority: int) -> Rule:
    chain = {
        **where,
        "name": name,
        "type": kind,
        "hook": hook,
        "prio": priority,
        "policy": "accept",
    }
    return {"add": {"chain": chain}}


def _rule(where: Rule, chain: str, *expressions: Rule) -> Rule:
    return {"add": {"rule": {**where, "chain": chain, "expr": list(expressions)}}}


def _field(protocol: str, field: str) -> Rule:
    return {"payload": {"protocol": protocol, "field": field}}


def _match(left: Rule, right: object, operator: str = "==") -> Rule:
    return {"match": {"op": operator, "left": left, "right": right}}


def install(table: str, bridge: str, subnet4: str, subnet6: str) -> None:
    """Make the table. Raises OSError."""
    nftables.run(rules(table, bridge, subnet4, subnet6))


def remove(table: str) -> None:
    """Remove the table. Idempotent."""
    named = {"table": {"family": "inet", "name": table}}
    nftables.run([{"add": named}, {"delete": named}])
