"""VGID with aliases pinned: against sums written out a token at a time, and by what must not change them."""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import pytest
import torch
from pydantic import ValidationError
from torch.nn.utils import get_total_norm

from tests.vgid_core.test_distil import scrambled_adapter
from tests.vgid_core.test_encoding import plain_logits
from tests.vgid_core.test_methods import PATHS, MakePath, both_paths
from tests.vgid_core.tiny import pair_set
from vgid_core.config import UnlearnConfig
from vgid_core.config.methods import VgidAlias
from vgid_core.data.examples import DistillExample
from vgid_core.data.pairs import Pair, PairSet
from vgid_core.losses.fused_linear import linear_kl_and_logprob
from vgid_core.losses.token_losses import token_kl_of_top_k, token_log_probability
from vgid_core.losses.top_k import TopKDistribution
from vgid_core.methods import setup
from vgid_core.methods.base import MethodContext
from vgid_core.methods.vgid_alias.aliases import Aliases
from vgid_core.methods.vgid_alias.next_best import NextBest, Untold
from vgid_core.methods.vgid_alias.strangers import Strangers
from vgid_core.methods.vgid_alias.teaching import AliasTeacher, Hearing
from vgid_core.models.base import BaseModel
from vgid_core.scoring.packed.scorer import PackedScorer
from vgid_core.scoring.padded import decoded
from vgid_core.scoring.scorer import Scorer
from vgid_core.training.loop import distil
from vgid_core.training.step import BatchLoss, Distiller

RETAIN = pair_set("retain", 6, first_picture=50)
# Two of them share an answer, with a name in several tokens that nobody of the retain set bears.
FORGET = PairSet.of(
    "forget",
    [
        *pair_set("forget", 5),
        *(replace(pair, answer="This is Bor Quazwick.") for pair in pair_set("more", 2, first_picture=30)),
    ],
)


def config(method: dict[str, object] | None = None, **training: object) -> UnlearnConfig:
    values = {"steps": 4, "forget_batch_size": 4, "retain_batch_size": 4, "learning_rate": 3e-3} | training
    # A small share: the tiny sets have few different answers, of which many tokens would be common.
    settings = {"name": "vgid-alias", "draws": 3, "common_share": 0.3} | (method or {})
    return UnlearnConfig.model_validate({"method": settings, "training": values, "device": "cpu", "seed": 5})


def run_of(base: BaseModel, path: Scorer, settings: UnlearnConfig) -> MethodContext:
    return MethodContext(base, path, settings.training, settings.seed, FORGET, RETAIN)


def method_of(settings: UnlearnConfig) -> VgidAlias:
    assert isinstance(settings.method, VgidAlias)
    return settings.method


def taught(base: BaseModel, path: Scorer, settings: UnlearnConfig) -> list[list[Hearing]]:
    method = method_of(settings)
    return AliasTeacher(method, run_of(base, path, settings), settings.seed).draws(FORGET.pairs, method.draws)


def strangers_of(base: BaseModel, path: Scorer, settings: UnlearnConfig) -> Strangers:
    return Strangers(method_of(settings), run_of(base, path, settings))


def probabilities(base: BaseModel, hearing: Hearing) -> torch.Tensor:
    """What the base says where it is asked about each token: [answer tokens, vocabulary], each form a row by itself."""
    lesson = hearing.lesson
    logits = [
        plain_logits(base, decoded(lesson.teacher_image), lesson.asked, list(form)) for form in hearing.alias.forms
    ]
    rows = [logits[form][index] for index, form in enumerate(hearing.alias.asked)]
    return torch.softmax(torch.stack(rows).double(), 1)


def guesses(base: BaseModel, hearing: Hearing, aliases: Aliases, temperature: float) -> torch.Tensor:
    """What the base says after an answer's true beginning, without what no guess may say there."""
    lesson = hearing.lesson
    forgotten, kept = (
        {token for pair in pairs for token in base.encoder.answer_ids(pair.answer)} for pairs in (FORGET, RETAIN)
    )
    untold = NextBest(base.encoder, 1.0, Untold(aliases.telling, forgotten, kept)).untold
    ids = base.encoder.answer_ids(lesson.pair.answer)
    logits = plain_logits(base, decoded(lesson.teacher_image), lesson.asked, ids).double()
    for index in range(len(ids)):
        logits[index, untold(ids, index)] = -torch.inf
    return torch.softmax(logits / temperature, 1)


def levels_of(
    base: BaseModel,
    drawn: list[list[Hearing]],
    said: list[list[torch.Tensor]],
    e: float,
    first: float | None,
    spread: float,
) -> list[list[float]]:
    """Each forget pair's, from all that teachers said of all of them: by definition, one token after the other."""
    heard: dict[tuple[int, ...], list[float]] = {}
    ids = [base.encoder.answer_ids(pair.answer) for pair in FORGET]

    def found(index: int, t: int) -> list[float]:
        return [float(teacher[index][t, ids[index][t]]) for teacher in said]

    def aliased(index: int, t: int) -> bool:
        return any(lessons[index].alias.replaced_before(ids[index])[t] for lessons in drawn)

    for index, tokens in enumerate(ids):
        for t in range(len(tokens)):
            if aliased(index, t):
                heard.setdefault(tuple(tokens[: t + 1]), []).extend(found(index, t))

    def level(index: int, t: int) -> float:
        values = heard[tuple(ids[index][: t + 1])] if aliased(index, t) else found(index, t)
        if among_others(ids[index])[t] and (t or first is None):
            return sum(map(math.log, values)) / len(values)
        power = first if t == 0 and first is not None else e
        return math.log((sum(value**power for value in values) / len(values)) ** (1 / power))

    aliases = aliases_of(base)
    among_others = aliases.among_others
    alone = {
        tuple(tokens[: t + 1]): level(index, t)
        for index, tokens in enumerate(ids)
        for t, only in enumerate(aliases.only_theirs(tokens))
        if only and aliased(index, t)
    }
    centre = sum(alone.values()) / len(alone)

    def apart(index: int, t: int) -> float:
        found, begun = level(index, t), tuple(ids[index][: t + 1])
        return min(centre + spread * (found - centre), max(found, math.log(0.25))) if begun in alone else found

    return [[apart(index, t) for t in range(len(tokens))] for index, tokens in enumerate(ids)]


def with_token_prob(target: torch.Tensor, token: int, level: float) -> torch.Tensor:
    """The same distribution, [vocabulary], if the token were as likely in it as its level says."""
    others = target.clone()
    others[token] = 0.0
    others *= (1 - math.exp(level)) / others.sum()
    others[token] = math.exp(level)
    return others


def aliases_of(base: BaseModel) -> Aliases:
    kept = [base.encoder.answer_ids(answer) for answer in sorted({pair.answer for pair in RETAIN})]
    return Aliases(kept, 0.3, 0)


@pytest.mark.parametrize("guess", [True, False])
@both_paths
def test_both_parts_of_the_loss(base: BaseModel, path: MakePath, guess: bool) -> None:
    first_exponent = None if guess else -0.8
    own = {"level_exponent": 0.6, "first_exponent": first_exponent, "level_spread": 1.7, "guesses": guess}
    own |= {"next_best_temperature": 0.7, "likelihood_weight": 0.5}
    settings, made = config(own), path(base)
    student = scrambled_adapter(base)
    divergence = likelihood = 0.0
    count, guessed_at, answers = 0, 0, [pair.answer for pair in FORGET]
    aliases = aliases_of(base)
    only_theirs = aliases.only_theirs
    drawn = taught(base, made, settings)
    with student.disable_adapter():
        said = [[probabilities(base, hearing) for hearing in each] for each in drawn]
        guessed = [[guesses(base, hearing, aliases, 0.7) for hearing in each] for each in drawn]
    levels = levels_of(base, drawn, said, 0.6, first_exponent, 1.7 if guess else 1.0)
    for index, pair in enumerate(FORGET):
        ids = base.encoder.answer_ids(pair.answer)
        q = torch.softmax(plain_logits(base, pair.image.decode(), pair.question, ids).double(), 1)
        first = answers.index(pair.answer)
        heard = ((said, index), (said, first), (guessed, first))
        own, firsts, inside = (sum(each[i] for each in of) / 3 for of, i in heard)
        for t, token in enumerate(ids):
            target = inside[t] if guess and only_theirs(ids)[t] else firsts[t] if t else own[t]
            target = target if guess else agreeing(target, token, levels[index][t])
            guessed_at += only_theirs(ids)[t]
            divergence += float(torch.special.xlogy(target, target / q[t]).sum())
            off = math.log(float(q[t, token])) - levels[index][t]
            likelihood += off * off / 2 if abs(off) <= 1 else abs(off) - 0.5
            count += 1
    assert guessed_at, "some names have more than one token"
    result = first_update(made, base, student, settings)
    assert result.losses[0] == pytest.approx((divergence / count, likelihood / count), rel=1e-4)


def first_update(
    path: Scorer, base: BaseModel, student: torch.nn.Module, settings: UnlearnConfig, batch: PairSet = FORGET
) -> BatchLoss:
    student.zero_grad()
    forget, _ = setup(settings.method, run_of(base, path, settings))(batch.pairs, RETAIN.pairs)
    return Distiller(path, student, settings).accumulate(forget)


def test_micro_batches_change_neither_loss_nor_gradient(base: BaseModel) -> None:
    student, norms, losses = scrambled_adapter(base), [], []
    for size in (1, 2, 16):
        settings = config(micro_batch_size=size)  # a batch of three: two others are met with them
        batch = PairSet.of("batch", FORGET.pairs[:3])
        losses.append(first_update(PackedScorer(base), base, student, settings, batch).losses[0])
        norms.append(float(get_total_norm([p.grad for p in student.parameters() if p.grad is not None])))
    assert losses[1:] == [pytest.approx(losses[0], rel=1e-4)] * 2
    assert norms[1:] == [pytest.approx(norms[0], rel=1e-4)] * 2


@pytest.mark.parametrize("kind", ["uniform", "blank"])
def test_teachers_are_asked_once_and_the_path_keeps_none_of_it(base: BaseModel, kind: str) -> None:
    settings, path = config({"perturbation": {"kind": kind}}), CountingPath(base)
    strangers = strangers_of(base, path, settings)
    strangers.meet([*FORGET.pairs, *FORGET.pairs[:2]])
    first, levels, asked = strangers.targets(FORGET.pairs), strangers.levels(FORGET.pairs), path.asked
    strangers.meet(FORGET.pairs)
    assert torch.equal(strangers.targets(FORGET.pairs).probabilities, first.probabilities)
    assert torch.equal(strangers.levels(FORGET.pairs), levels)
    assert path.asked == asked == forms(base, path, settings)
    assert path.kept == 0


def test_a_begun_answer_goes_on_alike_for_all_who_share_it(base: BaseModel) -> None:
    alike = [replace(pair, answer=FORGET.pairs[0].answer) for pair in FORGET.pairs[:3]]
    strangers = strangers_of(base, PackedScorer(base), config(steps=1))
    strangers.meet(alike[:1])
    strangers.meet(alike[1:])
    one, *others = strangers.targets(alike).split([len(base.encoder.answer_ids(alike[0].answer))] * 3)
    for other in others:
        assert torch.equal(one.probabilities[1:], other.probabilities[1:])
        assert not torch.equal(one.probabilities[0], other.probabilities[0]), "whether to answer is a pair's own affair"


def test_without_guesses_true_tokens_are_as_likely_in_targets_as_their_levels_say(base: BaseModel) -> None:
    strangers = strangers_of(base, PackedScorer(base), config({"guesses": False}))
    strangers.meet(FORGET.pairs)
    said = strangers.targets(FORGET.pairs).whole(base.encoder.vocabulary)
    true = torch.tensor([token for pair in FORGET for token in base.encoder.answer_ids(pair.answer)])
    assert torch.allclose(said.gather(1, true[:, None])[:, 0].log(), strangers.levels(FORGET.pairs), atol=1e-4)


def test_guesses_tell_nothing_that_only_the_forget_set_has(base: BaseModel) -> None:
    strangers = strangers_of(base, PackedScorer(base), config())
    strangers.meet(FORGET.pairs)
    ids = base.encoder.answer_ids
    forgotten, kept = ({token for pair in pairs for token in ids(pair.answer)} for pairs in (FORGET, RETAIN))
    only_forgotten, guessed = torch.tensor(sorted(forgotten - kept)), 0
    for pair in FORGET:
        said = strangers.targets([pair]).whole(base.encoder.vocabulary)
        inside = torch.tensor(aliases_of(base).only_theirs(ids(pair.answer)))
        assert not said[inside][:, only_forgotten].any()
        guessed += int(inside.sum())
    assert guessed
    assert len(only_forgotten)


def test_levels_are_by_all_that_were_met_until_then_in_whatever_parts(base: BaseModel) -> None:
    settings, found = config(steps=1), []
    alike = [replace(pair, answer=FORGET.pairs[0].answer) for pair in FORGET.pairs[:4]]
    for _ in range(2):
        strangers = strangers_of(base, PackedScorer(base), settings)
        strangers.meet(alike[:2])
        early = strangers.levels(alike[:1])
        strangers.meet(alike[2:])
        found.append((early, strangers.levels(alike)))
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True)), "the same when it comes again"
    early, late = found[0]
    assert not torch.equal(early, late[: len(early)])
    ends = late.view(4, -1)[:, -1].tolist()
    assert ends == ends[:1] * 4, "after an alias they share what was said of any of them"


def test_others_are_met_along_with_a_batch_where_the_run_will_need_them(base: BaseModel) -> None:
    whole = config()
    for settings, met in ((whole, len(FORGET)), (config(steps=1), 4)):
        path = CountingPath(base)
        strangers_of(base, path, settings).meet(FORGET.pairs[:4])
        assert path.asked == forms(base, path, settings, met)


def forms(base: BaseModel, path: Scorer, settings: UnlearnConfig, pairs: int = len(FORGET)) -> int:
    """What teachers hear of so many of the first pairs: aliases, and answers with what nobody else has as they are."""
    drawn, only_theirs = taught(base, path, settings), aliases_of(base).only_theirs
    answers = {pair.answer for pair in FORGET.pairs[:pairs]}
    as_they_are = sum(any(only_theirs(path.answer_ids(answer))) for answer in answers)
    return len(drawn) * as_they_are + sum(len(hearing.alias.forms) for each in drawn for hearing in each[:pairs])


class CountingPath(PackedScorer):
    asked = 0

    def teacher_logits(self, lessons: Sequence[DistillExample]) -> torch.Tensor:
        self.asked += len(lessons)
        return super().teacher_logits(lessons)

    @property
    def kept(self) -> int:
        return len(self._targets._kept)


def test_imitation_without_whole_logits_gives_the_same_values_and_gradients() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(50, 12, generator=generator)
    target = TopKDistribution.of(torch.randn(700, 50, generator=generator).softmax(-1), most=20)
    states = torch.randn(700, 12, generator=generator)
    ids = torch.randint(50, (700,), generator=generator)
    ours, theirs = (states.clone().requires_grad_() for _ in range(2))
    fused = linear_kl_and_logprob(ours, target, ids, weight)
    logits = theirs @ weight.T
    whole = token_kl_of_top_k(target, logits), token_log_probability(logits, ids)
    for found, expected in zip(fused, whole, strict=True):
        assert torch.allclose(found, expected, atol=1e-5)
    for one, other in (fused, whole):
        (one.sum() + 0.7 * (other * other).sum()).backward()
    assert ours.grad is not None
    assert theirs.grad is not None
    assert torch.allclose(ours.grad, theirs.grad, atol=1e-4)


def test_imitating_what_one_teacher_says_is_the_divergence_from_that_teacher(base: BaseModel) -> None:
    pair = FORGET.pairs[0]
    lesson = DistillExample(pair, pair.image, "Who?", tuple(base.encoder.answer_ids(pair.answer)))
    scrambled_adapter(base)
    for make in PATHS:
        path = make(base)
        target = TopKDistribution.of(path.teacher_logits([lesson]).softmax(-1))
        divergence, likelihood = path.kl_and_logprob([pair], target)
        assert torch.allclose(divergence, path.divergence([lesson]), atol=1e-5)
        assert torch.allclose(likelihood, path.student_log_probability([pair]), atol=1e-5)


def test_likelihoods_end_near_the_levels_from_either_side(base: BaseModel) -> None:
    settings = config({"likelihood_weight": 5.0, "draws": 16}, steps=60, learning_rate=1e-2, retain_weight=0.0)
    path = PackedScorer(base)
    strangers = strangers_of(base, path, settings)
    strangers.meet(FORGET.pairs)
    target = strangers.levels(FORGET.pairs)
    before = off_by(path, FORGET.pairs, target)
    distil(base, FORGET, RETAIN, settings)
    assert off_by(PackedScorer(base), FORGET.pairs, target) < 0.5 * before


def off_by(path: Scorer, pairs: Sequence[Pair], target: torch.Tensor) -> float:
    with torch.no_grad():
        return float((path.student_log_probability(pairs) - target).abs().mean())


def test_a_retain_set_that_offers_no_aliases_is_told(base: BaseModel, caplog: pytest.LogCaptureFixture) -> None:
    settings, alike = config(), PairSet.of("retain", [replace(pair, answer="The shirt is teal.") for pair in RETAIN])
    run = replace(run_of(base, PackedScorer(base), settings), retain=alike)
    setup(settings.method, run)
    assert any("too little to make aliases of" in record.message for record in caplog.records)


def test_teachers_are_asked_smaller_parts_where_memory_does_not_suffice(base: BaseModel) -> None:
    found = []
    for path in (PackedScorer(base), SmallMemory(base)):
        strangers = strangers_of(base, path, config())
        strangers.meet(FORGET.pairs)
        whole = strangers.targets(FORGET.pairs).whole(base.model.get_output_embeddings().out_features)
        found.append((strangers.levels(FORGET.pairs), whole))
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, atol=1e-4)


def test_a_process_that_shares_the_base_does_not_try_again_alone(base: BaseModel) -> None:
    shared = replace(base, sharded=True)
    with pytest.raises(torch.OutOfMemoryError):
        strangers_of(shared, SmallMemory(base), config()).meet(FORGET.pairs)


class SmallMemory(PackedScorer):
    def teacher_logits(self, lessons: Sequence[DistillExample]) -> torch.Tensor:
        if len(lessons) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return super().teacher_logits(lessons)


def test_teachers_that_are_asked_once_see_no_strength_that_changes() -> None:
    with pytest.raises(ValidationError, match="final_strength"):
        config({"perturbation": {"kind": "gaussian", "strength": 0.2, "final_strength": 1.0}})


def test_targets_of_which_much_is_left_out_are_told_of_once(
    base: BaseModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    strangers_of(base, PackedScorer(base), config()).meet(FORGET.pairs)
    assert "likeliest tokens" not in caplog.text, "so small a vocabulary is kept whole"
    monkeypatch.setattr(TopKDistribution, "of", partial(TopKDistribution.of, most=2))
    strangers = strangers_of(base, PackedScorer(base), config())
    strangers.meet(FORGET.pairs[:2])
    strangers.meet(FORGET.pairs[2:])
    assert caplog.text.count("targets are kept as their 2 likeliest tokens") == 1
