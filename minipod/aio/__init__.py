"""Small asyncio pieces that every actor uses: guarded tasks (`tasks`), an alarm at a due time (`timers`), keyed workers (`workers`),
what they wait for (`flags`), non-blocking descriptors (`fds`), the connections of a unix socket (`local`); and directories that are
removed behind one's back (`trash`), or made before one asks (`spares`).

Owns no state of the node. Invariants: a guarded task never dies unseen, an alarm has at most one pending timer, a keyed worker's
messages are handled one at a time and the newest replaces the older.
"""
