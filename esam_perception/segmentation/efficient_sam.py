"""EfficientSAM (Xiong et al. 2023) in one size-generic module: encode an image once, decode many prompts.

The state dict has the official names: checkpoints of yformer/EfficientSAM load as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esam_perception.segmentation.image_encoder import ImageEncoder
from esam_perception.segmentation.mask_decoder import MaskDecoder, PromptEncoder
from esam_perception.types import PROMPT_SLOTS, PromptLabel

# What segment-anything calls a negative point; these weights have no embedding for it. A slot with this label has the code
# of its position alone, as in the official model.
UNMARKED = 0
PROMPTS_AT_ONCE = 4  # that a CPU decodes in one pass; more are no faster (bench/results)


@dataclass(frozen=True)
class EfficientSamConfig:
    """Sizes of the network; the defaults are EfficientSAM-Ti (S: embed_dim=384, num_heads=6).

    position_grid: side of the position table (224 px of pre-training / patch size), resized to the image's grid.
    """

    image_size: int = 1024
    patch_size: int = 16
    embed_dim: int = 192
    depth: int = 12
    num_heads: int = 3
    mlp_ratio: float = 4.0
    position_grid: int = 14
    neck_dim: int = 256
    decoder_depth: int = 2
    decoder_heads: int = 8
    decoder_mlp_dim: int = 2048
    upscaling_dims: tuple[int, ...] = (64, 32)
    iou_head_dim: int = 256


class EfficientSam(nn.Module):
    """Masks from points and boxes. Trainable; no state besides its weights."""

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, config: EfficientSamConfig) -> None:
        super().__init__()
        self.config = config
        self.image_encoder = ImageEncoder(
            config.patch_size, config.embed_dim, config.depth, config.num_heads, config.mlp_ratio, config.neck_dim,
            config.position_grid,
        )  # fmt: skip
        self.prompt_encoder = PromptEncoder(config.neck_dim)
        self.mask_decoder = MaskDecoder(
            config.neck_dim, config.decoder_depth, config.decoder_heads, config.decoder_mlp_dim,
            tuple(config.upscaling_dims), config.iou_head_dim,
        )  # fmt: skip
        # ImageNet statistics; not in the checkpoints
        self.register_buffer("pixel_mean", torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1), persistent=False)

    @torch.no_grad()
    def hold_tables(self) -> None:
        """Compute the position tables of the input's grid once. For inference: the weights must not change after it."""
        side = self.config.image_size // self.config.patch_size
        self.image_encoder.held_positions = self.prompt_encoder.held_grid = None
        self.image_encoder.held_positions = self.image_encoder.positions(side, side)
        self.prompt_encoder.held_grid = torch.unflatten(self.prompt_encoder.grid(side, side), 0, (side, side))

    def encode_image(self, images: Tensor) -> Tensor:
        """float32 [B, 3, H, W] RGB in 0..1, any size -> embeddings [B, neck_dim, g, g].

        The image is stretched to the input square (bilinear, no antialias: what the weights were trained with) and
        normalised here: give it raw pixels.
        """
        size = self.config.image_size
        if images.shape[-2:] != (size, size):
            images = F.interpolate(images, (size, size), mode="bilinear", align_corners=False)
        embeddings: Tensor = self.image_encoder((images - self.pixel_mean) / self.pixel_std)
        return embeddings

    def decode(
        self, embeddings: Tensor, points: Tensor, labels: Tensor, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Candidate masks of Q prompts an image.

        embeddings: [B, neck_dim, g, g] of `encode_image`. points: float32 [B, Q, N, 2], (x, y) in pixels of an image
        of `size` (height, width). labels: [B, Q, N]: 1 point, 2 and 3 corners of a box, -1 padding, 0 UNMARKED.
        N <= 6; fewer are padded, as the weights were trained with. Both are checked where they lie, then brought to the
        device of the embeddings: prompts on the host cost no synchronisation.
        Returns low-res mask logits [B, Q, 3, 4g, 4g] and predicted IoU [B, Q, 3]; candidates are not sorted.
        Raises ValueError as `check_prompt`.
        """
        check_prompt(points, labels)
        points, labels = points.to(embeddings.device), labels.to(embeddings.device)
        count = points.shape[2]
        height, width = size
        scale = points.new_tensor([self.config.image_size / width, self.config.image_size / height])
        # a padded slot, given or added, has the code of (-1, -1), unscaled, and the embedding of invalid points
        points = torch.where(points >= 0, points * scale, -1.0)
        points = F.pad(points, (0, 0, 0, PROMPT_SLOTS - count), value=-1.0)
        labels = F.pad(labels, (0, PROMPT_SLOTS - count), value=PromptLabel.PADDING)
        prompts = self.prompt_encoder(points, labels, self.config.image_size)
        positions = self.prompt_encoder.grid(*embeddings.shape[-2:])
        if torch.is_grad_enabled() or embeddings.is_cuda:
            masks, predicted_iou = self.mask_decoder(embeddings, positions, prompts)
            return masks, predicted_iou
        # memory stays bounded, and so does what the CPU's caches must hold
        decoded = [self.mask_decoder(embeddings, positions, some) for some in prompts.split(PROMPTS_AT_ONCE, dim=1)]
        return torch.cat([masks for masks, _ in decoded], dim=1), torch.cat([iou for _, iou in decoded], dim=1)


def check_prompt(points: Tensor, labels: Tensor) -> None:
    """Raise ValueError for a prompt the model would misunderstand in silence: none or too many points, labels it does
    not know, no label that means anything, coordinates that are not finite."""
    if points.shape[-1] != 2 or points.shape[:-1] != labels.shape:
        raise ValueError(
            f"points [..., N, 2] and labels [..., N] do not fit: {tuple(points.shape)}, {tuple(labels.shape)}"
        )
    if not 1 <= points.shape[-2] <= PROMPT_SLOTS:
        raise ValueError(f"EfficientSAM takes 1 to {PROMPT_SLOTS} points a prompt, got {points.shape[-2]}")
    known = sorted([UNMARKED, *(int(label) for label in PromptLabel)])
    if not torch.isin(labels, torch.tensor(known, device=labels.device, dtype=labels.dtype)).all():
        raise ValueError(f"labels must be among {known}, got {sorted(set(labels.flatten().tolist()))}")
    if not (labels >= PromptLabel.POINT).any(-1).all():
        raise ValueError("a prompt needs at least one point or box corner")
    if not torch.isfinite(points).all():
        raise ValueError("prompt points must be finite")


def upsample_mask(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Low-res logits [..., m, m] -> [..., H, W], bicubic as in the official model."""
    flat = logits.reshape(-1, 1, *logits.shape[-2:])
    return F.interpolate(flat, size, mode="bicubic", align_corners=False).reshape(*logits.shape[:-2], *size)
