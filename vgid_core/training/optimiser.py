"""The optimiser, its state for checkpoints, and the schedule of the learning rate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from vgid_core.config import TrainingConfig
from vgid_core.errors import CheckpointUnusable


class MasterAdamW:
    """AdamW on float32 copies of the parameters: a bfloat16 weight would round most small updates away."""

    def __init__(self, parameters: Sequence[nn.Parameter], training: TrainingConfig) -> None:
        self._parameters = list(parameters)
        self._masters = [p if p.dtype == torch.float32 else p.detach().float() for p in self._parameters]
        self.inner = torch.optim.AdamW(
            self._masters,
            lr=training.learning_rate,
            weight_decay=training.weight_decay,
            fused=True,
        )

    def zero_grad(self) -> None:
        """Forgets the gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    def step(self) -> None:
        """Updates the masters by the parameters' gradients, then the parameters."""
        for master, parameter in zip(self._masters, self._parameters, strict=True):
            if master is not parameter:
                master.grad = None if parameter.grad is None else parameter.grad.float()
        self.inner.step()
        with torch.no_grad():
            for master, parameter in zip(self._masters, self._parameters, strict=True):
                if master is not parameter:
                    parameter.copy_(master)

    def state(self) -> dict[str, Tensor]:
        """Masters and moments by name, as they are: not copies."""
        moments = self.inner.state_dict()["state"]
        named = {f"{index}.{name}": value for index, values in moments.items() for name, value in values.items()}
        return {f"{index}.master": master.detach() for index, master in enumerate(self._masters)} | named

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what `state` gave, parameters included. Raises CheckpointUnusable when it isn't of these."""
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in state.items():
            index, name = key.split(".")
            moments.setdefault(int(index), {})[name] = value
        stored = [moments[index].pop("master") for index in sorted(moments)]
        if [value.shape for value in stored] != [master.shape for master in self._masters]:
            raise CheckpointUnusable("the checkpoint is of another adapter")
        groups = self.inner.state_dict()["param_groups"]
        self.inner.load_state_dict({"state": {i: m for i, m in moments.items() if m}, "param_groups": groups})
        with torch.no_grad():
            for master, parameter, value in zip(self._masters, self._parameters, stored, strict=True):
                master.copy_(value)
                if master is not parameter:
                    parameter.copy_(master)


def learning_rate(training: TrainingConfig, steps: int) -> Callable[[int], float]:
    """The learning rate's factor at a 0-based step s of `steps`: min(1, (s + 1) / warm-up) * (1 - 0.9 s / steps).

    As both begin at the first step, its highest is a little below 1, and in a run of few steps well below.
    """

    def factor(step: int) -> float:
        up = (step + 1) / training.warmup_steps if training.warmup_steps else 1.0
        down = 1.0 - 0.9 * step / steps
        return min(1.0, up) * max(0.1, down)

    return factor
