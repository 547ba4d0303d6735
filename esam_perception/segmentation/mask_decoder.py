"""EfficientSAM's prompt encoder and mask decoder (Kirillov et al. 2023, as changed by Xiong et al. 2023).

Differences to segment-anything that matter: layer 0 of the two-way transformer keeps the residual of its
self-attention and later layers add the prompt code into the residual; GELU throughout; GroupNorm(1) in the upscaler;
no embedding for negative points; always the same number of prompt slots, padding included in the attention.
Names of parameters equal the official checkpoints' (prompt_encoder.*, mask_decoder.*).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esam_perception.types import PromptLabel

CANDIDATES = 3


class FourierPositions(nn.Module):
    """Random Fourier features of positions in 0..1 (Tancik et al. 2020)."""

    positional_encoding_gaussian_matrix: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.randn(2, features))

    def forward(self, positions: Tensor) -> Tensor:
        """[..., 2] (x, y) -> [..., 2 * features]."""
        # float32 also under autocast: eight bits of an angle of many turns say nothing
        with torch.autocast(positions.device.type, enabled=False):
            matrix = self.positional_encoding_gaussian_matrix
            angles = 2 * math.pi * ((2 * positions.to(matrix.dtype) - 1) @ matrix)
            return torch.cat([angles.sin(), angles.cos()], dim=-1)


class PromptEncoder(nn.Module):
    """Points and box corners to prompt tokens."""

    held_grid: Tensor | None

    def __init__(self, width: int) -> None:
        super().__init__()
        self.pe_layer = FourierPositions(width // 2)
        self.invalid_points = nn.Embedding(1, width)
        self.point_embeddings = nn.Embedding(1, width)
        self.bbox_top_left_embeddings = nn.Embedding(1, width)
        self.bbox_bottom_right_embeddings = nn.Embedding(1, width)
        self.register_buffer("held_grid", None, persistent=False)

    def forward(self, points: Tensor, labels: Tensor, image_size: int) -> Tensor:
        """points [..., 2] (x, y) in pixels of the network's input, labels [...] -> [..., width]."""
        tokens: Tensor = self.pe_layer((points + 0.5) / image_size)
        kinds = (
            (PromptLabel.PADDING, self.invalid_points),
            (PromptLabel.POINT, self.point_embeddings),
            (PromptLabel.BOX_TOP_LEFT, self.bbox_top_left_embeddings),
            (PromptLabel.BOX_BOTTOM_RIGHT, self.bbox_bottom_right_embeddings),
        )
        for label, embedding in kinds:
            tokens = tokens + (labels == label).unsqueeze(-1) * embedding.weight[0]
        return tokens

    def grid(self, rows: int, columns: int) -> Tensor:
        """The code of the centre of every cell of the image embedding: [rows * columns, width]."""
        if self.held_grid is not None and self.held_grid.shape[:2] == (rows, columns):
            return self.held_grid.flatten(0, 1)
        device = self.invalid_points.weight.device
        y = (torch.arange(rows, device=device) + 0.5) / rows
        x = (torch.arange(columns, device=device) + 0.5) / columns
        code: Tensor = self.pe_layer(torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1))
        return code.flatten(0, 1)


class Perceptron(nn.Module):
    """`hidden_layers` GELU layers, then a linear one."""

    def __init__(self, inputs: int, hidden: int, outputs: int, hidden_layers: int) -> None:
        super().__init__()
        widths = [inputs] + [hidden] * hidden_layers
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(a, b), nn.GELU()) for a, b in zip(widths, widths[1:]))
        self.fc = nn.Linear(widths[-1], outputs)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        output: Tensor = self.fc(x)
        return output


class DecoderAttention(nn.Module):
    """Attention with separate projections, to a narrower inner width."""

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(width, inner) for _ in range(3))
        self.out_proj = nn.Linear(inner, width)

    def _split(self, x: Tensor) -> Tensor:
        return torch.unflatten(x, -1, (self.heads, -1)).transpose(1, 2)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """[B or B * Q, N, width] each: what Q prompts of an image share comes once and is projected once."""
        projected = (
            self._split(self.q_proj(query)),
            self._split(self.k_proj(key)),
            self._split(self.v_proj(value)),
        )
        rows = max(map(len, projected))
        query, key, value = (_for_each_prompt(x, rows) for x in projected)
        context = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        seen: Tensor = self.out_proj(context)
        return seen


def _for_each_prompt(x: Tensor, rows: int) -> Tensor:
    """[B, ...] -> [rows, ...]: every image's row as often as it has prompts; a view where there is one image."""
    if len(x) == rows:
        return x
    return x.expand(rows, *x.shape[1:]) if len(x) == 1 else x.repeat_interleave(rows // len(x), dim=0)


class TwoWayLayer(nn.Module):
    """Tokens attend to themselves and to the image; the image attends back to the tokens. In the first layer, all prompts
    of an image still see the same image: it comes in once."""

    def __init__(self, width: int, heads: int, mlp_width: int, first: bool) -> None:
        super().__init__()
        self.self_attn = DecoderAttention(width, heads, width)
        self.cross_attn_token_to_image = DecoderAttention(width, heads, width // 2)
        self.cross_attn_image_to_token = DecoderAttention(width, heads, width // 2)
        self.mlp = Perceptron(width, mlp_width, width, 1)
        self.norm1, self.norm2, self.norm3, self.norm4 = (nn.LayerNorm(width) for _ in range(4))
        self.first = first

    def forward(self, tokens: Tensor, image: Tensor, prompt: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        if not self.first:
            tokens = tokens + prompt
        tokens = self.norm1(tokens + self.self_attn(tokens, tokens, tokens))
        placed = image + positions
        tokens = self.norm2(tokens + self.cross_attn_token_to_image(tokens + prompt, placed, image))
        tokens = self.norm3(tokens + self.mlp(tokens))
        asked = self.cross_attn_image_to_token(placed, tokens + prompt, tokens)
        image = self.norm4(asked.add_(_for_each_prompt(image, len(asked))))  # in place: 4 MB a prompt
        return tokens, image


class TwoWayTransformer(nn.Module):
    """The layers, and a last look of the tokens at the image."""

    def __init__(self, width: int, depth: int, heads: int, mlp_width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(TwoWayLayer(width, heads, mlp_width, first=i == 0) for i in range(depth))
        self.final_attn_token_to_image = DecoderAttention(width, heads, width // 2)
        self.norm_final_attn = nn.LayerNorm(width)

    def forward(self, prompt: Tensor, image: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        tokens = prompt
        for layer in self.layers:
            tokens, image = layer(tokens, image, prompt, positions)
        look = self.final_attn_token_to_image(tokens + prompt, image + positions, image)
        return self.norm_final_attn(tokens + look), image


class MaskDecoder(nn.Module):
    """Prompt tokens and image embedding to candidate masks and their predicted IoU."""

    def __init__(
        self, width: int, depth: int, heads: int, mlp_width: int, upscaling: tuple[int, ...], iou_width: int
    ) -> None:
        super().__init__()
        self.transformer = TwoWayTransformer(width, depth, heads, mlp_width)
        self.iou_token = nn.Embedding(1, width)
        # token 0 is the single mask of an unambiguous prompt; the official model is always asked for the others
        self.mask_tokens = nn.Embedding(CANDIDATES + 1, width)
        widths = (width, *upscaling)
        self.final_output_upscaling_layers = nn.ModuleList(
            nn.Sequential(
                nn.ConvTranspose2d(a, b, kernel_size=2, stride=2),
                nn.GroupNorm(1, b) if i < len(upscaling) - 1 else nn.Identity(),
                nn.GELU(),
            )
            for i, (a, b) in enumerate(zip(widths, widths[1:]))
        )
        self.output_hypernetworks_mlps = nn.ModuleList(
            Perceptron(width, width, upscaling[-1], 2) for _ in range(CANDIDATES + 1)
        )
        self.iou_prediction_head = Perceptron(width, iou_width, CANDIDATES + 1, 2)

    def forward(self, embeddings: Tensor, positions: Tensor, prompts: Tensor) -> tuple[Tensor, Tensor]:
        """embeddings [B, width, g, g], positions [g * g, width], prompts [B, Q, N, width] ->
        low-res mask logits [B, Q, 3, m, m] and predicted IoU [B, Q, 3]."""
        batch, queries = prompts.shape[:2]
        width, rows, columns = embeddings.shape[1:]
        own = torch.cat([self.iou_token.weight, self.mask_tokens.weight]).expand(batch * queries, -1, -1)
        tokens = torch.cat([own, prompts.flatten(0, 1)], dim=1)
        image = embeddings.flatten(2).transpose(1, 2)
        tokens, image = self.transformer(tokens, image, positions)
        pixels = image.transpose(1, 2).reshape(batch * queries, width, rows, columns)
        for layer in self.final_output_upscaling_layers:
            pixels = layer(pixels)
        # the unambiguous mask (token 0) is never used: only the others are computed
        kernels = torch.stack(
            [self.output_hypernetworks_mlps[i](tokens[:, 1 + i]) for i in range(1, CANDIDATES + 1)], dim=1
        )
        masks = (kernels @ pixels.flatten(2)).unflatten(-1, pixels.shape[-2:])
        predicted_iou = self.iou_prediction_head(tokens[:, 0])[:, 1:]
        return masks.unflatten(0, (batch, queries)), predicted_iou.unflatten(0, (batch, queries))
