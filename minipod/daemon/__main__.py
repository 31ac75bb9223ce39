"""`python -m minipod.daemon INSTANCE_JSON READY_FD`: the daemon, as the supervisor executes it."""

from __future__ import annotations

import sys

from minipod.daemon.serve import main

main(sys.argv[1], int(sys.argv[2]))
