"""Small asyncio pieces that every actor uses: guarded tasks, an alarm at a due time, keyed workers,
non-blocking descriptors.

Owns no state of the node. Invariants: a guarded task never dies unseen, an alarm has at most one
pending timer, a keyed worker's messages are handled one at a time and the newest replaces the
older.
"""
