"""What every training stage shares: a resumable loop with checkpoints, a progress bar and a log of curves."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from esam_perception.computing import choose_precision, mixed_precision
from esam_perception.training.muon import Muon, split_weights

CHECKPOINT_SECONDS = 60.0
LOG_STEPS = 50


@dataclass(frozen=True)
class Machine:
    """Where to train. precision: as the pipeline has it (computing.choose_precision, which is asked; it raises ValueError);
    bfloat16 is autocast: weights and losses stay float32."""

    device: torch.device = torch.device("cpu")
    precision: str = "auto"

    def __post_init__(self) -> None:
        choose_precision(self.precision, self.device)

    @property
    def dtype(self) -> torch.dtype:
        """What the products of the networks are computed in."""
        return choose_precision(self.precision, self.device)


def cosine(step: int, steps: int, warm_up: int) -> float:
    """Share of the peak learning rate: a linear warm-up, then a cosine to 2 %."""
    if step < warm_up:
        return (step + 1) / warm_up
    done = (step - warm_up) / max(1, steps - warm_up)
    return 0.02 + 0.98 * 0.5 * (1 + torch.cos(torch.tensor(torch.pi * min(done, 1.0))).item())


def train_stage(
    name: str,
    folder: Path,
    modules: nn.Module,
    loss_of: Callable[[int], dict[str, Tensor]],
    steps: int,
    learning_rate: float,
    weight_decay: float = 0.05,
    warm_up: int = 100,
    muon_rate: float = 0.0,
    heads: tuple[nn.Module, ...] = (),
    machine: Machine = Machine(),
) -> None:
    """Train `modules` for `steps`, from the last checkpoint of this stage in `folder` if there is one: interrupted or not,
    the same weights and the same log come out, on the same machine.

    AdamW; with a positive `muon_rate`, Muon for the matrices of all layers but `heads` (see muon.split_weights).

    loss_of(step) draws a batch deterministically from the step and returns its losses, the total under "loss".
    Writes `<name>.pt` (weights, optimizer, step, the means so far) about once a minute and at the end, and a line of
    running means to `<name>.jsonl` every LOG_STEPS steps and at the end.
    """
    modules.to(machine.device)
    dtype = machine.dtype
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint, curves = folder / f"{name}.pt", folder / f"{name}.jsonl"
    matrices, others = (
        split_weights(modules, heads) if muon_rate else ([], [p for p in modules.parameters() if p.requires_grad])
    )
    groups = [
        {"params": [p for p in others if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in others if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.98))]
    if matrices:
        optimizers.append(Muon(matrices, lr=muon_rate, weight_decay=0.1 * weight_decay))
    rates = [learning_rate, muon_rate]
    first = counted = 0
    sums: dict[str, Tensor] = {}
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        modules.load_state_dict(state["modules"])
        for optimizer, saved_state in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved_state)
        first = state["step"]
        # of the line of the log that was begun; not there in checkpoints of earlier versions
        counted = state.get("counted", 0)
        sums = {key: value.to(machine.device) for key, value in state.get("sums", {}).items()}
    if first >= steps:
        return
    saved = time.monotonic()

    def save(step: int) -> None:
        unfinished = checkpoint.with_suffix(".unfinished")
        states = [optimizer.state_dict() for optimizer in optimizers]
        begun = {"sums": sums, "counted": counted}
        torch.save({"modules": modules.state_dict(), "optimizers": states, "step": step, **begun}, unfinished)
        unfinished.rename(checkpoint)

    progress = tqdm(range(first, steps), initial=first, total=steps, desc=name, mininterval=2.0)
    for step in progress:
        for optimizer, rate in zip(optimizers, rates):
            for group in optimizer.param_groups:
                group["lr"] = rate * cosine(step, steps, warm_up)
        with mixed_precision(machine.device, dtype):
            losses = loss_of(step)
        modules.zero_grad(set_to_none=True)
        losses["loss"].backward()
        nn.utils.clip_grad_norm_(modules.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        for key, value in losses.items():
            # summed where it is: reading it would make the host wait for the GPU in every step
            sums[key] = sums[key] + value.detach() if key in sums else value.detach()
        counted += 1
        if (step + 1) % LOG_STEPS == 0 or step + 1 == steps:
            means = {key: round(float(total) / counted, 4) for key, total in sums.items()}
            sums.clear()
            counted = 0
            progress.set_postfix(means, refresh=False)
            with open(curves, "a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step + 1, **means}) + "\n")
        if time.monotonic() - saved > CHECKPOINT_SECONDS:
            save(step + 1)
            saved = time.monotonic()
    save(steps)
