"""`vgid evaluate` as typed, on a tiny model that knows a few people."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.vgid_core.cli.conftest import Done, Place, invoke, make_place
from tests.vgid_core.support.knowing import FORGET, RETAIN, UNSEEN
from vgid_core.cli.evaluate import evaluate
from vgid_core.cli.unlearn import unlearn

TEXTS = ("Ada", "Quill", "Fernmoor")
QUICK = ("--audits", "quick", "--set", "evaluation.max_new_tokens=16")


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory, knowing_folder: Path) -> Place:
    """Sets about people whom the model knows, and an adapter of a few steps."""
    place = make_place(tmp_path_factory.mktemp("known") / "place", knowing_folder)
    (place.folder / "rephrased.jsonl").unlink()
    FORGET.write_jsonl(place.folder / "forget.jsonl")
    RETAIN.write_jsonl(place.folder / "retain.jsonl")
    UNSEEN.write_jsonl(place.folder / "unseen.jsonl")
    text = place.file.read_text(encoding="utf-8").replace('[probes]\nrephrased = "rephrased.jsonl"\n', "")
    place.file.write_text('unseen = "unseen.jsonl"\n' + text, encoding="utf-8")
    assert invoke(unlearn, place.file).exit_code == 0
    return place


def test_every_figure_stands_beside_the_bases_and_the_verdict_ends_it(known: Place) -> None:
    result = invoke(evaluate, known.file, *QUICK)
    assert result.exit_code == 3, result.output
    heads = [line.split() for line in result.stdout.splitlines() if "figure" in line]
    assert heads[:2] == [["set", "figure", "base", "adapter", "pairs"], ["figure", "before", "value", "control"]]
    assert "Not passed: a target is missed." in result.stdout
    assert not any(text in result.output for text in TEXTS)


def test_the_reference_model_is_the_reference_where_there_is_one(known: Place, tiny_folder: Path) -> None:
    result = invoke(evaluate, known.file, *QUICK, "--reference-model", tiny_folder, "--json")
    assert result.exit_code == 3, result.output
    said = json.loads(result.stdout)
    assert list(said["metrics"]) == ["base", "adapter", "reference_model"]
    assert said["measured"]["reference_digest"] != said["measured"]["base_digest"]
    prefilled = next(each for each in said["verdict"]["targets"] if each["figure"] == "prefill.up_to_fact")
    figure = next(each for each in said["figures"] if each["figure"] == "prefill.up_to_fact")
    assert prefilled["judged"] == "above the reference model"
    assert prefilled["amount"] == pytest.approx(figure["value"] - figure["reference_model"])
    ranking = next(each for each in said["verdict"]["targets"] if each["figure"].startswith("ranking"))
    assert ranking["judged"] == "distance from the reference model"
    assert said["set_digests"]["forget"] == FORGET.digest


def test_without_an_adapter_the_base_alone_is_measured(known: Place, tmp_path: Path) -> None:
    elsewhere = shutil.copy(known.file, tmp_path / "run.toml")
    sets = [part for name in ("forget", "retain") for part in (f"--{name}", known.folder / f"{name}.jsonl")]
    unseen = ("--unseen", known.folder / "unseen.jsonl")
    result = invoke(evaluate, elsewhere, *sets, *unseen, *QUICK, "--json")
    assert result.exit_code == 3, result.output
    said = json.loads(result.stdout)
    assert list(said["metrics"]) == ["base"]
    assert said["measured"]["adapter_sha256"] is None


def test_a_base_that_knows_nobody_has_nothing_to_forget(known: Place, tiny_folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    result = invoke(evaluate, known.file, "--model", tiny_folder, "--set", "seed=1", *QUICK, "--report", page)
    assert result.exit_code == 1, "the adapter is another base's"
    shutil.move(known.out, tmp_path / "aside")
    try:
        result = invoke(evaluate, known.file, "--model", tiny_folder, *QUICK, "--report", page)
    finally:
        shutil.move(tmp_path / "aside", known.out)
    assert result.exit_code == 3, result.output
    assert "Nothing to forget" in result.stdout
    assert "<strong>Nothing to forget</strong>" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("shown", [False, True], ids=["covered", "shown"])
def test_the_page_covers_the_true_answers_unless_it_is_asked_for_them(
    known: Place, tmp_path: Path, shown: bool
) -> None:
    page = tmp_path / "pages" / "report.html"
    result = invoke(evaluate, known.file, *QUICK, "--report", page, *(["--show-texts"] if shown else []))
    assert result.exit_code == 3, result.output
    text = page.read_text(encoding="utf-8")
    assert "Before and after" in text
    assert ("Who is this?" in text) == shown, "words of the answers are covered in questions, too"
    assert any(name in text for name in TEXTS) == shown
    assert ("answers, names and facts is covered" in text) != shown
    assert "measured only; nothing was trained" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--show-texts"], "--show-texts is about the page: pass --report, too"),
        (["--report", "."], "--report: . is a folder; name a file"),
        (["--audits", "none"], "--audits: with none there is nothing to judge by"),
        (["--audits", "deep"], "--audits:"),
    ],
    ids=["texts without a page", "a folder for a page", "no audits", "no such level"],
)
def test_what_makes_no_sense_is_said_before_anything_is_measured(done: Done, arguments: list[str], said: str) -> None:
    result = invoke(evaluate, done.place.file, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr


def test_a_run_file_without_audits_is_named(done: Done) -> None:
    result = invoke(evaluate, done.place.file)
    assert result.exit_code == 2
    assert "evaluation.audits: with none there is nothing to judge by" in result.stderr


@pytest.mark.parametrize("option", ["--forget", "--unseen", "--neighbours", "--utility", "--probe photos"])
def test_a_source_that_isnt_there_is_named_by_its_flag_and_path(place: Place, option: str) -> None:
    missing = place.folder / "nope.jsonl"
    flag, _, name = option.partition(" ")
    result = invoke(evaluate, place.file, *QUICK, flag, f"{name}={missing}" if name else missing)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"error: {option}: {missing}: no such file or folder\n"


def test_a_fact_that_isnt_in_its_answer_is_named_by_its_place(place: Place) -> None:
    line = (place.folder / "forget.jsonl").read_text(encoding="utf-8").splitlines()[0]
    (place.folder / "forget.jsonl").write_text(line[:-1] + ', "fact": "Bo"}', encoding="utf-8")
    result = invoke(evaluate, place.file, *QUICK)
    assert result.exit_code == 2
    assert "forget[0].fact: isn't part of the answer" in result.stderr
    assert "Ada" not in result.stderr


def test_a_folder_without_an_adapter_is_named(place: Place) -> None:
    result = invoke(evaluate, place.file, "--adapter", place.folder)
    assert result.exit_code == 2
    assert "holds no adapter_config.json" in result.stderr
