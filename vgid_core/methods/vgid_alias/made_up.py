"""People who don't exist, made of the retain set's: what the base says of them is to stay as it is."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

from vgid_core.data.batches import draw_batches
from vgid_core.data.pairs import EncodedImage, Pair
from vgid_core.methods.vgid_alias.kept_beside import can_be_said, most_of
from vgid_core.methods.vgid_alias.teaching import aliases_for, photos_of_nobody

if TYPE_CHECKING:
    from vgid_core.config.methods import VgidAlias
    from vgid_core.methods.base import MethodContext

_OTHER_SEEDS = 2**31  # a run's own are below


def made_up_pairs(method: VgidAlias, run: MethodContext) -> list[Pair]:
    """Questions of the retain set about people who don't exist, none where no answer of it tells of anybody.

    A student who learns to be unsure of some people becomes unsure of strangers, too; then those whom it was to forget
    can be told by what it says of others whom it never met.
    """
    most = most_of(run, method.made_up_pairs)
    if not most:
        return []
    shuffled = next(draw_batches(run.retain, len(run.retain), random.Random(run.seed)))
    return list(islice(_about_nobody(method, run, shuffled), most))


def _about_nobody(method: VgidAlias, run: MethodContext, pairs: Iterable[Pair]) -> Iterator[Pair]:
    """The same with photos of nobody, one an image, and whole aliases of the answers, where these have one."""
    # Draws of its own: what the forgotten's teachers hear mustn't depend on how many are made up.
    seed = run.seed + _OTHER_SEEDS
    aliases, blends = aliases_for(method, run, seed), photos_of_nobody(method, run, seed)
    photos: dict[str, EncodedImage] = {}
    for pair in pairs:
        answer = run.scorer.answer_ids(pair.answer)
        alias = list(aliases.draw_whole(answer))
        [text] = run.base.encoder.decode([alias])
        if alias == answer or not can_be_said(run, text):
            continue
        if pair.image.digest not in photos:
            photos[pair.image.digest] = EncodedImage.of(blends.draw(pair.image.size))
        yield Pair(photos[pair.image.digest], pair.question, text)
