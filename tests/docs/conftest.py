"""What the pages' Python blocks find in the folder that they run in."""

from __future__ import annotations

import io
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from local.demo.data import make
from local.demo.paths import BASE, CHECKPOINTS
from tests.client.conftest import Service, archive, service
from tests.vgid_core.support.knowing import FORGET, RETAIN
from tests.vgid_core.support.sources import write_mllmu
from tests.vgid_core.support.tiny import TEMPLATE, pair_set
from tests.waiting import eventually
from vgid_client import Client
from vgid_core import UnlearnConfig, UnlearnSpec, unlearn
from vgid_core.config import LoraSettings
from vgid_core.config import training as training_config
from vgid_core.lora.attach import attach_adapter
from vgid_core.models.load import load_base

__all__ = ["archive", "service"]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def library(nothing: Path, knowing_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model that knows what is to be forgotten, and sets; runs are short where nobody says how long."""
    monkeypatch.setattr(training_config, "MIN_STEPS", 2)
    shutil.copytree(knowing_folder, nothing / "model")
    FORGET.write_jsonl(nothing / "forget.jsonl")
    RETAIN.write_jsonl(nothing / "retain.jsonl")
    (nothing / "template.jinja").write_text(TEMPLATE, encoding="utf-8")
    return nothing


@pytest.fixture
def adapter(library: Path) -> Path:
    """An adapter of the model, beside it."""
    unlearn(
        UnlearnSpec(
            model="model",
            model_name="tiny",
            forget=FORGET,
            retain=RETAIN,
            out=library / "adapter",
            config=UnlearnConfig.model_validate(
                {
                    "device": "cpu",
                    "training": {"steps": 1, "warmup_steps": 0},
                    "evaluation": {"audits": "none"},
                }
            ),
        )
    )
    return library


@pytest.fixture
def benchmarks(nothing: Path) -> Path:
    """MLLMU-Bench as it is published."""
    write_mllmu(nothing / "MLLMU-Bench")
    return nothing


@pytest.fixture
def demo(nothing: Path) -> Path:
    """The tutorial's folder after its run: data, models, an adapter (which was never trained), a face."""
    (nothing / "models").symlink_to(CHECKPOINTS)
    data = make()
    (nothing / "data").mkdir()
    Image.open(io.BytesIO(data.forget.pairs[0].image.data)).save("face.png")
    base = load_base(str(BASE), UnlearnConfig(device="cpu"))
    attach_adapter(base, LoraSettings()).save_pretrained("adapter")
    return nothing


@pytest.fixture
def served(
    nothing: Path,
    service: Service,
    archive: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Path]:
    """A service, its URL and key in the environment, and somebody who does what a worker would."""
    monkeypatch.setenv("VGID_API_URL", service.url)
    monkeypatch.setenv("VGID_API_KEY", service.secret)
    for name in ("forget", "rephrased"):
        pair_set(name, 2).write_jsonl(nothing / f"{name}.jsonl")
    working = threading.Thread(target=_work, args=(service, archive))
    working.start()
    yield nothing
    working.join(timeout=20)


def _work(at: Service, result: Path) -> None:
    """Waits for one job and makes it succeed."""
    with Client(at.url, at.secret) as client:
        job = eventually(lambda: client.list_jobs().jobs)[0]
    token = at.claim(job.id)
    at.measure(job.id, token, before=1.0, after=0.04)
    at.succeed(job.id, token, result)
