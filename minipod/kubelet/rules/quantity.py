"""Amounts as the rules need them: millicores, bytes, quotients; rounded up like Kubernetes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from minipod.api.quantity import canonical, parse

if TYPE_CHECKING:
    from fractions import Fraction


def milli(text: object) -> int:
    """Thousandths, rounded up (CPU)."""
    return _up(parse(str(text)) * 1000)


def whole(text: object) -> int:
    """Units, rounded up (bytes)."""
    return _up(parse(str(text)))


def divided(text: object, divisor: object) -> int:
    """value / divisor, rounded up, as resourceFieldRef gives it."""
    return _up(parse(str(text)) / parse(str(divisor)))


def binary(amount: int) -> str:
    """Bytes as Kubernetes writes them: 20Mi, 51200Ki, 1000."""
    return canonical(f"{amount // 1024}Ki") if amount and amount % 1024 == 0 else str(amount)


def _up(value: Fraction) -> int:
    return -(-value.numerator // value.denominator)
