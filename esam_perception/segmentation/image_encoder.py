"""EfficientSAM's image encoder: a plain ViT on the stretched image, then a convolutional neck.

Names of parameters equal the official checkpoints' (yformer/EfficientSAM, image_encoder.*), so that these load
without a mapping.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esam_perception.computing import at_least_float32


class LayerNorm2d(nn.Module):
    """LayerNorm over the channels of [B, C, H, W]."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        x = at_least_float32(x.permute(0, 2, 3, 1))
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps).permute(0, 3, 1, 2)


class Attention(nn.Module):
    """Multi-head self-attention with one projection for query, key and value."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        qkv = self.qkv(x).view(batch, tokens, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        # the attention reads keys and values many times: in one piece they are faster, the copy counted in
        context = F.scaled_dot_product_attention(*qkv.contiguous())
        seen: Tensor = self.proj(context.transpose(1, 2).reshape(batch, tokens, width))
        return seen


class Mlp(nn.Module):
    """The two-layer perceptron of a transformer block."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return output


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, width: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width, int(width * mlp_ratio))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        change: Tensor = self.mlp(self.norm2(x))
        return x + change


class PatchEmbed(nn.Module):
    """Non-overlapping patches to vectors."""

    def __init__(self, patch_size: int, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch_size, patch_size)

    def forward(self, x: Tensor) -> Tensor:
        patches: Tensor = self.proj(x)
        return patches


class ImageEncoder(nn.Module):
    """[B, 3, image_size, image_size], normalised -> [B, neck, grid, grid]. No class token and no final norm."""

    held_positions: Tensor | None

    def __init__(
        self, patch_size: int, width: int, depth: int, heads: int, mlp_ratio: float, neck: int, position_grid: int
    ) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(patch_size, width)
        # The table of the pre-training at 224 px, its class token in front (read from checkpoints, never used).
        self.pos_embed = nn.Parameter(torch.zeros(1, position_grid**2 + 1, width))
        self.register_buffer("held_positions", None, persistent=False)
        self.blocks = nn.ModuleList(Block(width, heads, mlp_ratio) for _ in range(depth))
        self.neck = nn.Sequential(
            nn.Conv2d(width, neck, 1, bias=False),
            LayerNorm2d(neck),
            nn.Conv2d(neck, neck, 3, padding=1, bias=False),
            LayerNorm2d(neck),
        )
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def positions(self, rows: int, columns: int) -> Tensor:
        """The position table resized (bicubic) to the grid: [1, width, rows, columns]. Held for the one grid that
        `held_positions` was computed for."""
        if self.held_positions is not None and self.held_positions.shape[-2:] == (rows, columns):
            return self.held_positions
        table = self.pos_embed[:, 1:]
        side = int(table.shape[1] ** 0.5)
        table = table.view(1, side, side, -1).permute(0, 3, 1, 2)
        if (side, side) == (rows, columns):
            return table
        return F.interpolate(table, (rows, columns), mode="bicubic", align_corners=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x)
        batch, width, rows, columns = x.shape
        x = (x + self.positions(rows, columns)).flatten(2).transpose(1, 2)
        for block in self.blocks:
            x = block(x)
        embeddings: Tensor = self.neck(x.transpose(1, 2).reshape(batch, width, rows, columns))
        return embeddings
