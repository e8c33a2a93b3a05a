"""Which scorer is chosen: packed if it gives the model's own logits up to rounding, else padded."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.nn.attention.flex_attention import flex_attention
from transformers.integrations import flex_attention as transformers_flex

from bench.parts.llava_shapes import Shapes, build_base, make_pairs
from tests.vgid_core.support.tiny import SENTENCES
from tests.vgid_core.support.tiny_qwen import save_tiny_qwen
from tests.vgid_core.support.two_families import FAMILIES, photo
from vgid_core import Pair, PairSet, UnlearnConfig
from vgid_core.config import EvaluationConfig, LoraSettings
from vgid_core.data.examples import DistillExample
from vgid_core.models.base import BaseModel
from vgid_core.models.load import load_base
from vgid_core.scoring.choose import choose_scorer, probe_pairs
from vgid_core.scoring.packed import model as packed_model
from vgid_core.scoring.packed.scorer import PackedScorer
from vgid_core.scoring.padded import PaddedScorer


def test_packed_rows_are_chosen_where_they_give_the_models_logits(student: tuple[BaseModel, torch.nn.Module]) -> None:
    base, _adapted = student
    pairs = [Pair(photo(i // 2), SENTENCES[i], SENTENCES[4 + i]) for i in range(4)]
    assert choose_scorer(base, pairs, LoraSettings()).name == "packed"


def test_padded_rows_are_chosen_where_packed_logits_differ(
    student: tuple[BaseModel, torch.nn.Module], caplog: pytest.LogCaptureFixture
) -> None:
    """A head with more than one product, such as soft-capped logits."""
    base, _adapted = student
    pairs = [Pair(photo(i // 2), SENTENCES[i], SENTENCES[4 + i]) for i in range(4)]
    handle = base.model.get_output_embeddings().register_forward_hook(
        lambda _module, _given, out: 5 * torch.tanh(out / 5)
    )
    try:
        assert choose_scorer(base, pairs, LoraSettings()).name == "padded"
    finally:
        handle.remove()
    assert "using padded rows" in caplog.text


@pytest.mark.parametrize("fails_with_gradients_only", [False, True])
def test_where_compiling_fails_packed_rows_stay_uncompiled(
    student: tuple[BaseModel, torch.nn.Module], fails_with_gradients_only: bool
) -> None:
    base, _adapted = student

    def broken(function: Callable[..., object]) -> Callable[..., object]:
        def fail(*arguments: object, **named: object) -> object:
            if fails_with_gradients_only and not torch.is_grad_enabled():
                return function(*arguments, **named)
            raise RuntimeError("no C++ compiler")

        return fail

    pairs = [Pair(photo(i), SENTENCES[i], SENTENCES[4 + i]) for i in range(2)]
    scorer = choose_scorer(base, pairs, LoraSettings(), broken)
    assert scorer.name == "packed"
    assert scorer.divergence([DistillExample.same_for_both(pair) for pair in pairs]).isfinite().all()


CONFIG = UnlearnConfig(device="cpu")
# As deep as a 7B model, narrow, with weights as large as its width would have them.
DEEP = Shapes(2000, 256, 512, 32, 4, 64, 128, 3, 4, 28, 14)


@pytest.fixture(scope="module")
def deep() -> BaseModel:
    base = build_base(DEEP, torch.device("cpu"), torch.float32)
    with torch.no_grad():
        for name, parameter in base.model.named_parameters():
            if parameter.ndim == 2 and ("language_model" in name or "lm_head" in name):
                parameter.mul_((4096 / DEEP.hidden) ** 0.5)
    base.model.to(torch.bfloat16)
    return dataclasses.replace(base, dtype=torch.bfloat16)


def test_rounding_in_a_deep_model_does_not_rule_out_packed_rows(deep: BaseModel) -> None:
    pairs = make_pairs(2, 2, DEEP, 1)
    assert PackedScorer(deep).deviation(pairs) > 1e-3, "it does round"
    assert choose_scorer(deep, pairs, LoraSettings()).name == "packed"


@pytest.mark.parametrize("fault", ["position", "mask"])
def test_wrong_positions_or_masks_deviate_more_than_rounding(
    deep: BaseModel, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    laid_out = packed_model.PackedModel.lay_out

    def faulty(self, examples, side):  # type: ignore[no-untyped-def]
        layout = laid_out(self, examples, side)
        packed = layout.packed
        if fault == "position":
            packed.positions[:, packed.segment >= 0] += 3
        else:
            packed.segment[packed.segment == 1] = 0
        return layout

    monkeypatch.setattr(packed_model.PackedModel, "lay_out", faulty)
    assert PackedScorer(deep).deviation(make_pairs(2, 3, DEEP, 1)) > 1


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile:UserWarning")
@pytest.mark.parametrize("family", FAMILIES)
def test_flex_attention_gives_the_same(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FlexAttention over packed rows padded to a multiple, and decoding over its cache; uncompiled, as on a CPU."""
    monkeypatch.setattr(
        transformers_flex,
        "compile_friendly_flex_attention",
        lambda query, key, value, training=False, **options: flex_attention(  # noqa: ARG005 - by its name
            query, key, value, **options
        ),
    )
    base = load_base(str(FAMILIES[family](tmp_path / "m")), CONFIG)
    pairs = [Pair(photo(i // 2), SENTENCES[i % 3], SENTENCES[3 + i % 5]) for i in range(8)]
    monkeypatch.setattr(packed_model, "prefers_flex_attention", lambda _device: True)
    scorer, plain = PackedScorer(base), PaddedScorer(base)
    assert scorer.deviation(pairs) < 1e-4
    with torch.no_grad():
        examples = [DistillExample(pair, photo(9).decode(), pair.question) for pair in pairs]
        assert torch.allclose(scorer.divergence(examples), plain.divergence(examples), atol=1e-5)
    config = EvaluationConfig(max_new_tokens=6)
    ours, theirs = scorer.score_answers(pairs, config), plain.score_answers(pairs, config)
    assert [answer.generated_ids for answer in ours] == [answer.generated_ids for answer in theirs]


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, TypeError])
def test_with_a_sharded_base_an_error_in_one_process_is_raised(
    tiny_folder: Path, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other processes may be waiting within a layer. With a whole base in each, the padded scorer is chosen instead."""
    base = load_base(str(tiny_folder), CONFIG)
    pairs = [Pair(photo(i), "Who?", "Ada") for i in range(2)]

    def fail(_scorer: PackedScorer, _pairs: object) -> float:
        raise error

    monkeypatch.setattr(PackedScorer, "deviation", fail)
    assert choose_scorer(base, pairs, LoraSettings()).name == "padded"
    with pytest.raises(error):
        choose_scorer(dataclasses.replace(base, sharded=True), pairs, LoraSettings())


def test_sliding_window_attention_takes_padded_rows(tmp_path: Path) -> None:
    folder = save_tiny_qwen(tmp_path / "m")
    config = json.loads((folder / "config.json").read_text())
    config["text_config"].update(use_sliding_window=True, sliding_window=60, max_window_layers=0)
    config["text_config"].pop("layer_types", None)
    (folder / "config.json").write_text(json.dumps(config))
    base = load_base(str(folder), CONFIG)
    assert choose_scorer(base, [Pair(photo(i), "Who?", "Ada") for i in range(2)], LoraSettings()).name == "padded"


@pytest.mark.parametrize("lora", [{"dropout": 0.1}, {"scope": "language+vision"}])
def test_dropout_and_an_adapted_vision_tower_take_padded_rows(tiny_folder: Path, lora: dict[str, object]) -> None:
    base = load_base(str(tiny_folder), CONFIG)
    pairs = [Pair(photo(i), "Who?", "Ada") for i in range(2)]
    assert choose_scorer(base, pairs, LoraSettings.model_validate(lora)).name == "padded"


def test_probe_pairs_have_every_image_size_and_the_longest_text() -> None:
    pairs = [Pair(photo(i), "Who?", "Ada") for i in range(6)]
    long = Pair(photo(0), "Who is the person in this image? " * 5, "Ada Quill")
    chosen = probe_pairs([PairSet.of("forget", pairs), PairSet.of("retain", [pairs[0], long])])
    assert long in chosen
    assert {pair.image.size for pair in chosen} == {pair.image.size for pair in pairs}
    assert len(chosen) < 8
