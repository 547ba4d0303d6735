"""Faults in what BLIP makes of an image that the bounds of the goldens must find, each put into the code under test for the
length of one test; see mutations.
"""

import torch
import torch.nn.functional as F
from torch import nn

from esam_perception.matching import image_encoder, matcher
from test.matching.mutations import DOGS, EPS, HF, PORTRAIT
from test.numerics.faults import long, put

# pixels: in place of `preprocess`


def _resized(images, steps, rounding=lambda x: x.add(0.5).floor(), mode="bicubic", antialias=True):
    """What `preprocess` does, with the steps (height, width) that are given."""
    pixels = images.permute(0, 3, 1, 2).float()
    for height, width in steps:
        pixels = F.interpolate(
            pixels, (height or pixels.shape[2], width or pixels.shape[3]), mode=mode, antialias=antialias
        )
        pixels = rounding(pixels).clamp(0, 255)
    return image_encoder.normalise(pixels)


WIDTH_FIRST = ((None, 384), (384, 384))


def _instead(monkeypatch, preprocess):
    monkeypatch.setattr(matcher, "preprocess", preprocess)


def height_first(monkeypatch, golden):
    _instead(monkeypatch, lambda images, size: _resized(images, ((384, None), (384, 384))))


def in_one_step(monkeypatch, golden):
    _instead(monkeypatch, lambda images, size: _resized(images, ((384, 384),)))


def halves_to_even(monkeypatch, golden):
    _instead(monkeypatch, lambda images, size: _resized(images, WIDTH_FIRST, torch.round))


def without_antialias(monkeypatch, golden):
    _instead(monkeypatch, lambda images, size: _resized(images, WIDTH_FIRST, antialias=False))


def bilinear(monkeypatch, golden):
    _instead(monkeypatch, lambda images, size: _resized(images, WIDTH_FIRST, mode="bilinear"))


def bgr_for_rgb(monkeypatch, golden):
    right = matcher.preprocess
    _instead(monkeypatch, lambda images, size: right(images.flip(-1), size))


def mirrored(monkeypatch, golden):
    right = matcher.preprocess
    _instead(monkeypatch, lambda images, size: right(images.flip(2), size))


def axes_exchanged(monkeypatch, golden):
    right = matcher.preprocess
    _instead(monkeypatch, lambda images, size: right(images.transpose(1, 2), size))


def cropped_to_a_square(monkeypatch, golden):
    right = matcher.preprocess

    def cropped(images, size):
        side = min(images.shape[1:3])
        top, left = ((length - side) // 2 for length in images.shape[1:3])
        return right(images[:, top : top + side, left : left + side], size)

    _instead(monkeypatch, cropped)


def normalised_twice(monkeypatch, golden):
    right = matcher.preprocess
    _instead(monkeypatch, lambda images, size: image_encoder.normalise(right(images, size) * 255))


def imagenet_statistics(monkeypatch, golden):
    monkeypatch.setattr(image_encoder, "MEAN", (0.485, 0.456, 0.406))
    monkeypatch.setattr(image_encoder, "STD", (0.229, 0.224, 0.225))


PIXELS = {
    height_first: [PORTRAIT],
    in_one_step: [PORTRAIT],
    halves_to_even: [DOGS],
    without_antialias: [DOGS, PORTRAIT],
    bilinear: [DOGS, PORTRAIT],
    bgr_for_rgb: [DOGS, PORTRAIT],
    mirrored: [PORTRAIT],
    axes_exchanged: [DOGS, PORTRAIT],
    cropped_to_a_square: [DOGS, PORTRAIT],
    normalised_twice: [DOGS],
    imagenet_statistics: [DOGS],
}


# the image tower


def positions_transposed(monkeypatch, golden):
    embeddings = golden.matcher.model.vision_model.embeddings
    table = embeddings.position_embedding
    grid = table[:, 1:].unflatten(1, (24, 24)).transpose(1, 2).flatten(1, 2)
    turned = nn.Parameter(torch.cat([table[:, :1], grid], 1), requires_grad=False)
    put(monkeypatch, embeddings, "position_embedding", turned)


def tanh_gelu_in_the_last_block(monkeypatch, golden):
    mlp = golden.matcher.model.vision_model.encoder.layers[-1].mlp
    put(monkeypatch, mlp, "activation_fn", nn.GELU(approximate="tanh"))


def norms_of_a_block_exchanged(monkeypatch, golden):
    block = golden.matcher.model.vision_model.encoder.layers[11]
    first, second = block.layer_norm1, block.layer_norm2
    put(monkeypatch, block, "layer_norm1", second)
    put(monkeypatch, block, "layer_norm2", first)


def eight_heads_in_a_block(monkeypatch, golden):
    monkeypatch.setattr(golden.matcher.model.vision_model.encoder.layers[5].self_attn, "num_heads", 8)


def without_the_last_norm(monkeypatch, golden):
    put(monkeypatch, golden.matcher.model.vision_model, "post_layernorm", nn.Identity())


def vision_eps_1e_5(monkeypatch, golden):
    for part in golden.matcher.model.vision_model.modules():
        if isinstance(part, nn.LayerNorm):
            monkeypatch.setattr(part, "eps", 1e-5)


def vision_eps_1e_5_in_one_norm(monkeypatch, golden):
    monkeypatch.setattr(golden.matcher.model.vision_model.encoder.layers[-1].layer_norm2, "eps", 1e-5)


TOWER = {
    positions_transposed: [PORTRAIT],
    tanh_gelu_in_the_last_block: [DOGS],
    norms_of_a_block_exchanged: [HF],
    eight_heads_in_a_block: [HF],
    without_the_last_norm: [long(PORTRAIT)],
    vision_eps_1e_5: [long(EPS)],
    vision_eps_1e_5_in_one_norm: [EPS],
}
