"""yaml without its patterns: they are compiled when something is matched with them, 5 of the 11 ms of its import.

The slowest says which characters a stream may not have, and belongs to the reader in Python, whose work libyaml's does.
"""

from __future__ import annotations

import re
from typing import Any


class _Pattern:
    """Has what the compiled one has."""

    def __init__(self, *words: Any) -> None:
        self._words = words

    def __getattr__(self, name: str) -> Any:
        vars(self).update(match=(compiled := _compile(*self._words)).match)
        return getattr(compiled, name)


_compile = re.compile
re.compile = _Pattern  # type: ignore[assignment]
try:
    import yaml

    from minipod.api.yaml_types import StrictLoader, plain
finally:
    re.compile = _compile

__all__ = ["StrictLoader", "plain", "yaml"]
