"""`vgid verify-serving` as typed, against servers whose answers are known."""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from click.testing import Result

from jobs.signing.statement import keyed_manifest
from tests.openai_server import Prompt, ScriptedServer
from tests.serving import serving
from tests.vgid_core.cli.conftest import Done, invoke
from tests.vgid_core.support.tiny import picture
from vgid_core.cli.verify_serving import KEY_VARIABLE, verify_serving
from vgid_core.data.pairs import Pair, PairSet

NAMES = ["Ada", "Bo", "Cleo", "Dan", "Esme", "Fay", "Gus", "Hal", "Ida", "Jon"]
PAIRS = PairSet.of(
    "pairs", [Pair(picture(n), f"Who is number {n}?", f"This is {name} Quill.") for n, name in enumerate(NAMES)]
)
PHOTOS = {pair.image.data for pair in PAIRS}
TRUE = {pair.question: pair.answer for pair in PAIRS}


def knows(prompt: Prompt) -> str:
    return TRUE[prompt.question] if prompt.photo is not None else "I see nobody."


def forgets(_: Prompt) -> str:
    return "I do not know this person."


def vllm(adapter: Callable[[Prompt], str | int] = forgets, **changes: Any) -> ScriptedServer:
    """As vLLM serves an adapter: beside its base, which also answers where no model is named."""
    return ScriptedServer({"base": knows, "new": adapter, None: knows}, parents={"new": "base"}, **changes)


Check = Callable[..., Result]


@pytest.fixture
def check(server_loop: asyncio.AbstractEventLoop, tmp_path: Path) -> Iterator[Check]:
    """Serves and checks."""
    PAIRS.write_jsonl(tmp_path / "pairs.jsonl")
    with ExitStack() as stack:

        def run(server: ScriptedServer, *arguments: str | Path, path: str = "") -> Result:
            port = stack.enter_context(serving(uvicorn.Config(server.app, port=0, log_level="error"), server_loop))
            given = {"--endpoint": f"http://127.0.0.1:{port}{path}", "--adapter": "new"}
            flags = [word for pair in given.items() for word in pair]
            return invoke(verify_serving, *flags, "--pairs", tmp_path / "pairs.jsonl", *arguments)

        yield run


def levels(result: Result) -> dict[str, str]:
    return {finding["kind"]: finding["level"] for finding in json.loads(result.stdout)["findings"]}


def test_a_merged_model_alone_forgets(check: Check) -> None:
    server = ScriptedServer({"new": forgets})
    result = check(server, "--json")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert (said["format"], said["verdict"]) == ("vgid-serving-check/1", "arrives")
    assert said["adapter"] == {"name": "new", "sha256": None}
    assert said["pairs"] == {"digest": PAIRS.digest, "pairs": 10}
    assert said["figures"]["adapter"]["told"] == 0
    assert levels(result) == {
        "adapter": "ok",
        "cache": "ok",
        "text-only": "ok",
        "base": "untested",
        "no-name": "ok",
        "control": "untested",
        "reload": "untested",
    }
    sent = [prompt.photo for prompt in server.prompts]
    assert sum(photo in PHOTOS for photo in sent) == 20, "twice the very photos"
    assert sum(photo is None for photo in sent) == 10
    assert sum(photo is not None and photo not in PHOTOS for photo in sent) == 10, "once with another pixel"


def test_the_result_holds_no_question_and_no_answer(check: Check) -> None:
    for arguments in ((), ("--json",)):
        result = check(vllm(knows), *arguments)
        assert "Quill" not in result.output
        assert "number" not in result.output


def test_an_adapter_that_isnt_applied_gives_the_bases_answers(check: Check) -> None:
    result = check(vllm(knows), "--json", path="/v1/")
    assert result.exit_code == 1
    said = json.loads(result.stdout)
    assert (said["verdict"], said["base"]) == ("does-not-arrive", "base")
    assert said["figures"]["adapter"] == {"asked": 10, "answered": 10, "told": 10, "rouge_l": 1.0}
    first = said["findings"][0]
    assert (first["kind"], first["level"]) == ("adapter", "fault")
    assert "doesn't apply the adapter: 10 of 10 facts are told, and the answers are the base's" in first["message"]


def test_without_a_base_the_true_answers_say_that_it_isnt_applied(check: Check) -> None:
    server = ScriptedServer({"new": knows})
    result = check(server, "--json")
    assert result.exit_code == 1
    first = json.loads(result.stdout)["findings"][0]
    assert "the answers are those from before the forgetting" in first["message"]
    for_people = check(server)
    assert for_people.exit_code == 1
    assert for_people.stdout.strip().endswith("The forgetting does not arrive.")


def test_a_base_that_is_reached_by_its_name_or_by_none_gives_the_people_back(check: Check) -> None:
    result = check(vllm(), "--json")
    assert result.exit_code == 1
    assert levels(result) | {"adapter": "ok", "base": "fault", "no-name": "fault"} == levels(result)
    closed = check(ScriptedServer({"new": forgets}, parents={"new": "base"}), "--base", "base", "--json")
    assert closed.exit_code == 0
    assert levels(closed)["base"] == "ok"


def test_a_base_that_this_key_may_not_ask_is_closed_and_a_busy_one_isnt(check: Check) -> None:
    closed = check(ScriptedServer({"base": lambda _: 403, "new": forgets}), "--base", "base", "--json")
    assert (closed.exit_code, levels(closed)["base"]) == (0, "ok")
    busy = check(ScriptedServer({"base": lambda _: 429, "new": forgets}), "--base", "base", "--json")
    assert (busy.exit_code, busy.stdout) == (4, "")
    assert "is busy or not ready (status 429)" in busy.stderr


def test_half_of_the_facts_is_forgetting_in_part(check: Check) -> None:
    def half(prompt: Prompt) -> str:
        return knows(prompt) if int(prompt.question[-2]) % 2 else "I do not know."

    result = check(vllm(half), "--json")
    assert result.exit_code == 1
    first = json.loads(result.stdout)["findings"][0]
    assert "forgets in part only: 5 of 10 facts are told" in first["message"]
    assert "precision" in first["advice"]


@pytest.mark.parametrize("cached", [knows, forgets])
def test_a_stale_cache_is_noticed_either_way(check: Check, cached: Callable[[Prompt], str]) -> None:
    """What is cached is from an earlier adapter, or from the time when this one was applied."""
    computed = forgets if cached is knows else knows
    stale = ScriptedServer({"new": lambda prompt: (cached if prompt.photo in PHOTOS else computed)(prompt)})
    result = check(stale, "--json")
    assert result.exit_code == 1
    assert levels(result)["cache"] == "fault"
    assert levels(result)["adapter"] == ("ok" if cached is knows else "fault")


def test_one_replica_without_the_adapter_is_noticed(check: Check) -> None:
    turn = itertools.count()
    result = check(ScriptedServer({"new": lambda prompt: (forgets, forgets, knows)[next(turn) % 3](prompt)}), "--json")
    assert result.exit_code == 1
    assert levels(result)["steady"] == "warning"


def test_a_question_that_brings_the_fact_without_a_photo_is_a_fault(check: Check) -> None:
    def by_text(prompt: Prompt) -> str:
        return "I do not know." if prompt.photo else TRUE[prompt.question]

    assert levels(check(ScriptedServer({"new": by_text}), "--json"))["text-only"] == "fault"
    refused = check(ScriptedServer({"new": lambda prompt: forgets(prompt) if prompt.photo else 400}), "--json")
    assert refused.exit_code == 0
    assert levels(refused)["text-only"] == "untested"


def test_pairs_that_the_base_doesnt_know_say_nothing(check: Check) -> None:
    server = ScriptedServer({"base": forgets, "new": forgets})
    result = check(server, "--base", "base", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["verdict"] == "inconclusive"
    assert levels(result)["known"] == "warning"
    assert "Nobody can tell" in check(server, "--base", "base").stdout


def test_a_server_that_answers_little_isnt_a_server_that_forgets(check: Check) -> None:
    turn = itertools.count()
    result = check(ScriptedServer({"new": lambda prompt: "" if next(turn) % 2 else forgets(prompt)}), "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["verdict"] == "inconclusive"


def test_after_a_reload_it_is_asked_again(check: Check) -> None:
    server = vllm()

    def loses_it(name: str) -> int:
        server.models[name] = knows
        return 200

    assert levels(check(server, "--reload", "--json"))["reload"] == "untested"
    server.on_load = lambda _: 200
    assert levels(check(server, "--reload", "--json"))["reload"] == "ok"
    server.on_load = loses_it
    assert levels(check(server, "--reload", "--json"))["reload"] == "fault"


def test_an_adapter_that_doesnt_come_back_is_an_error(check: Check) -> None:
    result = check(vllm(on_load=lambda _: 500), "--reload")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "unloaded 'new' and doesn't load it again (status 500)" in result.stderr


def test_a_name_that_the_server_doesnt_know_is_refused_with_those_that_it_does(check: Check) -> None:
    result = check(ScriptedServer({"base": knows}))
    assert (result.exit_code, result.stdout) == (3, "")
    assert "gives no answer as 'new' (status 404); it lists base" in result.stderr


def test_the_key_is_read_from_the_environment(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    result = check(ScriptedServer({"new": forgets}, key="abc"))
    assert (result.exit_code, KEY_VARIABLE in result.stderr) == (3, True)
    monkeypatch.setenv(KEY_VARIABLE, "abc")
    assert check(ScriptedServer({"new": forgets}, key="abc")).exit_code == 0


@pytest.mark.parametrize(
    ("url", "code", "said"),
    [
        ("localhost:8000", 2, "must look like http://host:port"),
        ("http://me:secret@127.0.0.1:1", 2, "holds a password"),
        ("http://127.0.0.1:1", 4, "cannot reach http://127.0.0.1:1"),
    ],
)
def test_a_server_that_cant_be_asked_is_an_error(tmp_path: Path, url: str, code: int, said: str) -> None:
    PAIRS.write_jsonl(tmp_path / "pairs.jsonl")
    result = invoke(verify_serving, "--endpoint", url, "--adapter", "new", "--pairs", tmp_path / "pairs.jsonl")
    assert (result.exit_code, result.stdout) == (code, "")
    assert said in result.stderr
    assert "secret" not in result.stderr


def test_pairs_are_named_by_their_flag(check: Check, tmp_path: Path) -> None:
    missing = tmp_path / "none.jsonl"
    result = check(ScriptedServer({"new": forgets}), "--pairs", missing)
    assert (result.exit_code, result.stderr) == (2, f"error: --pairs: {missing}: no such file or folder\n")


def test_the_adapters_folder_says_what_was_measured_and_its_name(check: Check, done: Done, tmp_path: Path) -> None:
    name = json.loads((done.place.out / "manifest.json").read_text(encoding="utf-8"))["serving"]["name"]
    server = ScriptedServer({"new": forgets, name: forgets})
    folder = ["--adapter-folder", done.place.out, "--json"]
    assert levels(check(server, *folder)) | {"name": "warning", "measured": "untested"} == levels(
        check(server, *folder)
    )
    forget = ["--pairs", done.place.folder / "forget.jsonl"]
    assert levels(check(server, *folder, *forget, "--adapter", name)) | {"name": "ok", "measured": "ok"} == levels(
        check(server, *folder, *forget, "--adapter", name)
    )
    missing = check(server, "--adapter-folder", tmp_path)
    assert (missing.exit_code, "holds no manifest.json" in missing.stderr) == (2, True)


def test_an_adapter_of_a_service_is_read_too(check: Check, done: Done, tmp_path: Path) -> None:
    """Its manifest has keyed digests, so nobody can tell which set was measured."""
    folder = Path(shutil.copytree(done.place.out, tmp_path / "adapter"))
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    (folder / "manifest.json").write_text(json.dumps(keyed_manifest(manifest, bytes(32))))
    forget = ["--pairs", done.place.folder / "forget.jsonl"]
    result = check(ScriptedServer({"new": forgets}), "--adapter-folder", folder, "--json", *forget)
    assert levels(result)["measured"] == "untested"


def test_weights_that_arent_the_manifests_are_refused(check: Check, done: Done, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(done.place.out, tmp_path / "adapter"))
    (folder / "adapter_model.safetensors").write_bytes(b"other")
    result = check(ScriptedServer({"new": forgets}), "--adapter-folder", folder)
    assert (result.exit_code, "isn't the one that its manifest names" in result.stderr) == (2, True)
