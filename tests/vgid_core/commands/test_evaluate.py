"""`vgid evaluate` as typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.vgid_core.commands.conftest import Done, Place, invoke
from tests.vgid_core.tiny import pair_set, picture, save_tiny_model
from vgid_core import Pair
from vgid_core.attacks import MEMBERSHIP_ATTACKS
from vgid_core.commands.evaluate import evaluate
from vgid_core.commands.key_facts import FactPair, taught_and_asked


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another model of the same shape."""
    return save_tiny_model(tmp_path_factory.mktemp("twin") / "twin", seed=1)


def test_base_and_adapter_have_the_figures_of_the_run(done: Done) -> None:
    result = invoke(evaluate, done.place.file, "--json")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert list(said) == ["base", "adapter"]
    for title, stage in (("base", "before"), ("adapter", "after")):
        for metric, expected in zip(said[title]["metrics"], done.said["metrics"][stage], strict=True):
            assert metric == expected | {"value": pytest.approx(expected["value"], abs=1e-5)}
    assert said["base"]["attacks"] == {}


def test_attacks_stand_beside_those_on_a_twin(done: Done, place: Place, twin: Path) -> None:
    pair_set("never_seen", 4, first_picture=60).write_jsonl(place.folder / "never.jsonl")
    facts = place.folder / "facts.jsonl"
    pair_set("facts", 4).write_jsonl(facts)
    lines = [json.loads(line) for line in facts.read_text(encoding="utf-8").splitlines()]
    for line in lines:
        line["fact"] = line["answer"].rstrip(".").rpartition(" ")[2]
    facts.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    arguments = ["--twin", twin, "--attacks", "--never-seen", place.folder / "never.jsonl", "--facts", facts]
    result = invoke(evaluate, place.file, "--adapter", done.place.out, *arguments, "--json")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert list(said) == ["base", "adapter", "twin"]
    assert said["base"]["digest"] == said["adapter"]["digest"] != said["twin"]["digest"]
    names = {f"membership_auc/{attack}" for attack in MEMBERSHIP_ATTACKS} | {"prefill_recovery", "relearned"}
    for column in said.values():
        assert column["attacks"].keys() == names
        assert all(0 <= value <= 1 for value in column["attacks"].values())
    assert said["base"]["attacks"] != said["twin"]["attacks"]


def test_figures_for_people_are_a_table(place: Place) -> None:
    pair_set("never_seen", 2, first_picture=60).write_jsonl(place.folder / "never.jsonl")
    result = invoke(evaluate, place.file, "--attacks", "--never-seen", place.folder / "never.jsonl")
    assert result.exit_code == 0, result.output
    heads = [line.split() for line in result.stdout.splitlines() if "base" in line]
    assert heads == [["set", "figure", "base", "pairs"], ["attack", "base"]]
    assert "membership AUC, Min-K%++" in result.stdout
    assert "facts that follow" not in result.stdout


def test_an_adapter_for_another_base_is_warned_about(done: Done, twin: Path) -> None:
    result = invoke(evaluate, done.place.file, "--model", twin, "--adapter", done.place.out)
    assert result.exit_code == 0, result.output
    assert "warning: this adapter was made for another base" in result.stderr
    assert "warning" not in invoke(evaluate, done.place.file).stderr


def test_attacks_need_something_to_attack_with(place: Place) -> None:
    result = invoke(evaluate, place.file, "--attacks")
    assert result.exit_code == 2
    assert "--attacks needs --never-seen (membership), --facts" in result.stderr


@pytest.mark.parametrize(
    ("fact", "said"), [('"Bo"', "facts[0].fact: is no part of the line's answer"), ("null", 'no line with a "fact"')]
)
def test_facts_are_parts_of_their_answers(place: Place, fact: str, said: str) -> None:
    line = (place.folder / "forget.jsonl").read_text(encoding="utf-8").splitlines()[0]
    (place.folder / "facts.jsonl").write_text(line[:-1] + f', "fact": {fact}}}', encoding="utf-8")
    result = invoke(evaluate, place.file, "--attacks", "--facts", place.folder / "facts.jsonl")
    assert result.exit_code == 2
    assert said in result.stderr
    assert "Ada" not in result.stderr


def test_a_folder_without_an_adapter_is_named(place: Place) -> None:
    result = invoke(evaluate, place.file, "--adapter", place.folder)
    assert result.exit_code == 2
    assert "holds no adapter_config.json" in result.stderr


FACE = picture(0)
NAMES, TOWNS = ("Ada Quill", "Bo Marsh", "Cy Vale"), ("Fernmoor", "Ravenwick", "Oakmere", "Amberdale", "Bo")


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(TOWNS)), min_size=1), st.integers(0, 3))
def test_no_taught_answer_holds_what_is_asked(people: list[tuple[str, str]], seed: int) -> None:
    facts = [FactPair(Pair(FACE, "Who?", f"This is {name}."), name) for name, _ in people]
    facts += [FactPair(Pair(FACE, "Where?", f"{name} lives in {town}."), town) for name, town in people]
    halves = taught_and_asked(facts, seed)
    if halves is None:
        assert len({town for _, town in people} - {"Bo"}) < 2
        return
    taught, asked = halves
    assert len(taught) + len(asked) == len(facts)
    assert not any(item.fact.lower() in other.pair.answer.lower() for item in asked for other in taught)
