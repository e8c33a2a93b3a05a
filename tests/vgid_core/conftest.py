from pathlib import Path

import pytest
import torch

from tests.vgid_core.support.knowing import save_knowing_model
from tests.vgid_core.support.tiny import save_tiny_model
from vgid_core.config import UnlearnConfig
from vgid_core.models.base import BaseModel
from vgid_core.models.load import load_base


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session")
def knowing_folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_knowing_model(tiny_folder, tmp_path_factory.mktemp("knowing") / "model")


@pytest.fixture
def base(tiny_folder: Path) -> BaseModel:
    return load_base(str(tiny_folder), UnlearnConfig(device="cpu"))
