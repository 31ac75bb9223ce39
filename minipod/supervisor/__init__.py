"""One process per node: fork server and subreaper for all pods. It outlives the daemon.

It accepts, forks, passes fds, reaps and writes exit records, each step non-blocking; it never calls fsync and imports
neither asyncio nor threading. It also keeps the node's other processes alive: log pump, prober, daemon (`services`).

    daemon, prober --SOCK_SEQPACKET--> server --fork--> set-up processes (minipod.init.child) --> containers
                                         |-- streams: FIFOs and their idle read ends -- pump (CRI log files)
                                         `-- records: <run_dir>/containers/<id>/{bundle,state,exit}.json

    start        start, serving: the two halves of it; sealing: its read-only interpreter; adopt: what another supervisor left
    asked        protocol: the words; requests: one method each; outbox: what waits for who is slow to read
    children     setups: forks, follows, reports; askers: who waits for that; ends: of containers; children: what is known of each process
    execs        execs: how they are started; exec_page: which run, for the next supervisor
    output       pump: a process of its own; logfile: CRI logs; attached: clients of attach; streams: the FIFOs
    the rest     server: the loop; timers; services: pump, prober, daemon; records: files

Invariants: an exit status is read with waitid(WNOWAIT), recorded, then reaped, then told. Identity of a process is pid +
start time. `adopt` takes containers over that another supervisor left behind.
"""

# exit code of a supervisor that finds another one of its node (EX_TEMPFAIL, sysexits.h)
ANOTHER_RUNS = 75
ENDED = b"ended\n"  # said of a service to who waits until it is ready
