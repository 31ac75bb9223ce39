"""Window sizes out of the resize channel: a stream of JSON objects {"Width": columns, "Height": rows}, cut anywhere.

Only the newest size is of interest (client-go's TerminalSizeQueue keeps one, too). What is no size is passed over: a client that sends
nonsense here loses what it sent, not its command. Memory is OBJECT_MAX bytes, whatever comes.
"""

from __future__ import annotations

import json
from typing import Final

OBJECT_MAX: Final = 1 << 10  # bytes of one object; a client's has 30
SIDE_MAX: Final = (1 << 16) - 1  # rows and columns are unsigned shorts (struct winsize)


class Sizes:
    """What came so far of the stream."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, payload: bytes) -> tuple[int, int] | None:
        """Return the newest size that *payload* completes, as (rows, columns); None for none."""
        *whole, self._rest = (self._rest + payload[-OBJECT_MAX:]).split(b"}")
        self._rest = self._rest[:OBJECT_MAX]
        found = (size(text + b"}") for text in reversed(whole))
        return next((one for one in found if one is not None), None)


def size(text: bytes) -> tuple[int, int] | None:
    """Return (rows, columns); None for what is no size."""
    try:
        found = json.loads(text)
        rows, columns = found["Height"], found["Width"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if not (type(rows) is type(columns) is int):
        return None
    return (rows, columns) if 0 < rows <= SIDE_MAX and 0 < columns <= SIDE_MAX else None
