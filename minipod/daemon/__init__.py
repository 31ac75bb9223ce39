"""The composition root: the one place that knows every layer.

    in the daemon     start: its first steps; serve: wires runtime, network, images, store, kubelet and API server; cri: the runtime
                      with a gRPC face; machine: what both have below
                      streams, images, kubelet_routes, usage, own_metrics: what the API gets from kubelet and runtime
                      stopping: the end of all pods; successor: of the supervisor; lean_aiohttp
    from outside      node: starts, stops and resets a node; outdated: whether its code has changed; leaks: what no record owns; systemd
    the prober        prober: its entry point

The supervisor forks the daemon, which begins in `start`. This file imports nothing, so that each pays for its own.
"""
