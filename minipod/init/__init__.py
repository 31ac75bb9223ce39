"""Everything between fork and execve: a plan (pure values) and the two processes that execute it.

`plan` turns a Bundle into a tuple of operations; `operation` says what an operation is; `isolation`, `filesystem`,
`device` and `identity` hold them; `child` forks and runs them; `launch` runs an exec's as a list of system calls, without an
interpreter; `sync` is what the processes tell the supervisor.

Invariants: no import after the fork (a lazy import after pivot_root would load code from the *image*, with our
capabilities: CVE-2019-14271), no NSS, no descriptor but the listed ones. Synchronous and single-threaded.
"""
