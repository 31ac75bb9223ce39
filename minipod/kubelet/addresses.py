"""A pod's addresses, and what its environment may ask of the node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from minipod.kubelet.rules.env import NodeFacts

if TYPE_CHECKING:
    from minipod.kubelet.context import Context
    from minipod.kubelet.rules.observed import Sandbox
    from minipod.kubelet.rules.pods import Pod


def pod_ip(pod: Pod, sandbox: Sandbox | None, context: Context) -> str:
    """The pod's address; the node's for a pod in its network."""
    if pod.host_network:
        return context.machine.host_ip or "127.0.0.1"
    return sandbox.ips[0] if sandbox is not None and sandbox.ips else ""


def node_facts(pod: Pod, sandbox: Sandbox | None, context: Context) -> NodeFacts:
    """What env sources may ask."""
    ips = sandbox.ips if sandbox is not None else ()
    machine = context.machine
    if pod.host_network:
        ips = (machine.host_ip,) if machine.host_ip else ()
    return NodeFacts(
        node_name=machine.node_name,
        host_ip=machine.host_ip,
        pod_ips=ips,
        allocatable=machine.allocatable,
    )
