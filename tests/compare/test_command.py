"""`vgid compare`: what it refuses before anything is loaded, and which settings of a file count."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from compare import runner
from compare.command import compare
from compare.contenders import all_contenders
from tests.vgid_core.cli.conftest import Place, invoke
from vgid_core.cli.unlearn import unlearn
from vgid_core.config.rivals import Npo


class Started(Exception):
    """Raised instead of running the comparison."""


def begin(place: Place, *more: str | Path, settings: str = "") -> Result:
    """The command on the place's sets, with `settings` at the end of its run file."""
    run_file = place.folder / "compared.toml"
    run_file.write_text(
        f"model = {json.dumps(str(place.model))}\nforget = 'forget.jsonl'\nretain = 'retain.jsonl'\n{settings}",
        encoding="utf-8",
    )
    return invoke(compare, run_file, "--out", place.folder / "out", *more)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """The arguments of each comparison: plan, data, model and reference model. The comparison itself isn't run."""
    found: list[tuple[Any, ...]] = []

    def conditions_of(*arguments: object) -> None:
        found.append(arguments)
        raise Started

    monkeypatch.setattr(runner, "conditions_of", conditions_of)
    return found


def test_the_run_file_of_the_other_commands_serves(place: Place, calls: list[tuple[Any, ...]]) -> None:
    with place.file.open("a") as file:
        file.write("[compare]\nout = 'compared'\nmethods = ['npo', 'idk']\nseeds = 2\nlearning_rates = [1e-4]\n")
        file.write("[compare.kept]\nothers = 'retain.jsonl'\n")
    begun = invoke(compare, place.file, "--learning-rates", "1e-3,3e-3", "--kept", f"more={place.folder}/retain.jsonl")
    [(plan, data, model, reference_model)] = calls
    assert (plan.methods, plan.seeds, plan.budget.learning_rates) == (("npo", "idk"), (0, 1), (1e-3, 3e-3))
    assert plan.config.training.forget_batch_size == 4
    assert [items.name for items in (*data.probes, *data.utility)] == ["rephrased", "others", "more"]
    assert (model, reference_model) == (str(place.model), None)
    assert (
        "ignored: training.learning_rate, training.steps; a comparison sets seed, learning rate"
        in begun.output.replace("\n", " ")
    )
    assert not place.out.exists()


@pytest.mark.parametrize("name", ["retain", "kept"])
def test_a_control_token_in_any_set_is_named_by_its_place(place: Place, name: str) -> None:
    table_rows = (place.folder / "retain.jsonl").read_text(encoding="utf-8").splitlines()
    bad = json.dumps(json.loads(table_rows[1]) | {"question": "Who is <image>?"})
    (place.folder / f"{name}.jsonl").write_text("\n".join([table_rows[0], bad, *table_rows[2:]]), encoding="utf-8")
    kept = ["--kept", f"kept={place.folder / 'kept.jsonl'}"] if name == "kept" else []
    result = begin(place, "--methods", "idk", *kept)
    assert result.exit_code == 2
    assert result.stderr.strip().splitlines()[-1] == (
        f"error: {name}[1].question: holds one of the model's control tokens"
    )
    assert "packed rows" not in result.stderr


@pytest.mark.usefixtures("calls")
def test_a_comparison_never_goes_into_the_adapters_folder(place: Place) -> None:
    refused = invoke(compare, place.file)
    assert refused.exit_code == 2
    assert "compare.out is missing: pass --out, or set it in the run file" in refused.output


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ("seed = 3", "seed"),
        ("preset = 'paper'", "training.retain_weight, training.steps"),
        ("[config.training]\nretain_weight = 2", "training.retain_weight"),
    ],
)
def test_settings_of_the_file_that_do_not_count_are_said(
    place: Place, calls: list[tuple[Any, ...]], settings: str, key: str
) -> None:
    begun = begin(place, settings=f"[config]\n{settings}")
    assert f"ignored: {key}; a comparison sets" in begun.output
    [(plan, *_)] = calls
    run = plan.config_for(plan.contenders[0], plan.budget.settings[0], 1)
    assert (run.seed, run.method.name) == (1, "vgid-substitute")
    assert run.training.steps == plan.budget.steps[0]
    assert begin(place).output == ""


def test_the_files_method_settings_are_those_of_the_contender_by_its_name(
    place: Place, calls: list[tuple[Any, ...]]
) -> None:
    file = "[config.method]\nname = 'npo'\ninverse_temperature = 0.3"
    assert begin(place, "--set", "method.inverse_temperature=0.4", settings=file).output == ""
    assert "settings of npo, which takes no part" in begin(place, "--methods", "idk,vgid", settings=file).output
    (plan, *_), (without, *_) = calls
    methods = {contender.name: contender.method for contender in plan.contenders}
    assert methods["npo"] == Npo(inverse_temperature=0.4)
    others = {name: contender.method for name, contender in all_contenders().items() if name != "npo"}
    assert {name: method for name, method in methods.items() if name != "npo"} == others
    assert [contender.method for contender in without.contenders] == [others["idk"], others["vgid"]]


def test_a_subjects_name_is_refused_since_rows_are_written_down(place: Place, calls: list[tuple[Any, ...]]) -> None:
    file = "[config.method]\nname = 'vgid'\ninstruction = 'Forget {name}.'\nsubject_name = 'Ida Falk'"
    refused = begin(place, settings=file)
    assert refused.exit_code == 2
    assert "a subject's name nowhere" in refused.output.replace("\n", " ")
    assert "Falk" not in refused.output
    assert calls == []


@pytest.mark.parametrize("setting", ["seed=3", "method=npo", "method.name=npo", "training.steps=3"])
def test_settings_given_by_hand_that_would_not_count_are_refused(place: Place, setting: str) -> None:
    refused = begin(place, "--set", setting)
    assert refused.exit_code == 2
    assert f"error: --set {setting.partition('=')[0]} is " in refused.output
    assert "comparison" in refused.output


@pytest.mark.parametrize(("flag", "expected"), [(None, "cuda:1"), ("cpu", "cpu")])
def test_the_files_device_counts_unless_the_flag_is_given(
    place: Place, calls: list[tuple[Any, ...]], flag: str | None, expected: str
) -> None:
    begin(place, *([] if flag is None else ["--device", flag]), settings="[config]\ndevice = 'cuda:1'")
    assert [plan.config.device for plan, *_ in calls] == [expected]


def test_the_record_holds_no_setting_that_no_row_was_run_with(place: Place) -> None:
    done = begin(
        place, "--methods", "in-context", "--seeds", "1",
        settings="[config]\ndevice = 'cpu'\ntraining.retain_batch_size = 2\n"
        "evaluation.max_pairs = 2\nevaluation.max_new_tokens = 4\n",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    written = json.loads((place.folder / "out" / "comparison.json").read_text())["terms"]["config"]
    assert not {"method", "seed"} & set(written)
    assert not {"steps", "learning_rate", "retain_weight"} & set(written["training"])
    assert written["training"]["retain_batch_size"] == 2


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("[config.lora]\nrnak = 2", "compared.toml: config.lora.rnak: unknown key; did you mean rank?"),
        ("[config]\nlora = 2", "compared.toml: config.lora: must be a table of settings"),
        ("[config]\ndevice = 'gpu'", "compared.toml: config.device: device must be auto, cpu, cuda or cuda:N"),
        ("[compare]\nseedz = 2", "compared.toml: compare.seedz: unknown key; did you mean seeds?"),
        ("[compare]\nseeds = 0", "compared.toml: compare.seeds: "),
        ("[compare]\nlearning_rates = [0]", "compared.toml: compare.learning_rates: can't be 0.0: "),
        ("lora", "compared.toml isn't TOML"),
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
        (["--methods", "npo,forget-it"], "error: --methods: no method is called forget-it; there are "),
        (["--learning-rates", "5"], "error: --learning-rates: can't be 5.0: "),
        (["--retain-weights", "1,-1"], "error: --retain-weights: can't be -1.0: "),
        (["--steps", "0"], "error: --steps: can't be 0: Input should be greater than or equal to 1"),
        (["--out", "FILE"], "is no folder"),
        (["--out", "FILE/inside"], "is no folder"),
        (["--reference-model", "no-such-reference-model"], "error: --reference-model: no folder /"),
        (["--model", "nothing"], "error: --model: no folder nothing"),
        (["--kept", "no-such-file"], "--kept: must look like NAME=VALUE"),
        (["--kept", "looks=no-such-file"], "no-such-file: no such file or folder"),
        (["--resume"], "out holds no comparison to go on with"),
        (["--probe", "photos=no-such-file"], "no-such-file: no such file or folder"),
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


def test_an_adapters_folder_takes_no_comparison(place: Place) -> None:
    place.out.mkdir()
    (place.out / "adapter_config.json").touch()
    refused = begin(place, "--out", str(place.out))
    assert refused.exit_code == 2
    assert "is an adapter's folder" in refused.output
    assert {file.name for file in place.out.iterdir()} == {"adapter_config.json"}


def test_what_is_kept_must_be_more_than_what_is_forgotten(place: Place) -> None:
    begun = begin(place, "--retain", place.folder / "forget.jsonl")
    assert begun.exit_code == 2
    unlearned = invoke(unlearn, place.file, "--retain", place.folder / "forget.jsonl")
    assert begun.output.splitlines() == [line for line in unlearned.output.splitlines() if line.startswith("error:")]
    assert not (place.folder / "out").exists()


def test_who_interrupts_hears_how_to_go_on_if_there_is_something(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def conditions_of(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "conditions_of", conditions_of)
    stopped = begin(place)
    assert (stopped.exit_code, stopped.output) == (130, "Stopped.\n")
    out = place.folder / "out"
    out.mkdir(exist_ok=True)
    (out / "comparison.json").touch()
    stopped = begin(place, "--resume")
    assert stopped.exit_code == 130
    assert f"--resume goes on with what {out} holds" in stopped.output


def test_a_record_that_is_there_is_refused_before_a_model_is_read(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place.folder / "out").mkdir()
    (place.folder / "out" / "comparison.json").write_text("{}")
    monkeypatch.setattr(runner, "conditions_of", lambda *_: pytest.fail("a model was read"))
    refused = begin(place)
    assert refused.exit_code == 2
    written = place.folder / "out" / "comparison.json"
    assert refused.stderr == (
        f"error: out: {written} is there already: --resume goes on with it, another --out starts anew\n"
    )
