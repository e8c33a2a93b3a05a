"""Charts as SVG: a point with its interval for each row, beside a control and a limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

_WIDTH, _LABEL, _ROW, _HEAD = 720, 300, 34, 24
_SCALE = _WIDTH - _LABEL - 24  # from 0 to 1


@dataclass(frozen=True)
class Row:
    """A figure in [0, 1] with its 95 % interval. before, control: marks beside it, if they were measured."""

    label: str
    value: float
    low: float
    high: float
    before: float | None = None
    control: float | None = None
    missed: bool = False


def chart(title: str, rows: Sequence[Row]) -> Markup:
    """The chart as an SVG element that a screen reader reads as its title and figures."""
    height = _HEAD + _ROW * len(rows) + 8
    parts = [
        f'<svg role="img" viewBox="0 0 {_WIDTH} {height}" xmlns="http://www.w3.org/2000/svg">',
        f"<title>{escape(title)}</title><desc>{escape(_in_words(rows))}</desc>",
        *_axis(height),
    ]
    for number, row in enumerate(rows):
        parts += _row(row, _HEAD + _ROW * number + _ROW / 2)
    # Every text is escaped, every number is formatted here.
    return Markup("".join([*parts, "</svg>"]))  # noqa: S704


def _axis(height: float) -> list[str]:
    found = []
    for tenth in range(0, 11, 2):
        place = _place(tenth / 10)
        found.append(f'<line class="grid" x1="{place:.1f}" y1="{_HEAD - 6}" x2="{place:.1f}" y2="{height}"/>')
        found.append(f'<text class="tick" x="{place:.1f}" y="12">{tenth / 10:g}</text>')
    return found


def _row(row: Row, middle: float) -> list[str]:
    low, high, value = _place(row.low), _place(row.high), _place(row.value)
    kind = "missed" if row.missed else "held"
    found = [f'<text class="label" x="0" y="{middle + 5:.1f}">{escape(row.label)}</text>']
    if row.before is not None:
        place = _place(row.before)
        found.append(f'<circle class="before" cx="{place:.1f}" cy="{middle:.1f}" r="6"/>')
    if row.control is not None:
        place = _place(row.control)
        found.append(
            f'<line class="control" x1="{place:.1f}" y1="{middle - 10:.1f}" x2="{place:.1f}" y2="{middle + 10:.1f}"/>'
        )
    found.append(f'<line class="{kind}" x1="{low:.1f}" y1="{middle:.1f}" x2="{high:.1f}" y2="{middle:.1f}"/>')
    found.append(f'<circle class="{kind}" cx="{value:.1f}" cy="{middle:.1f}" r="5"/>')
    return found


def _place(value: float) -> float:
    return _LABEL + _SCALE * min(1.0, max(0.0, value))


def _in_words(rows: Sequence[Row]) -> str:
    said = []
    for row in rows:
        beside = "".join(
            f", {name} {value:.2f}"
            for name, value in (("before", row.before), ("control", row.control))
            if value is not None
        )
        said.append(f"{row.label}: {row.value:.2f}, 95 % between {row.low:.2f} and {row.high:.2f}{beside}")
    return "; ".join(said)
