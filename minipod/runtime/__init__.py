"""The container runtime: CRI-shaped verbs over the supervisor, the network and the image store.

`service` is the face (Protocols and values); `runtime` implements it over the other files. It never sees a Kubernetes object.

    a sandbox      sandbox: its life; sandbox_setup: namespaces, in a thread (threads); vault: their end
                   furnishing: the cgroup and the name of one that was prepared
                   making: what is created in one that is being made; pod_init: pid 1 of a shared pid namespace
    a container    container: its life; bundle: what the supervisor builds; mountpoints: the lowest layer of its root
                   held_mounts: its mounts, until its end; oom
    a process      exec; probe_exec: the prober's; attach; port_forward
    images, logs   images;  logs and log_files: what the pump wrote
    in advance     prepared_sandboxes; prepared_roots: mounts of layers; both while the node is idle
    all of them    state: records, and what is derived from them; recover: finds everything again after a restart
                   supervisor_client: speaks to the supervisor
"""
