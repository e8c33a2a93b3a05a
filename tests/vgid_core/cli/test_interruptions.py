"""`vgid unlearn` that is interrupted, and goes on from its checkpoint."""

from __future__ import annotations

import errno
import json
import shutil
import signal
from pathlib import Path

import pytest
import torch

from terminal.progress_bar import ProgressBar
from tests.vgid_core.cli.conftest import Done, Place, invoke
from vgid_core.cli.unlearn import unlearn
from vgid_core.progress import Phase, Progress
from vgid_core.training.checkpoints import Checkpoint, Checkpoints


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int, number: signal.Signals, times: int = 1) -> None:
    """The signal comes while step `step` + 1 is about to begin; 0: before any step is done."""

    def show(_bar: ProgressBar, progress: Progress) -> None:
        if progress.phase is Phase.distilling and progress.step == step:
            for _ in range(times):
                signal.raise_signal(number)

    monkeypatch.setattr("vgid_core.cli.unlearn.show_progress", show)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_what_was_there(
    done: Done, place: Place, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    shutil.copytree(done.place.out, place.out)
    before = {file.name: file.read_bytes() for file in place.out.iterdir()}
    beside = place.names()

    def stop(_bar: ProgressBar, progress: Progress) -> None:
        if progress.phase is Phase.packaging:
            signal.raise_signal(number)

    monkeypatch.setattr("vgid_core.cli.unlearn.show_progress", stop)
    result = invoke(unlearn, place.file, "--overwrite", "--steps", "1")
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", "Stopped.\n")
    assert {file.name: file.read_bytes() for file in place.out.iterdir()} == before
    assert place.names() == beside


def test_an_interrupted_run_goes_on_from_its_checkpoint(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(_bar: ProgressBar, progress: Progress) -> None:
        if progress.phase is Phase.evaluating:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr("vgid_core.cli.unlearn.show_progress", stop)
        assert invoke(unlearn, place.file, "--checkpoint", place.folder / "left").exit_code == 130
    assert "adapter" not in place.names()
    result = invoke(unlearn, place.file, "--checkpoint", place.folder / "left")
    assert result.exit_code == 0, result.output
    manifest = json.loads((place.out / "manifest.json").read_text(encoding="utf-8"))
    assert (manifest["steps"], manifest["resumed_after"]) == (4, 4)


def test_the_checkpoint_stays_until_the_adapter_is_in_its_place(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Path.replace

    def refused(file: Path, target: Path) -> Path:
        if target.parent == place.out:
            raise OSError(errno.ENOSPC, "No space left on device")
        return whole(file, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", refused)
        assert invoke(unlearn, place.file, "--checkpoint", place.folder / "left").exit_code != 0
    result = invoke(unlearn, place.file, "--checkpoint", place.folder / "left")
    assert result.exit_code == 0, result.output
    manifest = json.loads((place.out / "manifest.json").read_text(encoding="utf-8"))
    assert (manifest["steps"], manifest["resumed_after"]) == (4, 4)
    assert not (place.folder / "left").exists()


def test_a_checkpoint_may_lie_inside_the_models_folder(place: Place, tiny_folder: Path) -> None:
    model = shutil.copytree(tiny_folder, place.folder / "model")
    result = invoke(unlearn, place.file, "--model", model, "--checkpoint", model / "left")
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_interrupted_early_writes_its_step_down_and_goes_on_to_the_same_adapter(
    done: Done, place: Place, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    left = place.folder / "left"
    with monkeypatch.context() as patched:
        stop_at(patched, 2, number)
        stopped = invoke(unlearn, place.file, "--checkpoint", left)
    assert (stopped.exit_code, stopped.stdout) == (130, "")
    assert stopped.stderr.splitlines() == [
        "Stopping after this step; once more stops at once.",
        f"Stopped. The same command goes on from the checkpoint in {left}.",
    ]
    assert "adapter" not in place.names()
    result = invoke(unlearn, place.file, "--checkpoint", left, "--json")
    assert result.exit_code == 0, result.output
    manifest, alone = (
        json.loads((out / "manifest.json").read_text(encoding="utf-8")) for out in (place.out, done.place.out)
    )
    assert (manifest["steps"], manifest["resumed_after"]) == (4, 2)
    assert manifest["files"] == alone["files"], "bit for bit"
    assert json.loads(result.stdout)["metrics"] == done.said["metrics"]
    assert not left.exists()


@pytest.mark.parametrize(("step", "times"), [(0, 1), (2, 2)])
def test_before_the_first_step_is_done_and_when_asked_twice_a_run_stops_at_once(
    place: Place, monkeypatch: pytest.MonkeyPatch, step: int, times: int
) -> None:
    stop_at(monkeypatch, step, signal.SIGINT, times)
    result = invoke(unlearn, place.file, "--checkpoint", place.folder / "left")
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1] == "Stopped."
    assert list((place.folder / "left").iterdir()) == []


def test_a_checkpoint_that_cant_be_resumed_is_reported_with_its_file_and_a_way_out(place: Place) -> None:
    left = place.folder / "left"
    base, data = "b" * 64, {"0.master": torch.zeros(1)}
    Checkpoints(left, {"base": base}, 0).save(Checkpoint(1, 4, {}, data))
    file = left / "checkpoint.safetensors"
    for problem in (
        "the checkpoint is another run's, which differs in ",
        "the checkpoint can't be read: SafetensorError",
    ):
        result = invoke(unlearn, place.file, "--checkpoint", left)
        assert (result.exit_code, result.stdout) == (1, "")
        told = result.stderr.splitlines()[-1]
        assert told.startswith(f"error: --checkpoint: {problem}")
        assert told.endswith(f"; give another folder, or delete {file} to begin anew")
        assert "adapter" not in place.names()
        file.write_bytes(file.read_bytes()[:-8])


def test_anothers_checkpoint_is_no_reason_to_say_that_the_run_goes_on(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        stop_at(patched, 1, signal.SIGINT)
        invoke(unlearn, place.file, "--checkpoint", place.folder / "left")
    assert any((place.folder / "left").iterdir())

    def show(_bar: ProgressBar, _progress: Progress) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("vgid_core.cli.unlearn.show_progress", show)
    result = invoke(unlearn, place.file, "--checkpoint", place.folder / "left", "--seed", "9")
    assert (result.exit_code, result.stderr) == (130, "Stopped.\n")
