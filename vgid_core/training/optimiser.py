"""The optimiser with its state for checkpoints, and the learning-rate schedule."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from vgid_core.config import TrainingConfig
from vgid_core.errors import CheckpointUnusable


class MasterAdamW:
    """AdamW on float32 master copies of the parameters: in bfloat16 most updates would round to nothing."""

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
        """Clears the parameters' gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    def step(self) -> None:
        """Updates the masters by the parameters' gradients, and copies them to the parameters."""
        for master, parameter in zip(self._masters, self._parameters, strict=True):
            if master is not parameter:
                master.grad = None if parameter.grad is None else parameter.grad.float()
        self.inner.step()
        with torch.no_grad():
            for master, parameter in zip(self._masters, self._parameters, strict=True):
                if master is not parameter:
                    parameter.copy_(master)

    def state(self) -> dict[str, Tensor]:
        """Master weights and moments by name. These are the tensors themselves, not copies."""
        moments = self.inner.state_dict()["state"]
        named = {f"{index}.{name}": value for index, values in moments.items() for name, value in values.items()}
        return {f"{index}.master": master.detach() for index, master in enumerate(self._masters)} | named

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Restores a `state`, parameters included. Raises CheckpointUnusable if the shapes are another adapter's."""
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


def learning_rate_factor(training: TrainingConfig, steps: int) -> Callable[[int], float]:
    """The schedule's factor at step s (0-based) of `steps`: min(1, (s + 1) / warm-up) * (1 - 0.9 s / steps).

    Warm-up and decay both start at the first step, so the factor's maximum is below 1, in short runs well below.
    """

    def factor(step: int) -> float:
        warmup = (step + 1) / training.warmup_steps if training.warmup_steps else 1.0
        decay = 1.0 - 0.9 * step / steps
        return min(1.0, warmup) * max(0.1, decay)

    return factor
