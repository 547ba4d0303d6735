"""BLIP checkpoints with transformers' or LAVIS' names into `BlipForImageTextRetrieval`."""

from __future__ import annotations

import re

from torch import Tensor, nn

from esam_perception.errors import EsamError

_VISION_NAMES = (
    (r"^visual_encoder\.cls_token$", "vision_model.embeddings.class_embedding"),
    (r"^visual_encoder\.pos_embed$", "vision_model.embeddings.position_embedding"),
    (r"^visual_encoder\.patch_embed\.proj\.", "vision_model.embeddings.patch_embedding."),
    (r"^visual_encoder\.norm\.", "vision_model.post_layernorm."),
    (r"^visual_encoder\.blocks\.(\d+)\.norm([12])\.", r"vision_model.encoder.layers.\1.layer_norm\2."),
    (r"^visual_encoder\.blocks\.(\d+)\.attn\.qkv\.", r"vision_model.encoder.layers.\1.self_attn.qkv."),
    (r"^visual_encoder\.blocks\.(\d+)\.attn\.proj\.", r"vision_model.encoder.layers.\1.self_attn.projection."),
    (r"^visual_encoder\.blocks\.(\d+)\.mlp\.", r"vision_model.encoder.layers.\1.mlp."),
)
# What a LAVIS retrieval checkpoint holds besides the model: momentum copies, queues, the temperature of its training.
# position_ids is a buffer that both kinds of checkpoint may hold.
_IGNORED = re.compile(
    r"^(visual_encoder_m|text_encoder_m|vision_proj_m|text_proj_m)\."
    r"|^(image_queue|text_queue|queue_ptr|ptr_queue|idx_queue|temp)$"
    r"|^text_encoder\.embeddings\.position_ids$"
)


class CheckpointError(EsamError):
    """A checkpoint that does not fit the model; the text lists the keys."""


def transformers_name(name: str) -> str:
    """LAVIS' name of a weight as transformers calls it; other names are returned as they are."""
    for pattern, replacement in _VISION_NAMES:
        name, found = re.subn(pattern, replacement, name)
        if found:
            break
    return name


def blip_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A checkpoint of either naming under transformers' names, without what a retrieval checkpoint holds besides the
    model. Weights that it does not know keep their names."""
    return {transformers_name(name): value for name, value in state.items() if not _IGNORED.match(name)}


def load_blip_state(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Load a checkpoint of either naming. Raises CheckpointError for missing, unknown or misshapen weights."""
    load_state(model, blip_names(state), "BLIP")


def load_state(model: nn.Module, state: dict[str, Tensor], what: str) -> None:
    """Load exactly the weights of `model`, cast to its dtype. Raises CheckpointError that lists what does not fit."""
    check_state(model, state, what)
    model.load_state_dict(state)


def check_state(model: nn.Module, state: dict[str, Tensor], what: str) -> None:
    """Raise CheckpointError, which lists the keys, unless `state` holds the weights of `model` and nothing else."""
    own = model.state_dict()
    problems = [f"missing: {name}" for name in own if name not in state]
    problems += [f"unknown: {name}" for name in state if name not in own]
    problems += [
        f"shape of {name}: {tuple(state[name].shape)} instead of {tuple(own[name].shape)}"
        for name in own
        if name in state and state[name].shape != own[name].shape
    ]
    if problems:
        more = f"; and {len(problems) - 12} more" if len(problems) > 12 else ""
        raise CheckpointError(f"{what} weights do not fit the profile: {'; '.join(problems[:12])}{more}")
