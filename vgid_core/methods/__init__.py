"""Unlearning methods: a module each, and a folder for the default.

A new one needs a settings class in `config.methods` that `AnyMethod` there names, a module here and a line below.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vgid_core.config import methods as settings_of
from vgid_core.config.methods import Method
from vgid_core.methods import ga, graddiff, idk, kl_min, npo, rmu, undial, vgid
from vgid_core.methods.base import MethodContext
from vgid_core.methods.loss_terms import MakeUpdates
from vgid_core.methods.vgid_alias import method as alias_method

_SETUPS: dict[type[Method], Callable[[Any, MethodContext], MakeUpdates]] = {
    settings_of.VgidAlias: alias_method.setup,
    settings_of.Vgid: vgid.setup,
    settings_of.GradientAscent: ga.setup,
    settings_of.GradientDifference: graddiff.setup,
    settings_of.KlMin: kl_min.setup,
    settings_of.Idk: idk.setup,
    settings_of.Npo: npo.setup,
    settings_of.Undial: undial.setup,
    settings_of.Rmu: rmu.setup,
}


def setup(settings: Method, context: MethodContext) -> MakeUpdates:
    """Prepares a run of the method with these settings (see `base.Setup`)."""
    return _SETUPS[type(settings)](settings, context)


def register(kind: type[Method], prepare: Callable[[Any, MethodContext], MakeUpdates]) -> None:
    """Registers an external method by the type of its settings, for callers of `training.loop.distil`."""
    _SETUPS[kind] = prepare
