"""The contenders of a comparison: all methods, VGID's ablations, and in-context unlearning."""

from __future__ import annotations

from dataclasses import dataclass

from vgid_core.config.method_names import METHODS
from vgid_core.config.methods import AnyMethod, Vgid
from vgid_core.config.perturbation import PerturbationConfig

_UNDISTURBED = PerturbationConfig(kind="none")


@dataclass(frozen=True)
class Contender:
    """One contender: a method that trains an adapter, or, with `trained` false, in-context unlearning.

    In-context unlearning is VGID's teacher without a student: no weight changes, and each pair goes through `method`'s
    perturbation and instruction. So do pairs about people to keep, since a deployment doesn't know whom it sees.
    """

    name: str
    method: AnyMethod
    trained: bool = True


def all_contenders() -> dict[str, Contender]:
    """All contenders by name, all methods of `AnyMethod` among them."""
    found = [Contender(name, method.model_validate({})) for name, method in METHODS.items()]
    found += [
        Contender("vgid-noise-only", Vgid(instruction="")),
        Contender("vgid-instruction-only", Vgid(perturbation=_UNDISTURBED)),
        Contender("in-context", Vgid(), trained=False),
        Contender("in-context-instruction", Vgid(perturbation=_UNDISTURBED), trained=False),
    ]
    return {contender.name: contender for contender in found}
