"""What `vgid verify-serving` says of `transformers serve`: the demo's model as it is, and after it forgot somebody."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from click.testing import Result
from peft import PeftModel
from transformers import AutoModelForImageTextToText, AutoProcessor

from local.child_process import start_child, stop_child
from local.demo.data import make
from local.demo.paths import BASE
from tests.vgid_core.cli.conftest import invoke
from tests.waiting import eventually
from vgid_core import UnlearnConfig, UnlearnSpec, unlearn
from vgid_core.cli.verify_serving import verify_serving

pytestmark = pytest.mark.slow

_ADDRESS = re.compile(r"running on (http://[\d.:]+)")
# A refusal learnt by heart: seconds, and deep enough for greedy answers.
_SETTINGS = {
    "device": "cpu",
    "method": {"name": "idk"},
    "training": {"steps": 32, "warmup_steps": 2, "learning_rate": 6e-3},
    "evaluation": {"max_pairs": 20},
}


@dataclass(frozen=True)
class Served:
    """A server, and what it serves: folders, whose paths are the models' names."""

    url: str
    pairs: Path
    adapter: Path
    merged: Path
    unmerged: Path

    def check(self, model: Path, *arguments: str | Path) -> Result:
        return invoke(
            verify_serving, "--endpoint", self.url, "--adapter", model, "--pairs", self.pairs, "--json", *arguments
        )


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The server loads a model when it is first asked for."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("served")
    data = make([3])
    data.forget.write_jsonl(folder / "forget.jsonl")
    config = UnlearnConfig.model_validate(_SETTINGS)
    adapter = folder / "adapter"
    unlearn(UnlearnSpec(str(BASE), "demo", data.forget, data.retain.sample(200), adapter, config=config))
    name = json.loads((adapter / "manifest.json").read_text(encoding="utf-8"))["serving"]["name"]
    merged, unmerged = folder / "merged" / name, folder / "unmerged" / name
    _merge(adapter, merged)
    shutil.copytree(BASE, unmerged)
    log = folder / "server.log"
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hub"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", "--host", "127.0.0.1", "--port", "0"]
    process = start_child([*command, "--device", "cpu"], log=log, environment=environment)
    try:
        url = eventually(lambda: _ADDRESS.search(log.read_text(encoding="utf-8")), seconds=60)[1]
        yield Served(url, folder / "forget.jsonl", adapter, merged, unmerged)
    finally:
        stop_child(process, [(signal.SIGTERM, 10.0)])


def _merge(adapter: Path, target: Path) -> None:
    """As the adapter's README.md says."""
    model = AutoModelForImageTextToText.from_pretrained(BASE)
    PeftModel.from_pretrained(model, str(adapter)).merge_and_unload().save_pretrained(target)
    AutoProcessor.from_pretrained(BASE).save_pretrained(target)


def levels(result: Result) -> dict[str, str]:
    return {finding["kind"]: finding["level"] for finding in json.loads(result.stdout)["findings"]}


def test_the_forgetting_arrives_from_a_merged_model(served: Served) -> None:
    result = served.check(served.merged, "--adapter-folder", served.adapter, "--reload")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said["verdict"] == "arrives"
    assert said["figures"]["adapter"]["asked"] == 30
    assert levels(result) == {
        "adapter": "ok",
        "cache": "ok",
        "text-only": "ok",
        "base": "untested",
        "no-name": "ok",
        "control": "untested",
        "reload": "ok",
        "measured": "ok",
        "name": "ok",
    }
    assert said["figures"]["after_reload"] == said["figures"]["adapter"]


def test_it_doesnt_from_a_model_that_was_never_merged(served: Served) -> None:
    result = served.check(served.unmerged, "--adapter-folder", served.adapter)
    assert result.exit_code == 1
    said = json.loads(result.stdout)
    assert said["figures"]["adapter"]["told"] == 30
    assert "doesn't apply the adapter" in said["findings"][0]["message"]
    assert levels(result) | {"adapter": "fault", "measured": "warning", "reload": "untested"} == levels(result)


def test_a_base_beside_the_merged_model_is_reached(served: Served) -> None:
    result = served.check(served.merged, "--base", served.unmerged)
    assert result.exit_code == 1
    assert levels(result) | {"adapter": "ok", "base": "fault"} == levels(result)
