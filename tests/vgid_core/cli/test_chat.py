"""`vgid chat` as typed, with the input from a file instead of a terminal."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError
from safetensors.torch import load_file, save_file
from transformers.utils import hub

from compare.command import compare
from tests.vgid_core.cli.conftest import Done, Place, invoke
from tests.vgid_core.support.tiny import SENTENCES, picture
from vgid_core import Pair, PairSet
from vgid_core.cli.chat import chat
from vgid_core.config import EvaluationConfig
from vgid_core.evaluation.evaluate import generate_answers
from vgid_core.lora.load import load_adapter
from vgid_core.models.base import BaseModel

QUESTION = SENTENCES[0]
MOST = EvaluationConfig(max_new_tokens=6)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    file = tmp_path / "face.png"
    file.write_bytes(picture(0).data)
    return file


@pytest.fixture
def answers(base: BaseModel, done: Done) -> tuple[str, str]:
    """What the base says to QUESTION, and what it says with the run's adapter."""
    asked = PairSet("asked", (Pair(picture(0), QUESTION, "-"),))
    [plain] = generate_answers(base, asked, MOST)
    load_adapter(base, done.place.out)
    [adapted] = generate_answers(base, asked, MOST)
    shown = ["".join(c if c.isprintable() else " " for c in said) for said in (plain, adapted)]
    assert shown[0] != shown[1]
    return shown[0], shown[1]


def test_a_question_is_answered_through_the_adapter(done: Done, image: Path, answers: tuple[str, str]) -> None:
    result = invoke(chat, done.place.file, "--image", image, "--ask", QUESTION, "--ask", QUESTION)
    assert (result.exit_code, result.stdout) == (0, f"{answers[1]}\n{answers[1]}\n")


def test_an_adapter_given_as_a_flag_needs_no_run_file(done: Done, image: Path, answers: tuple[str, str]) -> None:
    few = ("--set", "evaluation.max_new_tokens=6")
    asked = ("--model", done.place.model, *few, "--image", image, "--ask", QUESTION)
    result = invoke(chat, *asked, "--adapter", done.place.out)
    assert (result.exit_code, result.stdout) == (0, f"{answers[1]}\n")


def test_an_adapter_given_as_a_flag_takes_the_place_of_the_run_files(
    done: Done, place: Place, image: Path, answers: tuple[str, str]
) -> None:
    shutil.copytree(done.place.out, place.out)
    weights = place.out / "adapter_model.safetensors"
    save_file({name: torch.zeros_like(tensor) for name, tensor in load_file(weights).items()}, weights)
    own = invoke(chat, place.file, "--image", image, "--ask", QUESTION)
    assert (own.exit_code, own.stdout) == (0, f"{answers[0]}\n"), "an adapter of zeros changes nothing"
    given = invoke(chat, place.file, "--image", image, "--ask", QUESTION, "--adapter", done.place.out)
    assert (given.exit_code, given.stdout) == (0, f"{answers[1]}\n")


def test_a_folder_without_an_adapter_is_named(done: Done, place: Place, image: Path) -> None:
    result = invoke(chat, done.place.file, "--image", image, "--ask", QUESTION, "--adapter", place.folder)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"error: --adapter: {place.folder} holds no adapter_config.json\n"


def test_both_answers_stand_side_by_side(done: Done, image: Path, answers: tuple[str, str]) -> None:
    result = invoke(chat, done.place.file, "--image", image, "--ask", QUESTION, "--both")
    assert result.exit_code == 0, result.output
    [row] = [line for line in result.stdout.split("\n") if QUESTION in line]
    assert [cell.strip() for cell in row.split("   ") if cell.strip()][1:] == [said.strip() for said in answers]


def test_a_talk_switches_image_and_adapter_and_survives_mistakes(
    done: Done, image: Path, answers: tuple[str, str]
) -> None:
    plain, adapted = answers
    typed = f"{QUESTION}\n/image none.png\n/image {image}\n{QUESTION}\n\n/adapter off\n{QUESTION}\nWho <image>?\n"
    typed += f"/both\n[bold]{QUESTION}\n/adapter on\n{QUESTION}\n/what\n/quit\n{QUESTION}\n"
    result = invoke(chat, done.place.file, typed=typed)
    assert result.exit_code == 0, result.output
    said = result.stdout.split("\n")
    assert [line for line in said if line in answers] == [adapted, plain, adapted]
    assert any(f"[bold]{QUESTION}" in line for line in said), "markup is shown, not obeyed"
    assert result.stderr.splitlines() == [
        "image: there is none yet: /image FILE, or --image",
        "image: none.png can't be read (No such file or directory)",
        f"image: {image}",
        "the adapter is off",
        "question: holds one of the model's control tokens",
        "both answer, without the adapter and with it",
        "the adapter is on",
        "commands: /image FILE · /adapter on|off · /both · /quit",
    ]


def test_without_an_adapter_the_base_answers(done: Done, image: Path, answers: tuple[str, str]) -> None:
    model = done.place.model
    few = ("--set", "evaluation.max_new_tokens=6")
    result = invoke(chat, "--model", model, *few, "--image", image, typed=f"/adapter on\n{QUESTION}\n")
    assert (result.stdout, result.stderr) == (f"{answers[0]}\n", "there is no adapter: the base answers\n")
    both = invoke(chat, "--model", model, "--image", image, "--ask", QUESTION, "--both")
    assert both.exit_code == 2
    assert "adapter: there is none to show both ways" in both.stderr


def test_a_question_with_half_a_character_is_named(done: Done, image: Path) -> None:
    result = invoke(chat, done.place.file, "--image", image, "--ask", "caf\udce9?")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "error: question: holds half a character (a lone surrogate)\n"


@pytest.mark.parametrize("question", ["", " \n"])
def test_an_empty_question_is_refused(done: Done, image: Path, question: str) -> None:
    result = invoke(chat, done.place.file, "--image", image, "--ask", QUESTION, "--ask", question)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "error: --ask: the question is empty\n"


HUB_ID = "nope/nope"


def hub_answers(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """What a request for a model's files ends with, in the place of the hub."""

    def hf_hub_download(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(hub, "hf_hub_download", hf_hub_download)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (LocalEntryNotFoundError("No connection."), "and the hub couldn't be reached"),
        (
            RepositoryNotFoundError.__new__(RepositoryNotFoundError),
            "and the hub has no such model, or not for this account",
        ),
        (GatedRepoError.__new__(GatedRepoError), "its owners let only those have it who ask on the hub and log in"),
    ],
    ids=["no network", "no such model", "gated"],
)
@pytest.mark.parametrize("command", [chat, compare])
def test_why_the_hub_gives_no_model_is_shown_in_words(
    place: Place, monkeypatch: pytest.MonkeyPatch, command: Callable[..., None], error: Exception, said: str
) -> None:
    hub_answers(monkeypatch, error)
    asked = ["--out", place.folder / "out"] if command is compare else ["--ask", QUESTION]
    result = invoke(command, place.file, "--model", HUB_ID, *asked)
    assert result.exit_code == 1
    ended = result.stderr.splitlines()[-1]
    assert ended.startswith(f"error: '{HUB_ID}' can't be loaded: ")
    assert said in ended


def test_what_the_hubs_library_warns_of_is_shown_once() -> None:
    """In a process of its own: pytest listens to logs, too, and a command adds no second listener."""
    code = (
        "import logging\n"
        "from vgid_core.cli.log_setup import set_up_logs\n"
        "set_up_logs()\n"
        "for _ in range(2):\n"
        "    logging.getLogger('huggingface_hub.utils._http').warning('Retrying')\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "warning: Retrying\n")


def test_an_image_that_isnt_one_is_named_before_anything_is_loaded(done: Done) -> None:
    result = invoke(chat, done.place.file, "--image", done.place.file, "--ask", QUESTION)
    assert result.exit_code == 2
    assert "error: image: not a readable image" in result.stderr
