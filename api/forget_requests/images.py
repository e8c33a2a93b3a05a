"""Checks of uploaded images. The worker can read every image that passes them."""

from __future__ import annotations

import base64
import binascii
import io
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

from vgid_core.data.pairs import EncodedImage

DecodeImage = Callable[[EncodedImage], object]


class ImageRefused(Exception):
    """The image can't be accepted. The message continues a sentence that begins with the field's name."""


@dataclass(frozen=True)
class ImageLimits:
    """The limits of one image, and of all together.

    max_bytes: encoded. max_pixels: of one, decoded. max_request_pixels: of all different images of a request.
    max_seconds: of processor time to decode one. formats: names as Pillow has them.
    """

    max_bytes: int
    max_pixels: int
    max_request_pixels: int
    max_seconds: float
    formats: tuple[str, ...]


def decode_base64(text: str, limits: ImageLimits) -> bytes:
    """Decodes standard base64 with its padding. Raises ImageRefused."""
    if len(text) > 4 * (limits.max_bytes // 3 + 1):
        raise ImageRefused(f"has more than {limits.max_bytes} bytes")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ImageRefused("is not valid base64") from None


def count_pixels(data: bytes, limits: ImageLimits) -> int:
    """Reads the image's size from its header. Raises ImageRefused for one that is over the limits or of no known kind.

    The size is known before the image is decoded, because a small file can decode to gigabytes.
    """
    if len(data) > limits.max_bytes:
        raise ImageRefused(f"has more than {limits.max_bytes} bytes")
    try:
        with Image.open(io.BytesIO(data), formats=limits.formats) as picture:
            pixels = picture.width * picture.height
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageRefused("has far too many pixels") from None
    except Exception:  # on hostile bytes, decoders raise exceptions of any type
        raise _unreadable(limits) from None
    if pixels > limits.max_pixels:
        raise ImageRefused(f"has more than {limits.max_pixels} pixels")
    return pixels


def check_decodes(data: bytes, decode: DecodeImage, limits: ImageLimits) -> None:
    """Decodes the image. Raises ImageRefused."""
    try:
        decode(EncodedImage(data))
    except MemoryError:
        raise ImageRefused("needs too much memory to decode") from None
    except Exception:  # as above
        raise _unreadable(limits) from None


def _unreadable(limits: ImageLimits) -> ImageRefused:
    *others, last = limits.formats
    return ImageRefused(f"is not a readable image ({', '.join(others)}{' or ' if others else ''}{last})")
