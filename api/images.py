"""Uploaded images, checked so far that the worker is sure to be able to read what was accepted."""

from __future__ import annotations

import base64
import binascii
import io
from dataclasses import dataclass

from PIL import Image

from vgid_core.data.pairs import IMAGE_FORMATS, EncodedImage

# Of what the library reads all but GIF, which is no format of photographs.
FORMATS = tuple(name for name in IMAGE_FORMATS if name != "GIF")
_UNREADABLE = "is not a readable image (PNG, JPEG, WebP, BMP or TIFF)"


class ImageRefused(Exception):
    """Why an image can't be taken, in words that follow the field's name."""


@dataclass(frozen=True)
class ImageLimits:
    """What one image may be at most: encoded bytes, and pixels once decoded."""

    most_bytes: int
    most_pixels: int


def from_base64(text: str, limits: ImageLimits) -> bytes:
    """The bytes behind standard base64, padding included. Raises ImageRefused."""
    if len(text) > 4 * (limits.most_bytes // 3 + 1):
        raise ImageRefused(f"has more than {limits.most_bytes} bytes")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ImageRefused("is not valid base64") from None


def check_image(data: bytes, limits: ImageLimits) -> None:
    """Raises ImageRefused unless `data` is an image within the limits that decodes to its last pixel.

    The size in pixels is read from the header first, so that a small file can't unfold to gigabytes.
    """
    if len(data) > limits.most_bytes:
        raise ImageRefused(f"has more than {limits.most_bytes} bytes")
    if _pixels(data) > limits.most_pixels:
        raise ImageRefused(f"has more than {limits.most_pixels} pixels")
    try:
        EncodedImage(data).decode()
    except Exception:  # decoders meet hostile bytes with any exception there is
        raise ImageRefused(_UNREADABLE) from None


def _pixels(data: bytes) -> int:
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
            return picture.width * picture.height
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageRefused("has far too many pixels") from None
    except Exception:  # as above
        raise ImageRefused(_UNREADABLE) from None
