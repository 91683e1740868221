"""Draws a line chart as SVG."""

from collections.abc import Sequence
from html import escape
from math import floor, log10

import msgspec

WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 70, 150, 50, 60
COLOURS = ("#2563a8", "#b45309", "#15803d", "#7c3aed")


class Line(msgspec.Struct, frozen=True):
    """One line, with its name at its end."""

    name: str
    points: Sequence[tuple[float, float]]
    is_dashed: bool = False


def line_chart(title: str, x_label: str, y_label: str, lines: Sequence[Line]) -> str:
    """A chart of `lines` with both axes from 0, for a white page or a dark one."""
    x_top = max((x for line in lines for x, _ in line.points), default=1.0)
    y_step = _step(max((y for line in lines for _, y in line.points), default=1.0))
    y_top = y_step * 6
    x_step = _step(x_top)

    def place(x: float, y: float) -> tuple[float, float]:
        across, up = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
        return round(LEFT + across * x / x_top, 1), round(HEIGHT - BOTTOM - up * y / y_top, 1)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'role="img" aria-labelledby="title" font-family="system-ui, \'DejaVu Sans\', Helvetica, Arial, sans-serif" '
        'font-size="13">',
        f'  <title id="title">{escape(title)}</title>',
        f'  <rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        f'  <text x="{LEFT}" y="26" font-size="16" font-weight="600" fill="#1f2937">{escape(title)}</text>',
    ]
    for n in range(7):
        x, y = place(0, n * y_step)
        parts.append(f'  <path d="M{x} {y} H{WIDTH - RIGHT}" stroke="#d1d5db" stroke-width="1"/>')
        parts.append(f'  <text x="{x - 8}" y="{y + 4}" text-anchor="end" fill="#4b5563">{n * y_step:g}</text>')
    n = 0
    while n * x_step <= x_top * 1.001:
        x, y = place(n * x_step, 0)
        parts.append(f'  <text x="{x}" y="{y + 20}" text-anchor="middle" fill="#4b5563">{n * x_step:g}</text>')
        n += 1
    for line, colour in zip(lines, COLOURS, strict=False):
        parts += _draw(line, colour, [place(x, y) for x, y in line.points])
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts += [
        f'  <text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 14}" text-anchor="middle" fill="#1f2937">'
        f"{escape(x_label)}</text>",
        f'  <text x="18" y="{middle}" text-anchor="middle" transform="rotate(-90 18 {middle})" fill="#1f2937">'
        f"{escape(y_label)}</text>",
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _draw(line: Line, colour: str, places: Sequence[tuple[float, float]]) -> list[str]:
    if not places:
        return []
    dash = ' stroke-dasharray="6 5"' if line.is_dashed else ""
    way = " L".join(f"{x} {y}" for x, y in places)
    x, y = places[-1]
    return [
        f'  <path d="M{way}" fill="none" stroke="{colour}" stroke-width="2.5"{dash}/>',
        *([] if line.is_dashed else [f'  <circle cx="{x}" cy="{y}" r="4" fill="{colour}"/>' for x, y in places]),
        f'  <text x="{x + 10}" y="{y + 4}" fill="{colour}" font-weight="600">{escape(line.name)}</text>',
    ]


def _step(top: float) -> float:
    """A round number of which about five make `top`, and six more than it."""
    if top <= 0:
        return 1.0
    rough = top / 5
    unit = 10.0 ** floor(log10(rough))
    return next(unit * n for n in (1, 2, 2.5, 5, 10) if unit * n >= rough)
