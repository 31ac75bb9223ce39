"""Probes: which exist (`manager`, in the daemon), and running them (`prober`, a process of its
own).

    daemon: manager --JSON lines over <run_dir>/prober.sock--> prober: worker per (pod, container,
    kind)
                    <-------- results, failures ---------------        http | tcp | exec

The prober keeps its counters while the daemon is away, so readiness and thresholds survive a
restart. Counting is pure (`kubelet.rules.probe`); the handlers are stdlib asyncio on raw sockets:
no C extension and no thread in the loop. Not here: what a result means for a container
(`kubelet.rules.actions`).
"""
