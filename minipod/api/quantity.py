"""Quantities, exactly: "100m", "1.5", "64Mi", "1e3" (apimachinery/pkg/api/resource/quantity.go)."""

from __future__ import annotations

import re
from fractions import Fraction

from minipod.errors import InvalidSpec

_FORM = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))([KMGTPE]i|[numkMGTPE]|[eE][+-]?\d+)?")
_SUFFIX = {
    "": Fraction(1), "n": Fraction(1, 10**9), "u": Fraction(1, 10**6), "m": Fraction(1, 1000),
    **{s: Fraction(1000 ** (i + 1)) for i, s in enumerate("kMGTPE")},
    **{f"{s}i": Fraction(1024 ** (i + 1)) for i, s in enumerate("KMGTPE")},
}  # fmt: skip


def parse(text: str) -> Fraction:
    """Return the exact value. Raises InvalidSpec."""
    match = _FORM.fullmatch(text)
    if match is None:
        raise InvalidSpec(f'expected a quantity such as "100m" or "64Mi", found {text!r}')
    number, suffix = match.groups()
    if suffix and suffix[0] in "eE" and len(suffix) > 1:
        return Fraction(number) * Fraction(10) ** int(suffix[1:])
    return Fraction(number) * _SUFFIX[suffix or ""]


def milli(text: str) -> int:
    """Return thousandths, rounded up: CPU as the kubelet counts it."""
    value = parse(text) * 1000
    return -(-value.numerator // value.denominator)


def whole(text: str) -> int:
    """Return units, rounded up: bytes."""
    value = parse(text)
    return -(-value.numerator // value.denominator)
