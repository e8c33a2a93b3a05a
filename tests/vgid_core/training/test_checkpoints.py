"""Checkpoints: an interrupted run resumes to the very same adapter, and its checkpoint holds nothing of the data."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from tests.vgid_core.support.memory_limits import small_memory
from tests.vgid_core.support.runs import spec
from tests.vgid_core.support.tiny import FEW_PAIRS, SENTENCES, pair_set, save_tiny_model
from vgid_core import Progress, UnlearnConfig, UnlearnResult, unlearn
from vgid_core.errors import CheckpointUnusable, RunStopped
from vgid_core.models.load import load_base
from vgid_core.scoring.choose import choose_scorer
from vgid_core.scoring.scorer import Scorer
from vgid_core.training.checkpoints import Checkpoint, Checkpoints, delete_checkpoint
from vgid_core.training.loop import distil

# More retain pairs than a step or the evaluation uses, so that their teacher states are computed in several steps.
RETAIN = pair_set("retain", 17, first_picture=20)
TRAINING = {
    "steps": 5,
    "forget_batch_size": 3,
    "retain_batch_size": 5,
    "micro_batch_size": 3,
    "learning_rate": 3e-3,
    "warmup_steps": 2,
}


class Interrupted(Exception):
    pass


def config(**changes: object) -> UnlearnConfig:
    evaluation = {"max_pairs": 2, "max_new_tokens": 3, "audits": "none"}
    values = {"device": "cpu", "method": FEW_PAIRS, "training": TRAINING, "evaluation": evaluation}
    return UnlearnConfig.model_validate(values | changes)


def run(
    model: Path, out: Path, settings: UnlearnConfig, stop_at: int | None = None, **changes: object
) -> UnlearnResult:
    def on_step(progress: Progress) -> None:
        if progress.step == stop_at:
            raise Interrupted

    return unlearn(spec(model, out, config=settings, checkpoint_seconds=0, **({"retain": RETAIN} | changes)), on_step)


def interrupted(model: Path, folder: Path, settings: UnlearnConfig, stop_at: int = 3, **changes: object) -> Path:
    """The checkpoint of a run that was interrupted in this step: it is of the step before."""
    with pytest.raises(Interrupted):
        run(model, folder / "never", settings, stop_at, checkpoint=folder / "checkpoint", **changes)
    return folder / "checkpoint"


@pytest.mark.parametrize(
    "changes",
    [
        {"method": {"name": "vgid", "perturbation": {"kind": "gaussian"}}},
        {"method": {"name": "vgid", "noise_draws": 2}},
        {"method": {"name": "vgid", "perturbation": {"kind": "diffusion", "strength": 100, "final_strength": 900}}},
        {"lora": {"dropout": 0.2}, "training": TRAINING},
        {"dtype": "bfloat16", "method": {"name": "npo"}},
        {"base_weights": "nf4", "training": TRAINING | {"gradient_checkpointing": True}},
    ],
    ids=["fresh noise", "fixed draws", "changing strength", "dropout", "NPO in bfloat16", "4 bits, recomputed layers"],
)
def test_an_interrupted_run_resumes_to_the_same_adapter(
    tiny_folder: Path, tmp_path: Path, changes: dict[str, object]
) -> None:
    settings = config(**changes)
    alone = run(tiny_folder, tmp_path / "alone", settings).manifest
    checkpoint = interrupted(tiny_folder, tmp_path, settings)
    resumed = run(tiny_folder, tmp_path / "resumed", settings, checkpoint=checkpoint).manifest
    assert resumed["files"] == alone["files"], "bit for bit"
    assert resumed["metrics"] == alone["metrics"]
    assert (resumed["resumed_after"], resumed["steps"]) == (2, 5)
    assert alone["resumed_after"] == 0


def test_pairs_that_share_an_answer_have_the_same_target_in_a_resumed_run(tiny_folder: Path, tmp_path: Path) -> None:
    """Such pairs come up in several steps, and the first of them computes the target."""
    forget = pair_set("forget", 10)
    assert len({pair.answer for pair in forget}) < len(forget)
    alone = run(tiny_folder, tmp_path / "alone", config(), forget=forget).manifest
    checkpoint = interrupted(tiny_folder, tmp_path, config(), forget=forget)
    resumed = run(tiny_folder, tmp_path / "resumed", config(), checkpoint=checkpoint, forget=forget).manifest
    assert resumed["files"] == alone["files"], "bit for bit"
    assert resumed["resumed_after"] == 2


def test_a_run_can_be_interrupted_again_and_at_its_end(tiny_folder: Path, tmp_path: Path) -> None:
    alone = run(tiny_folder, tmp_path / "alone", config()).manifest
    checkpoint = interrupted(tiny_folder, tmp_path, config(), stop_at=2)
    interrupted(tiny_folder, tmp_path, config(), stop_at=4)

    def at_the_end(progress: Progress) -> None:
        if progress.phase == "evaluating":
            raise Interrupted

    again = spec(
        tiny_folder, tmp_path / "x", config=config(), retain=RETAIN, checkpoint=checkpoint, checkpoint_seconds=3600
    )
    with pytest.raises(Interrupted):
        unlearn(again, at_the_end)
    resumed = run(tiny_folder, tmp_path / "resumed", config(), checkpoint=checkpoint).manifest
    assert resumed["files"] == alone["files"]
    assert resumed["resumed_after"] == 5, "the last step is always saved"


def test_a_stopped_run_saves_its_step_first(tiny_folder: Path, tmp_path: Path) -> None:
    alone = run(tiny_folder, tmp_path / "alone", config()).manifest
    changes = {"config": config(), "retain": RETAIN, "checkpoint": tmp_path / "c", "checkpoint_seconds": 3600}
    again, answers = spec(tiny_folder, tmp_path / "x", **changes), iter([False, True])
    with pytest.raises(RunStopped, match="after step 2"):
        unlearn(again, stop=lambda: next(answers))
    resumed = unlearn(again, stop=lambda: False).manifest
    assert resumed["files"] == alone["files"], "bit for bit"
    assert (resumed["resumed_after"], resumed["steps"]) == (2, 5)


def test_a_resumed_run_keeps_the_micro_batch_size(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A larger size would run out of memory again."""

    def choose(*given: Any, **named: Any) -> Scorer:
        return small_memory(choose_scorer(*given, **named), 1, [])

    with monkeypatch.context() as patched:
        patched.setattr("vgid_core.training.loop.choose_scorer", choose)
        checkpoint = interrupted(tiny_folder, tmp_path, config())
    resumed = run(tiny_folder, tmp_path / "resumed", config(), checkpoint=checkpoint).manifest
    assert resumed["resumed_after"] == 2
    assert (resumed["micro_batch_size"], resumed["config"]["training"]["micro_batch_size"]) == (1, 3)


def test_a_finished_run_leaves_no_checkpoint(tiny_folder: Path, tmp_path: Path) -> None:
    run(tiny_folder, tmp_path / "out", config(), checkpoint=tmp_path / "a" / "checkpoint")
    assert list((tmp_path / "a").iterdir()) == []


def test_a_checkpoint_holds_the_adapter_and_nothing_of_the_data(tiny_folder: Path, tmp_path: Path) -> None:
    folder = interrupted(tiny_folder, tmp_path, config())
    (file,) = folder.iterdir()
    assert folder.stat().st_mode & 0o077 == 0
    with safe_open(file, framework="pt") as stored:
        names = list(stored.keys())
        state = json.loads(stored.metadata()["vgid"])
    assert len(names) == 4 * 2 * 14
    assert all(re.fullmatch(r"\d+\.(master|step|exp_avg|exp_avg_sq)", name) for name in names)
    everything = file.read_bytes()
    assert not any(text.encode() in everything for text in SENTENCES)
    assert b"PNG" not in everything
    digests = {"base", *(f"data.{role}" for role in ("forget", "retain", "utility", "rephrased"))}
    digests |= {name for name in state["identity"] if name.startswith("config.")} | {"config"}
    assert {"config.seed", "config.method.teachers", "config.training.learning_rate"} <= digests
    how = {"dtype": "torch.float32", "device": "cpu", "vgid": version("vgid")}
    assert state["identity"].keys() == digests | how.keys()
    assert {name: state["identity"][name] for name in how} == how
    assert all(re.fullmatch("[0-9a-f]{64}", state["identity"][name]) for name in digests)


@pytest.mark.parametrize(
    ("what", "changes"),
    [
        ("config.seed", {"settings": config(seed=1)}),
        ("config.lora.rank, config.seed", {"settings": config(seed=1, lora={"rank": 8})}),
        ("config.method", {"settings": config(method="npo")}),
        ("data.forget", {"forget": pair_set("whatever", 3)}),
        ("data.retain", {"retain": pair_set("whatever", 4, first_picture=30)}),
        ("data.utility", {"utility": None}),
    ],
)
def test_another_runs_checkpoint_is_refused_before_anything_is_measured(
    tiny_folder: Path, tmp_path: Path, what: str, changes: dict[str, object]
) -> None:
    checkpoint = interrupted(tiny_folder, tmp_path, config())
    reports: list[Progress] = []
    other = {"config": changes.pop("settings", config()), "retain": RETAIN} | changes
    with pytest.raises(CheckpointUnusable, match=f"another run's, which differs in {what}$"):
        unlearn(spec(tiny_folder, tmp_path / "out", checkpoint=checkpoint, **other), reports.append)
    assert {progress.phase for progress in reports} == {"loading"}
    assert list(checkpoint.iterdir()), "its own run can still resume from it"


def test_another_bases_checkpoint_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    checkpoint = interrupted(tiny_folder, tmp_path, config())
    other = save_tiny_model(tmp_path / "other", seed=1)
    with pytest.raises(CheckpointUnusable, match=r"another run's, which differs in base$"):
        run(other, tmp_path / "out", config(), checkpoint=checkpoint)


@pytest.mark.parametrize(
    ("what", "where", "other"),
    [
        ("device", "models.load.choose_device", lambda _requested: torch.device("meta")),
        ("dtype", "models.load.choose_dtype", lambda _settings: torch.bfloat16),
        ("vgid", "training.checkpoints.version", lambda _package: "a later one"),
    ],
)
def test_a_checkpoint_from_another_environment_is_refused(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, where: str, other: Callable[..., Any]
) -> None:
    """Settings can leave precision and device open, and another version of vgid can compute something else."""
    settings = config()
    checkpoint = interrupted(tiny_folder, tmp_path, settings)
    monkeypatch.setattr(f"vgid_core.{where}", other)
    with pytest.raises(CheckpointUnusable, match=f"another run's, which differs in {what}$"):
        run(tiny_folder, tmp_path / "out", settings, checkpoint=checkpoint)


@pytest.mark.parametrize("damage", ["cut", "no header", "other format"])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "checkpoint"
    checkpoints = Checkpoints(folder, {"base": "b"}, 0)
    checkpoints.save(Checkpoint(1, 4, {}, {"0.master": torch.zeros(4)}))
    (file,) = folder.iterdir()
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-8])
    else:
        metadata = {"vgid": json.dumps({"format": "vgid-checkpoint/0"})} if damage == "other format" else None
        save_file({"0.master": torch.zeros(4)}, file, metadata=metadata)
    for read in (checkpoints.load, checkpoints.require_own):
        with pytest.raises(CheckpointUnusable):
            read()


def test_a_partial_file_never_replaces_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = Checkpoints(tmp_path / "c", {"base": "b"}, 0)
    checkpoints.save(Checkpoint(1, 4, {"last_epoch": 1}, {"0.master": torch.ones(4)}))

    def full_disk(_tensors: object, name: str, **_: object) -> None:
        Path(name).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("vgid_core.training.checkpoints.save_file", full_disk)
        checkpoints.save(Checkpoint(2, 4, {}, {"0.master": torch.zeros(4)}))
    found = checkpoints.load()
    assert found is not None
    assert (found.step, found.schedule) == (1, {"last_epoch": 1})
    assert torch.equal(found.tensors["0.master"], torch.ones(4))
    assert len(list((tmp_path / "c").iterdir())) == 2
    checkpoints.save(Checkpoint(3, 4, {}, {"0.master": torch.zeros(4)}))
    assert len(list((tmp_path / "c").iterdir())) == 1, "the partial file is gone"


def test_other_files_in_the_folder_stay(tmp_path: Path) -> None:
    theirs = [tmp_path / name for name in ("thesis.partial", "checkpoint-7.partial", "checkpoint.safetensors.partial")]
    for file in theirs:
        file.write_text("mine")
    checkpoints = Checkpoints(tmp_path, {"base": "b"}, 0)
    checkpoints.save(Checkpoint(1, 4, {}, {"0.master": torch.zeros(4)}))
    assert set(tmp_path.iterdir()) == {*theirs, tmp_path / "checkpoint.safetensors"}
    delete_checkpoint(tmp_path)
    assert set(tmp_path.iterdir()) == set(theirs)


def test_a_deleted_folder_is_recreated_for_this_account_alone(tmp_path: Path) -> None:
    folder = tmp_path / "c"
    checkpoints = Checkpoints(folder, {"base": "b"}, 0)
    folder.rmdir()
    checkpoints.save(Checkpoint(1, 4, {}, {"0.master": torch.zeros(4)}))
    found = checkpoints.load()
    assert found is not None
    assert found.step == 1
    assert folder.stat().st_mode & 0o077 == 0


def test_a_run_shorter_than_the_interval_leaves_one_checkpoint_at_its_end(tiny_folder: Path, tmp_path: Path) -> None:
    base = load_base(str(tiny_folder), config())
    found = []
    checkpoints = Checkpoints(tmp_path / "c", {"base": base.digest}, 3600)

    def on_step(_step: int, _loss: object) -> None:
        found.append(checkpoints.load())

    distil(base, pair_set("forget", 3), RETAIN, config(), on_step, checkpoints=checkpoints)
    assert found == [None] * 5
    last = checkpoints.load()
    assert last is not None
    assert last.step == 5
