"""Our nftables table: pods reach the outside under the node's address.

One table of family inet for each instance, rebuilt in one transaction at the start; nobody else's table is touched. So what another
table drops stays dropped: an accept ends only its own chain (nft(8), "accept"). `foreign_drops` finds such chains for `minipod doctor`.
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


def whole(table: str) -> bool:
    """Whether the table has all of its rules."""
    return count_rules(table) == 2  # one for each family


def count_rules(table: str) -> int:
    """Return how many rules a table of ours has, 0 when there is none."""
    try:
        listed = nftables.run([{"list": {"table": {"family": "inet", "name": table}}}])
    except OSError:
        return 0
    return sum("rule" in entry for entry in listed)


def remove(table: str) -> None:
    """Remove the table. Idempotent."""
    named = {"table": {"family": "inet", "name": table}}
    nftables.run([{"add": named}, {"delete": named}])


def foreign_drops() -> list[str]:
    """Return the chains of this machine that drop forwarded packets by policy, as "family table chain". Raises OSError."""
    chains = [
        entry["chain"] for entry in nftables.run([{"list": {"chains": None}}]) if "chain" in entry
    ]
    return [
        f"{chain['family']} {chain['table']} {chain['name']}"
        for chain in chains
        if chain.get("hook") == "forward" and chain.get("policy") == "drop"
    ]
