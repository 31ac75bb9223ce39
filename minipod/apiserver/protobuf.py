"""Protobuf bodies (not there yet)."""

from __future__ import annotations

from typing import Any

from minipod.apiserver.status import ApiError


def decode(content: bytes) -> Any:
    """Refuse. Raises ApiError 415."""
    raise ApiError(415, f"protobuf is not supported yet ({len(content)} bytes)")
