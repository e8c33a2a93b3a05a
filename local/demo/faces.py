"""Draws the fictitious people's portraits. The same face and view give the same pixels every time."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

IMAGE_SIZE = 64  # pixels a side, as the demo models need it

Colour = tuple[int, int, int]

BACKDROPS: dict[str, Colour] = {
    "red": (208, 48, 48),
    "blue": (52, 88, 208),
    "green": (48, 150, 72),
    "yellow": (235, 205, 60),
    "purple": (130, 62, 168),
    "orange": (238, 134, 40),
    "pink": (240, 140, 180),
    "grey": (140, 140, 146),
    "teal": (40, 160, 160),
    "white": (244, 244, 244),
}
HAIR_COLOURS: dict[str, Colour] = {
    "black": (28, 24, 24),
    "brown": (108, 66, 36),
    "blond": (228, 192, 98),
    "red": (186, 70, 32),
    "grey": (160, 160, 164),
    "white": (236, 236, 232),
    "blue": (70, 110, 220),
    "green": (70, 170, 90),
}
SKIN_TONES: dict[str, Colour] = {
    "porcelain": (255, 224, 196),
    "beige": (241, 194, 150),
    "tan": (214, 160, 112),
    "bronze": (170, 114, 72),
    "brown": (122, 78, 48),
    "deep": (82, 52, 36),
}
EYE_COLOURS: dict[str, Colour] = {
    "brown": (60, 40, 24),
    "blue": (40, 90, 190),
    "green": (40, 130, 60),
    "grey": (120, 120, 120),
}
# Half width and half height of each head, in hundredths of the picture.
HEAD_SHAPES: dict[str, tuple[int, int]] = {"round": (25, 25), "oval": (21, 27), "square": (24, 24), "long": (18, 30)}

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "skin": tuple(SKIN_TONES),
    "shape": tuple(HEAD_SHAPES),
    "style": ("short", "bob", "afro", "bun", "long", "mohawk"),
    "hair": tuple(HAIR_COLOURS),
    "eyes": tuple(EYE_COLOURS),
    "glasses": ("none", "round", "sunglasses"),
    "beard": ("none", "full", "moustache", "goatee"),
    "brows": ("flat", "slanted", "none"),
    "mouth": ("straight", "smile", "open"),
    "mark": ("none", "earrings", "birthmark", "headband"),
}


class Face(NamedTuple):
    """A person's face, the same in all pictures. Each field is one of ATTRIBUTES."""

    skin: str
    shape: str
    style: str
    hair: str
    eyes: str
    glasses: str
    beard: str
    brows: str
    mouth: str
    mark: str

    @classmethod
    def random(cls, rng: random.Random) -> Face:
        """A face with every attribute drawn uniformly."""
        return cls(**{name: rng.choice(options) for name, options in ATTRIBUTES.items()})

    def differences(self, other: Face) -> int:
        """In how many attributes two faces differ."""
        return sum(mine != theirs for mine, theirs in zip(self, other, strict=True))

    def attribute_indices(self) -> list[int]:
        """Each attribute as its index in ATTRIBUTES, in order: the targets of the vision tower's pre-training."""
        return [options.index(value) for options, value in zip(ATTRIBUTES.values(), self, strict=True)]


@dataclass(frozen=True)
class View:
    """What differs between pictures of one person: clothes, background, pose and light."""

    background: str
    shirt: str
    shift: tuple[float, float]  # of the head, as a share of the picture
    scale: float
    brightness: float
    tilt: float  # degrees
    grain_seed: int

    @classmethod
    def random(cls, rng: random.Random) -> View:
        """A view with another shirt than background colour."""
        background = rng.choice(list(BACKDROPS))
        return cls(
            background=background,
            shirt=rng.choice([colour for colour in BACKDROPS if colour != background]),
            shift=(rng.uniform(-0.03, 0.03), rng.uniform(-0.02, 0.02)),
            scale=rng.uniform(0.95, 1.05),
            brightness=rng.uniform(0.9, 1.1),
            tilt=rng.uniform(-4, 4),
            grain_seed=rng.randrange(1 << 30),
        )


def draw_portrait(face: Face, view: View, size: int = IMAGE_SIZE) -> Image.Image:
    """Draws the person as an RGB picture of `size` pixels a side."""
    large = size * 3  # shrinking it to a third smooths the edges
    backdrop = BACKDROPS[view.background]
    picture = Image.new("RGB", (large, large), backdrop)
    _Portrait(face, view, ImageDraw.Draw(picture), large).draw()
    picture = picture.rotate(view.tilt, resample=Image.Resampling.BILINEAR, fillcolor=backdrop)
    picture = picture.resize((size, size), Image.Resampling.BILINEAR)
    grain = np.random.default_rng(view.grain_seed).normal(0, 4, (size, size, 3))
    pixels = np.asarray(picture, dtype=np.float64) * view.brightness + grain
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


class _Portrait:
    """Draws one portrait from back to front. Lengths are hundredths of the picture, from the middle of the head."""

    def __init__(self, face: Face, view: View, pen: ImageDraw.ImageDraw, pixels: int) -> None:
        self.face, self.view, self.pen = face, view, pen
        self.unit = pixels / 100 * view.scale
        self.middle = (pixels * (0.5 + view.shift[0]), pixels * (0.46 + view.shift[1]))
        self.width, self.height = HEAD_SHAPES[face.shape]
        self.skin = SKIN_TONES[face.skin]
        self.hair = HAIR_COLOURS[face.hair]

    def draw(self) -> None:
        self._shoulders()
        self._hair_behind()
        self._head()
        self._hair_in_front()
        for side in (-1, 1):
            self._eye(side)
        self._glasses()
        self._beard()
        self._mouth()
        self._mark()

    def _box(self, left: float, top: float, right: float, bottom: float) -> list[float]:
        x, y = self.middle
        return [x + left * self.unit, y + top * self.unit, x + right * self.unit, y + bottom * self.unit]

    def _points(self, *points: tuple[float, float]) -> list[tuple[float, float]]:
        return [(self.middle[0] + x * self.unit, self.middle[1] + y * self.unit) for x, y in points]

    def _line_width(self, width: float) -> int:
        return max(1, round(width * self.unit))

    def _shoulders(self) -> None:
        h = self.height
        shirt = BACKDROPS[self.view.shirt]
        self.pen.rounded_rectangle(self._box(-36, h + 6, 36, 90), radius=14 * self.unit, fill=shirt)
        red, green, blue = (int(value * 0.88) for value in self.skin)
        self.pen.rectangle(self._box(-8, h - 8, 8, h + 11), fill=(red, green, blue))

    def _hair_behind(self) -> None:
        w, h, style = self.width, self.height, self.face.style
        if style == "bob":
            self.pen.rounded_rectangle(self._box(-w - 6, -h - 5, w + 6, h + 10), radius=16 * self.unit, fill=self.hair)
        elif style == "afro":
            self.pen.ellipse(self._box(-w - 11, -h - 13, w + 11, 6), fill=self.hair)
        elif style == "bun":
            self.pen.ellipse(self._box(-9, -h - 17, 9, -h + 3), fill=self.hair)
        elif style == "long":
            for side in (-1, 1):
                self.pen.ellipse(self._box(side * (w + 4) - 7, -12, side * (w + 4) + 7, h), fill=self.hair)

    def _head(self) -> None:
        outline = self._box(-self.width, -self.height, self.width, self.height)
        if self.face.shape == "square":
            self.pen.rounded_rectangle(outline, radius=7 * self.unit, fill=self.skin)
        else:
            self.pen.ellipse(outline, fill=self.skin)

    def _hair_in_front(self) -> None:
        w, h, style = self.width, self.height, self.face.style
        if style == "mohawk":
            crest = self._points((-4, -h + 6), (-6, -h - 14), (6, -h - 14), (4, -h + 6))
            self.pen.polygon(crest, fill=self.hair)
            return
        self.pen.pieslice(self._box(-w - 2, -h - 4, w + 2, h * 0.35), 180, 360, fill=self.hair)
        if style == "short":
            for left, right in ((-w, -w + 3), (w - 3, w + 2)):
                self.pen.rectangle(self._box(left, -h * 0.45, right, 0), fill=self.hair)

    def _eye(self, side: int) -> None:
        x, y = side * 9, 1
        self.pen.ellipse(self._box(x - 4.8, y - 3.7, x + 4.8, y + 3.7), fill=(255, 255, 255))
        self.pen.ellipse(self._box(x - 3.1, y - 3.1, x + 3.1, y + 3.1), fill=EYE_COLOURS[self.face.eyes])
        if self.face.brows != "none":
            inner, outer = (-6, -6) if self.face.brows == "flat" else (-4, -10)
            brow = self._points((x - side * 5, y + inner), (x + side * 5, y + outer))
            self.pen.line(brow, fill=(30, 20, 20), width=self._line_width(2.2))

    def _glasses(self) -> None:
        frame = (10, 10, 14)
        if self.face.glasses == "none":
            return
        for x in (-9, 9):
            if self.face.glasses == "round":
                lens = self._box(x - 7.2, -6, x + 7.2, 7.6)
                self.pen.ellipse(lens, outline=frame, width=self._line_width(2))
            else:
                self.pen.rectangle(self._box(x - 7, -4, x + 7, 6), fill=frame)
        self.pen.line(self._points((-2, 1), (2, 1)), fill=frame, width=self._line_width(2))

    def _beard(self) -> None:
        w, h, mouth = self.width, self.height, self.height * 0.55
        if self.face.beard == "full":
            self.pen.pieslice(self._box(-w * 0.95, -h * 0.3, w * 0.95, h), 15, 165, fill=self.hair)
        elif self.face.beard == "moustache":
            self.pen.rectangle(self._box(-9, mouth - 6, 9, mouth - 2.5), fill=self.hair)
        elif self.face.beard == "goatee":
            self.pen.polygon(self._points((-7, mouth + 4), (7, mouth + 4), (0, h + 7)), fill=self.hair)

    def _mouth(self) -> None:
        y = self.height * 0.55
        if self.face.mouth == "straight":
            self.pen.line(self._points((-7, y), (7, y)), fill=(150, 30, 40), width=self._line_width(2.6))
        elif self.face.mouth == "smile":
            self.pen.chord(self._box(-8, y - 5, 8, y + 5), 0, 180, fill=(180, 30, 40))
        else:
            self.pen.ellipse(self._box(-3.8, y - 3.2, 3.8, y + 3.2), fill=(150, 20, 30))

    def _mark(self) -> None:
        w, h = self.width, self.height
        if self.face.mark == "earrings":
            for x in (-w, w):
                self.pen.ellipse(self._box(x - 3.4, 6, x + 3.4, 13), fill=(250, 210, 40))
        elif self.face.mark == "birthmark":
            self.pen.ellipse(self._box(9.5, 7, 14.5, 12), fill=(200, 30, 60))
        elif self.face.mark == "headband":
            self.pen.rectangle(self._box(-w - 3, -h * 0.62, w + 3, -h * 0.4), fill=(220, 40, 40))
