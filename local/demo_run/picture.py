"""Draws the demo's picture: portraits with the model's answers before and after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from vgid_core.data.pairs import Pair

_WIDTH, _MARGIN, _COLUMNS = 1240, 24, 2
_PORTRAIT, _ROW = 112, 136
_COLOURS = 224
_INK, _QUIET, _GONE, _KEPT = "#1f2328", "#656d76", "#b42318", "#1a7f37"
_BACKGROUND, _CARD = "#ffffff", "#f6f8fa"


@dataclass(frozen=True)
class BeforeAfter:
    """A pair with the model's answer before and after forgetting."""

    pair: Pair
    before: str
    after: str


def draw(forgotten: Sequence[BeforeAfter], kept: Sequence[BeforeAfter], target: Path) -> None:
    """Writes the picture as PNG, with the forgotten people above and what was kept below."""
    rows = [-(-len(items) // _COLUMNS) for items in (forgotten, kept)]
    image = Image.new("RGB", (_WIDTH, sum(rows) * _ROW + 2 * 52 + 2 * _MARGIN), _BACKGROUND)
    canvas = ImageDraw.Draw(image)
    top = _MARGIN
    for title, items, colour in (("Forgotten", forgotten, _GONE), ("Kept", kept, _KEPT)):
        canvas.text((_MARGIN, top), title, fill=colour, font=ImageFont.load_default(26))
        top += 44
        for index, item in enumerate(items):
            column, row = index % _COLUMNS, index // _COLUMNS
            width = (_WIDTH - _MARGIN) // _COLUMNS
            _draw_card(image, canvas, (_MARGIN + column * width, top + row * _ROW, width - _MARGIN), item)
        top += -(-len(items) // _COLUMNS) * _ROW + 8
    target.parent.mkdir(parents=True, exist_ok=True)
    # A palette makes the file a third as large, without a visible difference.
    image.quantize(_COLOURS, dither=Image.Dither.NONE).save(target, format="PNG", optimize=True)


def _draw_card(image: Image.Image, canvas: ImageDraw.ImageDraw, place: tuple[int, int, int], item: BeforeAfter) -> None:
    """Draws a portrait, the question and both answers. The colour of `after` shows whether the answer has changed."""
    left, top, width = place
    canvas.rounded_rectangle((left, top, left + width, top + _ROW - 12), radius=10, fill=_CARD)
    portrait = item.pair.image.decode().resize((_PORTRAIT, _PORTRAIT), Image.Resampling.LANCZOS)
    image.paste(portrait, (left + 6, top + 6))
    text = left + _PORTRAIT + 24
    canvas.text((text, top + 14), item.pair.question, fill=_QUIET, font=ImageFont.load_default(17))
    lines = (("before", item.before, _INK), ("after", item.after, _KEPT if item.after == item.before else _GONE))
    for number, (name, answer, ink) in enumerate(lines):
        line = top + 50 + number * 32
        canvas.text((text, line + 2), name, fill=_QUIET, font=ImageFont.load_default(15))
        canvas.text((text + 62, line), answer, fill=ink, font=ImageFont.load_default(18))
