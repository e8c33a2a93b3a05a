"""`vgid compare`: what it refuses before anything is loaded, and which settings of a file count."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result

from tests.vgid_core.commands.conftest import Place, invoke
from vgid_core.commands.compare import compare
from vgid_core.commands.unlearn import unlearn
from vgid_core.compare import race


class Begun(Exception):
    """In the place of the comparison itself."""


def begin(place: Place, *more: str | Path, model: str | Path | None = None, settings: str = "") -> Result:
    """The command on the place's sets, with `settings` as its --config."""
    (place.folder / "settings.toml").write_text(settings, encoding="utf-8")
    return invoke(
        compare, model or place.model,
        "--forget", place.folder / "forget.jsonl", "--retain", place.folder / "retain.jsonl",
        "--out", place.folder / "out", "--config", place.folder / "settings.toml", *more,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ("seed = 3", "seed"),
        ("method = 'npo'", "method"),
        ("[training]\nlearning_rate = 1e-3", "training.learning_rate"),
        ("[training]\nretain_weight = 2", "training.retain_weight"),
        ("[training]\nsteps = 3", "training.steps"),
        ("[training.targets]\nforget_rouge_l = 0.3", "training.targets"),
    ],
)
def test_settings_that_would_not_count_are_refused(place: Place, settings: str, key: str) -> None:
    refused = begin(place, settings=settings)
    assert refused.exit_code == 2
    assert f"settings.toml: {key} is " in refused.output
    assert "comparison" in refused.output


@pytest.mark.parametrize(("flag", "expected"), [(None, "cuda:1"), ("cpu", "cpu")])
def test_the_files_device_counts_unless_the_flag_is_given(
    place: Place, monkeypatch: pytest.MonkeyPatch, flag: str | None, expected: str
) -> None:
    heard = []

    def terms_of(plan: race.ComparisonPlan, *_: object) -> None:
        heard.append(plan.config.device)
        raise Begun

    monkeypatch.setattr(race, "terms_of", terms_of)
    begin(place, *([] if flag is None else ["--device", flag]), settings="device = 'cuda:1'")
    assert heard == [expected]


def test_the_record_holds_no_setting_that_no_row_was_run_with(place: Place) -> None:
    done = begin(
        place, "--methods", "in-context", "--seeds", "1",
        settings="device = 'cpu'\n[training]\nretain_batch_size = 2\n[evaluation]\nmax_pairs = 2\nmax_new_tokens = 4\n",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    written = json.loads((place.folder / "out" / "comparison.json").read_text())["terms"]["config"]
    assert not {"method", "seed"} & set(written)
    assert not {"steps", "learning_rate", "retain_weight", "targets"} & set(written["training"])
    assert written["training"]["retain_batch_size"] == 2


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("[lora]\nrnak = 2", "settings.toml: lora.rnak: unknown key; did you mean rank?"),
        ("lora = 2", "settings.toml: lora: must be a table of settings"),
        ("device = 'gpu'", "settings.toml: device: device must be auto, cpu, cuda or cuda:N"),
        ("lora", "settings.toml isn't TOML"),
    ],
)
def test_a_file_is_refused_in_words(place: Place, settings: str, said: str) -> None:
    refused = begin(place, settings=settings)
    assert refused.exit_code == 2
    assert said in refused.output
    assert "pydantic" not in refused.output


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--methods", "npo,forget-it"], "error: methods: knows no forget-it; there are "),
        (["--learning-rates", "5"], "error: training.learning_rate can't be 5.0: "),
        (["--out", "FILE"], "is no folder"),
        (["--out", "FILE/inside"], "is no folder"),
        (["--twin", "no-such-twin"], "error: twin: no folder no-such-twin"),
        (["--config", "no-such-file"], "error: no-such-file can't be read"),
        (["--probe", "photos=no-such-file"], "error: photos: no such file or folder"),
    ],
)
def test_flags_are_refused_before_anything_is_measured(place: Place, flags: list[str], said: str) -> None:
    given = [flag.replace("FILE", str(place.folder / "forget.jsonl")) for flag in flags]
    refused = begin(place, *given)
    assert refused.exit_code == 2, refused.output
    assert said in refused.output
    assert "pydantic" not in refused.output
    assert "Value error" not in refused.output
    assert not (place.folder / "out").exists()


def test_a_mistyped_folder_is_no_question_to_a_hub(place: Place) -> None:
    refused = begin(place, model="nothing")
    assert refused.exit_code == 2
    assert refused.output == "error: model: no folder nothing\n"
    assert "holds no config.json" in begin(place, model=place.folder).output


def test_what_is_kept_must_be_more_than_what_is_forgotten(place: Place) -> None:
    begun = begin(place, "--retain", place.folder / "forget.jsonl")
    assert begun.exit_code == 2
    unlearned = invoke(unlearn, place.file, "--retain", place.folder / "forget.jsonl")
    assert begun.output.splitlines() == [line for line in unlearned.output.splitlines() if line.startswith("error:")]
    assert not (place.folder / "out").exists()


def test_who_interrupts_hears_how_to_go_on(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def terms_of(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(race, "terms_of", terms_of)
    stopped = begin(place)
    assert stopped.exit_code == 130
    assert f"--resume goes on with what {place.folder / 'out'} holds" in stopped.output


def test_a_record_that_is_there_is_refused_before_a_model_is_read(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place.folder / "out").mkdir()
    (place.folder / "out" / "comparison.json").write_text("{}")
    monkeypatch.setattr(race, "terms_of", lambda *_: pytest.fail("a model was read"))
    refused = begin(place)
    assert refused.exit_code == 1
    assert "comparison.json is there already" in refused.output
