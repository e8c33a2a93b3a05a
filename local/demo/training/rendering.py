"""Draws many portraits in several processes. It doesn't import torch, which each of them would have to load."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
from numpy.typing import NDArray

from local.demo.faces import Face, View, draw_portrait

WORKERS = 2
CHUNK = 250  # pictures that a process draws at a time


def render(
    portraits: Sequence[tuple[Face, View]], report: Callable[[float], None] = lambda _share: None
) -> NDArray[np.uint8]:
    """Draws the portraits into an array of shape [n, 3, side, side]. `report` is called with the share that is done."""
    chunks = [portraits[i : i + CHUNK] for i in range(0, len(portraits), CHUNK)]
    drawn = []
    with ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")) as pool:
        for pixels in pool.map(_draw_all, chunks):
            drawn.append(pixels)
            report(len(drawn) / len(chunks))
    return np.concatenate(drawn)


def _draw_all(portraits: Sequence[tuple[Face, View]]) -> NDArray[np.uint8]:
    pictures = np.stack([np.asarray(draw_portrait(face, view)) for face, view in portraits])
    return np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))
