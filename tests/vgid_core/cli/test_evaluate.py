"""`vgid evaluate` as typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.vgid_core.cli.conftest import Done, Place, invoke
from tests.vgid_core.support.tiny import pair_set, picture, save_tiny_model
from vgid_core.cli.evaluate import evaluate
from vgid_core.data.pairs import Pair, PairSet
from vgid_core.evaluation.membership import ALL_MEMBERSHIP_ATTACKS


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
        line["fact"] = " ".join(line["answer"].rstrip(".").split()[-2:])
    facts.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    arguments = ["--twin", twin, "--attacks", "--never-seen", place.folder / "never.jsonl", "--facts", facts]
    result = invoke(evaluate, place.file, "--adapter", done.place.out, *arguments, "--json")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert list(said) == ["base", "adapter", "twin"]
    assert said["base"]["digest"] == said["adapter"]["digest"] != said["twin"]["digest"]
    names = {f"membership.{attack}" for attack in ALL_MEMBERSHIP_ATTACKS}
    names |= {"prefill", "prefill_inside", "relearned", "extraction_strength"}
    for column in said.values():
        assert column["attacks"].keys() == names
        assert all(0 <= value <= 1 for value in column["attacks"].values())
    assert said["base"]["attacks"] != said["twin"]["attacks"]


@pytest.mark.parametrize("option", ["--forget", "--never-seen", "--facts", "--utility", "--probe photos"])
def test_a_source_that_isnt_there_is_named_by_its_flag_and_path(place: Place, option: str) -> None:
    missing = place.folder / "nope.jsonl"
    flag, _, name = option.partition(" ")
    result = invoke(evaluate, place.file, "--attacks", flag, f"{name}={missing}" if name else missing)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"error: {option}: {missing}: no such file or folder\n"


@pytest.mark.parametrize("option", ["--never-seen", "--facts"])
def test_an_option_of_the_attacks_needs_them(place: Place, option: str) -> None:
    result = invoke(evaluate, place.file, option, place.folder / "forget.jsonl")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "pass --attacks, too" in result.stderr


def test_figures_for_people_are_a_table_and_the_forget_set_is_attacked_if_nothing_else(place: Place) -> None:
    result = invoke(evaluate, place.file, "--attacks")
    assert result.exit_code == 0, result.output
    heads = [line.split() for line in result.stdout.splitlines() if "base" in line]
    assert heads == [["set", "figure", "base", "pairs"], ["attack", "base"]]
    assert "facts that follow a begun answer" in result.stdout
    assert "membership" not in result.stdout
    assert "not asked: membership, which needs --never-seen" in result.stderr
    assert "Extraction Strength" in result.stdout
    assert "not asked: candidate ranking, which needs --never-seen" in result.stderr


def test_candidate_ranking_has_a_line_for_each_score(place: Place) -> None:
    facts, others = (place.folder / f"{name}.jsonl" for name in ("facts", "others"))
    PairSet.of("facts", [Pair(picture(1), "Who is this?", "Ada Quill.")]).write_jsonl(facts)
    strangers = [
        Pair(picture(60 + number), "Who is this?", f"{name} Marsh.") for number, name in enumerate("BCDEFGHIJ")
    ]
    PairSet.of("others", strangers).write_jsonl(others)
    result = invoke(evaluate, place.file, "--attacks", "--facts", facts, "--never-seen", others)
    assert result.exit_code == 0, result.output
    for line in ("true answer the likeliest candidate", "candidates below the true answer"):
        for score in ("", ", by first token", ", by logit lens"):
            assert f"  {line}{score}  " in result.stdout
    assert "ranking" not in result.stderr


def test_an_attack_that_the_data_doesnt_allow_for_is_named(place: Place) -> None:
    facts = place.folder / "facts.jsonl"
    line = json.loads((place.folder / "forget.jsonl").read_text(encoding="utf-8").splitlines()[0])
    facts.write_text(json.dumps(line | {"fact": line["answer"].split()[0]}), encoding="utf-8")
    result = invoke(evaluate, place.file, "--attacks", "--facts", facts, "--never-seen", place.folder / "retain.jsonl")
    assert result.exit_code == 0, result.output
    said = [line for line in result.stderr.splitlines() if line.startswith("not asked: ")]
    assert [line.split()[2].rstrip(",") for line in said][-1] == "relearning"
    assert "relearning" not in result.stdout


def test_an_adapter_for_another_base_is_warned_about(done: Done, twin: Path) -> None:
    result = invoke(evaluate, done.place.file, "--model", twin, "--adapter", done.place.out)
    assert result.exit_code == 0, result.output
    assert "warning: this adapter was made for another base" in result.stderr
    assert "warning" not in invoke(evaluate, done.place.file).stderr


def test_facts_are_parts_of_their_answers(place: Place) -> None:
    line = (place.folder / "forget.jsonl").read_text(encoding="utf-8").splitlines()[0]
    (place.folder / "facts.jsonl").write_text(line[:-1] + ', "fact": "Bo"}', encoding="utf-8")
    result = invoke(evaluate, place.file, "--attacks", "--facts", place.folder / "facts.jsonl")
    assert result.exit_code == 2
    assert "facts[0].fact: isn't part of the answer" in result.stderr
    assert "Ada" not in result.stderr


def test_a_fact_with_a_control_token_is_named_by_its_place(place: Place) -> None:
    line = (place.folder / "forget.jsonl").read_text(encoding="utf-8").splitlines()[0]
    fact = json.loads(line) | {"answer": "Ada <image> Bo", "fact": "Bo"}
    (place.folder / "facts.jsonl").write_text(json.dumps(fact), encoding="utf-8")
    result = invoke(evaluate, place.file, "--attacks", "--facts", place.folder / "facts.jsonl")
    assert result.exit_code == 2
    assert result.stderr.strip().splitlines()[-1] == "error: facts[0].answer: holds one of the model's control tokens"


def test_a_folder_without_an_adapter_is_named(place: Place) -> None:
    result = invoke(evaluate, place.file, "--adapter", place.folder)
    assert result.exit_code == 2
    assert "holds no adapter_config.json" in result.stderr
