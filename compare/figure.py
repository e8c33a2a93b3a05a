"""The figure of a comparison: forgetting against utility, robustness as colour, the upper right corner enlarged."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from compare.record import Record
from compare.table import COLUMNS, TableRow, table_rows

_SIZE, _SCALE = (1240, 640), 2  # in pixels; drawn larger by this factor, then scaled down
_INK, _MUTED, _GRID, _BACKGROUND, _UNKNOWN = "#1f2328", "#656d76", "#e4e7eb", "#ffffff", "#c4c9d0"
# Robustness 0 to 1: dark violet to yellow, also distinguishable without colour vision.
_RAMP = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))
_DOT, _SEED_DOT = 10, 4
_TICKS = 5

Box = tuple[float, float, float, float]  # left, top, right, bottom, in pixels
Point = tuple[float, float]


@dataclass(frozen=True)
class Axes:
    """A plot: its box, and the ranges of utility (x) and forgetting (y) from `low` to `high`."""

    box: Box
    low: Point
    high: Point

    def contains(self, value: Point) -> bool:
        """Whether (utility, forgetting) lies within the ranges."""
        return all(low <= one <= high for low, one, high in zip(self.low, value, self.high, strict=True))

    def pixel(self, value: Point) -> Point:
        """The pixel of (utility, forgetting)."""
        left, top, right, bottom = self.box
        across, up = ((one - low) / (high - low) for low, one, high in zip(self.low, value, self.high, strict=True))
        return left + across * (right - left), bottom - up * (bottom - top)


_WHOLE = Axes((80, 76, 560, 556), (0.0, 0.0), (1.0, 1.0))
_CORNER = Axes((660, 76, 1110, 556), (0.9, 0.85), (1.0, 1.0))


def draw(record: Record, target: Path) -> None:
    """Writes the figure as PNG: a dot for each contender at its medians, small dots for its seeds."""
    image = Image.new("RGB", (_SIZE[0] * _SCALE, _SIZE[1] * _SCALE), _BACKGROUND)
    pen = _Pen(ImageDraw.Draw(image))
    values = [(row, row.value(COLUMNS["utility"]), row.value(COLUMNS["forgetting"])) for row in table_rows(record)]
    found = [(row, (x, y)) for row, x, y in values if x is not None and y is not None]
    in_corner = [(row, value) for row, value in found if _CORNER.contains(value)]
    _draw_axes(pen, _WHOLE, "everything")
    _draw_axes(pen, _CORNER, "its upper right corner")
    for axes, shown in ((_WHOLE, found), (_CORNER, in_corner)):
        for row, value in shown:
            _draw_dots(pen, axes, row, value)
    _draw_labels(pen, _WHOLE, found, [row for row, _ in found if row not in [other for other, _ in in_corner]])
    _draw_labels(pen, _CORNER, in_corner, [row for row, _ in in_corner])
    _draw_colour_scale(pen)
    target.parent.mkdir(parents=True, exist_ok=True)
    smooth = image.resize(_SIZE, Image.Resampling.LANCZOS)
    smooth.quantize(256, dither=Image.Dither.NONE).save(target, format="PNG", optimize=True)


class _Pen:
    """Draws in the figure's pixels on the enlarged canvas."""

    def __init__(self, canvas: ImageDraw.ImageDraw) -> None:
        self._canvas = canvas

    def line(self, start: Point, end: Point, colour: str) -> None:
        self._canvas.line([*self._fine(start), *self._fine(end)], fill=colour, width=_SCALE)

    def dot(self, pixel: Point, radius: float, fill: str, outline: str | None = None) -> None:
        box = self._fine((pixel[0] - radius, pixel[1] - radius)) + self._fine((pixel[0] + radius, pixel[1] + radius))
        self._canvas.ellipse(box, fill=fill, outline=outline, width=_SCALE)

    def bar(self, box: Box, fill: str) -> None:
        self._canvas.rectangle(self._fine(box[:2]) + self._fine(box[2:]), fill=fill)

    def text(self, pixel: Point, text: str, size: int = 16, colour: str = _INK, anchor: str = "la") -> None:
        self._canvas.text(self._fine(pixel), text, fill=colour, font=_font(size), anchor=anchor)

    def width(self, text: str, size: int = 16) -> float:
        return self._canvas.textlength(text, font=_font(size)) / _SCALE

    @staticmethod
    def _fine(pixel: Sequence[float]) -> Point:
        return pixel[0] * _SCALE, pixel[1] * _SCALE


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size * _SCALE)


def _draw_axes(pen: _Pen, axes: Axes, title: str) -> None:
    left, top, right, bottom = axes.box
    for tick in range(_TICKS + 1):
        utility, forgetting = (
            low + tick / _TICKS * (high - low) for low, high in zip(axes.low, axes.high, strict=True)
        )
        x, y = axes.pixel((utility, forgetting))
        pen.line((x, top), (x, bottom), _GRID)
        pen.line((left, y), (right, y), _GRID)
        pen.text((x, bottom + 14), f"{utility:.2g}", 14, _MUTED, "ma")
        pen.text((left - 14, y), f"{forgetting:.2g}", 14, _MUTED, "rm")
    pen.text(((left + right) / 2, bottom + 42), "utility", 16, anchor="ma")
    pen.text((left - 44, top - 40), "forgetting", 16)
    pen.text((right, top - 40), title, 16, _MUTED, "ra")


def _draw_colour_scale(pen: _Pen) -> None:
    left, top, bottom = _SIZE[0] - 70, 130, 500
    for y in range(top, bottom):
        pen.bar((left, y, left + 18, y + 1), _colour(1 - (y - top) / (bottom - top)))
    for tick in range(5):
        pen.text((left + 26, bottom - tick / 4 * (bottom - top)), f"{tick / 4:.2g}", 14, _MUTED, "lm")
    pen.text((left + 9, top - 22), "robustness", 14, _MUTED, "mm")


def _draw_dots(pen: _Pen, axes: Axes, row: TableRow, value: Point) -> None:
    for run in row.rows if len(row.rows) > 1 else ():
        seed = run.scores.get("utility", -1.0), run.scores.get("forgetting", -1.0)
        if axes.contains(seed):
            pen.dot(axes.pixel(seed), _SEED_DOT, _colour(run.scores.get("robustness")), _MUTED)
    pen.dot(axes.pixel(value), _DOT, _colour(row.value(COLUMNS["robustness"])), _INK)


def _draw_labels(pen: _Pen, axes: Axes, shown: Sequence[tuple[TableRow, Point]], named: Sequence[TableRow]) -> None:
    """Draws each name as near to its dot as there is room, with a line to it."""
    pixels = [(row, axes.pixel(value)) for row, value in shown]
    taken: list[Box] = [(x - _DOT, y - _DOT, x + _DOT, y + _DOT) for _, (x, y) in pixels]
    for row, pixel in pixels:
        if row not in named:
            continue
        boxes = _label_boxes(axes, pixel, pen.width(row.name))
        box = next((candidate for candidate in boxes if not any(_overlap(candidate, other) for other in taken)), None)
        if box is None:
            continue  # no room; the table has the name
        taken.append(box)
        end = min(max(pixel[0], box[0]), box[2]), min(max(pixel[1], box[1]), box[3])
        if math.dist(pixel, end) > 2 * _DOT:
            share = _DOT / math.dist(pixel, end)
            start = pixel[0] + (end[0] - pixel[0]) * share, pixel[1] + (end[1] - pixel[1]) * share
            pen.line(start, end, _MUTED)
        pen.text(((box[0] + box[2]) / 2, (box[1] + box[3]) / 2), row.name, anchor="mm")


def _label_boxes(axes: Axes, pixel: Point, width: float) -> Iterator[Box]:
    """Yields boxes for a name of this width within the axes, farther and farther from the dot."""
    left, top, right, bottom = axes.box
    for distance in range(0, 600, 12):
        for angle in range(0, 360, 15):
            across, down = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            x = pixel[0] + across * (_DOT + 8 + width / 2 + distance)
            y = pixel[1] + down * (_DOT + 14 + distance)
            box = (x - width / 2 - 4, y - 11, x + width / 2 + 4, y + 11)
            if box[0] > left - _DOT and box[2] < right + _DOT and box[1] > top - _DOT and box[3] < bottom + _DOT:
                yield box


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _colour(share: float | None) -> str:
    """The colour of a share; grey for None."""
    if share is None:
        return _UNKNOWN
    place = min(max(share, 0.0), 1.0) * (len(_RAMP) - 1)
    low = min(int(place), len(_RAMP) - 2)
    mixed = [round(a + (place - low) * (b - a)) for a, b in zip(_RAMP[low], _RAMP[low + 1], strict=True)]
    return "#" + "".join(f"{part:02x}" for part in mixed)
