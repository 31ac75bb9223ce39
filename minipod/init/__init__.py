"""Everything between fork and execve: a plan (pure values), and two ways to execute it.

    plan, sandbox        a bundle -> a tuple of operations, in their order
    operation            what an operation is
    cgroup namespaces vault sources filesystem attach root device identity userns      the operations, in about that order
    targets              where something is mounted
    child                the long way: a fork that applies them in Python
    launch               the short way: one that makes their system calls, without an interpreter (`descriptors`: the fds it will have;
                         `entrance`: what execs into one container have in common)
    sync                 what the processes of a set-up tell the supervisor

Invariants: no import after the fork (a lazy import after pivot_root would load code from the *image*, with our
capabilities: CVE-2019-14271), no NSS, no descriptor but the listed ones. Synchronous and single-threaded.
"""
