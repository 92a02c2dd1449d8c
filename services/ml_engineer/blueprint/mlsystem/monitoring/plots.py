"""Plots as inline SVG: sizes and colours come from the page's style, every plot says in words what it shows.

Owns scales and shapes alone. Leaves what is plotted, and the words, to `page`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDE, _HIGH = 860, 200
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 12, 12, 26
_SPARK_WIDE, _SPARK_HIGH = 150, 30
_ROW = 20
_NAMES = 150
"""Pixels for the names of bins."""


@dataclass(frozen=True, slots=True)
class Point:
    """A value at a time, with its interval where it has one."""

    at: float
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """Points of one kind; `style` is a class of the page's style."""

    name: str
    style: str
    points: Sequence[Point]


@dataclass(frozen=True, slots=True)
class _Scale:
    """From data to pixels."""

    first: float
    last: float
    low: float
    high: float

    @classmethod
    def over(cls, lines: Sequence[Line], limits: Sequence[float]) -> _Scale:
        points = [point for line in lines for point in line.points]
        values = [value for p in points for value in (p.value, p.low, p.high) if value is not None]
        low, high = min([*values, *limits]), max([*values, *limits])
        low = 0.0 if 0 <= low < high / 3 else low
        room = 0.08 * (high - low) or max(abs(high), 1.0) * 0.1
        times = [point.at for point in points]
        return cls(min(times), max(times), low - (room if low else 0.0), high + room)

    def x(self, at: float) -> float:
        span = self.last - self.first
        share = (at - self.first) / span if span else 0.5
        return round(_LEFT + share * (_WIDE - _LEFT - _RIGHT), 1)

    def y(self, value: float) -> float:
        return round(_TOP + (self.high - value) / (self.high - self.low) * (_HIGH - _TOP - _BOTTOM), 1)


def chart(title: str, lines: Sequence[Line], limit: tuple[str, float] | None, times: tuple[str, str]) -> str:
    """Return lines over time with their intervals, a named limit, and the first and last time in words."""
    drawn = [line for line in lines if line.points]
    if not drawn:
        return ""
    scale = _Scale.over(drawn, [limit[1]] if limit else [])
    parts = [_axis(scale, times)]
    if limit:
        y = scale.y(limit[1])
        parts.append(f'<line class="limit" x1="{_LEFT}" x2="{_WIDE - _RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(
            f'<text class="limit" x="{_WIDE - _RIGHT}" y="{y - 5}" text-anchor="end">{escape(limit[0])}</text>'
        )
    parts += [_line(line, scale) for line in drawn]
    return _svg(title, _WIDE, _HIGH, "chart", "".join(parts))


def _axis(scale: _Scale, times: tuple[str, str]) -> str:
    marks = _marks(scale.low, scale.high)
    lines = [
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDE - _RIGHT}" y1="{scale.y(mark)}" y2="{scale.y(mark)}"/>'
        f'<text x="{_LEFT - 8}" y="{scale.y(mark) + 4}" text-anchor="end">{mark:,.10g}</text>'
        for mark in marks
    ]
    first = f'<text x="{_LEFT}" y="{_HIGH - 6}">{escape(times[0])}</text>'
    last = f'<text x="{_WIDE - _RIGHT}" y="{_HIGH - 6}" text-anchor="end">{escape(times[1])}</text>'
    return "".join([*lines, first, last])


def _marks(low: float, high: float) -> list[float]:
    """Return three to six round numbers between two others."""
    rough = (high - low) / 4
    size = 10 ** math.floor(math.log10(rough))
    step = size * next(factor for factor in (1, 2, 5, 10) if factor * size >= rough)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [round(i * step, 12) for i in range(first, last + 1)]


def _line(line: Line, scale: _Scale) -> str:
    places = [(scale.x(point.at), scale.y(point.value)) for point in line.points]
    path = " ".join(f"{x},{y}" for x, y in places)
    bounded = [
        (scale.x(p.at), scale.y(p.low), scale.y(p.high))
        for p in line.points
        if p.low is not None and p.high is not None
    ]
    above = [f"{x},{high}" for x, _, high in bounded]
    below = [f"{x},{low}" for x, low, _ in reversed(bounded)]
    band = f'<polygon class="{line.style} band" points="{" ".join([*above, *below])}"/>' if len(bounded) > 1 else ""
    dots = "".join(f'<circle class="{line.style}" cx="{x}" cy="{y}" r="3"/>' for x, y in places)
    return f'{band}<polyline class="{line.style}" points="{path}"/>{dots}'


def spark(title: str, values: Sequence[float], limit: float) -> str:
    """Return the course of one value in a small plot; what is above the limit is marked."""
    top = max([*values, limit]) * 1.1 or 1.0
    step = (_SPARK_WIDE - 6) / max(len(values) - 1, 1)
    places = [(round(3 + i * step, 1), _spark_y(value, top), value >= limit) for i, value in enumerate(values)]
    path = " ".join(f"{x},{y}" for x, y, _ in places)
    y = _spark_y(limit, top)
    rule = f'<line class="limit" x1="0" x2="{_SPARK_WIDE}" y1="{y}" y2="{y}"/>'
    dots = "".join(f'<circle class="bad" cx="{x}" cy="{y}" r="2.5"/>' for x, y, bad in places if bad)
    return _svg(title, _SPARK_WIDE, _SPARK_HIGH, "spark", f'{rule}<polyline class="now" points="{path}"/>{dots}')


def _spark_y(value: float, top: float) -> float:
    return round(_SPARK_HIGH - 3 - value / top * (_SPARK_HIGH - 6), 1)


def bars(title: str, rows: Sequence[tuple[str, float, float]]) -> str:
    """Return pairs of bars, training above now, for named shares."""
    top = max((share for _, before, now in rows for share in (before, now)), default=1.0) or 1.0
    wide = 420 - _NAMES - 56
    parts = [_pair(i * (_ROW + 6), row, wide / top) for i, row in enumerate(rows)]
    return _svg(title, 420, len(rows) * (_ROW + 6), "bars", "".join(parts))


def _pair(y: int, row: tuple[str, float, float], unit: float) -> str:
    name, before, now = row
    shown = name if len(name) <= 22 else name[:21] + "…"
    end = _NAMES + max(before, now) * unit + 6
    return (
        f'<text x="{_NAMES - 8}" y="{y + 14}" text-anchor="end">{escape(shown)}</text>'
        f'<rect class="before" x="{_NAMES}" y="{y + 1}" width="{before * unit:.1f}" height="8"/>'
        f'<rect class="now" x="{_NAMES}" y="{y + 10}" width="{now * unit:.1f}" height="8"/>'
        f'<text class="figure" x="{end:.1f}" y="{y + 14}">{100 * before:.0f} → {100 * now:.0f} %</text>'
    )


def _svg(title: str, wide: int, high: int, style: str, content: str) -> str:
    return (
        f'<svg class="{style}" viewBox="0 0 {wide} {high}" width="{wide}" height="{high}" role="img">'
        f"<title>{escape(title)}</title>{content}</svg>"
    )
