"""Two processes on one run, with the base whole in each and in shares, against one process alone."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from ast import literal_eval
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.vgid_core.support import one_of_several
from tests.vgid_core.support.one_of_several import BASIC, FORGET, LOOKING_RUNS, RUNS
from tests.vgid_core.support.speaking import save_speaking_model
from vgid_core import UnlearnConfig
from vgid_core.errors import ModelNotLoadable
from vgid_core.models import distributed
from vgid_core.models.load import load_base

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def speaking_folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_speaking_model(tiny_folder, FORGET, tmp_path_factory.mktemp("speaking") / "model")


@pytest.fixture(scope="module")
def by_two(
    tiny_folder: Path, speaking_folder: Path, knowing_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """What two processes made of `one_of_several`."""
    out = tmp_path_factory.mktemp("by_two")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command = [
        sys.executable,
        "-m",
        "tests.vgid_core.support.one_of_several",
        str(tiny_folder),
        str(speaking_folder),
        str(knowing_folder),
        str(out),
    ]
    started = []
    for rank in ("0", "1"):
        environment = os.environ | group | {"RANK": rank, "LOCAL_RANK": rank, "OMP_NUM_THREADS": "1"}
        with (out / f"log {rank}").open("wb") as log:
            started.append(subprocess.Popen(command, env=environment, cwd=ROOT, stdout=log, stderr=log))
    try:
        for rank, process in enumerate(started):
            assert process.wait(timeout=240) == 0, (out / f"log {rank}").read_text()[-4000:]
    finally:
        for process in started:
            process.kill()
            process.wait()
    return out


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_make_what_one_makes(name: str, by_two: Path, tiny_folder: Path, tmp_path: Path) -> None:
    one_process_makes_the_same(tiny_folder, tmp_path, name, RUNS[name], by_two)


@pytest.mark.parametrize("name", LOOKING_RUNS)
def test_two_processes_keep_the_same_of_what_is_visible(
    name: str, by_two: Path, speaking_folder: Path, tmp_path: Path
) -> None:
    one_process_makes_the_same(speaking_folder, tmp_path, name, LOOKING_RUNS[name], by_two)


def one_process_makes_the_same(model: Path, out: Path, name: str, values: dict[str, object], by_two: Path) -> None:
    one_of_several.run(model, out, name, {key: value for key, value in values.items() if key != "shard_base"})
    alone, together = (load_file(folder / name / "adapter_model.safetensors") for folder in (out, by_two))
    assert alone.keys() == together.keys()
    for weight, value in alone.items():
        assert torch.allclose(value, together[weight], rtol=0, atol=1e-5), weight
    alone_reported, together_reported = (
        literal_eval((folder / f"{name}.losses").read_text()) for folder in (out, by_two)
    )
    assert len(alone_reported) == 1 + 3
    for step in (1, 2, 3):
        assert together_reported[step] == pytest.approx(alone_reported[step], rel=1e-4, abs=1e-6)


def test_what_is_visible_is_kept_there(speaking_folder: Path, by_two: Path, tmp_path: Path) -> None:
    """Else the runs above that ask for it would show nothing."""
    one_of_several.run(speaking_folder, tmp_path, "packed", RUNS["packed"])
    without, looking = (
        load_file(folder / name / "adapter_model.safetensors")
        for folder, name in ((tmp_path, "packed"), (by_two, "packed, looking"))
    )
    assert any(not torch.allclose(value, looking[weight], rtol=0, atol=1e-4) for weight, value in without.items())


def test_the_first_process_alone_reports(by_two: Path) -> None:
    """Each would have overwritten the other's losses: the file of one that gets no reports isn't written."""
    assert sorted(scorer.name for scorer in by_two.glob("*.losses")) == sorted(
        f"{name}.losses" for name in (*RUNS, *LOOKING_RUNS)
    )


def test_processes_that_were_interrupted_go_on_to_the_same_adapter(by_two: Path) -> None:
    for rank in (0, 1):
        alone, resumed = (load_file(by_two / f"{name} {rank}.safetensors") for name in ("alone", "resumed"))
        assert all(torch.equal(value, resumed[name]) for name, value in alone.items())
    ranks = [load_file(by_two / f"alone {rank}.safetensors") for rank in (0, 1)]
    assert all(torch.equal(value, ranks[1][name]) for name, value in ranks[0].items()), "both hold the same adapter"


@pytest.mark.parametrize("rank", [0, 1])
def test_each_process_holds_its_share_of_the_base_whatever_has_passed(rank: int, by_two: Path) -> None:
    held = literal_eval((by_two / f"held {rank}").read_text())
    assert len(held) == 1 + 2 * 3
    assert held == pytest.approx(dict.fromkeys(held, 0.5), abs=0.01)


def test_all_processes_take_one_path(by_two: Path) -> None:
    """Else they would pass through a shared base out of step, and one might say what another doesn't."""
    first, second = (literal_eval((by_two / f"chosen {rank}").read_text()) for rank in (0, 1))
    assert first == second
    assert list(first.values()) == ["padded", "padded", "padded", "packed"]


@pytest.mark.parametrize("shard", [False, True], ids=["whole", "in shares"])
def test_all_processes_find_the_same_figures(shard: bool, by_two: Path, knowing_folder: Path) -> None:
    """Those of a process alone. Of a base in shares there is no copy to train, which the verdict says."""
    first, second = (literal_eval((by_two / f"audited {rank} {shard}").read_text()) for rank in (0, 1))
    assert first == second
    alone = one_of_several.audited(knowing_folder, shard=False)
    left_out = ("relearning", "served_precision", "membership.grad_norm") if shard else ()
    expected = {key: value for key, value in alone["figures"].items() if not key[0].startswith(left_out or ("-",))}
    assert first["figures"] == pytest.approx(expected, abs=0.05)
    reasons = [reason for reason in first["not"] if "each process holds a part" in reason]
    assert len(reasons) == len(left_out)


def test_a_process_alone_has_it_all(tiny_folder: Path) -> None:
    assert (distributed.world_size(), distributed.rank(), distributed.is_main()) == (1, 0, True)
    assert distributed.local_shard([1, 2, 3]) == ([1, 2, 3], 3)
    assert distributed.broadcast("mine") == "mine"
    assert distributed.all_gather("mine") == ["mine"]
    with pytest.raises(ModelNotLoadable, match="several processes"):
        load_base(str(tiny_folder), UnlearnConfig.model_validate(BASIC | {"shard_base": True}))


@pytest.mark.parametrize("changes", [{"base_weights": "nf4"}, {"training": {"fp8": True}}])
def test_shares_are_of_plain_weights_alone(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="shard_base"):
        UnlearnConfig.model_validate(BASIC | {"shard_base": True} | changes)
