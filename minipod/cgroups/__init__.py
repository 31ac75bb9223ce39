"""Control groups: v1, hybrid and v2 behind one `Hierarchy`.

`hierarchy` finds the trees and creates, limits, enters, kills and removes cgroups in all of them; `resources` is the pure
translation of limits into files; `devices` says which devices a container may use; `files` is one directory of one tree. `calls` is
what `hierarchy` does for a container in the v1 trees, as system calls; `details` and `view` read, for collectors and people.
Paths are relative to each tree's root.
Synchronous; used by the set-up processes, the supervisor and, in threads, by the daemon.
"""
