"""Checks of uploaded images. The worker can read every image that passes them."""

from __future__ import annotations

import base64
import binascii
import io
from dataclasses import dataclass

from PIL import Image

from vgid_core.data.pairs import IMAGE_FORMATS, EncodedImage

# GIF is no format for photographs.
_FORMATS = tuple(name for name in IMAGE_FORMATS if name != "GIF")
_UNREADABLE = "is not a readable image (PNG, JPEG, WebP, BMP or TIFF)"


class ImageRefused(Exception):
    """The image can't be accepted. The message continues a sentence that begins with the field's name."""


@dataclass(frozen=True)
class ImageLimits:
    """The limits of one image: encoded bytes, and pixels once decoded."""

    max_bytes: int
    max_pixels: int


def decode_base64(text: str, limits: ImageLimits) -> bytes:
    """Decodes standard base64 with its padding. Raises ImageRefused."""
    if len(text) > 4 * (limits.max_bytes // 3 + 1):
        raise ImageRefused(f"has more than {limits.max_bytes} bytes")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ImageRefused("is not valid base64") from None


def check_image(data: bytes, limits: ImageLimits) -> None:
    """Raises ImageRefused unless `data` is an image within the limits that decodes to its last pixel.

    The header's size is checked before the image is decoded, because a small file can decode to gigabytes.
    """
    if len(data) > limits.max_bytes:
        raise ImageRefused(f"has more than {limits.max_bytes} bytes")
    if _count_pixels(data) > limits.max_pixels:
        raise ImageRefused(f"has more than {limits.max_pixels} pixels")
    try:
        EncodedImage(data).decode()
    except Exception:  # on hostile bytes, decoders raise exceptions of any type
        raise ImageRefused(_UNREADABLE) from None


def _count_pixels(data: bytes) -> int:
    """Reads the size from the header alone."""
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as picture:
            return picture.width * picture.height
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageRefused("has far too many pixels") from None
    except Exception:  # as above
        raise ImageRefused(_UNREADABLE) from None
