"""The method pinned: against a computation written here, and by what must and must not change."""

import hashlib
import random
from collections.abc import Callable

import pytest
import torch
from peft import PeftModel
from torch.nn.utils import get_total_norm

from tests.vgid_core.test_encoding import plain_logits
from tests.vgid_core.tiny import pair_set, picture
from vgid_core.config import LoraSettings, UnlearnConfig
from vgid_core.config.methods import Vgid
from vgid_core.config.perturbation import PerturbationConfig
from vgid_core.data.batches import draw_batches
from vgid_core.data.pairs import EncodedImage, Pair, PairSet
from vgid_core.errors import AdapterUntrained, TrainingDiverged
from vgid_core.lora.attach import attach_adapter, require_trained
from vgid_core.methods import setup
from vgid_core.methods.base import MethodContext
from vgid_core.methods.perturb import perturb
from vgid_core.methods.vgid import Teacher
from vgid_core.models.base import BaseModel, adapter_off, answer_logits
from vgid_core.scoring.packed.scorer import PackedScorer
from vgid_core.scoring.padded import PaddedScorer
from vgid_core.scoring.scorer import Scorer
from vgid_core.training.loop import distil
from vgid_core.training.optimiser import MasterAdamW
from vgid_core.training.step import BatchLoss, StepRunner

MakePath = Callable[[BaseModel], Scorer]
PATHS: list[MakePath] = [PaddedScorer, PackedScorer]
FORGET, RETAIN = pair_set("forget", 8), pair_set("retain", 9, first_picture=50)


def config(**training: object) -> UnlearnConfig:
    values = {"steps": 4, "forget_batch_size": 4, "retain_batch_size": 4, "learning_rate": 3e-3} | training
    return UnlearnConfig.model_validate({"method": "vgid", "training": values, "device": "cpu", "seed": 5})


def scrambled_adapter(base: BaseModel, lora: LoraSettings | None = None) -> PeftModel:
    """A student that differs from its base: a fresh LoRA has B = 0, for which every test would pass."""
    student = attach_adapter(base, lora or LoraSettings())
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in student.named_parameters():
            if ".lora_B." in name:
                parameter.normal_(0, 0.2, generator=generator)
    return student.eval()


def accumulated(
    scorer: Scorer, base: BaseModel, student: torch.nn.Module, settings: UnlearnConfig, role: int, pairs: list[Pair]
) -> BatchLoss:
    """The gradient of the method's first update (forget, 0) or second (retain, 1) on these pairs."""
    run = MethodContext(
        base, scorer, settings.training, settings.seed, PairSet.of("forget", pairs), PairSet.of("retain", pairs)
    )
    updates = setup(settings.method, run)
    return StepRunner(scorer, student, settings).accumulate(updates(pairs, pairs)[role])


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
@pytest.mark.parametrize("scorer", PATHS, ids=["padded", "packed"])
def test_forget_loss_equals_the_paper_written_out(base: BaseModel, kind: str, scorer: MakePath) -> None:
    settings = config()
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


@pytest.mark.parametrize("scorer", PATHS, ids=["padded", "packed"])
def test_retain_loss_equals_the_paper_written_out(base: BaseModel, scorer: MakePath) -> None:
    student = scrambled_adapter(base)
    result = accumulated(scorer(base), base, student, config(), 1, list(RETAIN))
    expected = by_hand(student, base, list(RETAIN), lambda pair: (pair.image.decode(), pair.question))
    assert result.losses[0][0] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("scorer", PATHS, ids=["padded", "packed"])
def test_an_untrained_student_without_intervention_has_no_loss(base: BaseModel, scorer: MakePath) -> None:
    """Teacher and student prompts have equal length here, so any misalignment would show as a loss."""
    quiet = Vgid(perturbation=PerturbationConfig(kind="none"), instruction="")
    student = attach_adapter(base, LoraSettings())
    settings = config().model_copy(update={"method": quiet})
    result = accumulated(scorer(base), base, student, settings, 0, list(FORGET))
    assert result.losses[0][0] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("scorer", PATHS, ids=["padded", "packed"])
@pytest.mark.parametrize("role", [0, 1], ids=["forget", "retain"])
def test_eight_micro_batches_of_one_are_one_of_eight(base: BaseModel, role: int, scorer: MakePath) -> None:
    student = scrambled_adapter(base)
    results, gradients = [], []
    for size in (8, 3, 1):
        student.zero_grad()
        settings = config(micro_batch_size=size, forget_weight=1.7, retain_weight=1.7)
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
        accumulated(PaddedScorer(base), base, student, config(retain_weight=weight), 1, list(RETAIN))
        for weight in (1.0, 3.0)
    )
    assert thrice.losses[0] == pytest.approx(once.losses[0], rel=1e-6)
    # the first call's gradient is still there: 1 + 3
    assert thrice.gradient_norm == pytest.approx(4 * once.gradient_norm, rel=1e-4)


def test_the_base_is_bit_identical_after_the_job(base: BaseModel) -> None:
    batch = base.encoder.batch([picture(1).decode()], ["Where was this person born?"], ["This is Ada Quill."])
    with torch.inference_mode():
        before = answer_logits(base, batch)
    weights = {name: value.clone() for name, value in base.model.state_dict().items()}
    student = distil(base, FORGET, RETAIN, config()).student
    with torch.inference_mode():
        on = answer_logits(base, batch)
        with adapter_off(base):
            off = answer_logits(base, batch)
    assert torch.equal(before, off)
    assert not torch.equal(before, on)
    after = {name.replace(".base_layer.", "."): value for name, value in student.base_model.model.state_dict().items()}
    assert all(torch.equal(value, after[name]) for name, value in weights.items())


def test_every_lora_b_moved_and_the_language_side_alone_is_adapted(base: BaseModel) -> None:
    student = distil(base, FORGET, RETAIN, config()).student
    modules = require_trained(student)
    assert len(modules) == 2 * 7
    assert all(name.startswith("model.language_model.layers.") for name in modules)
    frozen = [n for n, p in student.named_parameters() if p.requires_grad and "lora_" not in n]
    assert frozen == []


def test_a_matrix_that_never_moved_is_an_error(base: BaseModel) -> None:
    student = distil(base, FORGET, RETAIN, config()).student
    with torch.no_grad():
        next(p for n, p in student.named_parameters() if ".lora_B." in n).zero_()
    with pytest.raises(AdapterUntrained, match="1 of 14"):
        require_trained(student)


def test_the_vision_tower_is_trained_on_request(base: BaseModel) -> None:
    settings = config().model_copy(update={"lora": LoraSettings(scope="language+vision")})
    distilled = distil(base, FORGET, RETAIN, settings)
    modules = require_trained(distilled.student)
    assert distilled.scorer == "padded"
    for part in ("vision_tower", "multi_modal_projector", "language_model"):
        assert any(part in name for name in modules)
    assert not any("lm_head" in name for name in modules)


def adapter_of(base_folder: object, seed: int) -> dict[str, torch.Tensor]:
    from vgid_core.models.load import load_base

    settings = config().model_copy(update={"seed": seed})
    student = distil(load_base(str(base_folder), settings), FORGET, RETAIN, settings).student
    return {n: p.detach().clone() for n, p in student.named_parameters() if "lora_" in n}


def test_the_same_seed_gives_the_same_adapter_and_leaves_the_callers_randomness(tiny_folder: object) -> None:
    torch.manual_seed(11)
    first = adapter_of(tiny_folder, 1)
    after_first = torch.get_rng_state()
    torch.manual_seed(99)
    second, other = adapter_of(tiny_folder, 1), adapter_of(tiny_folder, 2)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)
    torch.manual_seed(11)
    assert torch.equal(after_first, torch.get_rng_state())


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
    heard = []
    distil(base, FORGET, RETAIN, config(retain_weight=0), lambda step, loss: heard.append((step, loss.retain)))
    assert heard == [(1, None), (2, None), (3, None), (4, None)]


def test_the_loss_falls(base: BaseModel) -> None:
    losses = []
    distil(base, FORGET, RETAIN, config(steps=40, forget_batch_size=8), lambda _step, loss: losses.append(loss.forget))
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])


def test_a_model_that_yields_no_finite_loss_is_refused_before_an_update(base: BaseModel) -> None:
    with torch.no_grad():
        base.model.get_output_embeddings().weight[0, 0] = float("nan")
    with pytest.raises(TrainingDiverged):
        distil(base, FORGET, RETAIN, config())


def test_batches_pass_over_the_set_before_they_repeat_and_keep_an_images_questions_together() -> None:
    items = PairSet("retain", tuple(Pair(picture(i % 3), f"question {i}", "answer") for i in range(9)))
    batches = draw_batches(items, 6, random.Random(0))
    drawn = [pair for _ in range(3) for pair in next(batches)]
    assert {id(p) for p in drawn[:9]} == {id(p) for p in drawn[9:18]} == {id(p) for p in items}
    for start in range(0, 18, 3):
        assert len({pair.image.digest for pair in drawn[start : start + 3]}) == 1
    assert [id(p) for p in drawn[:9]] != [id(p) for p in drawn[9:18]]


def test_an_update_in_bfloat16_keeps_what_rounding_would_lose() -> None:
    parameter = torch.nn.Parameter(torch.full((4,), 1.0, dtype=torch.bfloat16))
    optimizer = MasterAdamW([parameter], config(learning_rate=1e-4, weight_decay=0.0).training)
    for _ in range(100):
        optimizer.zero_grad()
        parameter.grad = torch.ones_like(parameter)
        optimizer.step()
    assert parameter.detach().float().tolist() == pytest.approx([0.99] * 4, abs=0.004)


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


@pytest.mark.parametrize(("steps", "warmup"), [(6, 5), (8, 2), (3, 0)])
def test_the_learning_rate_rises_over_the_warm_up_and_falls_along_a_line(
    base: BaseModel, steps: int, warmup: int
) -> None:
    training = {"steps": steps, "warmup_steps": warmup, "learning_rate": 1e-3, "forget_batch_size": 2}
    settings = UnlearnConfig.model_validate({"method": {"name": "vgid"}, "training": training, "device": "cpu"})
    rates: list[float] = []
    distil(base, pair_set("forget", 2), pair_set("retain", 2, first_picture=50), settings,
           lambda _step, loss: rates.append(loss.learning_rate))  # fmt: skip
    rise = [min(1.0, (step + 1) / warmup) if warmup else 1.0 for step in range(steps)]
    assert rates == pytest.approx([1e-3 * up * (1 - 0.9 * step / steps) for step, up in enumerate(rise)])
