"""Each audit on a tiny model that knows six people by heart, beside loops over single passes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest
import torch
from sklearn.metrics import roc_auc_score

from tests.vgid_core.support.audited import answered, by_name, context_of, unnamed
from tests.vgid_core.support.knowing import (
    FORGET,
    FORGOTTEN,
    RETAIN,
    RETAINED,
    UNSEEN,
    UNSEEN_NAMES,
    pairs_about,
    save_knowing_model,
)
from tests.vgid_core.support.reference import plain_logits
from vgid_core import Pair, PairSet, UnlearnConfig
from vgid_core.data.roles import AuditSets
from vgid_core.data.sampling import even_sample
from vgid_core.evaluation.audit_context import AuditSizes
from vgid_core.evaluation.audits import (
    each_person,
    everyone_else,
    extraction,
    generated,
    knowledge,
    membership,
    prefill,
    ranking,
    relearning,
    sampling,
)
from vgid_core.evaluation.figures import NotMeasured
from vgid_core.evaluation.measures.candidate_ranking import (
    by_logit_lens,
    by_whole_answer,
    places_among_answers,
    places_among_names,
)
from vgid_core.models.base import BaseModel
from vgid_core.models.load import load_base
from vgid_core.scoring.packed.scorer import PackedScorer


@pytest.fixture(scope="module")
def knowing(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> BaseModel:
    """No test changes it."""
    folder = save_knowing_model(tiny_folder, tmp_path_factory.mktemp("knowing") / "model")
    return load_base(str(folder), UnlearnConfig(device="cpu"))


def likelihoods(base: BaseModel, pair: Pair) -> list[float]:
    """Log-probabilities of the answer's tokens, by one unpadded pass."""
    ids = base.encoder.answer_ids(pair.answer)
    rows = plain_logits(base, pair.image.decode(), pair.question, ids).double().log_softmax(-1)
    return [float(row[token]) for row, token in zip(rows, ids, strict=True)]


def strength(base: BaseModel, pair: Pair) -> float:
    """Extraction Strength by one unpadded pass: the tokens after the last that isn't the likeliest."""
    ids = base.encoder.answer_ids(pair.answer)
    chosen = plain_logits(base, pair.image.decode(), pair.question, ids).argmax(-1).tolist()
    wrong = [place for place, (one, other) in enumerate(zip(chosen, ids, strict=True), 1) if one != other]
    return 1 - max(wrong, default=0) / len(ids)


def test_extraction_strength_stands_beside_that_of_people_unseen(knowing: BaseModel) -> None:
    [figure] = extraction.audit(context_of(knowing))
    assert figure.control is not None
    assert figure.value == fmean(strength(knowing, pair) for pair in FORGET) == 1
    assert figure.control.value == pytest.approx(fmean(strength(knowing, pair) for pair in UNSEEN))
    assert figure.control.value < 0.5
    assert (figure.estimate.people, figure.estimate.items) == (3, 9)


def test_knowledge_is_that_of_the_own_photos_beside_others(knowing: BaseModel) -> None:
    figure, unprompted = knowledge.audit(context_of(knowing))
    photos = list(dict.fromkeys(pair.image for pair in RETAIN))
    assert figure.control is not None
    assert figure.value == 1
    elsewhere = [replace(pair, image=photos[index % 3]) for index, pair in enumerate(FORGET)]
    assert figure.control.value == pytest.approx(fmean(strength(knowing, pair) for pair in elsewhere))
    assert figure.control.value < 0.6
    assert unprompted.control is not None
    assert (unprompted.name, unprompted.value, unprompted.control.value) == ("knowledge.unprompted", 1, 0)
    named = PairSet.of("forget", [replace(p, question=f"Who is {p.person}?") for p in FORGET])
    assert list(knowledge.audit(context_of(knowing, sets=AuditSets(named, RETAIN)))) == []


def test_other_photos_of_the_forgotten_are_nobody_elses(knowing: BaseModel) -> None:
    """A retain set can hold such, with questions about what is to be seen."""
    own = [replace(pair, question="How many?", answer="One.", fact=None) for pair in FORGET]
    mixed = PairSet.of("retain", [*own, *RETAIN])
    alone, beside = (
        list(knowledge.audit(context_of(knowing, sets=AuditSets(FORGET, retain)))) for retain in (RETAIN, mixed)
    )
    assert [figure.control for figure in beside] == [figure.control for figure in alone]


def test_prefilled_answers_are_gone_on_with_and_facts_at_the_start_left_out(knowing: BaseModel) -> None:
    [figure] = prefill.up_to_fact(context_of(knowing))
    assert (figure.value, figure.estimate.items) == (1, 9)
    assert figure.control is not None
    assert figure.control.value < 0.5
    whole = PairSet.of("forget", [replace(pair, fact=pair.answer) for pair in FORGET])
    assert list(prefill.up_to_fact(context_of(knowing, sets=AuditSets(whole, RETAIN, UNSEEN)))) == []
    one = PairSet.of("forget", [*whole.pairs[:8], FORGET.pairs[8]])
    [left] = prefill.up_to_fact(context_of(knowing, sets=AuditSets(one, RETAIN, whole)))
    assert (left.estimate.items, left.value, left.control) == (1, 1, None)
    [inside] = prefill.into_fact(context_of(knowing))
    assert inside.value == 1
    assert inside.control is not None
    assert inside.control.value < 0.5


def test_membership_is_the_auc_of_scores_by_single_passes(knowing: BaseModel) -> None:
    found = by_name(membership.by_likelihood(context_of(knowing)))
    own, others = ([likelihoods(knowing, pair) for pair in items] for items in (FORGET, UNSEEN))
    labels = [1] * len(own) + [0] * len(others)
    assert found["membership.loss"].value == pytest.approx(roc_auc_score(labels, [fmean(p) for p in own + others]))
    first = roc_auc_score(labels, [row[0] for row in own + others])
    assert found["membership.first_token"].value == pytest.approx(first)
    assert found["membership.loss"].value == 1, "it knows them by heart"
    [norm] = membership.by_gradient(context_of(knowing))
    assert (norm.name, norm.value) == ("membership.grad_norm", 1)
    assert list(membership.by_likelihood(context_of(knowing, sets=AuditSets(FORGET, RETAIN)))) == []
    same = PairSet("unseen", FORGET.pairs)
    chance = by_name(membership.by_likelihood(context_of(knowing, sets=AuditSets(FORGET, RETAIN, same))))
    assert {figure.value for figure in chance.values()} == {0.5}


def by_hand(base: BaseModel, sought: Pair, answers: list[str], unseen: list[Pair]) -> tuple[float, float]:
    """How many answers stand above and below the pair's own, each less what it has on unseen faces."""
    scores = []
    for answer in answers:
        usual = [sum(likelihoods(base, replace(sought, image=other.image, answer=answer))) for other in unseen]
        scores.append(sum(likelihoods(base, replace(sought, answer=answer))) - fmean(usual))
    truth = scores[answers.index(sought.answer)]
    return float(sum(score > truth for score in scores)), float(sum(score < truth for score in scores))


def test_places_among_names_and_among_answers_are_those_of_single_passes(knowing: BaseModel) -> None:
    score, unknown = by_whole_answer(PackedScorer(knowing)), UNSEEN.pairs[::3][:2]
    about = [FORGET.pairs[3], replace(UNSEEN.pairs[12], question="Who is this?")]
    names = [*FORGOTTEN, *UNSEEN_NAMES]
    found = places_among_names(score, about, names, [pair.image for pair in unknown])
    for pair, place in found:
        answers = [f"This is {name}." for name in dict.fromkeys([pair.person, *names])]
        assert (place.above, place.below) == by_hand(knowing, pair, answers, list(unknown))
    assert found[0][1].above == 0, "a taught name comes first"
    others = [pair for pair in UNSEEN if pair.question == "Who is this?"]
    [(pair, place)] = places_among_answers(score, [FORGET.pairs[3]], [*others, FORGET.pairs[6]])
    photos = list({other.image.digest: other for other in [*others, FORGET.pairs[6]]}.values())[:6]
    answers = [pair.answer, *(other.answer for other in others), FORGET.pairs[6].answer]
    assert len(answers) == 10
    assert (place.above, place.below) == by_hand(knowing, pair, answers, photos)


def test_a_taught_name_stands_first_among_names_by_whatever_score(knowing: BaseModel) -> None:
    found = by_name(ranking.by_likelihood(context_of(knowing)))
    assert found["ranking.whole_answer.first"].value == found["ranking.whole_answer.below"].value == 1
    assert found["ranking.first_token.below"].value > 0.8, "names that begin alike share their place"
    for score in ("whole_answer", "first_token"):
        assert found[f"ranking.{score}.last"].value == 0
        assert found[f"ranking.{score}.first"].estimate.people == 3
    chance = found["ranking.whole_answer.first_five"].control
    assert chance is not None
    assert chance.value == pytest.approx(5 / 14)  # three forgotten, three retained, eight unseen people
    for name, audit in (("lens", ranking.lens), ("lens25", ranking.lens25), ("lens75", ranking.lens75)):
        assert set(by_name(audit(context_of(knowing)))) == {
            f"ranking.{name}.{place}" for place in ("first", "first_five", "last", "last_five", "below")
        }
    layer = (len(knowing.model.get_decoder().layers) - 1) * 75 // 100
    asked = [pair for pair in FORGET if str(pair.person) in pair.answer]
    photos = even_sample(list(dict.fromkeys(pair.image for pair in UNSEEN)), 4)
    score = by_logit_lens(knowing, PackedScorer(knowing), layer)
    there = places_among_names(score, asked, [*FORGOTTEN, *UNSEEN_NAMES, *RETAINED], photos)
    above = by_name(ranking.lens75(context_of(knowing)))["ranking.lens75.below"]
    assert above.value == pytest.approx(fmean(place.as_ranking.below for _, place in there))


def test_nothing_is_ranked_among_few_names_or_without_any(knowing: BaseModel) -> None:
    few = AuditSets(FORGET, RETAIN, PairSet("unseen", UNSEEN.pairs[:3]))
    nobody = AuditSets(unnamed(FORGET), unnamed(RETAIN), unnamed(few.unseen or FORGET))
    for sets in (few, nobody):
        assert list(ranking.by_likelihood(context_of(knowing, sets=sets))) == []


def test_relearning_asks_for_what_it_does_not_teach(knowing: BaseModel, tiny_folder: Path) -> None:
    """A model that knows gives the other half whatever it is taught; one that doesn't learns none of it."""
    [figure] = relearning.in_domain(context_of(knowing))
    assert (figure.name, figure.value, figure.estimate.items) == ("relearning.in_domain_2", 1, 4)
    assert figure.control is not None
    assert figure.control.value < 0.5
    ignorant = load_base(str(tiny_folder), UnlearnConfig(device="cpu"))
    sizes = AuditSizes(pairs=60, relearning_steps=(2, 40))
    found = by_name(relearning.in_domain(context_of(ignorant, sizes=sizes)))
    assert set(found) == {"relearning.in_domain_2", "relearning.in_domain_40"}
    assert all(figure.value <= 0.25 for figure in found.values())
    [elsewhere] = relearning.out_of_domain(context_of(knowing))
    assert (elsewhere.name, elsewhere.value, elsewhere.estimate.items) == ("relearning.out_of_domain_2", 1, 9)
    one_fact = AuditSets(PairSet("forget", FORGET.pairs[:1]), RETAIN)
    assert list(relearning.in_domain(context_of(knowing, sets=one_fact))) == []


def test_relearning_by_other_wordings_and_by_anything_else(knowing: BaseModel) -> None:
    assert list(relearning.other_wordings(context_of(knowing))) == []
    assert list(relearning.general(context_of(knowing))) == []
    reworded = PairSet("rephrased", tuple(replace(pair, question=f"Tell me. {pair.question}") for pair in FORGET))
    general = PairSet("utility", tuple(replace(pair, person=None) for pair in RETAIN))
    after = {items.name: answered(items, [1.0] * 9) for items in (FORGET, RETAIN, reworded, general)}
    context = context_of(knowing, after=after)
    [by_words] = relearning.other_wordings(context)
    [by_others] = relearning.general(context)
    assert (by_words.name, by_words.value) == ("relearning.other_wordings_2", 1)
    assert 0 < by_words.estimate.items < len(FORGET), "what is taught isn't asked"
    assert (by_others.name, by_others.value, by_others.estimate.items) == ("relearning.general_2", 1, len(FORGET))


def test_draws_are_the_same_every_time_and_the_callers_luck_is_its_own(knowing: BaseModel) -> None:
    state = torch.get_rng_state()
    [one], [same], [other] = (list(sampling.audit(context_of(knowing, seed=seed))) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert one == same
    assert one.value > 0.8, "it knows them by heart"
    assert one.control is not None
    assert other.estimate.items == one.estimate.items


def test_what_is_said_of_the_forgotten_stands_beside_the_base_and_unseen() -> None:
    probe = PairSet("rephrased", tuple(pairs_about(FORGOTTEN[:1], 0, ["Fernmoor"], ["keeper"])))
    after = {
        "forget": answered(FORGET, [0.1] * 3 + [0.4] * 6),
        "rephrased": answered(probe, [0.2, 0.2, 0.5]),
        "retain": answered(RETAIN, [0.9] * 9),
        "unseen": answered(UNSEEN, [0.25] * 24),
    }
    before = {"forget": answered(FORGET, [1.0] * 9), "retain": answered(RETAIN, [1.0] * 8 + [0.55])}
    context = context_of(None, after=after, before=before)
    found = {figure.of: figure for figure in generated.audit(context) if figure.name == "generated.rouge_l"}
    assert set(found) == {"forget", "rephrased"}
    assert [found[of].value for of in found] == pytest.approx([0.3, 0.3])
    assert (found["forget"].before, found["rephrased"].before) == (1, None)
    assert [figure.control.value for figure in found.values() if figure.control] == pytest.approx([0.25, 0.25])
    [drop] = everyone_else.audit(context)
    assert (drop.name, drop.of, drop.value) == ("everyone_else.drop", "retain", pytest.approx((8 * 0.1 - 0.35) / 9))
    assert drop.estimate.low <= drop.value <= drop.estimate.high


def test_the_loss_of_answers_that_the_base_did_not_know_says_nothing() -> None:
    after = {"retain": answered(RETAIN, [0.0] * 9), "utility": answered(PairSet("utility", RETAIN.pairs), [0.0] * 9)}
    before = {
        name: answered(each.pairs, [level] * 9) for (name, each), level in zip(after.items(), (0.2, 0.9), strict=True)
    }
    audit = everyone_else.audit(context_of(None, after=after, before=before))
    assert next(audit).of == "utility"
    with pytest.raises(NotMeasured, match="doesn't know the answers of retain"):
        next(audit)


def test_one_who_is_known_among_many_who_arent_is_seen(knowing: BaseModel) -> None:
    crowd = PairSet("forget", (*UNSEEN.pairs[3:], *FORGET.pairs[:3]))
    context = context_of(knowing, sets=AuditSets(crowd, RETAIN, PairSet("unseen", UNSEEN.pairs[:3])))
    [left] = each_person.audit(context)
    assert (left.value, left.estimate.people) == (pytest.approx(1 / 8), 8)
    assert [figure.value for figure in each_person.audit(context_of(knowing))] == [1]
    said_alone = {"forget": answered(PairSet("forget", crowd.pairs), [0.0] * 18 + [0.95, 0.95, 0.95, *[0.0] * 3])}
    of_unseen = replace(context, sets=replace(context.sets, forget=PairSet("forget", UNSEEN.pairs[3:])))
    assert next(each_person.audit(of_unseen)).value == 0
    assert next(each_person.audit(replace(of_unseen, after=said_alone))).value == pytest.approx(1 / 7)


def test_not_everybody_of_a_very_large_set_is_asked_alone(knowing: BaseModel) -> None:
    audit = each_person.audit(
        context_of(knowing, sizes=AuditSizes(pairs=1)),
    )
    assert next(audit).estimate.people == 3
    few = each_person.audit(replace(context_of(knowing), sets=AuditSets(UNSEEN, RETAIN), sizes=AuditSizes(pairs=1)))
    assert next(few).estimate.people == 4
    with pytest.raises(NotMeasured, match="4 of the 8 people"):
        next(few)


def test_a_figure_of_one_set_takes_no_other_sets_place_before() -> None:
    context = context_of(None, found_before={("x", "forget"): 0.5, ("x", "probe"): 0.9})
    estimate = context.estimate(FORGET.pairs, [0.0] * 9)
    assert [context.figure("x", estimate, of=of).before for of in ("forget", "probe", "retain")] == [0.5, 0.9, None]
