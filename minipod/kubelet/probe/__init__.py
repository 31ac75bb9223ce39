"""Probes: which exist (`manager`, in the daemon), and running them (`prober`, a process of its own).

    daemon: manager --JSON lines over <run_dir>/prober.sock--> prober: worker per (pod, container, kind)
                    <-------- results, failures ---------------        http | tcp | grpc | exec

    what crosses the socket   targets          what is counted   metrics
    when                      timers           one attempt       handlers -> flight over sockets (streams: through TLS)
    HTTP                      response         gRPC              hpack

The prober keeps its counters while the daemon is away, so readiness and thresholds survive a
restart. Counting is pure (`kubelet.rules.probe`); the handlers are stdlib asyncio on raw sockets:
no C extension and no thread in the loop. Not here: what a result means for a container
(`kubelet.rules.actions`).
"""
