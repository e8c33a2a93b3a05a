"""One picture of a comparison: forgetting against utility, robustness as colour."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from vgid_core.compare.record import Record
from vgid_core.compare.table import COLUMNS, Line, lines

_SIZE, _FINER = (1240, 860), 2
_PLOT = (96, 56, 1090, 770)  # left, top, right, bottom
_INK, _QUIET, _GRID, _BACKGROUND, _UNKNOWN = "#1f2328", "#656d76", "#e4e7eb", "#ffffff", "#c4c9d0"
# From nothing withstood to everything: dark violet to yellow, told apart without colour vision, too.
_RAMP = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))
_DOT, _SEED_DOT = 11, 4
_LINE_HEIGHT = 24

Box = tuple[float, float, float, float]
Spot = tuple[float, float]


def draw(record: Record, target: Path) -> None:
    """Writes the figure as PNG: a dot a contender at its medians, small ones for its seeds."""
    image = Image.new("RGB", (_SIZE[0] * _FINER, _SIZE[1] * _FINER), _BACKGROUND)
    pen = _Pen(ImageDraw.Draw(image))
    _axes(pen)
    placed = [
        (line, _spot(x, y))
        for line in lines(record)
        if (x := _at(line, "utility")) is not None and (y := _at(line, "forgetting")) is not None
    ]
    for line, spot in placed:
        _dots(pen, line, spot)
    _labels(pen, placed)
    _scale(pen)
    target.parent.mkdir(parents=True, exist_ok=True)
    smooth = image.resize(_SIZE, Image.Resampling.LANCZOS)
    smooth.quantize(128, dither=Image.Dither.NONE).save(target, format="PNG", optimize=True)


class _Pen:
    """Draws in the figure's own coordinates on a finer canvas."""

    def __init__(self, canvas: ImageDraw.ImageDraw) -> None:
        self._canvas = canvas

    def line(self, start: Spot, end: Spot, colour: str) -> None:
        self._canvas.line([*self._fine(start), *self._fine(end)], fill=colour, width=_FINER)

    def dot(self, spot: Spot, radius: float, fill: object, outline: str | None = None) -> None:
        box = self._fine((spot[0] - radius, spot[1] - radius)) + self._fine((spot[0] + radius, spot[1] + radius))
        self._canvas.ellipse(box, fill=fill, outline=outline, width=_FINER)  # type: ignore[arg-type]

    def bar(self, box: Box, fill: object) -> None:
        self._canvas.rectangle(self._fine(box[:2]) + self._fine(box[2:]), fill=fill)  # type: ignore[arg-type]

    def text(self, spot: Spot, text: str, size: int = 17, colour: str = _INK, anchor: str = "la") -> None:
        self._canvas.text(self._fine(spot), text, fill=colour, font=_font(size), anchor=anchor)

    def width(self, text: str, size: int = 17) -> float:
        return self._canvas.textlength(text, font=_font(size)) / _FINER

    @staticmethod
    def _fine(spot: Sequence[float]) -> tuple[float, float]:
        return spot[0] * _FINER, spot[1] * _FINER


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size * _FINER)


def _axes(pen: _Pen) -> None:
    left, top, right, bottom = _PLOT
    for tick in range(6):
        x, y = _spot(tick / 5, tick / 5)
        pen.line((x, top), (x, bottom), _GRID)
        pen.line((left, y), (right, y), _GRID)
        pen.text((x, bottom + 10), f"{tick / 5:.1f}", 15, _QUIET, "ma")
        pen.text((left - 12, y), f"{tick / 5:.1f}", 15, _QUIET, "rm")
    pen.text(
        ((left + right) / 2, bottom + 40), "utility: share of the base's ROUGE-L on what should stay", 17, anchor="ma"
    )
    pen.text((left - 60, 16), "forgetting: 1 less ROUGE-L on what should go", 17)


def _scale(pen: _Pen) -> None:
    left, top, bottom = _SIZE[0] - 74, 150, 570
    for y in range(top, bottom):
        pen.bar((left, y, left + 18, y + 1), _colour(1 - (y - top) / (bottom - top)))
    for tick in range(5):
        pen.text((left + 28, bottom - tick / 4 * (bottom - top)), f"{tick / 4:.2g}", 15, _QUIET, "lm")
    pen.text((left + 9, top - 24), "robustness", 15, _QUIET, "mm")


def _dots(pen: _Pen, line: Line, spot: Spot) -> None:
    for row in line.rows if len(line.rows) > 1 else ():
        x, y = row.scores.get("utility"), row.scores.get("forgetting")
        if x is not None and y is not None:
            pen.dot(_spot(x, y), _SEED_DOT, _colour(row.scores.get("robustness")))
    pen.dot(spot, _DOT, _colour(_at(line, "robustness")), _INK)


def _labels(pen: _Pen, placed: Sequence[tuple[Line, Spot]]) -> None:
    """Each name as near its dot as there is room, with a line to it."""
    taken: list[Box] = [(x - _DOT, y - _DOT, x + _DOT, y + _DOT) for _, (x, y) in placed]
    for line, spot in placed:
        width = pen.width(line.name)
        box = next(box for box in _places(spot, width) if not any(_overlap(box, other) for other in taken))
        taken.append(box)
        middle = (min(max(spot[0], box[0]), box[2]), (box[1] + box[3]) / 2)
        gap = math.dist(spot, middle)
        if gap > 2 * _DOT:
            reach = _DOT / gap
            start = (spot[0] + (middle[0] - spot[0]) * reach, spot[1] + (middle[1] - spot[1]) * reach)
            pen.line(start, middle, _QUIET)
        pen.text(((box[0] + box[2]) / 2, (box[1] + box[3]) / 2), line.name, anchor="mm")


def _places(spot: Spot, width: float) -> Iterator[Box]:
    """Boxes for a name of this width, ever farther from the dot; in the end one outside of the plot."""
    x, y = spot
    for distance in range(0, 700, 12):
        for angle in range(0, 360, 15):
            across, down = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            middle = x + across * (_DOT + 8 + width / 2 + distance), y + down * (_DOT + 12 + distance)
            box = (middle[0] - width / 2 - 4, middle[1] - 11, middle[0] + width / 2 + 4, middle[1] + 11)
            if box[0] > _PLOT[0] and box[2] < _PLOT[2] and box[1] > _PLOT[1] and box[3] < _PLOT[3]:
                yield box
    yield (x, _SIZE[1], x + width, _SIZE[1] + _LINE_HEIGHT)


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _spot(utility: float, forgetting: float) -> Spot:
    left, top, right, bottom = _PLOT
    inset = 24
    return (
        left + inset + utility * (right - left - 2 * inset),
        bottom - inset - forgetting * (bottom - top - 2 * inset),
    )


def _at(line: Line, name: str) -> float | None:
    return line.value(COLUMNS[name])


def _colour(share: float | None) -> str | tuple[int, int, int]:
    if share is None:
        return _UNKNOWN
    place = min(max(share, 0.0), 1.0) * (len(_RAMP) - 1)
    low = min(int(place), len(_RAMP) - 2)
    mixed = [round(a + (place - low) * (b - a)) for a, b in zip(_RAMP[low], _RAMP[low + 1], strict=True)]
    return mixed[0], mixed[1], mixed[2]
