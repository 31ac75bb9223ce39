"""The command `minipod`: Python started and ended no later than the verb needs it.

Collections of garbage while modules load find none, and take 1.5 ms; a command that stays (`logs -f`) makes little. Nobody needs Python
to take itself apart at the end, module by module, 3 ms: what was printed is flushed, children and threads that matter have been
waited for by whoever started them.
"""

from __future__ import annotations

import gc
import os
from typing import NoReturn

COLLECT = 50_000  # objects more than before the last collection; Python's own number is 700


def main() -> NoReturn:
    """Run the command line, and leave with its code."""
    gc.set_threshold(COLLECT)
    from minipod import cli

    os._exit(cli.main())


if __name__ == "__main__":
    main()
