"""One picture of a comparison: forgetting against utility, robustness as colour; the good corner once more, larger."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from compare.record import Record
from compare.table import COLUMNS, Line, lines

_SIZE, _FINER = (1240, 640), 2
_INK, _QUIET, _GRID, _BACKGROUND, _UNKNOWN = "#1f2328", "#656d76", "#e4e7eb", "#ffffff", "#c4c9d0"
# From nothing withstood to everything: dark violet to yellow, told apart without colour vision, too.
_RAMP = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))
_DOT, _SEED_DOT = 10, 4
_TICKS = 5

Box = tuple[float, float, float, float]
Spot = tuple[float, float]


@dataclass(frozen=True)
class Frame:
    """A plot: where it is (left, top, right, bottom) and what it shows of utility (across) and forgetting (up)."""

    place: Box
    low: Spot
    high: Spot

    def shows(self, value: Spot) -> bool:
        """Whether a pair of scores lies within."""
        return all(low <= one <= high for low, one, high in zip(self.low, value, self.high, strict=True))

    def spot(self, value: Spot) -> Spot:
        """Where a pair of scores is drawn."""
        left, top, right, bottom = self.place
        across, up = ((one - low) / (high - low) for low, one, high in zip(self.low, value, self.high, strict=True))
        return left + across * (right - left), bottom - up * (bottom - top)


_WHOLE = Frame((80, 76, 560, 556), (0.0, 0.0), (1.0, 1.0))
_CORNER = Frame((660, 76, 1110, 556), (0.9, 0.85), (1.0, 1.0))


def draw(record: Record, target: Path) -> None:
    """Writes the figure as PNG: a dot a contender at its medians, small ones for its seeds."""
    image = Image.new("RGB", (_SIZE[0] * _FINER, _SIZE[1] * _FINER), _BACKGROUND)
    pen = _Pen(ImageDraw.Draw(image))
    values = [(line, line.value(COLUMNS["utility"]), line.value(COLUMNS["forgetting"])) for line in lines(record)]
    found = [(line, (x, y)) for line, x, y in values if x is not None and y is not None]
    in_corner = [(line, value) for line, value in found if _CORNER.shows(value)]
    _frame(pen, _WHOLE, "everything")
    _frame(pen, _CORNER, "its upper right corner")
    for frame, shown in ((_WHOLE, found), (_CORNER, in_corner)):
        for line, value in shown:
            _dots(pen, frame, line, value)
    _labels(pen, _WHOLE, found, [line for line, _ in found if line not in [other for other, _ in in_corner]])
    _labels(pen, _CORNER, in_corner, [line for line, _ in in_corner])
    _scale(pen)
    target.parent.mkdir(parents=True, exist_ok=True)
    smooth = image.resize(_SIZE, Image.Resampling.LANCZOS)
    smooth.quantize(256, dither=Image.Dither.NONE).save(target, format="PNG", optimize=True)


class _Pen:
    """Draws in the figure's own coordinates on a finer canvas."""

    def __init__(self, canvas: ImageDraw.ImageDraw) -> None:
        self._canvas = canvas

    def line(self, start: Spot, end: Spot, colour: str) -> None:
        self._canvas.line([*self._fine(start), *self._fine(end)], fill=colour, width=_FINER)

    def dot(self, spot: Spot, radius: float, fill: str, outline: str | None = None) -> None:
        box = self._fine((spot[0] - radius, spot[1] - radius)) + self._fine((spot[0] + radius, spot[1] + radius))
        self._canvas.ellipse(box, fill=fill, outline=outline, width=_FINER)

    def bar(self, box: Box, fill: str) -> None:
        self._canvas.rectangle(self._fine(box[:2]) + self._fine(box[2:]), fill=fill)

    def text(self, spot: Spot, text: str, size: int = 16, colour: str = _INK, anchor: str = "la") -> None:
        self._canvas.text(self._fine(spot), text, fill=colour, font=_font(size), anchor=anchor)

    def width(self, text: str, size: int = 16) -> float:
        return self._canvas.textlength(text, font=_font(size)) / _FINER

    @staticmethod
    def _fine(spot: Sequence[float]) -> Spot:
        return spot[0] * _FINER, spot[1] * _FINER


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size * _FINER)


def _frame(pen: _Pen, frame: Frame, title: str) -> None:
    left, top, right, bottom = frame.place
    for tick in range(_TICKS + 1):
        utility, forgetting = (
            low + tick / _TICKS * (high - low) for low, high in zip(frame.low, frame.high, strict=True)
        )
        x, y = frame.spot((utility, forgetting))
        pen.line((x, top), (x, bottom), _GRID)
        pen.line((left, y), (right, y), _GRID)
        pen.text((x, bottom + 14), f"{utility:.2g}", 14, _QUIET, "ma")
        pen.text((left - 14, y), f"{forgetting:.2g}", 14, _QUIET, "rm")
    pen.text(((left + right) / 2, bottom + 42), "utility", 16, anchor="ma")
    pen.text((left - 44, top - 40), "forgetting", 16)
    pen.text((right, top - 40), title, 16, _QUIET, "ra")


def _scale(pen: _Pen) -> None:
    left, top, bottom = _SIZE[0] - 70, 130, 500
    for y in range(top, bottom):
        pen.bar((left, y, left + 18, y + 1), _colour(1 - (y - top) / (bottom - top)))
    for tick in range(5):
        pen.text((left + 26, bottom - tick / 4 * (bottom - top)), f"{tick / 4:.2g}", 14, _QUIET, "lm")
    pen.text((left + 9, top - 22), "robustness", 14, _QUIET, "mm")


def _dots(pen: _Pen, frame: Frame, line: Line, value: Spot) -> None:
    for row in line.rows if len(line.rows) > 1 else ():
        seed = row.scores.get("utility", -1.0), row.scores.get("forgetting", -1.0)
        if frame.shows(seed):
            pen.dot(frame.spot(seed), _SEED_DOT, _colour(row.scores.get("robustness")), _QUIET)
    pen.dot(frame.spot(value), _DOT, _colour(line.value(COLUMNS["robustness"])), _INK)


def _labels(pen: _Pen, frame: Frame, shown: Sequence[tuple[Line, Spot]], named: Sequence[Line]) -> None:
    """Each name as near its dot as there is room, with a line to it."""
    spots = [(line, frame.spot(value)) for line, value in shown]
    taken: list[Box] = [(x - _DOT, y - _DOT, x + _DOT, y + _DOT) for _, (x, y) in spots]
    for line, spot in spots:
        if line not in named:
            continue
        places = _places(frame, spot, pen.width(line.name))
        box = next((place for place in places if not any(_overlap(place, other) for other in taken)), None)
        if box is None:
            continue  # the table has it
        taken.append(box)
        end = min(max(spot[0], box[0]), box[2]), min(max(spot[1], box[1]), box[3])
        if math.dist(spot, end) > 2 * _DOT:
            share = _DOT / math.dist(spot, end)
            start = spot[0] + (end[0] - spot[0]) * share, spot[1] + (end[1] - spot[1]) * share
            pen.line(start, end, _QUIET)
        pen.text(((box[0] + box[2]) / 2, (box[1] + box[3]) / 2), line.name, anchor="mm")


def _places(frame: Frame, spot: Spot, width: float) -> Iterator[Box]:
    """Boxes for a name of this width within the frame, ever farther from the dot."""
    left, top, right, bottom = frame.place
    for distance in range(0, 600, 12):
        for angle in range(0, 360, 15):
            across, down = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            x = spot[0] + across * (_DOT + 8 + width / 2 + distance)
            y = spot[1] + down * (_DOT + 14 + distance)
            box = (x - width / 2 - 4, y - 11, x + width / 2 + 4, y + 11)
            if box[0] > left - _DOT and box[2] < right + _DOT and box[1] > top - _DOT and box[3] < bottom + _DOT:
                yield box


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _colour(share: float | None) -> str:
    """Grey where there is none."""
    if share is None:
        return _UNKNOWN
    place = min(max(share, 0.0), 1.0) * (len(_RAMP) - 1)
    low = min(int(place), len(_RAMP) - 2)
    mixed = [round(a + (place - low) * (b - a)) for a, b in zip(_RAMP[low], _RAMP[low + 1], strict=True)]
    return "#" + "".join(f"{part:02x}" for part in mixed)
