"""A convolutional stem in place of BLIP's patch projection, for small towers trained from scratch."""

from __future__ import annotations

from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ResidualConvolutions(nn.Module):
    """Two 3x3 convolutions beside the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(1, width), nn.GroupNorm(1, width)
        self.conv1, self.conv2 = (nn.Conv2d(width, width, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.conv2(F.gelu(self.norm2(self.conv1(F.gelu(self.norm1(x))))))
        return x + change


class ConvolutionalStem(nn.Module):
    """float32 [B, 3, h, w] -> [B, hidden_size, h / p, w / p], p = 2 ** (len(widths) + 1).

    Convolutions of stride 2 (Xiao et al. 2021, "Early convolutions help transformers see better"), with residual
    blocks on the last two grids: a patch then knows the shape around it before the transformer starts, which is what
    a tower trained on tens of thousands of images, not millions, does not learn from attention alone.
    """

    def __init__(self, widths: tuple[int, ...], hidden_size: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in zip((3, *widths), widths):
            layers += [nn.Conv2d(inputs, outputs, 3, 2, 1), nn.GroupNorm(1, outputs), nn.GELU()]
        layers += [
            ResidualConvolutions(widths[-1]),
            nn.Conv2d(widths[-1], hidden_size, 3, 2, 1),
            ResidualConvolutions(hidden_size),
        ]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        # rounded to bfloat16, these few small convolutions move the ITM score by more than all other layers together
        with nullcontext() if self.training else torch.autocast(x.device.type, enabled=False):
            patches: Tensor = self.layers(x)
        return patches
