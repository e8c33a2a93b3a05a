"""Draws many portraits at once. Torch stays out of here: each worker process would load it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
from numpy.typing import NDArray

from local.demo.faces import Face, View, draw_portrait

WORKERS = 2
CHUNK = 250  # pictures a worker draws at a time


def render(
    portraits: Sequence[tuple[Face, View]], tell: Callable[[float], None] = lambda _share: None
) -> NDArray[np.uint8]:
    """The portraits as an array of shape (n, 3, side, side); `tell` hears the share done."""
    chunks = [portraits[i : i + CHUNK] for i in range(0, len(portraits), CHUNK)]
    drawn = []
    with ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as pool:
        for pixels in pool.map(_draw_all, chunks):
            drawn.append(pixels)
            tell(len(drawn) / len(chunks))
    return np.concatenate(drawn)


def _draw_all(portraits: Sequence[tuple[Face, View]]) -> NDArray[np.uint8]:
    pictures = np.stack([np.asarray(draw_portrait(face, view)) for face, view in portraits])
    return np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))
