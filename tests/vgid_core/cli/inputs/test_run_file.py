"""A run as it is written down: what overrides what, where paths start, and what is said about mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.vgid_core.support.tiny import picture
from vgid_core.cli.inputs.run_file import RunFile, RunFileError, adapter_folder, flag_settings, load_run
from vgid_core.cli.inputs.sources import read_pairs
from vgid_core.cli.out_folder import write_atomically
from vgid_core.config import UnlearnConfig
from vgid_core.data.pairs import DataError

FILE = """
model = "org/name"
forget = "data/forget.jsonl"
out = "adapter"
[probes]
other = "mllmu:data/other"
[config]
seed = 3
[config.training]
steps = 7
learning_rate = 1e-4
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "runs" / "run.toml"
    path.parent.mkdir()
    path.write_text(FILE, encoding="utf-8")
    return path


def test_paths_start_at_the_file_and_those_of_flags_at_the_present_folder(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = load_run(file, {"retain": "retain.jsonl", "utility": None, "probes": {"mine": "mine.jsonl"}})
    assert run.forget == str(file.parent / "data" / "forget.jsonl")
    assert run.out == str(file.parent / "adapter")
    assert run.retain == str(tmp_path / "retain.jsonl")
    assert run.utility is None
    assert run.probes == {
        "other": f"mllmu:{file.parent / 'data' / 'other'}",
        "mine": str(tmp_path / "mine.jsonl"),
    }
    assert (run.model, run.model_label) == ("org/name", "org/name")


def test_settings_override_the_file_and_leave_the_rest(file: Path) -> None:
    run = load_run(file, {}, flag_settings({"training.steps": 9}, ["method.teachers=3", "lora.rank=4"]))
    training = run.config.training
    assert (training.steps, training.learning_rate, run.config.seed) == (9, 1e-4, 3)
    assert (run.config.method.teachers, run.config.lora.rank) == (3, 4)


def test_a_methods_name_takes_the_place_of_its_settings_and_can_be_added_to(file: Path) -> None:
    run = load_run(file, {}, flag_settings({}, ["method.noise_draws=2", "method=vgid", "method.instruction="]))
    assert run.config.method.instruction == ""
    assert run.config.method.noise_draws is None


def test_a_presets_name_takes_the_place_of_the_files_method_and_can_be_added_to(file: Path) -> None:
    file.write_text(f"{FILE}[config.method]\nteachers = 4\noff_target_pairs = 3\n", encoding="utf-8")
    run = load_run(file, {}, flag_settings({}, ["method.noise_draws=2", "preset=paper"]))
    paper = UnlearnConfig.preset("paper")
    assert run.config.method == paper.method.model_copy(update={"noise_draws": 2})
    assert (run.config.lora, run.config.training.forget_batch_size) == (paper.lora, 16)
    assert run.config.training.steps == 7, "what else the file says still counts"


def test_a_preset_of_another_method_than_the_flags_is_refused(file: Path) -> None:
    with pytest.raises(RunFileError, match=r"^--set preset: 'paper' is the method 'vgid', not 'npo': leave out"):
        load_run(file, {}, flag_settings({"method": "npo"}, ["preset=paper"]))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("100", 100),
        ("3e-3", 3e-3),
        ("true", True),
        ("null", None),
        ("npo", "npo"),
        ("", ""),
        ('"7"', "7"),
        ("[", "["),
        ("[" * 100_000, "[" * 100_000),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_a_value_is_what_json_makes_of_it_or_the_text_itself(text: str, value: Any) -> None:
    assert flag_settings({}, [f"key={text}"]) == [("key", value, "--set key")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("modell = 'x'", "modell: unknown key; did you mean model?"),
        ("[config.training]\nstepz = 3", "config.training.stepz: unknown key; did you mean steps?"),
        ("[config.lora]\nsize = 3", "config.lora.size: unknown key; known here: rank, alpha, dropout, scope"),
        (
            "[config.method]\nname = 'vgid'\ninstructions = 'x'",
            "config.method.instructions: unknown key; did you mean instruction?",
        ),
        ("[config.training]\nsteps = 0", "config.training.steps: Input should be greater than or equal to 1"),
        ("[config]\ntraining = 3", "config.training: must be a table of settings"),
        (
            "[config.method]\nname = 'vgid'\n[config.method.perturbation]\nkind = 'blur'\nstrength = 99.0",
            "config.method.perturbation: strength of",
        ),
        ("[probes]\nretain = 'x.jsonl'", "probes.retain: is a reserved name"),
        ("[probes]\n'a b' = 'x.jsonl'", "probes.a b: String should match"),
        (
            "[config]\nmethod = 'vgid-substitut'",
            "config.method: no method has this name; did you mean vgid-substitute?",
        ),
        ("[config.method]\nname = 'NPO2'", "config.method.name: no method has this name; did you mean npo?"),
        ("[config]\npreset = 'paper'\nmethod = 'vgdi'", "no method has this name; did you mean vgid?"),
        (
            "[config]\nmethod = 'lorem'",
            "no method has this name. There are vgid-substitute, vgid, ga, graddiff, kl-min,",
        ),
        ("[config]\nmethod = 3", "config.method: must be a table of settings"),
        ("[config.method]\ndraws = 4", "config.method.draws: is called teachers now"),
        ("[config.method]\nvisible_questions = []", "visible_questions: is called visual_questions now"),
        (
            "[config.method]\nnoise_draws = 4",
            "config.method.noise_draws: is no setting of vgid-substitute, only of vgid;",
        ),
        ("[config.method]\nnoise_draws = 4", "vgid-substitute has teachers, likelihood_weight,"),
        ("[config.method]\nname = 'ga'\ninstruction = ''", "is no setting of ga, only of vgid; ga has no"),
        (
            "[config]\npreset = 'paper'\nmethod.teachers = 4\nmethod.off_target_pairs = 3",
            "config.preset: 'paper' is the method 'vgid', which has no teachers, off_target_pairs: leave these out of",
        ),
        ("[config]\npreset = 'papre'", "config.preset: must be one of paper"),
        ("[config]\npreset = 'paper'\nmethod.drawn = 4", "config.method.drawn: unknown key; known here: "),
        ("[config.method]\nname = 'rmu'\nsize = 4", "config.method.size: unknown key; known here: name, coefficient,"),
        ("[config.method]\nname = 'npo'\ndraw = 4", "config.method.draw: unknown key; known here: name, inverse"),
        (
            "[config.method]\nname = 'vgid'\ninstruction = 'No {name}.'",
            "config.method: instruction with {name} and subject_name need",
        ),
        ("[config.method]\nname = 'vgid'\ninstruction = '{x}'", "config.method: instruction takes no placeholders but"),
        ("forget = 3", "forget: Input should be a valid string"),
        ("model = 'no such folder'", "model: no folder no such folder"),
        ("model = '.'", "holds no config.json"),
        ("model = ", "isn't TOML"),
        ("model = ''", "model: is empty"),
        ("forget = ''", "forget: is empty"),
        ("out = ''", "out: is empty"),
        ('out = "a\\u0000b"', "out: holds a NUL character"),
        ('probes.a = "a\\u0000b"', "probes.a: holds a NUL character"),
    ],
)
def test_a_mistake_is_named_by_its_key(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "run.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(RunFileError) as error:
        load_run(file, {})
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("flags", "named", "given", "said"),
    [
        ({}, {"method": "nope"}, [], "--method: no method has this name."),
        ({}, {"device": "tpu"}, [], "--device: device must be auto, cpu, cuda or cuda:N"),
        ({}, {"training.learning_rate": 0.0}, [], "--learning-rate: Input should be greater than 0"),
        ({}, {}, ["training.stepz=3"], "--set training.stepz: unknown key; did you mean steps?"),
        ({}, {}, ['lora={"rnak": 3}'], "--set lora.rnak: unknown key; did you mean rank?"),
        ({}, {"method": "vgid"}, ["method.teachers=3"], "--set method.teachers: is no setting of vgid"),
        ({"probes": {"forget": "x.jsonl"}}, {}, [], "--probe forget: is a reserved name"),
        ({"unseen": ""}, {}, [], "--unseen: is empty"),
        ({"model": "no such folder"}, {}, [], "--model: no folder no such folder"),
    ],
)
def test_what_a_flag_gave_is_named_by_the_flag(
    file: Path, flags: dict[str, Any], named: dict[str, Any], given: list[str], said: str
) -> None:
    """Not by the run file, in which nobody would find it."""
    with pytest.raises(RunFileError) as error:
        load_run(file, flags, flag_settings(named, given))
    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)


def test_what_a_method_has_is_said_once(file: Path) -> None:
    file.write_text(f"{FILE}[config.method]\nname = 'vgid'\nteachers = 3\noff_target_pairs = 3\n", encoding="utf-8")
    with pytest.raises(RunFileError) as error:
        load_run(file, {})
    teachers, elsewhere = str(error.value).split("\n")
    assert (
        teachers.partition("; vgid has ")[0]
        == f"{file}: config.method.teachers: is no setting of vgid, only of vgid-substitute"
    )
    assert elsewhere == f"{file}: config.method.off_target_pairs: is no setting of vgid, only of vgid-substitute"


def test_mistakes_of_flags_and_of_the_file_are_told_apart(file: Path) -> None:
    file.write_text(f"{FILE}warmup_stepz = 3\n", encoding="utf-8")
    with pytest.raises(RunFileError) as error:
        load_run(file, {}, flag_settings({}, ["training.stepz=3"]))
    assert {line.partition(": unknown key")[0] for line in str(error.value).split("\n")} == {
        "--set training.stepz",
        f"{file}: config.training.warmup_stepz",
    }


def test_every_setting_that_a_method_lacks_is_named() -> None:
    with pytest.raises(RunFileError) as error:
        load_run(
            None, {}, flag_settings({"method": "vgid"}, ["method.teachers=4", "method.noise_draw=3", "method.size=3"])
        )
    teachers, noise_draw, size = str(error.value).split("\n")
    assert teachers.startswith("--set method.teachers: is no setting of vgid, only of vgid-substitute; vgid has ")
    assert noise_draw == "--set method.noise_draw: unknown key; did you mean noise_draws?"
    assert size.startswith("--set method.size: unknown key; known here: ")


def test_a_file_that_isnt_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RunFileError, match=r"none\.toml can't be read"):
        load_run(tmp_path / "none.toml", {})


def test_a_link_to_itself_is_found_when_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "run.toml").write_text("forget = 'loop'\nretain = 'jsonl:loop'\nout = 'loop'", encoding="utf-8")
    run = load_run(tmp_path / "run.toml", {})
    for source in (run.require("forget"), run.require("retain")):
        with pytest.raises(DataError, match=r"^x: (no such file or folder|can't be read: )"):
            read_pairs(source, "x")
    with pytest.raises(RunFileError, match="loop can't be written"), write_atomically(Path(run.require("out"))):
        pass


def test_a_missing_key_says_how_to_give_it() -> None:
    with pytest.raises(RunFileError, match="unseen is missing: pass --unseen, or set it in the run file"):
        RunFile().require("unseen")


def test_the_adapter_is_the_runs_own_once_it_is_written(tmp_path: Path) -> None:
    run = RunFile(out=str(tmp_path))
    assert adapter_folder(run, None) is None
    with pytest.raises(RunFileError, match=r"holds no adapter_config\.json"):
        adapter_folder(run, tmp_path)
    (tmp_path / "adapter_config.json").touch()
    assert adapter_folder(run, None) == tmp_path
    assert adapter_folder(RunFile(), None) is None


def test_data_that_cant_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^forget: no such file or folder"):
        read_pairs(str(tmp_path / "none.jsonl"), "forget")
    (tmp_path / "latin.jsonl").write_bytes("ä".encode("latin-1"))
    with pytest.raises(DataError, match=r"^forget: is not UTF-8 text"):
        read_pairs(str(tmp_path / "latin.jsonl"), "forget")
    (tmp_path / "bad.jsonl").write_text('{"image": "no.png", "question": "Who?", "answer": "Ada"}', encoding="utf-8")
    for data in (b"no picture", picture(0).data[:-40]):  # what is cut off has a whole header
        (tmp_path / "no.png").write_bytes(data)
        with pytest.raises(DataError, match=r"^forget\[0\]\.image: not a readable image \(PNG"):
            read_pairs(str(tmp_path / "bad.jsonl"), "forget")
