"""Packed rows give the losses and gradients of separate rows, on two families."""

import random
from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.vgid_core.support.tiny import SENTENCES
from tests.vgid_core.support.two_families import photo, text
from vgid_core import Pair
from vgid_core.data.examples import DistillExample
from vgid_core.losses.top_k import TopKDistribution
from vgid_core.models.base import BaseModel
from vgid_core.scoring.packed.scorer import PackedScorer
from vgid_core.scoring.padded import PaddedScorer


def noise(number: int) -> Image.Image:
    return photo(100 + number).decode()


item = st.tuples(st.integers(0, 3), text, text, st.booleans())


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(item, min_size=1, max_size=7))
def test_losses_and_gradients_are_those_of_separate_rows(
    student: tuple[BaseModel, torch.nn.Module], items: list[tuple[int, str, str, bool]]
) -> None:
    base, adapted = student
    shared = noise(0)
    examples = []
    for number, question, answer, forget in items:
        pair = Pair(photo(number), question, answer)
        examples.append(
            DistillExample(pair, shared, f"Forget. {question}") if forget else DistillExample.same_for_both(pair)
        )
    found = []
    for scorer in (PaddedScorer(base), PackedScorer(base)):
        adapted.zero_grad()
        values = scorer.divergence(examples)
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
def test_kl_to_a_target_and_teacher_logits_are_those_of_separate_rows(
    student: tuple[BaseModel, torch.nn.Module], items: list[tuple[int, str, str, bool]], kept: int, seed: int
) -> None:
    """The teacher's image is noise or the pair's own, and its prefix random tokens."""
    base, adapted = student
    rng = random.Random(seed)
    words = base.encoder.answer_ids(" ".join(SENTENCES))[:-1]
    examples = []
    for number, question, answer, own in items:
        pair = Pair(photo(number), question, answer)
        prefix = tuple(rng.choices(words, k=len(base.encoder.answer_ids(answer))))
        examples.append(DistillExample(pair, pair.image if own else noise(0), question, prefix))
    pairs = [example.pair for example in examples]
    target = TopKDistribution.from_probabilities(PaddedScorer(base).teacher_logits(examples).softmax(-1), kept)
    found = []
    for scorer in (PaddedScorer(base), PackedScorer(base)):
        adapted.zero_grad()
        divergence, likelihood = scorer.kl_and_logprob(pairs, target)
        (divergence.mean() + 0.3 * likelihood.square().mean()).backward()
        gradients = [p.grad.clone() for p in adapted.parameters() if p.grad is not None]
        found.append((scorer.teacher_logits(examples), divergence.detach(), likelihood.detach(), *gradients))
    for plain, packed in zip(*found, strict=True):
        assert float((packed - plain).abs().max()) <= 2e-5 * max(1e-3, float(plain.abs().max()))


def test_log_probabilities_and_layers_are_those_of_separate_rows(student: tuple[BaseModel, torch.nn.Module]) -> None:
    base, adapted = student
    pairs = [Pair(photo(i // 2), SENTENCES[i % 3], SENTENCES[4 + i % 4]) for i in range(5)]
    examples = [DistillExample(pair, noise(0), f"Forget. {pair.question}") for pair in pairs]
    found = []
    for scorer in (PaddedScorer(base), PackedScorer(base)):
        adapted.zero_grad()
        mine, states = scorer.student_log_probability(pairs), scorer.student_states(pairs, 0)
        divergence, moved = scorer.divergence_and_movement(examples)
        (mine.sum() + states.square().mean() + moved.mean()).backward()
        assert torch.allclose(divergence, scorer.divergence(examples), atol=1e-5)
        theirs = [scorer.teacher_log_probability(examples), scorer.teacher_states(examples, 0)]
        gradients = [p.grad for p in adapted.parameters() if p.grad is not None]
        found.append([mine.detach(), states.detach(), moved.detach(), *theirs, *gradients])
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, atol=1e-5 * max(1.0, float(one.abs().max())))


# torch 2.13's tracer reads .grad of activations itself, and makes instances of autograd functions
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.filterwarnings("ignore:.*Function'> should not be instantiated:DeprecationWarning")
def test_compiled_layers_give_the_same_and_share_one_compilation(
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
    examples = [DistillExample(pair, noise(0), pair.question) for pair in pairs]
    adapted.zero_grad()
    values = compiled.divergence(examples)
    values.mean().backward()
    assert torch.allclose(values, PaddedScorer(base).divergence(examples), atol=1e-5)
    assert all(p.grad is not None for name, p in adapted.named_parameters() if ".lora_B." in name)
    many = len(graphs)
    assert 0 < many <= 4, "teacher, student, and the student's first layer, whose input needs no gradient"
    compiled.divergence(examples)
    assert len(graphs) == many
    assert not any("forward" in vars(layer) for layer in base.model.get_decoder().layers), "generation stays eager"


def test_teacher_states_of_retain_examples_are_computed_once(student: tuple[BaseModel, torch.nn.Module]) -> None:
    base, _ = student
    scorer = PackedScorer(base)
    calls = []
    decoder = base.model.get_decoder()
    handle = decoder.register_forward_hook(lambda _module, _given, _out: calls.append(1))
    examples = [DistillExample.same_for_both(Pair(photo(i), SENTENCES[i], SENTENCES[4 + i])) for i in range(3)]
    first = scorer.divergence(examples)
    second = scorer.divergence(examples)
    assert torch.allclose(first, second, atol=1e-6)
    handle.remove()
    assert len(calls) == 3, "teacher and student, then the student alone"


@pytest.mark.parametrize("most", [1, 40, 10_000])
def test_splitting_long_groups_changes_nothing(
    student: tuple[BaseModel, torch.nn.Module], most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, _adapted = student
    monkeypatch.setattr("vgid_core.scoring.packed.model.MAX_DENSE_GROUP", most)
    examples = [
        DistillExample.same_for_both(Pair(photo(i // 6), SENTENCES[i % 3], SENTENCES[4 + i % 4])) for i in range(12)
    ]
    with torch.no_grad():
        assert torch.allclose(
            PackedScorer(base).divergence(examples), PaddedScorer(base).divergence(examples), atol=1e-5
        )
