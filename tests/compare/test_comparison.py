"""Whole comparisons on a tiny model: what is run, what survives, what is written."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import typer
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from compare import figure, runner, table
from compare.command import compare as command
from compare.plan import Budget, ComparisonData, ComparisonPlan
from compare.record import Record
from tests.vgid_core.support.tiny import SENTENCES, pair_set, picture
from vgid_core.config import AttackPlan, EvaluationConfig, UnlearnConfig
from vgid_core.data.facts import fact_of
from vgid_core.data.pairs import Pair, PairSet
from vgid_core.errors import TrainingDiverged

FORGET = PairSet.of(
    "forget", [Pair(picture(i), SENTENCES[i % 3], f"This is Ada Quill {word}.") for i, word in enumerate("abcdef")]
)
DATA = ComparisonData(
    FORGET,
    pair_set("retain", 6, 50),
    probes=(pair_set("photos", 2, 70),),
    utility=(pair_set("looks", 2, 80),),
    unseen=pair_set("unseen", 3, 90),
    facts=tuple(map(fact_of, FORGET)),
)
ATTACKS = AttackPlan(pairs=3, relearning_steps=1)


def plan(*methods: str, seeds: int = 1, rates: tuple[float, ...] = (1e-3, 3e-3)) -> ComparisonPlan:
    config = {"device": "cpu", "training": {"forget_batch_size": 2, "retain_batch_size": 2}}
    evaluation = EvaluationConfig(max_pairs=2, max_new_tokens=4)
    budget = Budget(learning_rates=rates, retain_weights=(1.0,), steps=(2,))
    base = UnlearnConfig.model_validate(config).model_copy(update={"evaluation": evaluation})
    return ComparisonPlan(methods=methods, seeds=tuple(range(seeds)), budget=budget, attacks=ATTACKS, config=base)


def compared(
    comparison: ComparisonPlan,
    folder: Path,
    model: Path,
    reference_model: Path | None = None,
    data: ComparisonData = DATA,
) -> tuple[Record, list[str]]:
    """The record, and which models were measured or trained on the way."""
    source, other = str(model), None if reference_model is None else str(reference_model)
    conditions = runner.conditions_of(comparison, data, source, other)
    record = Record.open(folder / "comparison.json", conditions, runner.environment(comparison), resume=True)
    reports: list[runner.ComparisonProgress] = []
    runner.compare(comparison, data, source, other, record, reports.append)
    assert reports[-1].done == reports[-1].total
    return record, [report.what for report in reports if report.share == 1.0]


@pytest.mark.usefixtures("one_thread")
def test_everything_is_run_once_and_gone_on_with(tiny_folder: Path, tmp_path: Path) -> None:
    record, trained = compared(plan("npo", "in-context"), tmp_path, tiny_folder, tiny_folder)
    assert [(row.name, row.stage) for row in record.rows] == [
        ("base", "reference"),
        ("reference_model", "reference"),
        *[("npo", "trial")] * 2,
        ("npo", "run"),
        ("in-context", "run"),
    ]
    assert len(trained) == 3
    run = record.of("npo", "run")[0]
    assert (run.error, run.scorer) == (None, "packed")
    assert run.setting == runner.chosen_setting(record, "npo")
    assert {"rouge_l.forget", "rouge_l.photos", "answer_probability.looks", "membership.loss"} <= set(run.figures)
    assert 0 <= run.scores["robustness"] <= 1
    assert {"prefill", "relearned"} <= set(run.figures)
    # the reference model is the base here: nothing tells the one from the other
    assert record.of("reference_model", "reference")[0].scores["membership"] == 1

    again, trained = compared(plan("npo", "in-context", "ga", seeds=2), tmp_path, tiny_folder, tiny_folder)
    assert [what.split()[0] for what in trained] == ["ga", "ga", "ga", "npo", "ga"]
    assert again.rows[: len(record.rows)] == record.rows
    assert len(again.of("npo", "run")) == len(again.of("in-context", "run")) == 2

    wider, trained = compared(plan("npo", rates=(1e-3, 3e-3, 5e-3)), tmp_path, tiny_folder, tiny_folder)
    best = runner.chosen_setting(wider, "npo")
    assert len(trained) == (2 if best.learning_rate == 5e-3 else 1)
    by_name = {line.name: line for line in table.table_rows(wider)}
    assert by_name["ga"].remark == "tuned by 2 trials, others by up to 3"
    assert all(row.setting == best for row in by_name["npo"].rows)
    narrower, trained = compared(plan("npo", rates=(1e-3,)), tmp_path, tiny_folder, tiny_folder)
    assert [row.setting.learning_rate for row in narrower.of("npo", "trial")] == [1e-3]

    figure.draw(again, tmp_path / "c.png")
    with Image.open(tmp_path / "c.png") as drawn:
        assert drawn.size == (1240, 640)
    said = table.markdown(again)
    for name in ("base, untouched", "reference model", "npo", "in-context", "ga"):
        assert f"| {name} |" in said


@pytest.mark.usefixtures("one_thread")
def test_a_failing_method_is_a_row_and_is_tried_again(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = runner.distil

    def failing(base, forget, retain, config, on_step):  # type: ignore[no-untyped-def]
        if config.method.name == "ga":
            raise TrainingDiverged("a loss is not a finite number")
        if config.method.name == "npo" and config.seed == 0:
            raise RuntimeError("Ada Quill")
        return real(base, forget, retain, config, on_step)

    with monkeypatch.context() as patched:
        patched.setattr(runner, "distil", failing)
        record, _ = compared(plan("ga", "npo"), tmp_path, tiny_folder)
    assert [row.error for row in record.of("ga", "trial")] == ["TrainingDiverged: a loss is not a finite number"] * 2
    assert record.of("ga", "run") == []
    assert [row.error for row in record.of("npo", "run")] == ["RuntimeError"], (
        "an unseen person's words may be personal"
    )
    assert "Ada" not in (tmp_path / "comparison.json").read_text()
    assert "- ga: 2 of 2 failed: TrainingDiverged" in table.markdown(record)
    figure.draw(record, tmp_path / "c.png")

    again, trained = compared(plan("ga", "npo"), tmp_path, tiny_folder)
    assert len(trained) == 4
    assert all(row.error is None for row in again.rows)


@pytest.mark.usefixtures("one_thread")
def test_photos_that_are_to_be_forgotten_leave_the_retain_set_that_is_trained_on(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the terms would work against each other."""
    trained_on = []

    def distil(_base, forget, retain, _config, _on_step):  # type: ignore[no-untyped-def]
        trained_on.append((forget, retain))
        raise TrainingDiverged("that is enough")

    monkeypatch.setattr(runner, "distil", distil)
    again = Pair(FORGET.pairs[0].image, "What colour is the wall?", "Teal.")
    data = replace(DATA, retain=PairSet.of("retain", [*DATA.retain, again]))
    compared(plan("npo", rates=(1e-3,)), tmp_path, tiny_folder, data=data)
    assert [(forget.pairs, retain.pairs) for forget, retain in trained_on] == [(FORGET.pairs, DATA.retain.pairs)]


def command_line(folder: Path, model: Path) -> list[str]:
    """A small comparison's arguments, and the files that they name."""
    for items in (DATA.forget, DATA.retain, *DATA.probes, *DATA.utility):
        items.write_jsonl(folder / f"{items.name}.jsonl")
    (folder / "settings.toml").write_text(
        "[config]\ntraining.forget_batch_size = 2\ntraining.retain_batch_size = 2\n"
        "evaluation.max_pairs = 2\nevaluation.max_new_tokens = 4\n"
    )
    arguments = [
        folder / "settings.toml", "--model", model,
        "--forget", folder / "forget.jsonl", "--retain", folder / "retain.jsonl",
        "--probe", f"other={folder / 'photos.jsonl'}", "--kept", f"looks={folder / 'looks.jsonl'}",
        "--methods", "graddiff", "--seeds", 1,
        "--learning-rates", "1e-3", "--retain-weights", "1", "--steps", "2", "--device", "cpu",
        "--out", folder / "out",
    ]  # fmt: skip
    return [str(argument) for argument in arguments]


def test_the_command_writes_table_record_and_figure(tiny_folder: Path, tmp_path: Path) -> None:
    arguments, app = command_line(tmp_path, tiny_folder), typer.Typer()
    app.command()(command)

    def ended(*more: str) -> Result:
        return CliRunner().invoke(app, [*arguments, *more])

    done = ended()
    assert done.exit_code == 0, done.output
    assert "graddiff" in done.output
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        "comparison.json", "comparison.md", "comparison.png",
    }  # fmt: skip
    written = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert written["terms"]["config"]["evaluation"]["max_pairs"] == 2
    assert {"torch", "transformers", "peft"} <= set(written["versions"])
    assert [row["stage"] for row in written["rows"]] == ["reference", "trial", "run"]
    assert {"rouge_l.other", "rouge_l.looks"} <= set(written["rows"][-1]["figures"])
    assert ended().exit_code == 2, "what is there is not overwritten"
    assert ended("--resume").exit_code == 0
    assert ended("--resume", "--methods", "forget-it").exit_code == 2
    assert ended("--resume", "--steps", "two").exit_code == 2
    (tmp_path / "settings.toml").write_text("[config]\nsede = 3\n")
    assert ended("--resume").exit_code == 2
    (tmp_path / "settings.toml").write_text("")
    assert ended("--resume").exit_code == 1, "other settings make another comparison"
    (tmp_path / "retain.jsonl").unlink()
    assert ended("--resume").exit_code == 2
