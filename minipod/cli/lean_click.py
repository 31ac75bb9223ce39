"""click without what its import loads for others: 14 modules, 11 of 27 ms.

click asks `inspect` for one function (`cleandoc`, for each help text), `uuid` (with it comes `platform`) and `datetime` for types of
parameters that no command here has, `gettext` for translations that it does not bring, `threading` for one name. While click is
imported, there are stand-ins with what it takes meanwhile. Who looks for more later finds the real modules (`late_inspect`).

The verbs say `import click`, as anybody does: their package has imported it by then.
"""

from __future__ import annotations

import sys
from _datetime import datetime  # type: ignore[import-not-found]  # without its form in Python
from _thread import _local  # threading.local

from minipod.late_inspect import StandIn, later


def _cleandoc(text: str) -> str:
    """inspect.cleandoc; itself for what has several lines."""
    if "\n" not in text:
        return text.expandtabs().lstrip()
    vars(_inspect).pop("cleandoc", None)
    cleaned: str = _inspect.cleandoc(text)
    return cleaned


def _gettext(message: str) -> str:
    return message


def _ngettext(singular: str, plural: str, n: int) -> str:
    return singular if n == 1 else plural


_uuid = StandIn("uuid", UUID=object)
_inspect = StandIn("inspect", cleandoc=_cleandoc)
with later(
    _inspect, _uuid, StandIn("datetime", datetime=datetime),
    StandIn("gettext", gettext=_gettext, ngettext=_ngettext), StandIn("threading", local=_local),
):  # fmt: skip
    import click
del _uuid.UUID  # it only had to be there for a generic type
sys.modules.setdefault("inspect", _inspect)  # for dataclasses and asyncio, too

__all__ = ["click"]
