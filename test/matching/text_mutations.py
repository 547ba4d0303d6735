"""Faults in the text side of BLIP and in Grad-CAM that the bounds of the goldens must find, each put into the code under
test for the length of one test; see mutations.
"""

import dataclasses

import torch
import torch.nn.functional as F
from torch import nn

from esam_perception.matching import gradcam, matcher
from test.matching.mutations import DOGS, EPS, HF, PORTRAIT
from test.numerics.faults import put


def _cross_encode(monkeypatch, change):
    """`change` of (ids, mask, keys and values, Grad-CAM's layer) before each encoding."""
    right = gradcam.cross_encode

    def changed(encoder, ids, mask, keys_values, layer, **rest):
        return right(encoder, *change(ids, mask, keys_values, layer), **rest)

    monkeypatch.setattr(gradcam, "cross_encode", changed)


def layer_below(monkeypatch, golden):
    _cross_encode(monkeypatch, lambda ids, mask, keys, layer: (ids, mask, keys, layer - 1))


def layer_above(monkeypatch, golden):
    _cross_encode(monkeypatch, lambda ids, mask, keys, layer: (ids, mask, keys, layer + 1))


def padding_attended(monkeypatch, golden):
    _cross_encode(monkeypatch, lambda ids, mask, keys, layer: (ids, torch.ones_like(mask), keys, layer))


def keys_of_the_next_layer(monkeypatch, golden):
    _cross_encode(monkeypatch, lambda ids, mask, keys, layer: (ids, mask, keys[1:] + keys[:1], layer))


def cls_for_enc(monkeypatch, golden):
    monkeypatch.setattr(golden.matcher.tokenizer, "encode_for_itm", golden.matcher.tokenizer.encode_for_itc)


def enc_for_cls(monkeypatch, golden):
    right = golden.matcher.tokenizer.encode_for_itc

    def with_enc(texts):
        ids, mask = right(texts)
        ids[:, 0] = golden.matcher.tokenizer.enc_token_id
        return ids, mask

    monkeypatch.setattr(golden.matcher.tokenizer, "encode_for_itc", with_enc)


def itc_of_another_token(monkeypatch, golden):
    right = golden.matcher.model.text_encoder.forward
    encoder = golden.matcher.model.text_encoder

    def rolled(*args, **kwargs):
        output = right(*args, **kwargs)
        output.last_hidden_state = output.last_hidden_state.roll(-1, 1)
        return output

    monkeypatch.setattr(encoder, "forward", rolled)


def itc_without_length_1(monkeypatch, golden):
    monkeypatch.setattr(F, "normalize", lambda x, dim: x)


def _token_maps(monkeypatch, mean):
    """`mean`: the map of every token from attention and gradient over the patches, and the mask as [B, P, 1, L, 1]."""

    def maps(found):
        return mean(found.attention[..., 1:], found.gradient[..., 1:], found.mask[:, :, None, :, None])

    _token_maps_everywhere(monkeypatch, maps)


def _token_maps_everywhere(monkeypatch, maps):
    for module in (gradcam, matcher):  # phrases; words
        monkeypatch.setattr(module, "token_maps", maps)


def gradient_without_relu(monkeypatch, golden):
    _token_maps(monkeypatch, lambda attention, gradient, mask: (attention * gradient * mask).mean(2))


def attention_alone(monkeypatch, golden):
    _token_maps(monkeypatch, lambda attention, gradient, mask: (attention * mask).mean(2))


def heads_averaged_before_the_product(monkeypatch, golden):
    _token_maps(
        monkeypatch, lambda attention, gradient, mask: attention.mean(2) * gradient.clamp_min(0).mean(2) * mask[:, :, 0]
    )


def sum_over_heads(monkeypatch, golden):
    _token_maps(monkeypatch, lambda attention, gradient, mask: (attention * gradient.clamp_min(0) * mask).sum(2))


def class_token_kept(monkeypatch, golden):
    right = gradcam.token_maps

    def maps(found):
        rolled = {"attention": found.attention.roll(1, -1), "gradient": found.gradient.roll(1, -1)}
        return right(dataclasses.replace(found, **rolled))

    _token_maps_everywhere(monkeypatch, maps)


def axes_of_the_map_exchanged(monkeypatch, golden):
    right = matcher.phrase_maps
    monkeypatch.setattr(
        matcher, "phrase_maps", lambda found: right(found).unflatten(2, (24, 24)).transpose(2, 3).flatten(2)
    )


def all_tokens_averaged(monkeypatch, golden):
    monkeypatch.setattr(gradcam, "own_token_mask", lambda mask: mask.float())


def words_off_by_one(monkeypatch, golden):
    right = matcher.token_maps
    monkeypatch.setattr(matcher, "token_maps", lambda found: right(found).roll(1, 2))


def tanh_gelu_in_a_text_layer(monkeypatch, golden):
    part = golden.matcher.model.text_encoder.encoder.layer[9].intermediate
    put(monkeypatch, part, "intermediate_act_fn", nn.GELU(approximate="tanh"))


def attention_without_its_scale(monkeypatch, golden):
    monkeypatch.setattr(
        golden.matcher.model.text_encoder.encoder.layer[7].crossattention.self, "attention_head_size", 1
    )


def eight_text_heads(monkeypatch, golden):
    """transformers' default."""
    for layer in golden.matcher.model.text_encoder.encoder.layer:
        monkeypatch.setattr(layer.attention.self, "num_attention_heads", 8)
        monkeypatch.setattr(layer.attention.self, "attention_head_size", 96)


def logits_exchanged(monkeypatch, golden):
    right = golden.matcher.model.itm_head
    other = nn.Linear(768, 2).requires_grad_(False)
    other.weight.copy_(right.weight.flip(0))
    other.bias.copy_(right.bias.flip(0))
    put(monkeypatch, golden.matcher.model, "itm_head", other)


def positions_from_1(monkeypatch, golden):
    embeddings = golden.matcher.model.text_encoder.embeddings
    put(monkeypatch, embeddings, "position_ids", torch.arange(1, 512).expand((1, -1)))


def _text_norms(golden):
    return [part for part in golden.matcher.model.text_encoder.modules() if isinstance(part, nn.LayerNorm)]


def text_eps_1e_5(monkeypatch, golden):
    for part in _text_norms(golden):
        monkeypatch.setattr(part, "eps", 1e-5)


def text_eps_1e_11(monkeypatch, golden):
    for part in _text_norms(golden):
        monkeypatch.setattr(part, "eps", 1e-11)


def text_eps_1e_11_in_one_norm(monkeypatch, golden):
    """The one whose eps moves Grad-CAM least (change_with_one_layernorm_wrong in golden_eps.json)."""
    monkeypatch.setattr(golden.matcher.model.text_encoder.encoder.layer[1].output.LayerNorm, "eps", 1e-11)


ANSWERS = {
    layer_below: [DOGS, PORTRAIT, EPS, HF],
    layer_above: [DOGS, HF],
    padding_attended: [DOGS, PORTRAIT, EPS, HF],
    keys_of_the_next_layer: [DOGS],
    cls_for_enc: [DOGS, PORTRAIT, EPS, HF],
    enc_for_cls: [DOGS, HF],
    itc_of_another_token: [DOGS],
    itc_without_length_1: [DOGS],
    gradient_without_relu: [DOGS, PORTRAIT],
    attention_alone: [DOGS],
    heads_averaged_before_the_product: [DOGS],
    sum_over_heads: [DOGS],
    class_token_kept: [DOGS, PORTRAIT],
    axes_of_the_map_exchanged: [DOGS, PORTRAIT, HF],
    all_tokens_averaged: [DOGS, PORTRAIT],
    words_off_by_one: [DOGS],
    tanh_gelu_in_a_text_layer: [DOGS, HF],
    attention_without_its_scale: [DOGS],
    eight_text_heads: [DOGS],
    logits_exchanged: [DOGS],
    positions_from_1: [DOGS],
    text_eps_1e_5: [EPS],
    text_eps_1e_11: [EPS],
    text_eps_1e_11_in_one_norm: [EPS],
}
