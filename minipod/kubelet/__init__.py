"""The kubelet: it decides (`rules/`), acts (actors), and probes (`probe/`).

    kubelet -> sources -> pod_worker -> sync -> {starting, stopping, volumes, translate} ->
    runtime.service
                                          |-> podstatus -> status -> store        events -> store

Owns pods on this node from their first sight to the end of their objects. Not here: how a sandbox
or a container is made (`runtime/`), what a valid pod is (`api/`). Invariants: one actor per pod;
decisions are pure and made anew from what is observed, so a restarted kubelet decides the same;
nobody polls.
"""
