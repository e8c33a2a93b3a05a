"""Lines over a count as SVG: one panel a figure, one line a series, each with its name at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 380, 250
_LEFT, _TOP, _RIGHT, _BOTTOM = 44, 44, 92, 36
_COLOURS = ("#1f6feb", "#b42318", "#1a7f37", "#9a6700", "#8250df")
_TICKS = 4
_LEAST_GAP = 13.0  # between two names


@dataclass(frozen=True)
class Panel:
    """One figure. lines: by series, the points (count, value). top: the largest value of the axis."""

    title: str
    lines: Mapping[str, Sequence[tuple[float, float]]]
    top: float


def line_chart(title: str, count: str, panels: Sequence[Panel]) -> str:
    """The chart, which a screen reader reads as its title and the ends of lines. count: what stands below the axis."""
    names = list(dict.fromkeys(name for panel in panels for name in panel.lines))
    colours = {name: _COLOURS[number % len(_COLOURS)] for number, name in enumerate(names)}
    width = _WIDTH * len(panels)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {width} {_HEIGHT}" font-family="sans-serif">',
        f"<title>{escape(title)}</title><desc>{escape(_in_words(panels))}</desc>",
        f'<rect width="{width}" height="{_HEIGHT}" fill="#ffffff"/>',
    ]
    for number, panel in enumerate(panels):
        parts += [f'<g transform="translate({number * _WIDTH} 0)">', *_panel(panel, count, colours), "</g>"]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _in_words(panels: Sequence[Panel]) -> str:
    ends = [
        f"{panel.title}: " + ", ".join(f"{name} {line[-1][1]:.2f}" for name, line in panel.lines.items())
        for panel in panels
    ]
    return "At the end. " + ". ".join(ends)


def _panel(panel: Panel, count: str, colours: Mapping[str, str]) -> list[str]:
    most = max(point[0] for line in panel.lines.values() for point in line)
    parts = [_text(_LEFT, 22, panel.title, colour="#1f2328", size=13)]
    for tick in range(_TICKS + 1):
        value = panel.top * tick / _TICKS
        y = _y(value, panel.top)
        parts.append(f'<path d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}" stroke="#d0d7de"/>')
        parts.append(_text(_LEFT - 6, y + 4, f"{value:.2g}", anchor="end"))
    parts.append(_text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 8, count, anchor="middle"))
    parts += [_text(_x(at, most), _HEIGHT - 22, f"{at:g}", anchor="middle") for at in (1, most)]
    for name, line in panel.lines.items():
        places = " ".join(f"{_x(at, most):.1f},{_y(value, panel.top):.1f}" for at, value in line)
        parts.append(f'<polyline points="{places}" fill="none" stroke="{colours[name]}" stroke-width="2"/>')
    return parts + _names(panel, colours)


def _text(x: float, y: float, text: str, *, anchor: str = "start", colour: str = "#656d76", size: int = 11) -> str:
    where = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}"'
    return f'<text {where} fill="{colour}">{escape(text)}</text>'


def _names(panel: Panel, colours: Mapping[str, str]) -> list[str]:
    """The names beside the lines' ends, pushed apart where they would cover each other, and up from the axis."""
    ends = sorted(panel.lines.items(), key=lambda each: each[1][-1][1])
    found = []
    free = float(_HEIGHT - _BOTTOM)
    for name, line in ends:  # from the lowest up
        place = min(_y(line[-1][1], panel.top), free)
        free = place - _LEAST_GAP
        found.append(_text(_WIDTH - _RIGHT + 6, place + 4, name, colour=colours[name]))
    return found


def _x(at: float, most: float) -> float:
    return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (at - 1) / max(most - 1, 1)


def _y(value: float, top: float) -> float:
    return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * min(max(value, 0), top) / top
