"""Fixtures for tests of scorers."""

import pytest
import torch

from tests.vgid_core.support.two_families import FAMILIES
from vgid_core import UnlearnConfig
from vgid_core.config import LoraSettings
from vgid_core.lora.attach import attach_adapter
from vgid_core.models.base import BaseModel
from vgid_core.models.load import load_base


@pytest.fixture(scope="module", params=FAMILIES)
def student(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[BaseModel, torch.nn.Module]:
    """A base with an adapter that changes it, of each family."""
    folder = FAMILIES[request.param](tmp_path_factory.mktemp("model") / "m")
    base = load_base(str(folder), UnlearnConfig(device="cpu"))
    adapted = attach_adapter(base, LoraSettings())
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if ".lora_B." in name:
                parameter.normal_(0, 0.2, generator=generator)
    return base, adapted.eval()
