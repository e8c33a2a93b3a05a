from pathlib import Path

import pytest
import torch

from vgid_core.config import UnlearnConfig
from vgid_core.models.base import BaseModel
from vgid_core.models.load import load_base


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def base(tiny_folder: Path) -> BaseModel:
    return load_base(str(tiny_folder), UnlearnConfig(device="cpu"))
