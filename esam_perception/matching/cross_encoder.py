"""BLIP's text encoder over an image, on the weights of transformers' `BlipForImageTextRetrieval`.

What transformers' own forward cannot do: many phrases against one image with its keys and values computed once; and
the cross-attention of one layer as a tensor of its own, with gradients to it alone (for Grad-CAM) or through it (for
training). Equal to the stock text encoder otherwise (Li et al. 2022, BLIP).
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from esam_perception.computing import at_least_float32
from esam_perception.matching.configuration import TransformersModule

KeysValues = list[tuple[Tensor, Tensor]]


@dataclass(frozen=True, eq=False)
class CrossEncoding:
    """hidden: float [B, P, L, D] (L = 1 where only the first row was asked for). attention: probabilities of the
    cross-attention of the chosen layer, float [B, P, heads, L, N], or None."""

    hidden: Tensor
    attention: Tensor | None


def project_keys_values(text_encoder: TransformersModule, image_embeds: Tensor) -> KeysValues:
    """Keys and values of every layer's cross-attention, each [B, heads, N, D / heads], from [B, N, D_image]."""
    projected = []
    for layer in text_encoder.encoder.layer:
        attention = layer.crossattention.self
        heads = (attention.num_attention_heads, attention.attention_head_size)
        key = attention.key(image_embeds).unflatten(-1, heads).transpose(1, 2)
        value = attention.value(image_embeds).unflatten(-1, heads).transpose(1, 2)
        projected.append((key, value))
    return projected


def cross_encode(
    text_encoder: TransformersModule,
    input_ids: Tensor,
    attention_mask: Tensor,
    image_embeds: Tensor | KeysValues,
    attention_layer: int | None = None,
    detach_attention: bool = False,
    first_row_only: bool = False,
) -> CrossEncoding:
    """Encode P phrases for each of B images.

    input_ids, attention_mask: int64 [B, P, L]. image_embeds: [B, N, D_image], or what `project_keys_values` made of it.
    attention_layer: the layer (from 0) whose cross-attention is returned.
    detach_attention: for Grad-CAM. That attention becomes a leaf which requires a gradient; everything below it is
    computed without gradients.
    first_row_only: compute the last layer for the first token alone, which is all that the ITM head reads.
    """
    keys_values = image_embeds if isinstance(image_embeds, list) else project_keys_values(text_encoder, image_embeds)
    batch, phrases, length = input_ids.shape
    rows = batch * phrases
    # additive mask over the keys of self-attention
    bias = torch.zeros(rows, 1, 1, length, dtype=keys_values[0][0].dtype, device=input_ids.device)
    bias.masked_fill_(attention_mask.view(rows, 1, 1, length) == 0, float("-inf"))
    layers = text_encoder.encoder.layer
    attention: Tensor | None = None
    with torch.no_grad() if detach_attention else nullcontext():
        hidden = text_encoder.embeddings(input_ids=input_ids.view(rows, length))
    for index, (layer, (key, value)) in enumerate(zip(layers, keys_values)):
        below = detach_attention and attention_layer is not None and index <= attention_layer
        with torch.no_grad() if below else nullcontext():
            first_only = first_row_only and index == len(layers) - 1
            hidden = _self_attention(layer.attention, hidden, bias, first_only)
            probabilities = None
            if index == attention_layer:
                probabilities = _cross_probabilities(layer.crossattention, hidden, key, phrases)
        if probabilities is not None:
            attention = probabilities.detach().requires_grad_() if detach_attention else probabilities
            hidden = _cross_output(layer.crossattention, hidden, _context_of(attention, value))
            hidden = layer.feed_forward_chunk(hidden)
        else:
            with torch.no_grad() if below else nullcontext():
                hidden = _cross_output(
                    layer.crossattention, hidden, _context(layer.crossattention, hidden, key, value, phrases)
                )
                hidden = layer.feed_forward_chunk(hidden)
    return CrossEncoding(torch.unflatten(hidden, 0, (batch, phrases)), attention)


def _self_attention(block: TransformersModule, hidden: Tensor, bias: Tensor, first_only: bool) -> Tensor:
    attention = block.self
    heads = (attention.num_attention_heads, attention.attention_head_size)
    asking = hidden[:, :1] if first_only else hidden
    query, key, value = (
        projection(rows).unflatten(-1, heads).transpose(1, 2)
        for projection, rows in ((attention.query, asking), (attention.key, hidden), (attention.value, hidden))
    )
    context = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
    output: Tensor = block.output(context.transpose(1, 2).flatten(2), asking)
    return output


def _queries(block: TransformersModule, hidden: Tensor, phrases: int) -> Tensor:
    """[B * P, L, D] -> [B, heads, P * L, D / heads]: all phrases of an image ask its keys at once."""
    attention = block.self
    rows, length, _ = hidden.shape
    query: Tensor = attention.query(hidden).view(rows // phrases, phrases * length, attention.num_attention_heads, -1)
    return query.transpose(1, 2)


def _context(block: TransformersModule, hidden: Tensor, key: Tensor, value: Tensor, phrases: int) -> Tensor:
    context = F.scaled_dot_product_attention(_queries(block, hidden, phrases), key, value)
    return context.transpose(1, 2).reshape(hidden.shape[0], hidden.shape[1], -1)


def _cross_probabilities(block: TransformersModule, hidden: Tensor, key: Tensor, phrases: int) -> Tensor:
    """float32 [B, P, heads, L, N]. Grad-CAM multiplies them with their gradient: both stay float32 under autocast."""
    query = at_least_float32(_queries(block, hidden, phrases))
    with torch.autocast(hidden.device.type, enabled=False):
        scores = query @ at_least_float32(key).transpose(-1, -2) / block.self.attention_head_size**0.5
        probabilities = scores.softmax(-1)
    return torch.unflatten(probabilities, 2, (phrases, hidden.shape[1])).transpose(1, 2)


def _context_of(attention: Tensor, value: Tensor) -> Tensor:
    """[B, P, heads, L, N] with values [B, heads, N, d] -> [B * P, L, heads * d]."""
    with torch.autocast(value.device.type, enabled=False):
        context = attention @ at_least_float32(value)[:, None]
    return context.transpose(2, 3).flatten(3).flatten(0, 1)


def _cross_output(block: TransformersModule, hidden: Tensor, context: Tensor) -> Tensor:
    output: Tensor = block.output(context, hidden)
    return output
