"""BLIP's image tower on transformers' weights, with fused attention and any window of the position table."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from esam_perception.matching.configuration import TransformersModule

# CLIP's image statistics, as BLIP was trained with.
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


def preprocess(images: Tensor, size: int) -> Tensor:
    """uint8 [B, H, W, 3] RGB -> float32 [B, 3, size, size], normalised.

    Bicubic with antialias; stretched, not cropped (LAVIS' BlipImageEvalProcessor). Width, then height, each rounded to
    grey levels, a half upwards: so Pillow up to 12 does it, which the published figures rest on. (13 takes the height
    first where that shrinks much more.) In one step a sixth of the values would be a grey level off.
    """
    pixels = images.permute(0, 3, 1, 2).float()
    for shape in ((pixels.shape[-2], size), (size, size)):
        if pixels.shape[-2:] != shape:
            pixels = F.interpolate(pixels, shape, mode="bicubic", align_corners=False, antialias=True)
            pixels = pixels.add(0.5).floor().clamp(0, 255)
    return normalise(pixels)


def normalise(pixels: Tensor) -> Tensor:
    """float32 [B, 3, H, W] in 0..255 -> normalised by MEAN and STD."""
    mean, std = (pixels.new_tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    return (pixels / 255 - mean) / std


def encode_image(vision_model: TransformersModule, pixels: Tensor, corner: tuple[int, int] = (0, 0)) -> Tensor:
    """The image tower: [B, 3, h, w] -> [B, 1 + patches, D], the class token first.

    The image may be smaller than the tower's own size (training on crops): `corner` is the (row, column), in patches,
    of the window of the position table that it is taken to lie under.
    """
    embeddings = vision_model.embeddings
    side = embeddings.image_size // embeddings.patch_size
    patches = embeddings.patch_embedding(pixels)
    rows, columns = patches.shape[-2:]
    table = embeddings.position_embedding[0, 1:].view(side, side, -1)
    window = table[corner[0] : corner[0] + rows, corner[1] : corner[1] + columns].reshape(rows * columns, -1)
    first = embeddings.class_embedding[0] + embeddings.position_embedding[0, :1]
    hidden = torch.cat([first.expand(len(pixels), 1, -1), patches.flatten(2).transpose(1, 2) + window], dim=1)
    for layer in vision_model.encoder.layers:
        attention = layer.self_attn
        batch, tokens, width = hidden.shape
        qkv = attention.qkv(layer.layer_norm1(hidden)).view(batch, tokens, 3, attention.num_heads, -1)
        # the attention reads keys and values many times: in one piece they are faster, the copy counted in
        context = F.scaled_dot_product_attention(*qkv.permute(2, 0, 3, 1, 4).contiguous())
        hidden = hidden + attention.projection(context.transpose(1, 2).reshape(batch, tokens, width))
        hidden = hidden + layer.mlp(layer.layer_norm2(hidden))
    encoded: Tensor = vision_model.post_layernorm(hidden)
    return encoded
