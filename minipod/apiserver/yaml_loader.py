"""The YAML body of a request: no aliases (they expand), depth limited."""

from __future__ import annotations

from typing import Any

import yaml

from minipod.api.yaml_types import Loader, plain


def load(text: str, limit: int) -> Any:
    """Return the one document. Raises yaml.YAMLError, ValueError."""
    _check(text, limit)
    return plain(yaml.load(text, Loader))  # noqa: S506 a safe loader


def _check(text: str, limit: int) -> None:
    """Raise ValueError for aliases (they make a small text big) and for what is nested too deeply, before anything is built."""
    depth = 0
    for event in yaml.parse(text, Loader):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("aliases are not accepted")  # noqa: TRY004 a defect of the text
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > limit:
                raise ValueError(f"nested more than {limit} levels deep")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
