"""`python -m minipod.daemon INSTANCE_JSON READY_FD`: the daemon, as the supervisor executes it, with the instance's face."""

from __future__ import annotations

import json
import sys

if json.loads(sys.argv[1])["face"] == "cri":
    from minipod.daemon.cri import main
else:
    from minipod.daemon.serve import main

main(sys.argv[1], int(sys.argv[2]))
