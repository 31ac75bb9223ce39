"""`python -m minipod.supervisor CONFIG`: the supervisor (`start`), from a read-only mount of its interpreter (`sealing`).

Python starts twice where whoever started it did not do that, so this file imports next to nothing.
"""

from __future__ import annotations

import os
import sys

from minipod.supervisor import sealing

if __name__ == "__main__":
    if not sealing.is_sealed():
        argv = [sys.executable, "-P", "-m", "minipod.supervisor", *sys.argv[1:]]
        os.execve(sealing.path(sealing.interpreter()), argv, sealing.environment(os.environ))
    from minipod.late_inspect import import_dataclasses

    import_dataclasses()
    from minipod.supervisor.start import main

    main()
