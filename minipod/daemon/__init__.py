"""The composition root: the one place that knows every layer.

`serve` wires runtime, network, images, store, kubelet and API server into the daemon (`python -m minipod.daemon`, started
by the supervisor). `node` starts, stops and resets a node from outside, `leaks` lists what no record owns: they are what the CLI
calls, and import nothing heavy.
"""

from __future__ import annotations

from minipod.daemon.leaks import leaks
from minipod.daemon.node import node_status, reset_node, start_node, stop_node

__all__ = ["leaks", "node_status", "reset_node", "start_node", "stop_node"]
