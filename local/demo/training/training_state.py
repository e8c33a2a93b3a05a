"""Saves and restores the state of a demo model's training, so that a resumed one ends with the very same weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LRScheduler

from vgid_core.training.checkpoints import Checkpoint, Checkpoints

_MOMENTS = ("step", "exp_avg", "exp_avg_sq")
_CPU_RANDOM, _DEVICE_RANDOM = "random.cpu", "random.device"


class TrainingState:
    """The weights, moments, schedule and random states of one training."""

    def __init__(self, model: nn.Module, optimiser: AdamW, schedule: LRScheduler, device: torch.device) -> None:
        self._weights = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        self._optimiser, self._schedule, self._device = optimiser, schedule, device

    def save(self, checkpoints: Checkpoints, step: int, micro_batch: int) -> None:
        """Saves the state after `step` steps as a checkpoint."""
        tensors: dict[str, Tensor] = {_CPU_RANDOM: torch.get_rng_state()}
        if self._device.type == "cuda":
            tensors[_DEVICE_RANDOM] = torch.cuda.get_rng_state(self._device)
        for name, weight in self._weights.items():
            tensors[f"weight.{name}"] = weight.detach()
            tensors |= {f"{moment}.{name}": self._optimiser.state[weight][moment] for moment in _MOMENTS}
        # The schedule changes these, and its own state doesn't hold them.
        groups = [{name: group[name] for name in ("lr", "betas")} for group in self._optimiser.param_groups]
        schedule = {"state": self._schedule.state_dict(), "groups": groups}
        checkpoints.save(Checkpoint(step, micro_batch, schedule, tensors))

    def resume(self, checkpoints: Checkpoints) -> int:
        """Restores the last checkpoint. Returns how many steps it holds, or 0 if there is none.

        Raises CheckpointUnusable for a damaged checkpoint or one of another training.
        """
        found = checkpoints.load()
        if found is None:
            return 0
        with torch.no_grad():
            for name, weight in self._weights.items():
                weight.copy_(found.tensors[f"weight.{name}"])
                self._optimiser.state[weight] = {
                    # AdamW keeps its step count on the CPU.
                    moment: found.tensors[f"{moment}.{name}"].to("cpu" if moment == "step" else self._device).clone()
                    for moment in _MOMENTS
                }
        self._schedule.load_state_dict(found.schedule["state"])
        for group, saved in zip(self._optimiser.param_groups, found.schedule["groups"], strict=True):
            group |= {"lr": saved["lr"], "betas": tuple(saved["betas"])}
        torch.set_rng_state(found.tensors[_CPU_RANDOM])
        if self._device.type == "cuda":
            torch.cuda.set_rng_state(found.tensors[_DEVICE_RANDOM], self._device)
        return found.step
