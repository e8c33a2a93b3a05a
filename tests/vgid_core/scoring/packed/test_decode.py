"""Answers decoded with the expected answers as drafts are those of plain greedy generation."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.vgid_core.support.two_families import FAMILIES, photo, text
from vgid_core import Pair, UnlearnConfig
from vgid_core.config import EvaluationConfig, LoraSettings
from vgid_core.lora.attach import attach_adapter
from vgid_core.models.base import BaseModel
from vgid_core.models.load import load_base
from vgid_core.scoring.packed import decode as packed_answers
from vgid_core.scoring.packed.model import PackedModel
from vgid_core.scoring.packed.scorer import PackedScorer
from vgid_core.scoring.padded import PaddedScorer, generate

CONFIG = EvaluationConfig(max_new_tokens=7)


@pytest.fixture(scope="module", params=FAMILIES)
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    """A base of each family, with an adapter that changes its answers."""
    folder = FAMILIES[request.param](tmp_path_factory.mktemp("model") / "m")
    model = load_base(str(folder), UnlearnConfig(device="cpu"))
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in attach_adapter(model, LoraSettings()).eval().named_parameters():
            if ".lora_B." in name:
                parameter.normal_(0, 0.2, generator=generator)
    return model


def prefixed_with_own_words(base: BaseModel, pair: Pair, count: int) -> Pair:
    """The pair, its answer prefixed with the first `count` words of the model's own answer: a partly accepted draft."""
    own = base.encoder.decode(generate(base, [pair], CONFIG.max_new_tokens))[0].split()[:count]
    return Pair(pair.image, pair.question, " ".join([*own, pair.answer]))


item = st.tuples(st.integers(0, 3), text, text, st.integers(0, 3))


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(item, min_size=1, max_size=6), st.sampled_from([60, 10_000]))
def test_answers_and_likelihoods_are_those_of_separate_rows(
    base: BaseModel, items: list[tuple[int, str, str, int]], at_once: int
) -> None:
    pairs = [
        prefixed_with_own_words(base, Pair(photo(n), question, answer), kept) for n, question, answer, kept in items
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packed_answers, "MAX_PASS_TOKENS", at_once)
        packed = PackedScorer(base).score_answers(pairs, CONFIG)
    plain = PaddedScorer(base).score_answers(pairs, CONFIG)
    assert [answer.generated_ids for answer in packed] == [answer.generated_ids for answer in plain]
    for ours, theirs in zip(packed, plain, strict=True):
        assert torch.allclose(ours.log_probabilities, theirs.log_probabilities, atol=1e-4)


def test_an_accepted_draft_takes_one_pass(base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = Pair(photo(0), "Who is this?", "x")
    generated = generate(base, [pair], 5)[0]
    ids: Callable[[str], list[int]] = lambda _answer: generated  # noqa: E731 - the text could tokenize otherwise
    monkeypatch.setattr(base.encoder, "answer_ids", ids)
    passes = []
    handle = base.model.get_decoder().register_forward_hook(lambda _module, _given, _out: passes.append(1))
    found = PackedScorer(base).score_answers([pair], EvaluationConfig(max_new_tokens=5))
    handle.remove()
    assert found[0].generated_ids == generated
    assert len(passes) == 1


def test_the_models_generation_config_is_ignored(base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Qwen2.5-VL's has sampling and a repetition penalty."""
    pairs = [Pair(photo(n), "Who is this?", "Ada Quill") for n in range(3)]
    expected = PaddedScorer(base).score_answers(pairs, CONFIG)
    monkeypatch.setattr(base.model.generation_config, "repetition_penalty", 5.0)
    found = PaddedScorer(base).score_answers(pairs, CONFIG)
    assert [answer.generated_ids for answer in found] == [answer.generated_ids for answer in expected]


def test_the_deviation_reveals_wrong_token_by_token_decoding(base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wrong positions of cached keys leave one pass right and what follows wrong."""
    pairs = [Pair(photo(n), "Who is this?", "Ada Quill was born in Fernmoor.") for n in range(2)]
    scorer = PackedScorer(base)
    assert scorer.deviation(pairs) < 1e-4
    true_run = PackedModel.run

    def shifted(self, ids, positions, mask, **inputs):  # type: ignore[no-untyped-def]
        return true_run(self, ids, positions + (ids.shape[1] < 10), mask, **inputs)

    monkeypatch.setattr(PackedModel, "run", shifted)
    assert scorer.deviation(pairs) > 1e-3


def test_a_pass_that_exceeds_memory_is_halved(base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = [Pair(photo(n // 3), "Who is this?", "Ada Quill") for n in range(6)]
    expected = PackedScorer(base).score_answers(pairs, CONFIG)
    whole = PackedModel.lay_out
    sizes = []

    def small(self, examples, side):  # type: ignore[no-untyped-def]
        sizes.append(len(examples))
        if len(examples) > 2:
            raise torch.OutOfMemoryError
        return whole(self, examples, side)

    monkeypatch.setattr(PackedModel, "lay_out", small)
    found = PackedScorer(base).score_answers(pairs, CONFIG)
    assert [answer.generated_ids for answer in found] == [answer.generated_ids for answer in expected]
    assert max(sizes) == 6
    monkeypatch.setattr(PackedModel, "lay_out", lambda *_: (_ for _ in ()).throw(torch.OutOfMemoryError))
    with pytest.raises(torch.OutOfMemoryError):
        PackedScorer(base).score_answers(pairs, CONFIG)


def test_with_a_sharded_base_no_pass_is_halved(base: BaseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = []

    def full(_self, examples, _side):  # type: ignore[no-untyped-def]
        parts.append(examples)
        raise torch.OutOfMemoryError

    monkeypatch.setattr(PackedModel, "lay_out", full)
    pairs = [Pair(photo(n), "Who is this?", "Ada Quill") for n in range(4)]
    with pytest.raises(torch.OutOfMemoryError):
        PackedScorer(replace(base, sharded=True)).score_answers(pairs, CONFIG)
    assert len(parts) == 1
