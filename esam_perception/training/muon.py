"""Muon, an optimizer for the matrices of hidden layers (Jordan et al. 2024), beside AdamW for everything else.

torch.optim.Muon takes 2-D weights only and works in bfloat16, which CPUs without bf16 units do several times slower;
here convolutions count as matrices too, in the weights' own precision. On crops of the tabletop it needed less than
half of AdamW's images for the same accuracy (docs/tabletop.md).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

# Newton-Schulz coefficients of the paper: fast to near 1, not exactly to it, which is enough.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


def orthogonalise(matrix: Tensor) -> Tensor:
    """The nearest matrix with singular values near 1 (0.7 to 1.2): [m, n] -> [m, n]."""
    a, b, c = COEFFICIENTS
    x = matrix if len(matrix) <= matrix.shape[1] else matrix.T
    x = x / (x.norm() + 1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if len(matrix) <= matrix.shape[1] else x.T


class Muon(torch.optim.Optimizer):
    """Nesterov momentum whose direction is orthogonalised. For weights of two and more dimensions, the output first."""

    def __init__(self, params, lr: float, momentum: float = 0.95, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # none is ever evaluated again
        """Update every weight that has a gradient."""
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(weight)
                momentum = state["momentum"].lerp_(weight.grad, 1 - group["momentum"])
                direction = weight.grad.lerp(momentum, group["momentum"]).flatten(1)
                scale = max(1.0, direction.shape[0] / direction.shape[1]) ** 0.5
                weight.mul_(1 - group["lr"] * group["weight_decay"])
                weight.add_(orthogonalise(direction).view_as(weight), alpha=-group["lr"] * scale)


def split_weights(module: nn.Module, heads: tuple[nn.Module, ...] = ()) -> tuple[list[Tensor], list[Tensor]]:
    """(matrices, others) of a module's trainable parameters: weights of linear and convolutional layers but those of
    `heads`, whose outputs mean something each, and all the rest (gains, biases, tables)."""
    outside = {id(layer) for head in heads for layer in head.modules()}
    kinds = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
    layers = (layer for layer in module.modules() if isinstance(layer, kinds) and id(layer) not in outside)
    matrices = [layer.weight for layer in layers if layer.weight.requires_grad]
    taken = {id(weight) for weight in matrices}
    return matrices, [p for p in module.parameters() if p.requires_grad and id(p) not in taken]
