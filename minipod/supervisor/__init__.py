"""One process per node: fork server and subreaper for all pods. It outlives the daemon.

It accepts, forks, passes fds, reaps and writes exit records, each step non-blocking; it never calls fsync and imports
neither asyncio nor threading. It also keeps the node's other processes alive: log pump, prober, daemon (`services`).

    daemon, prober --SOCK_SEQPACKET--> server --fork--> set-up processes (minipod.init.child) --> containers
                                         |-- streams: FIFOs and their idle read ends -- pump (CRI log files)
                                         `-- records: <run_dir>/containers/<id>/{bundle,state,exit}.json

Invariants: an exit status is read with waitid(WNOWAIT), recorded, then reaped, then told. Identity of a process is pid +
start time. `adopt` takes containers over that another supervisor left behind.
"""
