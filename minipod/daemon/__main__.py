"""`python -m minipod.daemon INSTANCE_JSON READY_FD`: the daemon, as the supervisor executes it, with the instance's face."""

from __future__ import annotations

import gc
import json
import sys

from minipod.daemon.lean_aiohttp import import_server
from minipod.late_methods import late_methods

gc.disable()  # what is imported stays: nothing of it is to be collected
import_server()
with late_methods():
    if json.loads(sys.argv[1])["face"] == "cri":
        from minipod.daemon.cri import main
    else:
        from minipod.daemon.serve import main
gc.freeze()
gc.enable()
main(sys.argv[1], int(sys.argv[2]))
