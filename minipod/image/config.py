"""What an image says about itself: the OCI image configuration as a dataclass.

Source: opencontainers/image-spec, config.md. Unknown fields are ignored, as the specification demands;
absent and null lists are the same thing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from minipod.errors import ImageError


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageConfig:
    """The execution parameters and the layers of one image."""

    env: tuple[str, ...] = ()  # "NAME=value"
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    user: str = ""  # "user[:group]", names or numbers; see minipod.image.passwd
    working_dir: str = ""
    stop_signal: str = ""  # "SIGTERM", or a number
    exposed: tuple[str, ...] = ()  # "80/tcp"
    volumes: tuple[str, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    architecture: str = ""
    os: str = ""
    created: str = ""  # RFC 3339
    diff_ids: tuple[str, ...] = ()  # sha256 of each uncompressed layer, base first


def parse_config(text: bytes) -> ImageConfig:
    """Decode an OCI (or Docker) image configuration. Raises ImageError."""
    try:
        raw = json.loads(text)
        return _from_plain(raw)
    except (ValueError, TypeError, AttributeError) as e:
        raise ImageError(f"image config is not valid: {e}", reason="ImageInspectError") from e


def _from_plain(raw: dict[str, Any]) -> ImageConfig:
    execution = raw.get("config") or {}
    return ImageConfig(
        env=_words(execution, "Env"),
        entrypoint=_words(execution, "Entrypoint"),
        cmd=_words(execution, "Cmd"),
        user=execution.get("User") or "",
        working_dir=execution.get("WorkingDir") or "",
        stop_signal=execution.get("StopSignal") or "",
        exposed=tuple(sorted(execution.get("ExposedPorts") or {})),
        volumes=tuple(sorted(execution.get("Volumes") or {})),
        labels=dict(execution.get("Labels") or {}),
        architecture=raw.get("architecture") or "",
        os=raw.get("os") or "",
        created=raw.get("created") or "",
        diff_ids=_words(raw.get("rootfs") or {}, "diff_ids"),
    )


def _words(raw: dict[str, Any], key: str) -> tuple[str, ...]:
    value = raw.get(key) or []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise TypeError(f"{key} is not a list of strings")
    return tuple(value)
