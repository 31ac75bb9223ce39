"""The composition root: the one place that knows every layer.

`serve` wires runtime, network, images, store, kubelet and API server into the daemon (`start`, in a process that
the supervisor forks). `node` starts, stops and resets a node from outside, `leaks` lists what no record owns: they are what the CLI
calls. This file imports nothing, so that each pays for its own.
"""
