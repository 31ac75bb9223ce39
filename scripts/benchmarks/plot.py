"""Strip plots as SVG, without a library: on a logarithmic axis a dot for each run, a stroke at the median, a triangle at the aim."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, LEFT, RIGHT, LANE = 860, 320, 90, 20
COLOURS = {"minipod": "#c2410c"}
AIM = "#15803d"
OTHERS = ("#1d4ed8", "#047857", "#7c3aed", "#a16207", "#475569")


@dataclass(frozen=True, slots=True)
class Lanes:
    """One figure: the values of each side, one lane each."""

    name: str
    sides: dict[str, list[float]]
    aim: float | None = None


def strips(title: str, series: list[Lanes]) -> str:
    """Return the SVG of the figures; those of different units share the axis of numbers."""
    values = [v for figure in series for some in figure.sides.values() for v in some if v > 0]
    values += [figure.aim for figure in series if figure.aim is not None]
    if not values:
        return '<svg xmlns="http://www.w3.org/2000/svg"/>\n'
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    scale = (WIDTH - LEFT - RIGHT) / max(1, high - low)

    def x(value: float) -> float:
        return LEFT + (math.log10(max(value, 10.0**low)) - low) * scale

    body, y, colours = [], 46, dict(COLOURS)
    for figure in series:
        body.append(f'<text x="12" y="{y}" font-weight="600">{escape(figure.name)}</text>')
        if figure.aim is not None:
            at = x(figure.aim)
            body.append(f'<path d="M{at - 5:.1f} {y - 9}h10l-5 9z" fill="{AIM}"/>')
        y += LANE
        for side, some in figure.sides.items():
            colour = colours.setdefault(side, OTHERS[(len(colours) - 1) % len(OTHERS)])
            body += _lane(side, some, y, colour, x)
            y += LANE
        y += 8
    ticks = [
        f'<line x1="{x(10.0**n):.1f}" x2="{x(10.0**n):.1f}" y1="30" y2="{y - 10}" stroke="#ddd"/>'
        f'<text x="{x(10.0**n):.1f}" y="{y + 6}" text-anchor="middle" fill="#777">{10.0**n:g}</text>'
        for n in range(low, high + 1)
    ]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y + 16}" '
        'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>'
        f'<text x="12" y="20" font-size="14" font-weight="700">{escape(title)}</text>'
    )
    return "\n".join([head, *ticks, *body, "</svg>"]) + "\n"


def _lane(
    side: str, values: list[float], y: int, colour: str, x: Callable[[float], float]
) -> list[str]:
    middle = statistics.median(values)
    dots = "".join(f'<circle cx="{x(v):.1f}" cy="{y - 4}" r="3"/>' for v in values)
    at = f"{x(middle):.1f}"
    return [
        f'<text x="{LEFT - 12}" y="{y}" text-anchor="end">{escape(side)}</text>',
        f'<g fill="{colour}" fill-opacity="0.35">{dots}</g>',
        f'<line x1="{at}" x2="{at}" y1="{y - 12}" y2="{y + 4}" stroke="{colour}" stroke-width="2"/>',
        f'<text x="{WIDTH - 12}" y="{y}" text-anchor="end">{middle:.4g}</text>',
    ]
