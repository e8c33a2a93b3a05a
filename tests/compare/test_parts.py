"""What a comparison is made of: contenders, facts, scores, the record."""

import json
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from compare.contenders import all_contenders
from compare.measure import forgetting, in_context, robust_scores, utility
from compare.plan import Budget, ComparisonData, ComparisonPlan, EvalSplit, Setting
from compare.record import Conditions, Record, RecordUnusable, Row
from compare.runner import chosen_setting
from compare.table import markdown, table_rows
from tests.vgid_core.support.tiny import pair_set, picture
from vgid_core.config.methods import AnyMethod, Vgid
from vgid_core.data.facts import Fact, fact_of
from vgid_core.data.pairs import DataError, Pair, PairSet
from vgid_core.evaluation.measures.membership import MEMBERSHIP_ATTACKS
from vgid_core.evaluation.measures.relearning import split_facts

FORGET = pair_set("forget", 4)
WORDS = st.sampled_from(["Ada", "Bo", "baker", "Fernmoor", "sailing"])


def test_the_command_loads_torch_only_once_there_is_work() -> None:
    code = "import sys, compare.command\nassert not {'torch', 'transformers', 'peft'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_every_method_takes_part_under_its_own_name() -> None:
    contenders = all_contenders()
    for method in get_args(get_args(AnyMethod)[0]):
        name = method.model_fields["name"].default
        assert contenders[name].method == method()
    assert contenders["vgid-noise-only"].method == Vgid(instruction="")
    assert not contenders["in-context"].trained


def test_every_method_gets_the_same_trials() -> None:
    budget = Budget(learning_rates=(1e-3, 2e-3), retain_weights=(1, 4), steps=(10, 20))
    plan = ComparisonPlan(methods=("npo", "vgid"), budget=budget)
    assert len(budget.settings) == 8
    for contender in plan.contenders:
        configs = [plan.config_for(contender, setting, seed=3) for setting in budget.settings]
        assert [(c.training.learning_rate, c.training.retain_weight, c.training.steps) for c in configs] == [
            (s.learning_rate, s.retain_weight, s.steps) for s in budget.settings
        ]
        assert all(c.method == contender.method and c.seed == 3 for c in configs)


@pytest.mark.parametrize(
    "values",
    [
        {"methods": ("ga", "forget-it")},
        {"seeds": ()},
        {"budget": {"learning_rates": (-1.0,)}},
        {"budget": {"steps": (0,)}},
        {"budget": {"retain_weights": ()}},
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(values: dict) -> None:
    with pytest.raises(ValidationError):
        ComparisonPlan.model_validate(values)


def test_what_chooses_settings_is_not_what_is_reported() -> None:
    data = ComparisonData(pair_set("forget", 9), pair_set("retain", 7, 50), (pair_set("other_photos", 1, 90),))
    both = zip(
        data.tuning.forget[:1] + data.tuning.retain, data.reported.forget[:1] + data.reported.retain, strict=True
    )
    for tuned, reported in both:
        assert tuned.name == reported.name
        assert not set(tuned) & set(reported)
    assert [len(items) for items in (*data.tuning.forget, *data.tuning.retain)] == [3, 1, 3]
    assert [len(items) for items in (*data.reported.forget, *data.reported.retain)] == [6, 1, 4]


def test_two_sets_of_one_name_are_refused() -> None:
    with pytest.raises(DataError, match="retain"):
        ComparisonData(FORGET, pair_set("retain", 2), utility=(pair_set("retain", 3, 60),))


@pytest.mark.parametrize(
    ("answer", "fact"),
    [
        ("Ada Quill was born in Fernmoor.", "born in Fernmoor"),
        ("Teal.", "Teal"),
        ("a  b", "b"),
        ("...", "..."),
        ("她出生于巴黎。", "于巴黎"),
    ],
)
def test_without_a_named_fact_it_is_the_answers_fact_of(answer: str, fact: str) -> None:
    found = fact_of(Pair(picture(0), "q", answer))
    assert found.text == fact
    assert found.text in answer


def test_a_line_may_name_its_fact(tmp_path: Path) -> None:
    FORGET.write_jsonl(tmp_path / "forget.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "forget.jsonl").read_text().splitlines()]
    rows[1]["fact"] = "Fernmoor"
    (tmp_path / "forget.jsonl").write_text("\n".join(map(json.dumps, rows)))
    facts = list(map(fact_of, PairSet.from_jsonl(tmp_path / "forget.jsonl")))
    assert facts[1] == Fact(FORGET.pairs[1], "Fernmoor")
    assert facts[0] == fact_of(FORGET.pairs[0])
    rows[2]["fact"] = "Fernmoor"
    (tmp_path / "forget.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(DataError, match=r"forget\[2\].fact"):
        PairSet.from_jsonl(tmp_path / "forget.jsonl")


@given(st.lists(st.tuples(WORDS, WORDS), min_size=1, max_size=12))
def test_no_taught_answer_holds_a_held_out_fact(items: list[tuple[str, str]]) -> None:
    image = picture(0)
    facts = [Fact(Pair(image, "q", f"{name} likes {fact}."), fact) for name, fact in items]
    taught, held_out = split_facts(facts)
    assert taught
    for fact in held_out:
        assert not any(fact.text.lower() in pair.answer.lower() for pair in taught)


def figures(**values: float) -> dict[str, float]:
    return {name.replace("__", "."): value for name, value in values.items()}


def test_scores_are_what_they_say() -> None:
    part = EvalSplit(
        (FORGET, pair_set("photos", 2)), (pair_set("retain", 2), pair_set("looks", 2), pair_set("lost", 2))
    )
    after = figures(
        rouge_l__forget=0.1, rouge_l__photos=0.3, rouge_l__retain=0.45, rouge_l__looks=0.9, rouge_l__lost=0.2
    )
    before = figures(rouge_l__forget=1, rouge_l__photos=1, rouge_l__retain=0.9, rouge_l__looks=0.8, rouge_l__lost=0)
    assert forgetting(after, part) == pytest.approx(0.8)
    assert utility(after, before, part) == pytest.approx((0.5 + 1) / 2)


def test_robustness_is_measured_against_chance_or_against_the_reference_model() -> None:
    aucs = {f"membership.{name}": 0.7 for name in MEMBERSHIP_ATTACKS}
    given_figures = aucs | {"prefill": 0.25, "relearned": 0.5}
    scores = robust_scores(given_figures, None)
    assert scores == {"membership": pytest.approx(0.6), "robustness": pytest.approx((0.6 + 0.75 + 0.5) / 3)}
    assert robust_scores(aucs, aucs)["membership"] == 1
    hidden = dict.fromkeys(aucs, 0.0)
    assert robust_scores(hidden, None)["membership"] == 0, "over-suppression gives it away, too"
    assert robust_scores({"prefill": 0.25}, None) == {"robustness": 0.75}
    assert robust_scores({}, None) == {}


def test_in_context_every_question_goes_through_the_teachers_view() -> None:
    view = in_context(Vgid(), seed=1)
    seen = view(FORGET.pairs[0])
    assert seen.question == f"{Vgid().instruction} {FORGET.pairs[0].question}"
    assert seen.image.digest != FORGET.pairs[0].image.digest
    assert seen.answer == FORGET.pairs[0].answer


def trial(rate: float, tuning: float | None, name: str = "npo") -> Row:
    setting = Setting(learning_rate=rate, retain_weight=1, steps=5)
    scores = {} if tuning is None else {"tuning": tuning}
    return Row(name=name, stage="trial", setting=setting, seed=9, scores=scores, error=None if scores else "Died")


def test_the_best_trial_is_chosen_the_first_of_equals(tmp_path: Path) -> None:
    record = Record.open(tmp_path / "c.json", terms(), {}, resume=False)
    for row in (trial(1e-4, 0.3), trial(2e-4, 0.8), trial(3e-4, 0.8), trial(4e-4, None), trial(5e-4, None, "ga")):
        record.add(row)
    found = chosen_setting(record, "npo")
    assert found is not None
    assert found.learning_rate == 2e-4
    assert chosen_setting(record, "ga") is None
    by_name = {line.name: line for line in table_rows(record)}
    assert by_name["ga"].remark == "1 of 1 failed: Died"
    assert "- ga: 1 of 1 failed: Died" in markdown(record)


def terms(**values: object) -> Conditions:
    plan = ComparisonPlan()
    given = {"config": plan.config, "attacks": plan.attacks, "tuning_seed": 100}
    return Conditions.model_validate(
        {"data": {"forget": "a"}, "model": "b", "reference_model": None, **given, **values}
    )


def test_a_record_is_gone_on_with_on_the_same_terms_alone(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    record = Record.open(path, terms(), {"seeds": [0]}, resume=True)
    record.add(trial(1e-4, 0.3).model_copy(update={"method": Vgid()}))
    written = json.loads(path.read_text())
    assert written["seeds"] == [0]
    assert Record.open(path, terms(), {}, resume=True).rows == record.rows
    with pytest.raises(RecordUnusable, match="already"):
        Record.open(path, terms(), {}, resume=False)
    with pytest.raises(RecordUnusable, match="other data"):
        Record.open(path, terms(data={"forget": "c"}), {}, resume=True)
    with pytest.raises(RecordUnusable, match="other config"):
        Record.open(path, terms(config={"lora": {"rank": 8}}), {}, resume=True)
    # a setting that an earlier version didn't know yet
    del written["terms"]["config"]["training"]["fp8"], written["rows"][0]["method"]["noise_draws"]
    path.write_text(json.dumps(written))
    assert Record.open(path, terms(), {}, resume=True).rows == record.rows
    path.write_text(json.dumps(written | {"format": "vgid-comparison/1"}))
    with pytest.raises(RecordUnusable, match="comparison/1"):
        Record.open(path, terms(), {}, resume=True)
    path.write_text("{}")
    with pytest.raises(RecordUnusable, match="isn't a comparison"):
        Record.open(path, terms(), {}, resume=True)
