"""Which of an index's manifests fits a machine (image-spec, image-index.md; containerd's platforms package). Pure."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from minipod.errors import ImageError

MACHINES = {
    "x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm/v7", "armv6l": "arm/v6", "i686": "386", "i386": "386",
    "riscv64": "riscv64", "ppc64le": "ppc64le", "s390x": "s390x",
}  # fmt: skip
_WORD = re.compile(r"[A-Za-z0-9_.-]+")
_DEFAULT_VARIANTS = {"arm64": "v8", "amd64": "v1", "arm": "v7"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """An operating system, an architecture in Go's words, and its variant ("" where there is one only)."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(filter(None, (self.os, self.architecture, self.variant)))


def of_machine() -> Platform:
    """Return the platform of the running kernel."""
    machine = os.uname().machine
    return parse(f"linux/{MACHINES.get(machine, machine)}")


def parse(text: str) -> Platform:
    """Read `os/architecture[/variant]`; x86_64 and aarch64 are understood. Raises ImageError."""
    words = text.split("/")
    if not 2 <= len(words) <= 3 or not all(_WORD.fullmatch(word) for word in words):
        raise ImageError(
            f"{text!r} is not a platform", reason="ErrImagePull", hint="for example linux/arm64"
        )
    architecture, _, variant = MACHINES.get(words[1], words[1]).partition("/")
    given = words[2] if len(words) == 3 else variant
    return Platform(os=words[0], architecture=architecture, variant=given)


def rank(wanted: Platform, found: Platform) -> int | None:
    """How well *found* fits: None not at all, higher is better (arm/v6 runs on arm/v7, not the other way)."""
    if (wanted.os, wanted.architecture) != (found.os, found.architecture):
        return None
    default = _DEFAULT_VARIANTS.get(wanted.architecture, "")
    have, want = _level(found.variant or default), _level(wanted.variant or default)
    return have if have <= want else None


def _level(variant: str) -> int:
    digits = variant.removeprefix("v")
    return int(digits) if digits.isdigit() else 0
