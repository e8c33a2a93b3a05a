"""Whether a served model still knows others, with `vgid verify-serving --control` as typed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from tests.openai_server import Prompt, ScriptedServer
from tests.vgid_core.cli.test_verify_serving import NAMES, PAIRS, TRUE, Check, check, forgets
from tests.vgid_core.support.tiny import picture
from vgid_core.data.pairs import Pair, PairSet

__all__ = ["check"]

OTHERS = PairSet.of(
    "others",
    [Pair(picture(50 + n), f"Who is guest {n}?", f"This is {name} Reed.") for n, name in enumerate(NAMES)],
)
ANSWERS = TRUE | {pair.question: pair.answer for pair in OTHERS}


def knows(prompt: Prompt) -> str:
    return ANSWERS[prompt.question] if prompt.photo is not None else "I see nobody."


def beside_its_base(adapter: Callable[[Prompt], str | int]) -> ScriptedServer:
    return ScriptedServer({"base": knows, "new": adapter}, parents={"new": "base"})


def tells_others(prompt: Prompt) -> str:
    """What forgets whom it should, and no one else."""
    return knows(prompt) if "guest" in prompt.question else forgets(prompt)


@pytest.fixture
def control(tmp_path: Path) -> list[str | Path]:
    OTHERS.write_jsonl(tmp_path / "others.jsonl")
    return ["--control", tmp_path / "others.jsonl", "--json"]


def finding(result: Result, prefix: str) -> dict[str, str]:
    """The one finding whose kind begins so."""
    (found,) = [each for each in json.loads(result.stdout)["findings"] if each["kind"].startswith(prefix)]
    return dict(found)


def test_others_are_still_known_as_the_base_knows_them(check: Check, control: list[str | Path]) -> None:
    result = check(beside_its_base(tells_others), *control)
    said = json.loads(result.stdout)
    assert finding(result, "control")["level"] == "ok"
    assert said["control"] == {"digest": OTHERS.digest, "pairs": 10}
    assert (said["figures"]["control"]["told"], said["figures"]["control_base"]["told"]) == (10, 10)


def test_a_model_that_answers_nonsense_has_lost_the_control(check: Check, control: list[str | Path]) -> None:
    """It tells nothing of anybody. Nobody asked about others, that would be taken for forgetting."""
    assert check(ScriptedServer({"new": lambda _: "la la la"}), "--json").exit_code == 0
    for server in (ScriptedServer({"new": lambda _: "la la la"}), beside_its_base(lambda _: "la la la")):
        result = check(server, *control)
        assert (result.exit_code, json.loads(result.stdout)["verdict"]) == (1, "does-not-arrive")
        lost = finding(result, "control")
        assert (lost["kind"], lost["level"]) == ("control-lost", "fault")
        assert "of others 0 of 10 facts are told" in lost["message"]


@pytest.mark.parametrize(("known", "kind", "level"), [(9, "control", "ok"), (8, "control-lost", "fault")])
def test_one_fact_in_ten_may_be_lost(
    check: Check, control: list[str | Path], known: int, kind: str, level: str
) -> None:
    def partly(prompt: Prompt) -> str:
        return tells_others(prompt) if int(prompt.question[-2]) < known else forgets(prompt)

    found = finding(check(beside_its_base(partly), *control), "control")
    assert (found["kind"], found["level"]) == (kind, level)


def test_without_a_base_only_the_clear_cases_are_judged(check: Check, control: list[str | Path]) -> None:
    def half(prompt: Prompt) -> str:
        return tells_others(prompt) if int(prompt.question[-2]) % 2 else forgets(prompt)

    assert finding(check(ScriptedServer({"new": tells_others}), *control), "control")["level"] == "ok"
    closed = check(ScriptedServer({"new": half}), "--base", "base", *control)
    assert (closed.exit_code, finding(closed, "control")["level"]) == (0, "warning")


def test_a_control_that_the_base_doesnt_know_shows_nothing(check: Check, control: list[str | Path]) -> None:
    server = ScriptedServer({"base": lambda p: forgets(p) if "guest" in p.question else knows(p), "new": forgets})
    found = finding(check(server, "--base", "base", *control), "control")
    assert (found["kind"], found["level"]) == ("control", "warning")
    assert "rightly" in found["advice"]


def test_forgotten_photos_are_no_control(check: Check, tmp_path: Path) -> None:
    PairSet.of("both", [*PAIRS, *OTHERS]).write_jsonl(tmp_path / "both.jsonl")
    result = check(beside_its_base(tells_others), "--control", tmp_path / "both.jsonl", "--json")
    assert json.loads(result.stdout)["figures"]["control"]["asked"] == 10
    only = check(beside_its_base(tells_others), "--control", tmp_path / "pairs.jsonl")
    assert (only.exit_code, "--control: " in only.stderr, "only images that are to be forgotten" in only.stderr) == (
        2, True, True,
    )  # fmt: skip
