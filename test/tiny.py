"""A profile with tiny random networks, for tests of everything but quality."""

import dataclasses
from pathlib import Path

import torch
from safetensors.torch import save_file

from esam_perception.matching.configuration import BlipArchitecture, TowerSize, build_blip
from esam_perception.profiles import Profile, WeightsFile, write_profile
from esam_perception.segmentation import EfficientSam, EfficientSamConfig
from esam_perception.training.vocabulary import tabletop_vocabulary
from esam_perception.weights import file_sha256

BLIP = BlipArchitecture(
    image_size=64, patch_size=16, vision=TowerSize(32, 2, 2, 64), text=TowerSize(48, 3, 3, 64),
    vocab_size=len(tabletop_vocabulary()), max_position_embeddings=40, projection_dim=16, gradcam_layer=1,
)  # fmt: skip
SAM = EfficientSamConfig(
    image_size=64, patch_size=8, embed_dim=32, depth=1, num_heads=2, mlp_ratio=2.0, position_grid=4, neck_dim=32,
    decoder_heads=4, decoder_mlp_dim=32, upscaling_dims=(16, 8), iou_head_dim=16,
)  # fmt: skip


def write_tiny_profile(folder: Path) -> Path:
    torch.manual_seed(5)
    blip, sam = build_blip(BLIP), EfficientSam(SAM)
    for module in (blip, sam):
        for parameter in module.parameters():
            if parameter.ndim > 1:  # the usual 0.02 makes every answer the same
                torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    save_file({k: v.contiguous() for k, v in blip.state_dict().items()}, folder / "blip.safetensors")
    save_file({k: v.contiguous() for k, v in sam.state_dict().items()}, folder / "efficient_sam.safetensors")
    (folder / "vocab.txt").write_text("\n".join(tabletop_vocabulary()) + "\n")
    write_profile(
        Profile(
            name="tiny", description="random", directory=folder, blip=dataclasses.asdict(BLIP),
            efficient_sam=dataclasses.asdict(SAM),
            blip_weights=WeightsFile("blip.safetensors", file_sha256(folder / "blip.safetensors")),
            efficient_sam_weights=WeightsFile("efficient_sam.safetensors", file_sha256(folder / "efficient_sam.safetensors")),
        )
    )  # fmt: skip
    return folder
