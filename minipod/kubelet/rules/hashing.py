"""The container's spec hash: FNV-32a over its JSON (K8S HashContainer); a change restarts it.

Only the image is mutable in a running pod, so this is how an image edit restarts a container.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minipod.kubelet.rules.pods import Container

_OFFSET, _PRIME = 0x811C9DC5, 0x01000193


def spec_hash(container: Container) -> str:
    """Eight hex digits."""
    text = json.dumps(
        container.raw or {"name": container.name, "image": container.image},
        sort_keys=True,
        separators=(",", ":"),
    )
    return f"{fnv32a(text.encode()):08x}"


def fnv32a(octets: bytes) -> int:
    value = _OFFSET
    for octet in octets:
        value = ((value ^ octet) * _PRIME) & 0xFFFFFFFF
    return value
