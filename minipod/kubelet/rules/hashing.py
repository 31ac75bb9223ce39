"""The container's spec hash: FNV-32a over the JSON of what may change in a running pod (HashContainer,
pickFieldsToHash in 1.31 and newer: name and image); a change restarts the container.

Only those fields: a default that a newer version adds to stored objects must restart nothing.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minipod.kubelet.rules.pods import Container

_OFFSET, _PRIME = 0x811C9DC5, 0x01000193


def spec_hash(container: Container) -> str:
    """Eight hex digits."""
    return _hash(container.name, container.image)


@lru_cache(maxsize=1024)
def _hash(name: str, image: str) -> str:
    text = json.dumps({"name": name, "image": image}, sort_keys=True, separators=(",", ":"))
    return f"{fnv32a(text.encode()):08x}"


def fnv32a(octets: bytes) -> int:
    value = _OFFSET
    for octet in octets:
        value = ((value ^ octet) * _PRIME) & 0xFFFFFFFF
    return value
