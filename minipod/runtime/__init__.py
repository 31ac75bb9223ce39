"""The container runtime: CRI-shaped verbs over the supervisor, the network and the image store.

`service` is the face (Protocols and values). `runtime` implements it with one file per concern: `sandbox`, `container`, `exec`,
`images`; `state` holds the records and what is derived from them, `bundle` turns a ContainerSpec into what the supervisor
builds, `recover` finds everything again after a restart, `supervisor_client` speaks to the supervisor, `logs` reads what the
pump wrote. It never sees a Kubernetes object.
"""
