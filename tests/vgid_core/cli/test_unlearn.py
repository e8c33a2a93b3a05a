"""`vgid unlearn` as typed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
from safetensors import safe_open
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.vgid_core.cli.conftest import Done, Place, invoke
from vgid_core.cli.reports import tensorboard
from vgid_core.cli.unlearn import unlearn
from vgid_core.progress import Phase

WRITTEN = {"adapter_config.json", "adapter_model.safetensors", "manifest.json", "README.md"}


def test_a_run_file_becomes_an_adapter_with_figures_before_and_after(done: Done) -> None:
    out = done.place.out
    assert {file.name for file in out.iterdir()} == WRITTEN
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["base_model"]["name"] == "tiny"
    assert manifest["config"]["training"]["steps"] == 4
    assert set(manifest["data"]) == {"forget", "retain", "rephrased"}
    assert (done.said["out"], done.said["steps"]) == (str(out), 4)
    assert done.said["metrics"] == manifest["metrics"]
    assert done.said["seconds"].keys() == manifest["seconds"].keys()


def test_progress_goes_to_standard_error_and_names_no_data(done: Done) -> None:
    for phase in Phase:
        assert f"  {phase:<10} " in done.stderr
    assert "step 4/4 · loss forget" in done.stderr
    assert "Ada" not in done.stderr


def test_nothing_is_left_beside_the_adapter(done: Done) -> None:
    names = {"adapter", "events", "run.toml", "images", "forget.jsonl", "retain.jsonl", "rephrased.jsonl"}
    assert done.place.names() == names


def test_tensorboard_gets_losses_rates_norms_and_metrics(done: Done) -> None:
    events = EventAccumulator(str(done.events))
    events.Reload()
    for name in ("loss/forget", "loss/retain", "training/gradient_norm", "training/learning_rate"):
        found = events.Scalars(name)
        assert [event.step for event in found] == [1, 2, 3, 4], name
        assert all(event.value > 0 for event in found[1:]), name
    assert events.Scalars("training/learning_rate")[0].value == pytest.approx(3e-3)
    for stage, step in (("before", 0), ("after", 4)):
        for metric in done.said["metrics"][stage]:
            values = {event.step: event.value for event in events.Scalars(f"{metric['name']}/{metric['split']}")}
            assert values[step] == pytest.approx(metric["value"], abs=1e-6)


def test_flags_alone_will_do_and_a_table_tells_the_end(place: Place) -> None:
    result = invoke(
        unlearn, "--model", place.model, "--forget", place.folder / "forget.jsonl", "--utility",
        place.folder / "rephrased.jsonl", "--retain", place.folder / "retain.jsonl", "--out", place.out,
        "--device", "cpu", "--steps", "2", "--learning-rate", "1e-3", "--seed", "5",
        "--set", "training.forget_batch_size=2", "--set", "evaluation.max_new_tokens=4", "--method", "vgid",
        "--set", "evaluation.audits=none",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    manifest = json.loads((place.out / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["base_model"]["name"] == place.model.name
    assert (manifest["seed"], manifest["config"]["training"]["forget_batch_size"]) == (5, 2)
    rows = [line.split() for line in result.stdout.splitlines()]
    before, after = (manifest["metrics"][stage][0]["value"] for stage in ("before", "after"))
    assert ["forget", "ROUGE-L", f"{before:.3f}", f"{after:.3f}", "4"] in rows
    assert f"The adapter is in {place.out}" in result.stdout


def test_an_adapter_is_replaced_only_when_asked_and_whole(done: Done, place: Place) -> None:
    shutil.copytree(done.place.out, place.out)
    refused = invoke(unlearn, place.file)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "--overwrite replaces an adapter that is there" in refused.stderr
    result = invoke(unlearn, place.file, "--overwrite", "--steps", "1")
    assert result.exit_code == 0, result.output
    assert json.loads((place.out / "manifest.json").read_text(encoding="utf-8"))["steps"] == 1
    assert {file.name for file in place.out.iterdir()} == WRITTEN


def test_an_adapter_can_be_read_by_whoever_may_read_what_lies_beside_it(done: Done) -> None:
    assert len({(done.place.out / name).stat().st_mode for name in WRITTEN}) == 1


def test_a_dry_run_needs_no_folder_to_write_to(place: Place) -> None:
    place.file.write_text(place.file.read_text(encoding="utf-8").replace('out = "adapter"\n', ""), encoding="utf-8")
    before = place.names()
    result = invoke(unlearn, place.file, "--dry-run", "--json")
    assert result.exit_code == 0, result.output
    assert place.names() == before
    assert "out is missing" in invoke(unlearn, place.file).stderr


def test_a_mistyped_folder_isnt_asked_of_the_hub(place: Place) -> None:
    result = invoke(unlearn, place.file, "--model", "tests/nothing")
    assert (result.exit_code, result.stdout) == (2, "")
    assert (
        "error: --model: no folder tests/nothing. It isn't asked of the hub, since tests is one here" in result.stderr
    )


def test_a_missing_input_isnt_hidden_behind_a_folder_that_is_taken(place: Place) -> None:
    place.out.mkdir()
    (place.out / "manifest.json").touch()
    result = invoke(unlearn, place.file, "--forget", place.folder / "nope.jsonl")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"error: --forget: {place.folder / 'nope.jsonl'}: no such file or folder\n"
    assert "isn't empty" in invoke(unlearn, place.file).stderr


def test_a_folder_that_holds_more_than_an_adapter_is_never_replaced(place: Place) -> None:
    (place.out / "thesis").mkdir(parents=True)
    result = invoke(unlearn, place.file, "--overwrite")
    assert result.exit_code == 2
    assert "holds more than an adapter" in result.stderr
    assert (place.out / "thesis").is_dir()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            ["--method", "vgid-substitut"],
            "--method: no method has this name; did you mean vgid-substitute? There are vgid",
        ),
        (
            ["--set", "method.noise_draws=4"],
            "--set method.noise_draws: is no setting of vgid-substitute, only of vgid; ",
        ),
    ],
)
def test_a_method_or_setting_that_isnt_there_is_answered_with_those_that_are(
    place: Place, given: list[str], said: str
) -> None:
    result = invoke(unlearn, place.file, *given)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: {said}")


def test_a_failed_run_is_one_line_and_leaves_nothing(place: Place) -> None:
    model = place.folder / "no-model"
    model.mkdir()
    (model / "config.json").write_text("{}", encoding="utf-8")
    result = invoke(unlearn, place.file, "--model", model)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines()[-1].startswith("error: 'no-model' can't be loaded: ")
    assert "adapter" not in place.names()


def test_tensorboard_is_asked_for_by_its_extras_name(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorboard, "find_spec", lambda _name: None)
    result = invoke(unlearn, place.file, "--tensorboard", place.folder / "events")
    assert result.exit_code == 2
    assert "pip install '.[tensorboard]'" in result.stderr
    assert "events" not in place.names()


@pytest.mark.parametrize("option", ["--checkpoint", "--tensorboard"])
@pytest.mark.parametrize("inside", ["", "below/it"])
def test_a_file_where_a_folder_belongs_is_said_at_once(place: Place, option: str, inside: str) -> None:
    (place.folder / "taken").write_text("mine", encoding="utf-8")
    result = invoke(unlearn, place.file, "--forget", "nowhere", option, place.folder / "taken" / inside)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"error: {option}: {place.folder / 'taken'} is no folder\n"


def test_mistakes_and_help_cost_no_torch(place: Place) -> None:
    (place.folder / "retain.jsonl").write_text(
        '{"image": "none.png", "question": "?", "answer": "!"}', encoding="utf-8"
    )
    code = (
        "import sys, typer\n"
        "from vgid_core.cli import chat, evaluate, unlearn\n"
        "for command, arguments in ((unlearn.unlearn, sys.argv[1:]), (evaluate.evaluate, sys.argv[1:]),\n"
        "                           (chat.chat, ['--help'])):\n"
        "    app = typer.Typer()\n"
        "    app.command()(command)\n"
        "    try:\n"
        "        app(args=arguments)\n"
        "    except SystemExit as ended:\n"
        "        print('exit code', ended.code)\n"
        "assert not {'torch', 'transformers', 'peft'} & set(sys.modules)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(place.file)], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr.count("error: retain[0].image: no such file") == 2
    assert ran.stdout.count("exit code 2") == 2


def test_a_dry_run_shows_the_adapters_size(done: Done, place: Place) -> None:
    beside = place.names()
    result = invoke(unlearn, place.file, "--dry-run", "--json")
    assert result.exit_code == 0, result.output
    assert place.names() == beside
    with safe_open(done.place.out / "adapter_model.safetensors", framework="pt") as weights:
        sizes = [weights.get_tensor(key).nbytes for key in weights.keys()]  # noqa: SIM118
    assert json.loads(result.stdout)["adapter_file"] == sum(sizes)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        (["method=vgid", 'method.instruction="Forget <image>."'], "method.instruction"),
        (
            ["method=vgid", 'method.instruction="Forget {name}."', 'method.subject_name="Ada <image>"'],
            "method.instruction",
        ),
        (['method.visual_questions=["What hat?", "<image>?"]'], "method.visual_questions[1]"),
    ],
)
@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_a_setting_with_a_control_token_is_named_before_anything_is_computed(
    place: Place, settings: list[str], field: str, more: list[str]
) -> None:
    result = invoke(unlearn, place.file, *(f"--set={setting}" for setting in settings), *more)
    assert result.exit_code == 2
    assert result.stderr.strip().splitlines()[-1] == f"error: {field}: holds one of the model's control tokens"
