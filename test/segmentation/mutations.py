"""Faults that the bounds of EfficientSAM's goldens must find (see test/matching/mutations.py)."""

import torch
import torch.nn.functional as F
from torch import nn

from esam_perception.segmentation import efficient_sam
from test.numerics.faults import long, put

DOGS = "vitt/dogs_512x384"
# more channels and heads, the same code as DOGS
WIDE = long("vits/dogs_512x384")
PORTRAIT, EPS = "vitt_portrait/portrait_360x640", "vitt_eps/portrait_360x640"


# the whole image encoder


def _pixels(monkeypatch, golden, change):
    right = golden.model.encode_image
    put(monkeypatch, golden.model, "encode_image", lambda images: right(change(images)))


def bgr_for_rgb(monkeypatch, golden):
    _pixels(monkeypatch, golden, lambda images: images.flip(1))


def normalised_twice(monkeypatch, golden):
    """The fork's fault: the model does its own."""
    _pixels(monkeypatch, golden, lambda images: (images - golden.model.pixel_mean) / golden.model.pixel_std)


def image_axes_exchanged(monkeypatch, golden):
    _pixels(monkeypatch, golden, lambda images: images.transpose(2, 3))


def _positions(monkeypatch, golden, change):
    table = golden.model.image_encoder.pos_embed[:, 1:].unflatten(1, (14, 14)).permute(0, 3, 1, 2)
    put(monkeypatch, golden.model.image_encoder, "positions", lambda rows, columns: change(table, (rows, columns)))


def positions_transposed(monkeypatch, golden):
    _positions(
        monkeypatch, golden,
        lambda table, size: F.interpolate(table.transpose(2, 3), size, mode="bicubic", align_corners=False),
    )  # fmt: skip


def positions_bilinear(monkeypatch, golden):
    _positions(
        monkeypatch, golden, lambda table, size: F.interpolate(table, size, mode="bilinear", align_corners=False)
    )


ENCODER = {
    bgr_for_rgb: [DOGS],
    normalised_twice: [long(PORTRAIT)],
    image_axes_exchanged: [long(PORTRAIT)],
    positions_transposed: [PORTRAIT],
    positions_bilinear: [long(DOGS)],
}


# its last block and its neck: what came before is remembered


def tanh_gelu(monkeypatch, golden):
    block = golden.model.image_encoder.blocks[-1]
    put(monkeypatch, block.mlp, "forward", lambda x: block.mlp.fc2(F.gelu(block.mlp.fc1(x), approximate="tanh")))


def half_the_heads(monkeypatch, golden):
    attention = golden.model.image_encoder.blocks[-1].attn
    put(monkeypatch, attention, "heads", 1)


def norms_exchanged(monkeypatch, golden):
    block = golden.model.image_encoder.blocks[-1]
    first, second = block.norm1, block.norm2
    put(monkeypatch, block, "norm1", second)
    put(monkeypatch, block, "norm2", first)


def neck_without_its_last_norm(monkeypatch, golden):
    put(monkeypatch, golden.model.image_encoder.neck, "3", nn.Identity())


def block_eps_1e_5(monkeypatch, golden):
    put(monkeypatch, golden.model.image_encoder.blocks[-1].norm2, "eps", 1e-5)


def neck_eps_1e_5(monkeypatch, golden):
    put(monkeypatch, golden.model.image_encoder.neck[1], "eps", 1e-5)


LAST_BLOCK = {
    tanh_gelu: [DOGS, WIDE],
    half_the_heads: [DOGS, WIDE],
    norms_exchanged: [DOGS, WIDE],
    neck_without_its_last_norm: [PORTRAIT],
    block_eps_1e_5: [EPS],
    neck_eps_1e_5: [EPS],
}


# prompts, decoder, upsampling


def _prompts(monkeypatch, golden, change):
    right = golden.model.prompt_encoder.forward
    put(monkeypatch, golden.model.prompt_encoder, "forward", lambda *given: right(*change(*given)))


def x_and_y_exchanged(monkeypatch, golden):
    _prompts(monkeypatch, golden, lambda points, labels, size: (points.flip(-1), labels, size))


def half_a_pixel_off(monkeypatch, golden):
    _prompts(monkeypatch, golden, lambda points, labels, size: (points - 0.5, labels, size))


def corners_exchanged(monkeypatch, golden):
    _prompts(
        monkeypatch, golden,
        lambda points, labels, size: (points, torch.where(labels == 2, 3, torch.where(labels == 3, 2, labels)), size),
    )  # fmt: skip


def labels_ignored(monkeypatch, golden):
    _prompts(monkeypatch, golden, lambda points, labels, size: (points, torch.ones_like(labels), size))


def width_and_height_exchanged(monkeypatch, golden):
    right = golden.model.decode
    put(monkeypatch, golden.model, "decode", lambda *given: right(*given[:3], given[3][::-1]))


def slots_not_filled(monkeypatch, golden):
    monkeypatch.setattr(efficient_sam.F, "pad", lambda x, *given, **named: x)


def grid_transposed(monkeypatch, golden):
    right = golden.model.prompt_encoder.grid
    put(
        monkeypatch, golden.model.prompt_encoder, "grid",
        lambda rows, columns: right(rows, columns).unflatten(0, (rows, columns)).transpose(0, 1).flatten(0, 1),
    )  # fmt: skip


def grid_missing(monkeypatch, golden):
    right = golden.model.prompt_encoder.grid
    put(monkeypatch, golden.model.prompt_encoder, "grid", lambda *size: torch.zeros_like(right(*size)))


def first_residual_left_out(monkeypatch, golden):
    """segment-anything's own first layer."""
    attention = golden.model.mask_decoder.transformer.layers[0].self_attn
    right = attention.forward
    put(monkeypatch, attention, "forward", lambda query, key, value: right(query, key, value) - query)


def half_the_decoder_heads(monkeypatch, golden):
    put(monkeypatch, golden.model.mask_decoder.transformer.final_attn_token_to_image, "heads", 4)


def tanh_gelu_in_the_decoder(monkeypatch, golden):
    put(monkeypatch, golden.model.mask_decoder.transformer.layers[1].mlp.layers[0], "1", nn.GELU(approximate="tanh"))


def relu_in_the_decoder(monkeypatch, golden):
    """segment-anything's own."""
    put(monkeypatch, golden.model.mask_decoder.transformer.layers[0].mlp.layers[0], "1", nn.ReLU())


def without_group_norm(monkeypatch, golden):
    put(monkeypatch, golden.model.mask_decoder.final_output_upscaling_layers[0], "1", nn.Identity())


def kernels_of_the_next_mask(monkeypatch, golden):
    decoder = golden.model.mask_decoder
    kernels = list(decoder.output_hypernetworks_mlps)
    put(monkeypatch, decoder, "output_hypernetworks_mlps", nn.ModuleList(kernels[1:] + kernels[:1]))


def candidates_sorted(monkeypatch, golden):
    right = golden.model.decode

    def decode(*given):
        logits, iou = right(*given)
        order = iou.argsort(-1, descending=True)
        return torch.take_along_dim(logits, order[..., None, None], 2), torch.take_along_dim(iou, order, 2)

    put(monkeypatch, golden.model, "decode", decode)


def iou_of_the_next_candidate(monkeypatch, golden):
    head = golden.model.mask_decoder.iou_prediction_head
    right = head.forward
    put(monkeypatch, head, "forward", lambda x: right(x).roll(1, -1))


def _upsampling(monkeypatch, **options):
    right = F.interpolate
    monkeypatch.setattr(efficient_sam.F, "interpolate", lambda x, size, **given: right(x, size, **{**given, **options}))


def masks_upsampled_bilinearly(monkeypatch, golden):
    _upsampling(monkeypatch, mode="bilinear")


def masks_upsampled_with_aligned_corners(monkeypatch, golden):
    _upsampling(monkeypatch, align_corners=True)


def decoder_eps_1e_6(monkeypatch, golden):
    for part in golden.model.mask_decoder.modules():
        if isinstance(part, nn.LayerNorm | nn.GroupNorm):
            put(monkeypatch, part, "eps", 1e-6)


def eps_1e_6_in_one_decoder_norm(monkeypatch, golden):
    put(monkeypatch, golden.model.mask_decoder.transformer.norm_final_attn, "eps", 1e-6)


def group_norm_eps_1e_6(monkeypatch, golden):
    put(monkeypatch, golden.model.mask_decoder.final_output_upscaling_layers[0][1], "eps", 1e-6)


MASKS = {
    x_and_y_exchanged: [DOGS, WIDE, PORTRAIT],
    half_a_pixel_off: [DOGS, WIDE, PORTRAIT],
    corners_exchanged: [DOGS, PORTRAIT],
    labels_ignored: [DOGS, PORTRAIT],
    width_and_height_exchanged: [DOGS, WIDE, PORTRAIT],
    slots_not_filled: [DOGS, PORTRAIT],
    grid_transposed: [DOGS, PORTRAIT],
    grid_missing: [DOGS],
    first_residual_left_out: [DOGS, WIDE],
    half_the_decoder_heads: [DOGS],
    tanh_gelu_in_the_decoder: [DOGS, WIDE],
    relu_in_the_decoder: [DOGS],
    without_group_norm: [DOGS],
    kernels_of_the_next_mask: [DOGS, WIDE],
    candidates_sorted: [DOGS, PORTRAIT, EPS],
    iou_of_the_next_candidate: [WIDE],
    masks_upsampled_bilinearly: [DOGS, PORTRAIT],
    masks_upsampled_with_aligned_corners: [DOGS, PORTRAIT],
    decoder_eps_1e_6: [EPS],
    eps_1e_6_in_one_decoder_norm: [EPS],
    group_norm_eps_1e_6: [EPS],
}
