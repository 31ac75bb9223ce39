"""Quantities as the rules need them: whole millicores and whole bytes, rounded up as Kubernetes
does."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

_SUFFIX = {
    "n": Fraction(1, 10**9), "u": Fraction(1, 10**6), "m": Fraction(1, 1000), "": Fraction(1),
    "k": Fraction(10**3), "M": Fraction(10**6), "G": Fraction(10**9), "T": Fraction(10**12),
    "P": Fraction(10**15), "E": Fraction(10**18),
    "Ki": Fraction(2**10), "Mi": Fraction(2**20), "Gi": Fraction(2**30), "Ti": Fraction(2**40),
    "Pi": Fraction(2**50), "Ei": Fraction(2**60),
}  # fmt: skip


@lru_cache(maxsize=1024)
def parse(text: str) -> Fraction:
    """The exact value of a (validated) quantity; ValueError otherwise."""
    number = text.rstrip("numkKMGTPEi") if "e" not in text.lower()[:-1] else text
    return Fraction(number) * _SUFFIX[text[len(number) :]]


def milli(text: object) -> int:
    """Thousandths, rounded up (CPU)."""
    return _up(parse(str(text)) * 1000)


def whole(text: object) -> int:
    """Units, rounded up (bytes)."""
    return _up(parse(str(text)))


def divided(text: object, divisor: object) -> int:
    """value / divisor, rounded up, as resourceFieldRef gives it."""
    return _up(parse(str(text)) / parse(str(divisor)))


def _up(value: Fraction) -> int:
    return -(-value.numerator // value.denominator)
