"""A profile with tiny random networks, for tests of everything but quality."""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from esam_perception.matching.configuration import BlipArchitecture, TowerSize, build_blip
from esam_perception.pipeline.mask_head import MaskDecoderSize, MaskHeadConfig
from esam_perception.profiles.schema import Profile, WeightsFile, write_profile
from esam_perception.profiles.weights import file_sha256
from esam_perception.segmentation import EfficientSam, EfficientSamConfig
from esam_perception.training.data.vocabulary import tabletop_vocabulary

BLIP = BlipArchitecture(
    image_size=64, patch_size=16, vision=TowerSize(32, 2, 2, 64), text=TowerSize(48, 3, 3, 64),
    vocab_size=len(tabletop_vocabulary()), max_position_embeddings=40, projection_dim=16, gradcam_layer=1,
)  # fmt: skip
SAM = EfficientSamConfig(
    image_size=64, patch_size=8, embed_dim=32, depth=1, num_heads=2, mlp_ratio=2.0, position_grid=4, neck_dim=32,
    decoder_heads=4, decoder_mlp_dim=32, upscaling_dims=(16, 8), iou_head_dim=16,
)  # fmt: skip


MASK_HEAD = MaskHeadConfig(32, MaskDecoderSize(1, 2, 32, (16, 8), 16))


def _randomised(module):
    for parameter in module.parameters():
        if parameter.ndim > 1:  # the usual 0.02 makes every answer the same
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    return module


def _save(module, path: Path) -> WeightsFile:
    save_file({k: v.contiguous() for k, v in module.state_dict().items()}, path)
    return WeightsFile(path.name, file_sha256(path))


def write_tiny_profile(folder: Path, with_mask_head: bool = False) -> Path:
    torch.manual_seed(5)
    blip, sam = _randomised(build_blip(BLIP)), _randomised(EfficientSam(SAM))
    (folder / "vocab.txt").write_text("\n".join(tabletop_vocabulary()) + "\n")
    extra: dict[str, Any] = {}
    if with_mask_head:
        head = _randomised(MASK_HEAD.build(BLIP.vision.hidden_size, BLIP.text.hidden_size))
        extra = {
            "mask_head": dataclasses.asdict(MASK_HEAD),
            "mask_head_weights": _save(head, folder / "mask_head.safetensors"),
        }
    write_profile(
        Profile(
            name="tiny", description="random", directory=folder, blip=dataclasses.asdict(BLIP),
            efficient_sam=dataclasses.asdict(SAM), blip_weights=_save(blip, folder / "blip.safetensors"),
            efficient_sam_weights=_save(sam, folder / "efficient_sam.safetensors"), **extra,
        )
    )  # fmt: skip
    return folder
