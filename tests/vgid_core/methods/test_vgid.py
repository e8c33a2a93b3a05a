"""VGID's losses beside the paper's formula, and the teacher's inputs."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch.nn.utils import get_total_norm

from tests.vgid_core.config.test_methods import NAME
from tests.vgid_core.support.reference import plain_logits
from tests.vgid_core.support.students import FORGET, RETAIN, SCORERS, MakeScorer, scrambled_adapter, vgid_config
from tests.vgid_core.support.tiny import pair_set
from vgid_core import UnlearnSpec, unlearn
from vgid_core.config import LoraSettings, UnlearnConfig
from vgid_core.config.methods import Vgid
from vgid_core.config.perturbation import PerturbationConfig
from vgid_core.data.pairs import EncodedImage, Pair, PairSet
from vgid_core.lora.attach import attach_adapter
from vgid_core.methods import setup
from vgid_core.methods.base import MethodContext
from vgid_core.methods.perturb import perturb
from vgid_core.methods.vgid import Teacher
from vgid_core.models.base import BaseModel, answer_logits
from vgid_core.scoring.packed.scorer import PackedScorer
from vgid_core.scoring.padded import PaddedScorer
from vgid_core.scoring.scorer import Scorer
from vgid_core.training.loop import distil
from vgid_core.training.step import UpdateLosses, UpdateRunner


def accumulated(
    scorer: Scorer, base: BaseModel, student: torch.nn.Module, settings: UnlearnConfig, role: int, pairs: list[Pair]
) -> UpdateLosses:
    """The gradient of the method's first update (forget, 0) or second (retain, 1) on these pairs."""
    run = MethodContext(
        base, scorer, settings.training, settings.seed, PairSet.of("forget", pairs), PairSet.of("retain", pairs)
    )
    updates = setup(settings.method, run)
    return UpdateRunner(scorer, student, settings).accumulate(updates(pairs, pairs)[role])


def by_hand(student: torch.nn.Module, base: BaseModel, pairs: list[Pair], teach: object) -> float:
    """The loss as the paper says it, a row and a token at a time, without padding, batches or our loss functions."""
    total, count = 0.0, 0
    for pair in pairs:
        image, question = teach(pair)
        ids = base.encoder.answer_ids(pair.answer)
        with student.disable_adapter():
            teacher = plain_logits(base, image, question, ids).double()
        pupil = plain_logits(base, pair.image.decode(), pair.question, ids).double()
        for t, s in zip(teacher, pupil, strict=True):
            p, q = torch.softmax(t, 0), torch.softmax(s, 0)
            total += float((p * (p.log() - q.log())).sum())
            count += 1
    return total / count


@pytest.mark.parametrize("kind", ["uniform", "gaussian", "blank"])
@pytest.mark.parametrize("scorer", SCORERS, ids=["padded", "packed"])
def test_forget_loss_equals_the_paper_written_out(base: BaseModel, kind: str, scorer: MakeScorer) -> None:
    settings = vgid_config()
    settings = settings.model_copy(
        update={"method": Vgid(perturbation=PerturbationConfig.model_validate({"kind": kind}))}
    )
    student = scrambled_adapter(base)
    pairs = list(FORGET)
    result = accumulated(scorer(base), base, student, settings, 0, pairs)
    noise = torch.Generator().manual_seed(settings.seed)
    kind_of_noise = settings.method.perturbation
    shared = perturb(pairs[0].image.decode(), kind_of_noise, noise) if kind in ("uniform", "blank") else None

    def teach(pair: Pair) -> tuple[object, str]:
        disturbed = shared or perturb(pair.image.decode(), kind_of_noise, noise)
        return disturbed, f"{settings.method.instruction} {pair.question}"

    assert result.losses[0][0] == pytest.approx(by_hand(student, base, pairs, teach), rel=1e-4)
    assert result.losses[0][0] > 0.01


@pytest.mark.parametrize("scorer", SCORERS, ids=["padded", "packed"])
def test_retain_loss_equals_the_paper_written_out(base: BaseModel, scorer: MakeScorer) -> None:
    student = scrambled_adapter(base)
    result = accumulated(scorer(base), base, student, vgid_config(), 1, list(RETAIN))
    expected = by_hand(student, base, list(RETAIN), lambda pair: (pair.image.decode(), pair.question))
    assert result.losses[0][0] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("scorer", SCORERS, ids=["padded", "packed"])
def test_an_untrained_student_without_intervention_has_no_loss(base: BaseModel, scorer: MakeScorer) -> None:
    """Teacher and student prompts have equal length here, so any misalignment would show as a loss."""
    no_intervention = Vgid(perturbation=PerturbationConfig(kind="none"), instruction="")
    student = attach_adapter(base, LoraSettings())
    settings = vgid_config().model_copy(update={"method": no_intervention})
    result = accumulated(scorer(base), base, student, settings, 0, list(FORGET))
    assert result.losses[0][0] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("scorer", SCORERS, ids=["padded", "packed"])
@pytest.mark.parametrize("role", [0, 1], ids=["forget", "retain"])
def test_eight_micro_batches_of_one_are_one_of_eight(base: BaseModel, role: int, scorer: MakeScorer) -> None:
    student = scrambled_adapter(base)
    results, gradients = [], []
    for size in (8, 3, 1):
        student.zero_grad()
        settings = vgid_config(micro_batch_size=size, forget_weight=1.7, retain_weight=1.7)
        results.append(accumulated(scorer(base), base, student, settings, role, list(FORGET)))
        gradients.append([p.grad.clone() for p in student.parameters() if p.grad is not None])
    for other, gradient in zip(results[1:], gradients[1:], strict=True):
        assert other.losses[0] == pytest.approx(results[0].losses[0], rel=1e-5)
        assert other.gradient_norm == pytest.approx(results[0].gradient_norm, rel=1e-4)
        gap = get_total_norm([a - b for a, b in zip(gradient, gradients[0], strict=True)])
        assert float(gap) <= 1e-4 * results[0].gradient_norm


def test_the_weight_scales_the_gradient_and_not_the_reported_loss(base: BaseModel) -> None:
    student = scrambled_adapter(base)
    once, thrice = (
        accumulated(PaddedScorer(base), base, student, vgid_config(retain_weight=weight), 1, list(RETAIN))
        for weight in (1.0, 3.0)
    )
    assert thrice.losses[0] == pytest.approx(once.losses[0], rel=1e-6)
    # the first call's gradient is still there: 1 + 3
    assert thrice.gradient_norm == pytest.approx(4 * once.gradient_norm, rel=1e-4)


def test_both_halves_of_the_intervention_change_the_teacher(base: BaseModel) -> None:
    pair = FORGET.pairs[0]
    image, noise = pair.image.decode(), torch.Generator().manual_seed(0)
    noised = perturb(image, PerturbationConfig(), noise)
    told = Vgid().instructed(pair.question)

    def teacher(picture: object, question: str) -> torch.Tensor:
        with torch.inference_mode():
            return answer_logits(base, base.encoder.batch([picture], [question], [pair.answer]))

    plain, visual = teacher(image, pair.question), teacher(noised, pair.question)
    textual, both = teacher(image, told), teacher(noised, told)
    for one, other in [(plain, visual), (plain, textual), (visual, both), (textual, both)]:
        assert (one - other).abs().max() > 0.01


def test_without_a_retain_weight_only_the_forget_term_is_trained(base: BaseModel) -> None:
    losses = []
    distil(base, FORGET, RETAIN, vgid_config(retain_weight=0), lambda step, loss: losses.append((step, loss.retain)))
    assert losses == [(1, None), (2, None), (3, None), (4, None)]


def seen_by_the_teacher(steps: int, **intervention: object) -> list[str]:
    """sha256 of the pixels that the teacher is shown in each step."""
    teacher = Teacher(Vgid.model_validate(intervention), seed=5)
    shown = [teacher.examples(FORGET.pairs[:4])[0].teacher_image for _ in range(steps)]
    return [hashlib.sha256(_pixels(image)).hexdigest() for image in shown]


def _pixels(image: object) -> bytes:
    return (image.decode() if isinstance(image, EncodedImage) else image).tobytes()


def test_noise_is_new_each_time_or_one_of_so_many_draws() -> None:
    assert len(set(seen_by_the_teacher(12))) == 12
    assert len(set(seen_by_the_teacher(40, noise_draws=3))) == 3
    assert len(set(seen_by_the_teacher(5, perturbation={"kind": "blank"}))) == 1


@pytest.mark.parametrize("intervention", [{"noise_draws": 1}, {"perturbation": {"kind": "blur"}}])
def test_what_the_teacher_says_to_a_fixed_draw_is_computed_once(base: BaseModel, intervention: dict) -> None:
    scorer, teacher = PackedScorer(base), Teacher(Vgid.model_validate(intervention), seed=5)
    attach_adapter(base, LoraSettings())
    passes = []
    handle = base.model.get_decoder().register_forward_hook(lambda _module, _given, _out: passes.append(1))
    values = [scorer.divergence(teacher.examples(FORGET.pairs[:4])) for _ in range(3)]
    handle.remove()
    assert len(passes) == 4, "the teacher once, the student each time"
    assert torch.allclose(values[0], values[2], atol=1e-6)


def test_the_teacher_goes_through_the_strengths_step_by_step() -> None:
    blur = {"kind": "blur", "strength": 1, "final_strength": 5}
    teacher = Teacher(Vgid.model_validate({"perturbation": blur}), seed=0, steps=5)
    image = FORGET.pairs[0].image.decode()
    for radius in (1, 2, 3, 4, 5, 5):
        shown = teacher.examples(FORGET.pairs[:1])[0].teacher_image
        expected = perturb(image, PerturbationConfig(kind="blur", strength=radius), torch.Generator())
        assert shown.tobytes() == expected.tobytes()


def test_a_name_reaches_the_teacher_and_nothing_that_is_written(
    tiny_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    method = {"name": "vgid", "instruction": "Forget {name}.", "subject_name": NAME}
    config = UnlearnConfig.model_validate(
        {"method": method, "training": {"steps": 2}, "evaluation": {"audits": "none"}, "device": "cpu"}
    )
    assert Teacher(config.method, 0).examples(FORGET.pairs)[0].teacher_question.startswith(f"Forget {NAME}.")
    spec = UnlearnSpec(
        model=str(tiny_folder),
        model_name="tiny",
        forget=FORGET,
        retain=pair_set("retain", 4, first_picture=50),
        out=tmp_path / "out",
        config=config,
    )
    with caplog.at_level(logging.DEBUG):
        unlearn(spec)
    written = b"".join(file.read_bytes() for file in (tmp_path / "out").iterdir())
    assert b"Zenobia" not in written
    assert "Zenobia" not in caplog.text + repr(spec) + str(config) + str(config.model_dump())
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["config"]["method"]["subject_name"] == "**********"
    with pytest.raises(ValidationError, match="give the name again"):
        UnlearnConfig.model_validate(manifest["config"])
