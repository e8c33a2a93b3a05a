"""The preset `public-code`, held to what VGID's public code computes, written out here with Transformers and PEFT.

A test for each difference from the paper; docs/interventions.md names them.
"""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path

import pytest
import torch
import torch.nn.functional as functional
from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
from peft.tuners.tuners_utils import BaseTunerLayer
from pydantic import ValidationError
from transformers import AutoModelForImageTextToText, get_scheduler

from tests.vgid_core.test_distil import scrambled_adapter
from tests.vgid_core.tiny import pair_set
from vgid_core import Pair, PairSet, UnlearnConfig
from vgid_core.answer_path import AnswerPath
from vgid_core.base_model import BaseModel, adapter_off, attach_adapter, load_base, require_trained
from vgid_core.batches import draw_epochs
from vgid_core.config import TrainingConfig
from vgid_core.distil import distil
from vgid_core.distiller import Distiller
from vgid_core.lessons import NoisePixels
from vgid_core.methods import Run
from vgid_core.optimizer import learning_rate
from vgid_core.packed_path import PackedPath
from vgid_core.perturb import draw_pixels
from vgid_core.plain_path import PlainPath
from vgid_core.teaching import Teacher

FORGET, RETAIN = pair_set("forget", 6), pair_set("retain", 9, first_picture=50)
LANGUAGE_NAMES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def preset(**training: object) -> UnlearnConfig:
    return UnlearnConfig.preset("public-code", training={"epochs": 2} | training, device="cpu", seed=5)


def rows(base: BaseModel, pairs: list[Pair]) -> dict[str, torch.Tensor]:
    """Prompt and answer as one text a row, padded on the right by the processor itself."""
    texts = [f"{base.encoder.prompt(pair.question)}{pair.answer}<|end|>" for pair in pairs]
    images = [[pair.image.decode()] for pair in pairs]
    encoded = base.encoder.processor(text=texts, images=images, padding=True, padding_side="right", return_tensors="pt")
    return dict(encoded)


def every_position(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """The public code's divergence: over every position, divided by the rows."""
    return functional.kl_div(student.log_softmax(-1), teacher.softmax(-1), reduction="batchmean")


def noise_of(lessons: list) -> torch.Tensor:
    """Pixel values of the noise that the lessons show."""
    assert all(isinstance(lesson.shown, NoisePixels) for lesson in lessons)
    return torch.cat([draw_pixels(lesson.shown, torch.ones(1, 3, 32, 32)) for lesson in lessons])


def run_of(base: BaseModel, path: AnswerPath, config: UnlearnConfig, pairs: list[Pair]) -> Run:
    sets = PairSet.of("forget", pairs), PairSet.of("retain", pairs)
    return Run(base, path, config.training, config.seed, *sets)


def losses(base: BaseModel, student: PeftModel, config: UnlearnConfig, role: int, pairs: list[Pair]) -> tuple:
    """Of the preset's update for this role (forget 0, retain 1), its gradient left in the student."""
    student.zero_grad()
    updates = config.method.begin(run_of(base, PlainPath(base), config, pairs))(pairs, pairs)
    return Distiller(PlainPath(base), student, config).accumulate(updates[role]).losses[0]


# Row 1: no textual half


def test_the_teacher_is_asked_the_question_alone() -> None:
    method = preset().method
    assert method.instruction == ""
    assert [lesson.asked for lesson in Teacher(method, 1).lessons(FORGET.pairs)] == [p.question for p in FORGET]


def test_an_instruction_would_misalign_all_positions_and_is_refused() -> None:
    with pytest.raises(ValidationError, match="needs an empty instruction"):
        UnlearnConfig.preset("public-code", method={"instruction": "Forget."})


# Row 2: noise in the place of normalised pixel values


def test_noise_is_uniform_in_normalised_pixels_and_each_pairs_own() -> None:
    teacher = Teacher(preset().method, 1)
    twice = [FORGET.pairs[0], FORGET.pairs[0]]
    noise = torch.cat([noise_of(teacher.lessons(twice)) for _ in range(8)])
    assert 0 <= float(noise.min()) < 0.001
    assert 0.999 < float(noise.max()) < 1
    assert float(noise.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(noise.var()) == pytest.approx(1 / 12, abs=0.002)
    assert len({float(image.sum()) for image in noise}) == 16


@pytest.mark.parametrize("path", [PlainPath, PackedPath], ids=["plain", "packed"])
def test_either_path_shows_the_teacher_that_noise(base: BaseModel, path: type) -> None:
    pairs = list(FORGET)
    lessons = Teacher(preset().method, 1).lessons(pairs)
    inputs = rows(base, pairs) | {"pixel_values": noise_of(lessons)}
    with torch.inference_mode():
        logits = base.model(**inputs).logits
        found = path(base).teacher_logits(lessons)
    expected = []
    for index, pair in enumerate(pairs):
        end, length = int(inputs["attention_mask"][index].sum()), len(base.encoder.answer_ids(pair.answer))
        expected.append(logits[index, end - length - 1 : end - 1])
    assert torch.allclose(found, torch.cat(expected), atol=1e-4)


# Row 3: KL over every position, padding too, divided by the rows


@pytest.mark.parametrize("role", [0, 1], ids=["forget", "retain"])
def test_the_divergence_is_of_every_position_and_divided_by_rows(base: BaseModel, role: int) -> None:
    config, pairs = preset(), list(FORGET)
    student = scrambled_adapter(base, config.lora)
    inputs = rows(base, pairs)
    shown = dict(inputs)
    if role == 0:
        shown["pixel_values"] = noise_of(Teacher(config.method, config.seed).lessons(pairs))
    assert not inputs["attention_mask"].all(), "there is padding"
    with torch.inference_mode(), student.disable_adapter():
        teacher = base.model(**shown).logits
    loss = every_position(base.model(**inputs).logits, teacher)
    student.zero_grad()
    loss.backward()
    expected = [p.grad.clone() for p in student.parameters() if p.grad is not None]
    for size in (6, 4, 1):
        found = losses(base, student, preset(micro_batch_size=size), role, pairs)
        assert found == (pytest.approx(loss.item(), rel=1e-4),), "whatever is computed at once"
        for parameter, gradient in zip((p for p in student.parameters() if p.requires_grad), expected, strict=True):
            assert torch.allclose(parameter.grad, gradient, atol=1e-4 * float(gradient.abs().max()) + 1e-6)


# Row 4: the teacher is a copy of the base


def test_the_base_with_its_adapter_off_is_the_copy_that_the_public_code_makes(base: BaseModel) -> None:
    copied = copy.deepcopy(base.model).eval()
    student = scrambled_adapter(base, preset().lora).train()
    inputs = rows(base, list(FORGET))
    with torch.inference_mode():
        with adapter_off(base):
            ours = base.model(**inputs).logits
        assert torch.equal(ours, copied(**inputs).logits)
        assert not torch.equal(ours, student(**inputs).logits)


# Row 5: cross-entropy in the retain loss, which the public code adds where it accumulates gradients


def test_ce_and_kl_is_the_models_own_loss_beside_the_divergence(base: BaseModel) -> None:
    config = UnlearnConfig.preset("public-code", method={"retain_loss": "ce+kl"}, device="cpu")
    student, pairs = scrambled_adapter(base, config.lora), list(RETAIN)
    inputs = rows(base, pairs)
    labels = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)
    with torch.inference_mode():
        with student.disable_adapter():
            teacher = base.model(**inputs).logits
        output = base.model(**inputs, labels=labels)
    divergence = float(every_position(output.logits, teacher))
    assert losses(base, student, config, 1, pairs) == pytest.approx((divergence, float(output.loss)), rel=1e-4)
    assert len(losses(base, student, config, 0, pairs)) == 1, "the forget term has no cross-entropy"
    assert len(losses(base, student, preset(), 1, pairs)) == 1, "and without accumulation no term has"


@pytest.mark.parametrize("path", [PlainPath, PackedPath], ids=["plain", "packed"])
def test_ce_and_kl_on_answer_tokens(base: BaseModel, path: type) -> None:
    config = UnlearnConfig.preset("paper", method={"retain_loss": "ce+kl"}, device="cpu")
    student, pairs = scrambled_adapter(base, config.lora), list(RETAIN)
    updates = config.method.begin(run_of(base, path(base), config, pairs))(pairs, pairs)
    found = Distiller(path(base), student, config).accumulate(updates[1]).losses[0]
    inputs = rows(base, pairs)
    labels = torch.full_like(inputs["input_ids"], -100)
    for index, pair in enumerate(pairs):
        end, length = int(inputs["attention_mask"][index].sum()), len(base.encoder.answer_ids(pair.answer))
        labels[index, end - length : end] = inputs["input_ids"][index, end - length : end]
    with torch.inference_mode():
        output = base.model(**inputs, labels=labels)
        with student.disable_adapter():
            teacher = base.model(**inputs).logits
    counted = labels[:, 1:] != -100
    p, q = teacher[:, :-1][counted].softmax(-1), output.logits[:, :-1][counted].softmax(-1)
    divergence = float((p * (p.log() - q.log())).sum(-1).mean())
    assert found == pytest.approx((divergence, float(output.loss)), rel=1e-3)


# Row 6: the schedule is planned in steps and moved on by epochs


@pytest.mark.parametrize(("forget", "retain", "epochs"), [(6, 9, 2), (8, 8, 5), (30, 6, 3)])
def test_the_learning_rate_moves_once_an_epoch(forget: int, retain: int, epochs: int) -> None:
    training = preset(epochs=epochs).training
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([parameter], lr=training.learning_rate)
    batches = [-(-count // 4) for count in (forget, retain)]
    schedule = get_scheduler("linear", optimizer, num_warmup_steps=0, num_training_steps=sum(batches) * epochs)
    expected = []
    for _ in range(epochs):
        for _ in range(min(batches)):
            expected.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
        schedule.step()
    rate = learning_rate(training, pair_set("forget", forget), pair_set("retain", retain))
    assert [training.learning_rate * rate(step) for step in range(len(expected))] == pytest.approx(expected, rel=1e-9)
    assert preset(epochs=epochs).for_sets(forget, retain).training.steps == len(expected)


def test_an_epoch_shuffles_pairs_anew_and_its_last_batch_may_be_small() -> None:
    drawn = draw_epochs(FORGET, 4, random.Random(0), steps=2)
    first, second = ([pair for _ in range(2) for pair in next(drawn)] for _ in range(2))
    assert set(first) == set(second) == set(FORGET)
    assert len(first) == len(second) == 6
    assert first != second
    short = draw_epochs(RETAIN, 4, random.Random(0), steps=2)
    assert [len(next(short)) for _ in range(4)] == [4, 4, 4, 4], "the larger set is cut off, not gone on with"


def test_steps_end_a_run_before_its_epochs_do() -> None:
    assert preset(steps=3).for_sets(6, 9).training.steps == 3
    with pytest.raises(ValidationError, match=r"per-epoch needs training\.epochs"):
        TrainingConfig(schedule="per-epoch")


# Row 7: adapters by the last part of a module's name


def adapted(base: BaseModel) -> set[str]:
    return {name for name, module in base.model.named_modules() if isinstance(module, BaseTunerLayer)}


def test_adapters_go_where_a_list_of_names_would_put_them(tiny_folder: Path) -> None:
    ours, theirs = (load_base(str(tiny_folder), preset()) for _ in range(2))
    attach_adapter(ours, preset().lora)
    get_peft_model(theirs.model, LoraConfig(r=16, target_modules=LANGUAGE_NAMES))
    assert adapted(ours) == adapted(theirs)
    towers = {name.split(".")[-1] for name in adapted(ours) if "vision_tower" in name}
    assert towers == {"q_proj", "k_proj", "v_proj"}
    assert not any("projector" in name or "lm_head" in name for name in adapted(ours))


def test_a_vision_layer_that_nobody_reads_gets_no_adapter(tiny_folder: Path, tmp_path: Path) -> None:
    """LLaVA-1.5 takes the last layer but one: an adapter above it would never move, and the run be refused."""
    base = load_base(str(with_config(tiny_folder, tmp_path, vision_feature_layer=-2)), preset())
    distilled = distil(base, FORGET, RETAIN, preset(learning_rate=3e-3, epochs=1))
    towers = {name.split(".layers.")[1][0] for name in require_trained(distilled.student) if "vision_tower" in name}
    assert towers == {"0"}


def with_config(source: Path, folder: Path, **values: object) -> Path:
    for file in source.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))
    return folder


# Row 8: the student runs in float32


def test_half_precision_weights_become_float32_as_the_public_code_makes_them(tiny_folder: Path, tmp_path: Path) -> None:
    model = AutoModelForImageTextToText.from_pretrained(tiny_folder, dtype=torch.float16)
    model.save_pretrained(tmp_path / "half")
    for file in tiny_folder.iterdir():
        if not (tmp_path / "half" / file.name).exists():
            (tmp_path / "half" / file.name).write_bytes(file.read_bytes())
    ours = load_base(str(tmp_path / "half"), preset()).model.state_dict()
    theirs = prepare_model_for_kbit_training(
        AutoModelForImageTextToText.from_pretrained(tmp_path / "half", dtype=torch.float16)
    )
    for name, value in theirs.named_parameters():
        assert value.dtype == ours[name].dtype == torch.float32
        assert torch.equal(value, ours[name])
