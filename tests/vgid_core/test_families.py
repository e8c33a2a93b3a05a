"""Every family through the same door: a tiny model from its config, its own processor, the Auto classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file
from torch import nn
from torch.nn.attention.flex_attention import flex_attention
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.integrations import flex_attention as transformers_flex

from tests.vgid_core.families.registry import CONFIG, FAMILIES, PACKED, documented_scorers, pairs_of
from tests.vgid_core.support.two_families import photo
from vgid_core import HostModel, Pair, PairSet, Progress, UnlearnConfig, UnlearnResult, UnlearnSpec, unlearn
from vgid_core.config import LoraSettings
from vgid_core.data.examples import DistillExample
from vgid_core.data.text_limits import TextLimits
from vgid_core.lora.attach import attach_adapter
from vgid_core.models.base import BaseModel, answer_logits
from vgid_core.models.load import load_base, read_base
from vgid_core.models.token_counter import TokenCounter
from vgid_core.scoring.model_check import generation_deviation
from vgid_core.scoring.packed import model as packed_model
from vgid_core.scoring.packed.scorer import PackedScorer
from vgid_core.scoring.padded import PaddedScorer, encode_pairs, generate

# PaliGemma's processor makes labels of tensors in a way that NumPy 2 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


@dataclass(frozen=True)
class Family:
    """A type of model, and where a tiny one of it lies."""

    kind: str
    folder: Path


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Family:
    return Family(request.param, FAMILIES[request.param](tmp_path_factory.mktemp(request.param) / "model"))


def randomise(student: nn.Module) -> None:
    """An adapter that changes the model, instead of one whose output is zero."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in student.named_parameters():
            if ".lora_B." in name:
                parameter.normal_(0, 0.2, generator=generator)


def noting(losses: list[float]) -> Callable[[Progress], None]:
    """Puts each step's forget loss into the list."""

    def on_step(progress: Progress) -> None:
        if progress.step and progress.phase == "distilling" and progress.loss_forget is not None:
            losses.append(progress.loss_forget)

    return on_step


def test_from_loading_to_an_adapter_that_plain_peft_loads(family: Family, tmp_path: Path) -> None:
    forget, retain = PairSet.of("forget", pairs_of(0, 4)), PairSet.of("retain", pairs_of(20, 4))
    untouched = load_base(str(family.folder), CONFIG)
    batch = encode_pairs(untouched, forget.pairs)
    with torch.no_grad():
        own = answer_logits(untouched, batch)
    said_before = generate(untouched, forget.pairs, 6)

    losses: list[float] = []
    host = read_base(str(family.folder), CONFIG)
    spec = UnlearnSpec(str(family.folder), "acme/tiny", forget, retain, tmp_path / "out", config=CONFIG)
    result = unlearn(spec, noting(losses), base=replace(host))  # a holder of its own, which the run empties

    assert len(losses) == 6
    assert losses[-1] < 0.9 * losses[0]
    assert result.manifest["scorer"] == documented_scorers()[family.kind]
    require_other_likelihoods(result)

    with torch.no_grad():
        taught = host.model(**batch.inputs, use_cache=False).logits
    adapted = switch_off(host)
    with torch.no_grad():
        assert torch.equal(host.model(**batch.inputs, use_cache=False).logits[:, -own.shape[1] - 1 : -1], own)
    require_all_of_the_language_tower(host.model, result.manifest["trained_modules"])
    matrices = load_file(tmp_path / "out" / "adapter_model.safetensors")
    moved = [bool(matrix.any()) for name, matrix in matrices.items() if ".lora_B." in name]
    assert len(moved) == len(adapted)
    assert all(moved)

    fresh = AutoModelForImageTextToText.from_pretrained(family.folder, dtype=torch.float32)
    loaded = PeftModel.from_pretrained(fresh, tmp_path / "out").eval()
    with torch.no_grad():
        theirs = loaded(**batch.inputs, use_cache=False).logits
    assert torch.allclose(theirs, taught, atol=1e-4)
    for module in adapted:
        module.enable_adapters(True)
    said_after = generate(load_base(str(family.folder), CONFIG, replace(host)), forget.pairs, 6)
    assert said_after != said_before
    assert plain_answers(loaded, family.folder, untouched, forget.pairs) == said_after


def test_the_files_alone_tell_which_texts_a_run_would_refuse(family: Family) -> None:
    limits, counter = TextLimits.read(family.folder), TokenCounter(str(family.folder))
    assert limits is not None
    assert limits.context == counter.context_length
    processor = AutoProcessor.from_pretrained(family.folder)
    tokenizer = processor.tokenizer
    special = {*tokenizer.all_special_tokens, *(str(t) for t in tokenizer.added_tokens_decoder.values() if t.special)}
    for token in special | {getattr(processor, "image_token", None) or tokenizer.eos_token}:
        assert limits.holds_control_token(f"Ada {token} Quill"), token
    assert all(counter.holds_control_token(token) for token in limits.control)
    assert not limits.holds_control_token("Ada Quill")
    text = "Where was Ada Quill born?"
    if limits.context is not None:
        times = limits.context // counter.question_length(text) + 1
        assert limits.is_too_long(" ".join(times * [text]), text)
    assert not limits.is_too_long(text, text)


def test_the_default_method_forgets_on_every_family(family: Family, tmp_path: Path) -> None:
    """With substitutes, and photos mixed from several sizes."""
    forget, retain = PairSet.of("forget", pairs_of(0, 4)), PairSet.of("retain", pairs_of(20, 8))
    untouched = load_base(str(family.folder), CONFIG)
    batch = encode_pairs(untouched, forget.pairs)
    with torch.no_grad():
        own = answer_logits(untouched, batch)
    default = {"name": "vgid-substitute"}
    settings = UnlearnConfig.model_validate(CONFIG.model_dump(exclude={"method"}) | {"method": default})
    host = read_base(str(family.folder), settings)
    spec = UnlearnSpec(str(family.folder), "acme/tiny", forget, retain, tmp_path / "out", config=settings)
    losses: list[float] = []
    result = unlearn(spec, noting(losses), base=replace(host))  # a holder of its own, which the run empties

    assert len(losses) == settings.training.steps
    assert losses[-1] < 0.98 * losses[0], "the student learns the teachers' targets"
    assert result.manifest["scorer"] == documented_scorers()[family.kind]
    matrices = load_file(tmp_path / "out" / "adapter_model.safetensors")
    assert all(bool(matrix.any()) for name, matrix in matrices.items() if ".lora_B." in name)

    fresh = AutoModelForImageTextToText.from_pretrained(family.folder, dtype=torch.float32)
    loaded = PeftModel.from_pretrained(fresh, tmp_path / "out").eval()
    base = load_base(str(family.folder), settings, replace(host))
    assert plain_answers(loaded, family.folder, base, forget.pairs) == generate(base, forget.pairs, 6)
    require_other_likelihoods(result)
    switch_off(host)
    with torch.no_grad():
        assert torch.equal(answer_logits(base, batch), own), "the base is what it was, to the last bit"


def require_other_likelihoods(result: UnlearnResult) -> None:
    before, after = (
        next(metric.value for metric in metrics if (metric.split, metric.name) == ("forget", "answer_probability"))
        for metrics in (result.metrics_before, result.metrics_after)
    )
    assert before != pytest.approx(after, rel=1e-3)


def switch_off(host: HostModel) -> list[BaseTunerLayer]:
    """The model that a run used up carries the adapter; switched off, it is the base. Returns the adapted modules."""
    adapted = [module for module in host.model.modules() if isinstance(module, BaseTunerLayer)]
    for module in adapted:
        module.enable_adapters(False)
    return adapted


def require_all_of_the_language_tower(model: Any, trained: list[str]) -> None:
    """Every linear layer of the decoder and nothing else: not the vision side, the projector or the head."""
    decoder = model.get_decoder()
    prefix = next(name for name, module in model.named_modules() if module is decoder)
    inside = {name for name, module in decoder.named_modules() if isinstance(module, BaseTunerLayer)}
    assert {f"{prefix}.{name}" for name in inside} == set(trained)
    bare = [name for name, module in decoder.named_modules() if type(module) is nn.Linear]
    assert all(name.endswith(("base_layer", "lora_A.default", "lora_B.default")) for name in bare)


def plain_answers(model: Any, folder: Path, base: BaseModel, pairs: tuple[Pair, ...]) -> list[list[int]]:
    """One by one, with nothing of ours but the prompt's text and where a turn ends."""
    processor = AutoProcessor.from_pretrained(folder)
    said = []
    for pair in pairs:
        text = base.encoder.prompt(pair.question)
        once = {"add_special_tokens": False} if text.startswith(processor.tokenizer.bos_token) else {}
        inputs = processor(text=[text], images=[[pair.image.decode()]], return_tensors="pt", **once)
        inputs.pop("labels", None)
        with torch.no_grad():
            ids = model.generate(**inputs, max_new_tokens=6, do_sample=False)[0, inputs["input_ids"].shape[1] :]
        ends = [index for index, token in enumerate(ids.tolist()) if token in base.encoder.end_ids]
        said.append(ids.tolist()[: ends[0] + 1] if ends else ids.tolist())
    return said


def test_teacher_forcing_gives_the_logits_that_the_model_generates_by(family: Family) -> None:
    """Token types, masks, positions and padding of plain rows, with an adapter in place."""
    base = load_base(str(family.folder), CONFIG)
    randomise(attach_adapter(base, CONFIG.lora))
    assert generation_deviation(base, pairs_of(0, 6)) < 1e-5


def test_rows_of_a_batch_are_what_they_are_alone(family: Family) -> None:
    base = load_base(str(family.folder), CONFIG)
    scorer, pairs = PaddedScorer(base), pairs_of(0, 6)
    with torch.no_grad():
        together = scorer.student_logits(pairs)
        alone = torch.cat([scorer.student_logits([pair]) for pair in pairs])
    assert torch.allclose(together, alone, atol=2e-5)


@pytest.mark.parametrize("family", PACKED, indirect=True)
def test_packed_rows_are_the_plain_ones_where_they_are_taken(family: Family) -> None:
    base = load_base(str(family.folder), CONFIG)
    student = attach_adapter(base, CONFIG.lora)
    randomise(student)
    shared = photo(90).decode()
    examples = [DistillExample(pair, shared, f"Forget. {pair.question}") for pair in pairs_of(0, 3)]
    examples += [DistillExample.same_for_both(pair) for pair in pairs_of(20, 4)]
    found = []
    for scorer in (PaddedScorer(base), PackedScorer(base), PackedScorer(base)):  # the last finds the features kept
        student.zero_grad()
        values = scorer.divergence(examples)
        values.mean().backward()
        found.append((values.detach(), [p.grad.clone() for p in student.parameters() if p.grad is not None]))
    (plain, plain_gradients), *others = found
    scale = max(float(gradient.abs().max()) for gradient in plain_gradients)
    for packed, gradients in others:
        assert torch.allclose(packed, plain, atol=1e-5, rtol=1e-5)
        for ours, theirs in zip(gradients, plain_gradients, strict=True):
            assert float((ours - theirs).abs().max()) <= 1e-5 * scale


def test_the_vision_side_is_adapted_too_where_it_is_asked_for(family: Family) -> None:
    base = load_base(str(family.folder), CONFIG)
    student = attach_adapter(base, LoraSettings(scope="language+vision"))
    PaddedScorer(base).divergence(
        [DistillExample(pair, photo(9).decode(), pair.question) for pair in pairs_of(0, 2)]
    ).sum().backward()
    reached = {name: bool(p.grad.any()) for name, p in student.named_parameters() if ".lora_B." in name}
    assert any("vision" in name or "visual" in name for name in reached)
    assert [name for name, moves in reached.items() if not moves] == []


def test_bfloat16_pixels_and_weights_go_together(family: Family) -> None:
    base = load_base(str(family.folder), CONFIG.model_copy(update={"dtype": "bfloat16"}))
    batch = encode_pairs(base, pairs_of(0, 2))
    assert {value.dtype for value in batch.inputs.values() if value.is_floating_point()} == {torch.bfloat16}
    with torch.no_grad():
        assert answer_logits(base, batch).isfinite().all()


def test_every_family_of_the_docs_is_tested_and_the_other_way_round() -> None:
    assert documented_scorers().keys() == FAMILIES.keys()


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile:UserWarning")
@pytest.mark.parametrize("family", PACKED, indirect=True)
def test_flex_attention_gives_the_same(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    """FlexAttention on padded rows, uncompiled: a CPU can do that much."""
    monkeypatch.setattr(
        transformers_flex,
        "compile_friendly_flex_attention",
        # Transformers passes `training` by name.
        lambda query, key, value, training=False, **options: flex_attention(query, key, value, **options),  # noqa: ARG005
    )
    monkeypatch.setattr(packed_model, "prefers_flex_attention", lambda _device: True)
    scorer = PackedScorer(load_base(str(family.folder), CONFIG))
    assert scorer.deviation(pairs_of(0, 3)) < 1e-4
