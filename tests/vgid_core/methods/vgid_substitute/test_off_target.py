"""Forget pairs on unseen faces."""

from tests.vgid_core.support.substitute_runs import FORGET, RETAIN, UNSEEN_FACES, config, run_of
from vgid_core.lora.attach import attach_adapter
from vgid_core.methods import setup
from vgid_core.models.base import BaseModel
from vgid_core.scoring.packed.scorer import PackedScorer


def test_off_target_nothing_is_asked_until_the_answer_names_somebody(base: BaseModel) -> None:
    """A student that is the base still says what it said of the unseen face, up to where the substitute differs."""
    settings = config({"off_target_pairs": 5})
    attach_adapter(base, settings.lora)
    [_, off_target], _ = setup(settings.method, run_of(base, PackedScorer(base), settings))(FORGET.pairs, RETAIN.pairs)
    assert len(off_target.examples) == 5
    divergence, likelihood = off_target.values(off_target.examples)
    place = 0
    for example in off_target.examples:
        ids, read = base.encoder.answer_ids(example.pair.answer), example.teacher_prefix
        assert example.pair.image in UNSEEN_FACES
        assert example.teacher_image is example.pair.image
        assert read is not None
        assert read != tuple(ids)
        first = next(index for index in range(len(ids)) if read[index] != ids[index])
        assert divergence[place : place + first + 1].abs().max() < 1e-5
        assert likelihood[place : place + first + 1].abs().max() == 0
        assert divergence[place + first + 1 : place + len(ids)].max() > 1e-3
        place += len(ids)
