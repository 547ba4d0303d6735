"""Grad-CAM of BLIP's text encoder: what of the image speaks for a match, by token and by phrase (as LAVIS does it).

A: the cross-attention probabilities of one text layer. G: the gradient of the match logit by A. The map of a token is
A * max(G, 0) over the patches, the mean over the heads; the map of a phrase is the mean over its own tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from esam_perception.matching.configuration import TransformersModule
from esam_perception.matching.cross_encoder import KeysValues, cross_encode


@dataclass(frozen=True)
class Differentiated:
    """P phrases an image, differentiated. itm_logits: float [B, P, 2] (not match, match). hidden: of the last text layer,
    [B, P, L, D], or its first row alone. attention, gradient: A and G, [B, P, heads, L, N]. mask: the attention mask of
    the texts, int64 [B, P, L]. None of them requires a gradient."""

    itm_logits: Tensor
    hidden: Tensor
    attention: Tensor
    gradient: Tensor
    mask: Tensor


def differentiate(
    text_encoder: TransformersModule,
    itm_head: nn.Module,
    input_ids: Tensor,
    attention_mask: Tensor,
    image_embeds: Tensor | KeysValues,
    layer: int,
    first_row_only: bool = True,
) -> Differentiated:
    """Ask P phrases of each of B images, and differentiate the match logits by the attention of `layer` (from 0).

    input_ids, attention_mask: int64 [B, P, L]. image_embeds: see `cross_encode`. Only the layers above `layer` are
    differentiated; no gradients are left behind. first_row_only: false where the last layer's hidden states of all
    tokens are wanted.
    """
    if isinstance(image_embeds, Tensor):
        image_embeds = image_embeds.detach()
    with torch.enable_grad():
        encoded = cross_encode(
            text_encoder, input_ids, attention_mask, image_embeds, layer,
            detach_attention=True, first_row_only=first_row_only,
        )  # fmt: skip
        if encoded.attention is None:
            raise ValueError(f"the text encoder has no layer {layer}")
        logits = itm_head(encoded.hidden[:, :, 0])
        (gradient,) = torch.autograd.grad(logits[..., 1].sum(), encoded.attention)
    return Differentiated(
        logits.detach(), encoded.hidden.detach(), encoded.attention.detach(), gradient, attention_mask
    )


@torch.no_grad()
def token_maps(found: Differentiated) -> Tensor:
    """Grad-CAM of every token, not normalised: [B, P, L, N - 1], without the class token of the image; 0 for padding."""
    cam = found.attention[..., 1:] * found.gradient[..., 1:].clamp_min(0) * found.mask[:, :, None, :, None]
    return cam.mean(2)


@torch.no_grad()
def phrase_maps(found: Differentiated) -> Tensor:
    """Grad-CAM of every phrase, the mean over its own tokens, not normalised: [B, P, N - 1]."""
    own = own_token_mask(found.mask)
    return (token_maps(found) * own[..., None]).sum(2) / own.sum(2, keepdim=True)


def own_token_mask(mask: Tensor) -> Tensor:
    """Which tokens are a text's own, neither the first nor [SEP]: float32 [..., L] from an attention mask [..., L]."""
    position = torch.arange(mask.shape[-1], device=mask.device)
    return ((position >= 1) & (position <= mask.sum(-1, keepdim=True) - 2)).float()
