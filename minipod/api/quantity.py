"""Quantities, exactly: "100m", "1.5", "64Mi", "1e3" (apimachinery/pkg/api/resource/quantity.go)."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

from minipod.errors import InvalidSpec

LENGTH_MAX, EXPONENT_MAX = 64, 99  # longer ones are no honest quantities, and cost time
_FORM = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))([KMGTPE]i|[numkMGTPE]|[eE][+-]?\d+)?")
_SUFFIX = {
    "": Fraction(1), "n": Fraction(1, 10**9), "u": Fraction(1, 10**6), "m": Fraction(1, 1000),
    **{s: Fraction(1000 ** (i + 1)) for i, s in enumerate("kMGTPE")},
    **{f"{s}i": Fraction(1024 ** (i + 1)) for i, s in enumerate("KMGTPE")},
}  # fmt: skip


@lru_cache(maxsize=1024)
def parse(text: str) -> Fraction:
    """Return the exact value. Raises InvalidSpec."""
    match = _FORM.fullmatch(text) if len(text) <= LENGTH_MAX else None
    if match is None or (_is_exponent(match[2]) and abs(int(match[2][1:])) > EXPONENT_MAX):
        raise InvalidSpec(f'expected a quantity such as "100m" or "64Mi", found {text[:80]!r}')
    number, suffix = match.groups()
    if _is_exponent(suffix):
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


_BINARY = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_DECIMAL = {-9: "n", -6: "u", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T", 15: "P", 18: "E"}


def canonical(text: str) -> str:
    """Return *text* as Kubernetes writes it: no fraction, the largest suffix of its family. Raises InvalidSpec."""
    value = parse(text)
    suffix = _FORM.fullmatch(text)[2] or ""  # type: ignore[index]  # parse has matched it
    if suffix.endswith("i") and (value.denominator == 1) and abs(value) >= 1024:
        whole_value, step = value.numerator, 0
        while whole_value % 1024 == 0 and step < len(_BINARY) - 1:
            whole_value, step = whole_value // 1024, step + 1
        return f"{whole_value}{_BINARY[step]}"
    nano = -(-(value * 10**9).numerator // (value * 10**9).denominator)  # finer than nano rounds up
    exponent = -9
    while nano and nano % 1000 == 0 and exponent < 18:
        nano, exponent = nano // 1000, exponent + 3
    if not nano:
        return "0"
    if _is_exponent(suffix):
        return f"{nano}e{exponent}" if exponent else str(nano)
    return f"{nano}{_DECIMAL[exponent]}"


def _is_exponent(suffix: str | None) -> bool:
    return suffix is not None and len(suffix) > 1 and suffix[0] in "eE"
