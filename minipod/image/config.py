"""What an image says about itself: the OCI image configuration as a dataclass.

Source: opencontainers/image-spec, config.md. Unknown fields are ignored, as the specification demands;
absent and null lists are the same thing.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from minipod.errors import ImageError
from minipod.image.content import DIGEST

RECIPE_LABEL = "org.minipod.recipe"  # of images that `image.build` made: the digest of their recipe


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
    except (ValueError, TypeError, AttributeError, RecursionError) as e:
        raise ImageError(f"image config is not valid: {e}", reason="ImageInspectError") from e


def _from_plain(raw: dict[str, Any]) -> ImageConfig:
    execution = raw.get("config") or {}
    return ImageConfig(
        env=_words(execution, "Env"),
        entrypoint=_words(execution, "Entrypoint"),
        cmd=_words(execution, "Cmd"),
        user=_word(execution, "User"),
        working_dir=_word(execution, "WorkingDir"),
        stop_signal=_word(execution, "StopSignal"),
        exposed=tuple(sorted(_table(execution, "ExposedPorts"))),
        volumes=tuple(sorted(_table(execution, "Volumes"))),
        labels={key: str(value) for key, value in _table(execution, "Labels").items()},
        architecture=_word(raw, "architecture"),
        os=_word(raw, "os"),
        created=_word(raw, "created"),
        diff_ids=_diff_ids(raw.get("rootfs") or {}),
    )


def _diff_ids(raw: dict[str, Any]) -> tuple[str, ...]:
    """Return the digests of the layers. They become names of directories: nothing else may pass."""
    found = _words(raw, "diff_ids")
    for text in found:
        if not DIGEST.fullmatch(text):
            raise ValueError(f"diff id {text[:100]!r} is not a sha256 digest")
    return found


def _word(raw: dict[str, Any], key: str) -> str:
    value = raw.get(key) or ""
    if not isinstance(value, str):
        raise TypeError(f"{key} is not a string")
    return value


def _table(raw: dict[str, Any], key: str) -> dict[str, Any]:
    value = raw.get(key) or {}
    if not isinstance(value, dict):
        raise TypeError(f"{key} is not an object")
    return value


def _words(raw: dict[str, Any], key: str) -> tuple[str, ...]:
    value = raw.get(key) or []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise TypeError(f"{key} is not a list of strings")
    return tuple(value)
