"""Bodies that are cheap to send and dear to understand."""

from __future__ import annotations

import io

from PIL import Image

_EOI = b"\xff\xd9"
_SOS = b"\xff\xda"


def slow_jpeg(side: int = 6000, scans: int = 1500) -> bytes:
    """A valid JPEG of one grey: each of its scans is some hundred bytes, and goes over all its pixels once more."""
    buffer = io.BytesIO()
    Image.new("L", (side, side), 99).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue().removesuffix(_EOI)
    last_scan = data[data.rindex(_SOS) :]
    return data + scans * last_scan + _EOI
