"""Two families with packed rows (LLaVA, Qwen2.5-VL), photos of three sizes, and texts."""

import io
from collections.abc import Callable
from pathlib import Path

from hypothesis import strategies as st

from tests.vgid_core.support.tiny import SENTENCES, picture, save_tiny_model
from tests.vgid_core.support.tiny_qwen import save_tiny_qwen
from vgid_core import EncodedImage

FAMILIES: dict[str, Callable[[Path], Path]] = {"llava": save_tiny_model, "qwen2.5-vl": save_tiny_qwen}
SIZES = [(32, 32), (64, 32), (48, 80)]


def photo(number: int) -> EncodedImage:
    """A photo in one of three sizes, which dynamic resolution turns into different numbers of tokens."""
    stream = io.BytesIO()
    picture(number).decode().resize(SIZES[number % 3]).save(stream, format="PNG")
    return EncodedImage(stream.getvalue())


text = st.lists(st.sampled_from(" ".join(SENTENCES).split()), min_size=1, max_size=9).map(" ".join)
