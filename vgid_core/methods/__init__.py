"""Methods of unlearning, one small file each. A new one is a file here and its name in `AnyMethod`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from vgid_core.methods.base import Method, Run
from vgid_core.methods.ga import GradientAscent
from vgid_core.methods.graddiff import GradientDifference
from vgid_core.methods.idk import Idk
from vgid_core.methods.kl_min import KlMin
from vgid_core.methods.npo import Npo
from vgid_core.methods.rmu import Rmu
from vgid_core.methods.undial import Undial
from vgid_core.methods.vgid import Vgid
from vgid_core.methods.vgid_alias import VgidAlias

AnyMethod = Annotated[
    VgidAlias | Vgid | GradientAscent | GradientDifference | KlMin | Idk | Npo | Undial | Rmu,
    Field(discriminator="name"),
]

__all__ = [
    "AnyMethod",
    "GradientAscent",
    "GradientDifference",
    "Idk",
    "KlMin",
    "Method",
    "Npo",
    "Rmu",
    "Run",
    "Undial",
    "Vgid",
    "VgidAlias",
]
