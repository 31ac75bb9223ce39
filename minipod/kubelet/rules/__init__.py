"""What a pod must do: pure functions from values to values, `now` always an argument.

    values        pods (a pod as the rules read it), observed (what there is of it), quantity, references
    what to do    actions, with restart, initialization (init containers, sidecars), kills, hashing (is a container as its spec says?)
    what to say   phase, conditions, status, render (to the wire's form); correlation (of events)
    may it run    admission, amounts (of a resize); preemption and eviction: who makes room
    what it gets  env, dns, payload (files of volumes), qos (class, cgroups, oom_score_adj)
    when it ends  ordering;  probe: how results are counted

No clock, no I/O, no asyncio (import-linter checks it). Each module is one rule of the kubelet, with
its source: K8S is the Kubernetes tree, 1.20.2 unless said otherwise.
"""
