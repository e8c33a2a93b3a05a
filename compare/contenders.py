"""Who takes part: every method with its own settings, VGID's ablations, and the base that is only told to forget."""

from __future__ import annotations

from dataclasses import dataclass

from vgid_core.config.method_names import METHODS
from vgid_core.config.methods import AnyMethod, Vgid
from vgid_core.config.perturbation import PerturbationConfig

_UNDISTURBED = PerturbationConfig(kind="none")


@dataclass(frozen=True)
class Contender:
    """One row of a comparison: a method that trains an adapter, or (`trained` false) VGID's teacher as it is.

    The latter is in-context unlearning: no weight changes, and everything that is asked of the model, also about
    people to be kept, goes through `method`'s perturbation and instruction, since no deployment knows whom it sees.
    """

    name: str
    method: AnyMethod
    trained: bool = True


def known() -> dict[str, Contender]:
    """All contenders by name. A method that joins `AnyMethod` is among them."""
    found = [Contender(name, method.model_validate({})) for name, method in METHODS.items()]
    found += [
        Contender("vgid-noise-only", Vgid(instruction="")),
        Contender("vgid-instruction-only", Vgid(perturbation=_UNDISTURBED)),
        Contender("in-context", Vgid(), trained=False),
        Contender("in-context-instruction", Vgid(perturbation=_UNDISTURBED), trained=False),
    ]
    return {contender.name: contender for contender in found}
