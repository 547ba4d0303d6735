"""The text-prompted mask head: what BLIP's text encoder knows of a phrase, as prompts for EfficientSAM's mask decoder
over BLIP's own patches. Trained within BlipEsamItm, run by the pipeline where a profile has its weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from esam_perception.matching.matcher import ImageEncoding, TextScores
from esam_perception.segmentation.mask_decoder import FourierPositions, MaskDecoder


@dataclass(frozen=True)
class MaskDecoderSize:
    """Sizes of the mask decoder besides its width."""

    depth: int = 2
    heads: int = 8
    mlp_dim: int = 2048
    upscaling_dims: tuple[int, ...] = (64, 32)
    iou_head_dim: int = 256

    def build(self, width: int) -> MaskDecoder:
        """The decoder with fresh weights."""
        return MaskDecoder(width, self.depth, self.heads, self.mlp_dim, tuple(self.upscaling_dims), self.iou_head_dim)


@dataclass(frozen=True)
class MaskHeadConfig:
    """Of a profile: width of the prompts and of the image tokens, and the decoder."""

    width: int = 256
    decoder: MaskDecoderSize = MaskDecoderSize()

    def build(self, vision_width: int, text_width: int) -> TextMaskHead:
        """The head with fresh weights."""
        return TextMaskHead(vision_width, text_width, self.decoder.build(self.width))


class TextMaskHead(nn.Module):
    """Candidate masks of phrases. vision_width, text_width: of BLIP's towers; decoder: of any width."""

    def __init__(self, vision_width: int, text_width: int, decoder: MaskDecoder) -> None:
        super().__init__()
        width = decoder.mask_tokens.weight.shape[1]
        self.prompt_proj = nn.Linear(text_width, width)
        self.image_proj = nn.Sequential(nn.Linear(vision_width, width), nn.LayerNorm(width))
        self.positions = FourierPositions(width // 2)
        self.decoder = decoder
        # the decoder's single-mask kernel is never asked for (see MaskDecoder)
        decoder.output_hypernetworks_mlps[0].requires_grad_(False)

    def forward(self, image_embeds: Tensor, hidden: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
        """Candidate mask logits [B, P, 3, m, m] and predicted IoU [B, P, 3] of P phrases an image; m = 4 G.

        image_embeds: [B, 1 + G * G, vision_width], the class token first. hidden: of the last text layer,
        [B, P, L, text_width]; own: [B, P, L], 1 where a token is the phrase's own.
        """
        return self.outputs(*self.features(image_embeds, hidden, own))

    def features(self, image_embeds: Tensor, hidden: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
        """(prompt tokens [B, P, 2, width], image tokens [B, width, G, G]). Raises ValueError for an image that is not
        square. The prompts: the phrase's first token, and the mean of its own."""
        mean = (hidden * own[..., None]).sum(2) / own.sum(2, keepdim=True)
        prompts = self.prompt_proj(torch.stack([hidden[:, :, 0], mean], dim=2))
        patches = self.image_proj(image_embeds[:, 1:])
        side = round(patches.shape[1] ** 0.5)
        if side * side != patches.shape[1]:
            raise ValueError(f"masks need square images, got {patches.shape[1]} patches")
        return prompts, torch.unflatten(patches.transpose(1, 2), 2, (side, side))

    def outputs(self, prompts: Tensor, image_tokens: Tensor) -> tuple[Tensor, Tensor]:
        """What `forward` returns, of what `features` returned."""
        rows, columns = image_tokens.shape[-2:]
        y, x = ((torch.arange(n, device=prompts.device) + 0.5) / n for n in (rows, columns))
        grid = self.positions(torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)).flatten(0, 1)
        masks, predicted_iou = self.decoder(image_tokens, grid, prompts)
        return masks, predicted_iou


def best_candidate(masks: Tensor, predicted_iou: Tensor) -> Tensor:
    """Of each sample the candidate with the highest predicted IoU: [N, 3, m, m], [N, 3] -> [N, m, m]."""
    return masks[torch.arange(len(masks), device=masks.device), predicted_iou.argmax(1)]


@torch.no_grad()
def read_masks(head: TextMaskHead, encoding: ImageEncoding, scores: TextScores) -> np.ndarray:
    """What the head says of P phrases: float32 [P, m, m] in 0..1, of each the candidate that it trusts most.

    encoding, scores: of a BlipMatcher with `keep_hidden`; nothing of them is computed again. Raises ValueError for those
    of another one.
    """
    if encoding.embeds is None or scores.hidden is None:
        raise ValueError("a mask head reads hidden states: its BlipMatcher needs keep_hidden=True")
    with torch.autocast(scores.hidden.device.type, enabled=False):  # a decoder of masks: see Pipeline
        candidates, predicted_iou = head(encoding.embeds.float(), scores.hidden.float(), scores.own)
    return best_candidate(candidates[0], predicted_iou[0]).sigmoid().float().cpu().numpy()
