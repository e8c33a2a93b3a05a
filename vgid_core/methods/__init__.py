"""Unlearning methods: a module each, and a folder for the default.

A new one needs settings in `config.rivals`, their name in `AnyMethod` in `config.methods`, a module here, a line below,
a row in the table of docs/comparison.md, and docs/reference/options.md written anew (`cli.inputs.option_page`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vgid_core.config import rivals
from vgid_core.config.method_base import Method
from vgid_core.config.methods import Vgid, VgidSubstitute
from vgid_core.methods import ga, graddiff, idk, kl_min, npo, rmu, undial, vgid
from vgid_core.methods.base import MethodContext
from vgid_core.methods.loss_terms import MakeUpdates
from vgid_core.methods.vgid_substitute import method as substitute_method

_SETUPS: dict[type[Method], Callable[[Any, MethodContext], MakeUpdates]] = {
    VgidSubstitute: substitute_method.setup,
    Vgid: vgid.setup,
    rivals.GradientAscent: ga.setup,
    rivals.GradientDifference: graddiff.setup,
    rivals.KlMin: kl_min.setup,
    rivals.Idk: idk.setup,
    rivals.Npo: npo.setup,
    rivals.Undial: undial.setup,
    rivals.Rmu: rmu.setup,
}


def setup(settings: Method, context: MethodContext) -> MakeUpdates:
    """Prepares a run of the method with these settings (see `base.Setup`)."""
    return _SETUPS[type(settings)](settings, context)
