"""`python -m minipod.daemon INSTANCE_JSON READY_FD`: the daemon, as the supervisor executes it, with the instance's face."""

from __future__ import annotations

import gc
import json
import os
import sys

from minipod.late_methods import late_methods


def import_aiohttp() -> None:
    """Import it without the machine's certificate authorities.

    aiohttp.connector makes a context with them at once, 65 ms and 2 MB, for clients that name none. Ours do (`image.registry.http`).
    """
    nothing = {"SSL_CERT_FILE": os.devnull, "SSL_CERT_DIR": os.devnull}
    before = {name: os.environ.get(name) for name in nothing}
    os.environ.update(nothing)
    import aiohttp  # noqa: F401

    for name, value in before.items():
        del os.environ[name]
        if value is not None:
            os.environ[name] = value


gc.disable()  # what is imported stays: nothing of it is to be collected
import_aiohttp()
with late_methods():
    if json.loads(sys.argv[1])["face"] == "cri":
        from minipod.daemon.cri import main
    else:
        from minipod.daemon.serve import main
gc.freeze()
gc.enable()
main(sys.argv[1], int(sys.argv[2]))
