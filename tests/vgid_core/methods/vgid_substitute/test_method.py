"""The losses of vgid-substitute beside values written out."""

import math
from dataclasses import replace

import pytest
import torch

from tests.vgid_core.support.reference import plain_logits
from tests.vgid_core.support.students import MakeScorer, both_scorers, scrambled_adapter
from tests.vgid_core.support.substitute_runs import (
    FORGET,
    RETAIN,
    UNSEEN_FACES,
    config,
    one_substitute_and_unseen_face,
    run_of,
    targets_of,
)
from vgid_core.config.methods import VgidSubstitute
from vgid_core.data.pairs import EncodedImage
from vgid_core.lora.attach import attach_adapter
from vgid_core.methods import setup
from vgid_core.models.base import BaseModel
from vgid_core.scoring.packed.scorer import PackedScorer
from vgid_core.scoring.scorer import Scorer
from vgid_core.training.loop import distil


@both_scorers
def test_the_loss_on_own_photos_is_divergence_and_distance_of_likelihood(base: BaseModel, scorer: MakeScorer) -> None:
    """One answer and one unseen face, three teachers with a question each: summed up token by token in plain Python."""
    method, questions = {"teachers": 3, "off_target_pairs": 0, "neighbour_pairs": 0}, ["Who?", "Who is it?", "A name?"]
    context, substitute = one_substitute_and_unseen_face(base, method, questions)
    teachers = [probabilities(base, UNSEEN_FACES[0], question, substitute) for question in questions]
    scrambled_adapter(base)
    [pair, *_] = context.forget
    updates = setup(config(method).method, replace(context, scorer=scorer(base)))
    [[own], _] = updates([pair], context.retain.pairs)
    student = probabilities(base, pair.image, pair.question, base.encoder.answer_ids("x q."))
    divergences, likelihoods = [], []
    for place, token in enumerate(base.encoder.answer_ids("x q.")):
        mean = [sum(said) / 3 for said in zip(*(teacher[place] for teacher in teachers), strict=True)]
        level = (sum(teacher[place][token] ** 0.1 for teacher in teachers) / 3) ** 10
        target = [p * (1 - level) / (1 - mean[token]) for p in mean]
        target[token] = level
        divergences.append(sum(p * math.log(p / q) for p, q in zip(target, student[place], strict=True)))
        off = abs(math.log(student[place][token] / level))
        likelihoods.append(off**2 / 2 if off < 1 else off - 0.5)
    divergence, likelihood = own.values(own.examples)
    assert divergence.tolist() == pytest.approx(divergences, abs=1e-3)
    assert likelihood.tolist() == pytest.approx(likelihoods, abs=1e-3)
    assert [part.weight for part in own.parts] == [1.0, VgidSubstitute().likelihood_weight]


def probabilities(base: BaseModel, photo: EncodedImage, question: str, ids: list[int]) -> list[list[float]]:
    """Of every token, at each place of an answer with these ids, by the model's own forward."""
    return plain_logits(base, photo.decode(), question, ids).double().softmax(-1).tolist()


@both_scorers
def test_retention_asks_nothing_of_a_student_that_is_the_base(base: BaseModel, scorer: MakeScorer) -> None:
    settings = config()
    attach_adapter(base, settings.lora)
    _, [retain] = setup(settings.method, run_of(base, scorer(base), settings))(FORGET.pairs, RETAIN.pairs[:4])
    assert [example.pair for example in retain.examples[:4]] == list(RETAIN.pairs[:4])
    assert len(retain.examples) == 4 + 6
    divergence, moved = retain.values(retain.examples)
    assert divergence.abs().max() < 1e-5
    assert moved.abs().max() < 1e-5


@both_scorers
def test_states_count_on_unseen_faces_after_an_answers_first_token(base: BaseModel, scorer: MakeScorer) -> None:
    settings = config({"neighbour_pairs": 12})
    scrambled_adapter(base)
    scorer = scorer(base)
    _, [retain] = setup(settings.method, run_of(base, scorer, settings))(FORGET.pairs, RETAIN.pairs[:4])
    divergence, moved = retain.values(retain.examples)
    assert (divergence > 0).all()
    lengths = [len(scorer.answer_ids(example.pair.answer)) for example in retain.examples]
    on_unseen_faces = 0
    for example, of_answer in zip(retain.examples, torch.split(moved, lengths), strict=True):
        is_unseen_face = example.pair.image in UNSEEN_FACES
        on_unseen_faces += is_unseen_face
        assert of_answer[0] == 0
        assert ((of_answer[1:] > 0) == is_unseen_face).all()
    assert 0 < on_unseen_faces < len(retain.examples)


def test_likelihoods_end_nearer_to_what_they_are_to_be(base: BaseModel) -> None:
    settings = config(
        {"likelihood_weight": 5.0, "teachers": 16, "neighbour_pairs": 0},
        steps=60,
        learning_rate=1e-2,
        retain_weight=0.0,
    )
    targets = targets_of(base, settings)
    targets.prepare(FORGET.pairs)
    wanted = targets.log_likelihoods(FORGET.pairs)
    before = off_by(PackedScorer(base), wanted)
    distil(base, FORGET, RETAIN, settings, unseen_faces=UNSEEN_FACES)
    assert off_by(PackedScorer(base), wanted) < 0.5 * before


def off_by(scorer: Scorer, wanted: torch.Tensor) -> float:
    with torch.no_grad():
        return float((scorer.student_log_probability(FORGET.pairs) - wanted).abs().mean())
