"""The kubelet: it decides (`rules/`), acts (actors), and probes (`probe/`).

    kubelet -> sources -> pod_worker -> sync -> {starting, stopping, volumes, translate} -> runtime.service
                                          |-> pod_status -> status_manager -> store    events -> store

    a pod's way in       sources (the store), manifests and static_pods (files); kubelet gives each pod a pod_worker
    an actor's turn      pod_worker -> sync: observe, decide (rules.actions), act; standing: admitted, evicted, resized? retries
    what it does         starting, ahead, images, pull_secrets, hooks; volume_manager; stopping; resizing; remains
    what it is told in   translate (specs), environment, tokens, userns, runtime_class, addresses, dns_host, volumes/
    what it tells        pod_status -> status_manager, events, termination, explaining (minipod why), logs
    the node             node, heartbeat, admission, pressure, eviction, qos_cgroups; metrics, cadvisor
    what all share       context; objects that pods refer to: objects
    probes               probing says which; probe/ runs them

Owns pods on this node from their first sight to the end of their objects. Not here: how a sandbox
or a container is made (`runtime/`), what a valid pod is (`api/`). Invariants: one actor per pod;
decisions are pure and made anew from what is observed, so a restarted kubelet decides the same;
nobody polls.
"""
