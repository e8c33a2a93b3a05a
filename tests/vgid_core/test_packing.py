"""Packed rows are the same mathematics: losses and gradients equal those of separate rows, on two families."""

import io
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.vgid_core.tiny import SENTENCES, picture, save_tiny_model
from tests.vgid_core.tiny_qwen import save_tiny_qwen
from vgid_core import EncodedImage, Pair, UnlearnConfig
from vgid_core.config import LoraSettings
from vgid_core.data.examples import DistillExample
from vgid_core.lora.attach import attach_adapter
from vgid_core.losses.fused_linear import linear_kl, linear_log_probability
from vgid_core.losses.token_losses import token_kl, token_log_probability
from vgid_core.losses.top_k import TopKDistribution
from vgid_core.models.base import BaseModel
from vgid_core.models.load import load_base
from vgid_core.scoring.choose import choose_scorer
from vgid_core.scoring.packed.attention import Groups
from vgid_core.scoring.packed.rows import PADDING, PREFIX, Packed, Row, pack, sparse_mask
from vgid_core.scoring.packed.scorer import PackedScorer
from vgid_core.scoring.padded import PaddedScorer

FAMILIES: dict[str, Callable[[Path], Path]] = {"llava": save_tiny_model, "qwen2.5-vl": save_tiny_qwen}
SIZES = [(32, 32), (64, 32), (48, 80)]


@pytest.fixture(scope="module", params=FAMILIES)
def student(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[BaseModel, torch.nn.Module]:
    """A base with an adapter that changes it, of each family."""
    folder = FAMILIES[request.param](tmp_path_factory.mktemp("model") / "m")
    base = load_base(str(folder), UnlearnConfig(device="cpu"))
    adapted = attach_adapter(base, LoraSettings())
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if ".lora_B." in name:
                parameter.normal_(0, 0.2, generator=generator)
    return base, adapted.eval()


def photo(number: int) -> EncodedImage:
    """Photos come in three sizes: dynamic resolution gives them different numbers of tokens."""
    stream = io.BytesIO()
    picture(number).decode().resize(SIZES[number % 3]).save(stream, format="PNG")
    return EncodedImage(stream.getvalue())


def noise(number: int) -> Image.Image:
    return photo(100 + number).decode()


text = st.lists(st.sampled_from(" ".join(SENTENCES).split()), min_size=1, max_size=9).map(" ".join)
item = st.tuples(st.integers(0, 3), text, text, st.booleans())


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(item, min_size=1, max_size=7))
def test_losses_and_gradients_are_those_of_separate_rows(
    student: tuple[BaseModel, torch.nn.Module], items: list[tuple[int, str, str, bool]]
) -> None:
    base, adapted = student
    shared = noise(0)
    lessons = []
    for number, question, answer, forget in items:
        pair = Pair(photo(number), question, answer)
        lessons.append(
            DistillExample(pair, shared, f"Forget. {question}") if forget else DistillExample.same_for_both(pair)
        )
    found = []
    for scorer in (PaddedScorer(base), PackedScorer(base)):
        adapted.zero_grad()
        values = scorer.divergence(lessons)
        values.mean().backward()
        gradients = [p.grad.clone() for p in adapted.parameters() if p.grad is not None]
        found.append((values.detach(), gradients))
    (plain, plain_gradients), (packed, packed_gradients) = found
    assert torch.allclose(packed, plain, atol=1e-5, rtol=1e-5)
    scale = max(float(g.abs().max()) for g in plain_gradients)
    for ours, theirs in zip(packed_gradients, plain_gradients, strict=True):
        assert float((ours - theirs).abs().max()) <= 1e-5 * scale


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(item, min_size=1, max_size=5), st.integers(1, 400), st.integers(0, 1000))
def test_imitation_and_what_is_imitated_are_those_of_separate_rows(
    student: tuple[BaseModel, torch.nn.Module], items: list[tuple[int, str, str, bool]], kept: int, seed: int
) -> None:
    """The teacher sees noise, or the pair's own image, and hears other tokens in the answer's place."""
    base, adapted = student
    rng = random.Random(seed)
    words = base.encoder.answer_ids(" ".join(SENTENCES))[:-1]
    lessons = []
    for number, question, answer, own in items:
        pair = Pair(photo(number), question, answer)
        heard = tuple(rng.choices(words, k=len(base.encoder.answer_ids(answer))))
        lessons.append(DistillExample(pair, pair.image if own else noise(0), question, heard))
    pairs = [lesson.pair for lesson in lessons]
    target = TopKDistribution.of(PaddedScorer(base).teacher_logits(lessons).softmax(-1), kept)
    found = []
    for scorer in (PaddedScorer(base), PackedScorer(base)):
        adapted.zero_grad()
        divergence, likelihood = scorer.kl_and_logprob(pairs, target)
        (divergence.mean() + 0.3 * likelihood.square().mean()).backward()
        gradients = [p.grad.clone() for p in adapted.parameters() if p.grad is not None]
        found.append((scorer.teacher_logits(lessons), divergence.detach(), likelihood.detach(), *gradients))
    for plain, packed in zip(*found, strict=True):
        assert float((packed - plain).abs().max()) <= 2e-5 * max(1e-3, float(plain.abs().max()))


def test_log_probabilities_and_layers_are_those_of_separate_rows(student: tuple[BaseModel, torch.nn.Module]) -> None:
    base, adapted = student
    pairs = [Pair(photo(i // 2), SENTENCES[i % 3], SENTENCES[4 + i % 4]) for i in range(5)]
    lessons = [DistillExample(pair, noise(0), f"Forget. {pair.question}") for pair in pairs]
    found = []
    for scorer in (PaddedScorer(base), PackedScorer(base)):
        adapted.zero_grad()
        mine, states = scorer.student_log_probability(pairs), scorer.student_states(pairs, 0)
        (mine.sum() + states.square().mean()).backward()
        theirs = [scorer.teacher_log_probability(lessons), scorer.teacher_states(lessons, 0)]
        gradients = [p.grad for p in adapted.parameters() if p.grad is not None]
        found.append([mine.detach(), states.detach(), *theirs, *gradients])
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, atol=1e-5 * max(1.0, float(one.abs().max())))


def test_the_packed_path_is_taken_where_it_is_proven(student: tuple[BaseModel, torch.nn.Module]) -> None:
    base, _adapted = student
    pairs = [Pair(photo(i // 2), SENTENCES[i], SENTENCES[4 + i]) for i in range(4)]
    assert choose_scorer(base, pairs, LoraSettings()).name == "packed"


def test_a_model_that_packs_to_other_logits_goes_row_by_row(
    student: tuple[BaseModel, torch.nn.Module], caplog: pytest.LogCaptureFixture
) -> None:
    """A head that does more than one product, as soft-capped ones do, is noticed by computation."""
    base, _adapted = student
    pairs = [Pair(photo(i // 2), SENTENCES[i], SENTENCES[4 + i]) for i in range(4)]
    handle = base.model.get_output_embeddings().register_forward_hook(
        lambda _module, _given, out: 5 * torch.tanh(out / 5)
    )
    try:
        assert choose_scorer(base, pairs, LoraSettings()).name == "padded"
    finally:
        handle.remove()
    assert "going row by row" in caplog.text


# torch 2.13's tracer reads .grad of activations itself, and makes instances of autograd functions
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.filterwarnings("ignore:.*Function'> should not be instantiated:DeprecationWarning")
def test_compiled_layers_give_the_same_and_are_compiled_once_for_all(
    student: tuple[BaseModel, torch.nn.Module],
) -> None:
    base, adapted = student
    graphs = []

    def backend(graph: torch.fx.GraphModule, _examples: object) -> Callable[..., object]:
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    pairs = [Pair(photo(0), SENTENCES[i], SENTENCES[4 + i]) for i in range(3)]
    compiled = PackedScorer(base, partial(torch.compile, dynamic=False, backend=backend))
    lessons = [DistillExample(pair, noise(0), pair.question) for pair in pairs]
    adapted.zero_grad()
    values = compiled.divergence(lessons)
    values.mean().backward()
    assert torch.allclose(values, PaddedScorer(base).divergence(lessons), atol=1e-5)
    assert all(p.grad is not None for name, p in adapted.named_parameters() if ".lora_B." in name)
    many = len(graphs)
    assert 0 < many <= 4, "teacher, student, and the student's first layer, whose input needs no gradient"
    compiled.divergence(lessons)
    assert len(graphs) == many
    assert not any("forward" in vars(layer) for layer in base.model.get_decoder().layers), "generation stays eager"


@pytest.mark.parametrize("fails_with_gradients_only", [False, True])
def test_a_compiler_that_fails_costs_no_more_than_its_speed(
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


def test_retain_targets_are_computed_once(student: tuple[BaseModel, torch.nn.Module]) -> None:
    base, _ = student
    scorer = PackedScorer(base)
    calls = []
    decoder = base.model.get_decoder()
    handle = decoder.register_forward_hook(lambda _module, _given, _out: calls.append(1))
    lessons = [DistillExample.same_for_both(Pair(photo(i), SENTENCES[i], SENTENCES[4 + i])) for i in range(3)]
    first = scorer.divergence(lessons)
    second = scorer.divergence(lessons)
    assert torch.allclose(first, second, atol=1e-6)
    handle.remove()
    assert len(calls) == 3, "teacher and student, then the student alone"


row = st.tuples(st.integers(0, 4), st.lists(st.integers(10, 14), min_size=1, max_size=5), st.integers(1, 4))


@settings(max_examples=60)
@given(st.lists(row, min_size=1, max_size=8), st.sampled_from([1, 8]))
def test_every_token_sees_what_it_would_see_alone(rows: list[tuple[int, list[int], int]], multiple: int) -> None:
    """Layout alone, against the definition: token by token, the visible (id, position) pairs in order."""
    groups: dict[int, list[Row]] = {}
    for image, question, answer in rows:
        ids = [1, 2, 2, 20 + image, *question, *range(30, 30 + answer)]
        tokens = torch.tensor(ids)
        groups.setdefault(image, []).append(Row(tokens, torch.arange(len(ids))[None], 4 + len(question), 4))
    packed = pack(list(groups.values()), multiple=multiple)
    mask = everybody(packed)
    assert len(packed.ids) % multiple == 0
    for members, places in zip(groups.values(), packed.predicts, strict=True):
        for alone, where in zip(members, places, strict=True):
            assert packed.ids[where + 1].tolist() == alone.ids[alone.prompt_length :].tolist()
            for offset, place in enumerate(where.tolist()):
                seen = mask[place].nonzero()[:, 0]
                upto = alone.prompt_length + offset
                assert packed.ids[seen].tolist() == alone.ids[:upto].tolist()
                assert packed.positions[0, seen].tolist() == alone.positions[0, :upto].tolist()
    for number, (start, stop) in enumerate(packed.spans):
        assert (packed.group[start:stop] == number).all()
        assert not mask[start:stop, :start].any(), "nobody sees a group before its own"
    padding = packed.group == PADDING
    assert ((packed.segment == PADDING) == padding).all()
    assert int(padding.sum()) < multiple
    assert (packed.segment == PREFIX).any()


def everybody(packed: Packed) -> torch.Tensor:
    """Who sees whom, [queries, keys]."""
    places = torch.arange(len(packed.ids))
    return packed.sees(places[:, None], places[None, :])


def test_the_masks_of_both_kinds_of_attention_say_who_sees_whom() -> None:
    rows = [Row(torch.arange(10, 40), torch.arange(30)[None], 20, 5) for _ in range(3)]
    packed = pack([rows, rows[:1]], multiple=128)
    places = torch.arange(len(packed.ids))
    sparse = sparse_mask(packed).mask_mod(torch.tensor(0), torch.tensor(0), places[:, None], places[None, :])
    assert torch.equal(sparse, everybody(packed))
    blocks = torch.zeros_like(sparse)
    for (start, stop), mask in zip(packed.spans, Groups.of(packed, torch.float32, last=0).masks, strict=True):
        blocks[start:stop, start:stop] = mask[0, 0] == 0
    used = packed.group != PADDING
    assert torch.equal(blocks[used], everybody(packed)[used])


@pytest.mark.parametrize("most", [1, 40, 10_000])
def test_long_groups_are_cut_without_a_difference(
    student: tuple[BaseModel, torch.nn.Module], most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, _adapted = student
    monkeypatch.setattr("vgid_core.scoring.packed.model._DENSE_GROUP", most)
    lessons = [
        DistillExample.same_for_both(Pair(photo(i // 6), SENTENCES[i % 3], SENTENCES[4 + i % 4])) for i in range(12)
    ]
    with torch.no_grad():
        assert torch.allclose(PackedScorer(base).divergence(lessons), PaddedScorer(base).divergence(lessons), atol=1e-5)


def test_rows_of_a_group_must_share_their_image() -> None:
    rows = [Row(torch.tensor([1, 7, image, 9, 9]), torch.arange(5)[None], 4, 3) for image in (3, 4)]
    with pytest.raises(ValueError, match="share their image"):
        pack([rows])


@settings(max_examples=15)
@given(st.integers(1, 1100), st.integers(0, 99))
def test_head_and_divergence_in_one_are_the_two_in_turn(tokens: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(37, 8, generator=generator)
    teacher = torch.randn(tokens, 8, generator=generator)
    first = torch.randn(tokens, 8, generator=generator, requires_grad=True)
    second = first.detach().clone().requires_grad_()
    factors = torch.randn(tokens, generator=generator)
    fused = linear_kl(first, teacher, weight)
    plain = token_kl((teacher @ weight.T)[None], (second @ weight.T)[None])[0]
    (fused * factors).sum().backward()
    (plain * factors).sum().backward()
    assert torch.allclose(fused, plain, atol=1e-5, rtol=1e-4)
    assert torch.allclose(first.grad, second.grad, atol=1e-5, rtol=1e-4)


@settings(max_examples=15)
@given(st.integers(1, 1100), st.integers(0, 99))
def test_head_and_log_probability_in_one_are_the_two_in_turn(tokens: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(37, 8, generator=generator)
    ids = torch.randint(37, (tokens,), generator=generator)
    first = torch.randn(tokens, 8, generator=generator, requires_grad=True)
    second = first.detach().clone().requires_grad_()
    factors = torch.randn(tokens, generator=generator)
    fused = linear_log_probability(first, ids, weight)
    plain = token_log_probability(second @ weight.T, ids)
    (fused * factors).sum().backward()
    (plain * factors).sum().backward()
    assert torch.allclose(fused, plain, atol=1e-5, rtol=1e-4)
    assert torch.allclose(first.grad, second.grad, atol=1e-5, rtol=1e-4)
