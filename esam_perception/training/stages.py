"""The training stages of the tabletop profile, and the sizes of its two networks."""

from __future__ import annotations

from pathlib import Path

import torch

from esam_perception.blip_esam_itm import BlipEsamItm, BlipEsamItmConfig
from esam_perception.mask_head import MaskDecoderSize, MaskHeadConfig
from esam_perception.matching.configuration import BlipArchitecture, TowerSize, build_blip
from esam_perception.segmentation import EfficientSam, EfficientSamConfig
from esam_perception.tabletop.language import FALSE_KINDS
from esam_perception.training.batches import PhraseMixture
from esam_perception.training.data import SIDE, SceneCache
from esam_perception.training.image_tower import ImageTowerStage
from esam_perception.training.loop import Machine, train_stage
from esam_perception.training.matching import MatchingStage
from esam_perception.training.segmentation import SegmentationStage
from esam_perception.training.vocabulary import tabletop_vocabulary

BLIP = BlipArchitecture(
    image_size=SIDE,
    patch_size=16,
    vision=TowerSize(192, 4, 3, 576),
    text=TowerSize(192, 4, 3, 576),
    vocab_size=len(tabletop_vocabulary()),
    max_position_embeddings=40,
    max_length=35,
    projection_dim=64,
    gradcam_layer=2,
    stem=(32, 64, 96),
)
EFFICIENT_SAM = EfficientSamConfig(
    image_size=252,
    patch_size=12,
    embed_dim=128,
    depth=5,
    num_heads=4,
    mlp_ratio=3.0,
    position_grid=21,
    neck_dim=128,
    decoder_heads=4,
    decoder_mlp_dim=256,
    upscaling_dims=(48, 24),
    iou_head_dim=128,
)
MASK_HEAD = MaskHeadConfig(96, MaskDecoderSize(depth=2, heads=4, mlp_dim=192, upscaling_dims=(32, 16), iou_head_dim=96))
# Sides of the images by the share of the steps that is done. Crops are cheaper than whole images; objects keep their
# size in them.
MATCHING_SIDES = ((0.0, 128), (0.3, 192), (0.8, SIDE))
REFINEMENT_SIDES = ((0.0, 192), (0.4, SIDE))
# Relations are learned last: both things must be found first. A relation beside its own opposite differs in nothing else.
REFINEMENT_MIXTURE = PhraseMixture(
    {"colour_category": 0.35, "category": 0.2, "colour": 0.05, "relation": 0.4},
    {**FALSE_KINDS, "false_relation": 0.3},
    contradicted=0.6,
)


def write_vocabulary(folder: Path) -> Path:
    """Write vocab.txt into `folder`; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "vocab.txt"
    path.write_text("\n".join(tabletop_vocabulary()) + "\n", encoding="utf-8")
    return path


def new_matching_stage(work_dir: Path) -> MatchingStage:
    """Stage 2 with fresh weights."""
    torch.manual_seed(0)
    vocab = str(write_vocabulary(work_dir))
    config = BlipEsamItmConfig(
        vocab,
        BLIP,
        MASK_HEAD.decoder,
        sam_prompt_dim=MASK_HEAD.width,
        sam_embed_dim=MASK_HEAD.width,
        normalize_input=False,
    )
    return MatchingStage(BlipEsamItm.from_config(config))


def train_image_tower(work_dir: Path, cache: SceneCache, steps: int, machine: Machine = Machine()) -> None:
    """Stage 1; checkpoint `image_tower.pt` in `work_dir`."""
    torch.manual_seed(0)
    stage = ImageTowerStage(build_blip(BLIP).vision_model)
    train_stage(
        "image_tower", work_dir, stage, lambda step: stage.loss_of_crops(cache, step, 64), steps, 2e-3, warm_up=200,
        muon_rate=0.02, heads=(stage.names,), machine=machine,
    )  # fmt: skip


def _side(sides: tuple[tuple[float, int], ...], done: float) -> int:
    return next(side for start, side in reversed(sides) if done >= start)


def train_matching(
    work_dir: Path, cache: SceneCache, steps: int, machine: Machine = Machine(), batch: int = 24
) -> None:
    """Stage 2, from the image tower of stage 1; checkpoint `matching.pt`."""
    stage = new_matching_stage(work_dir)
    tower = torch.load(work_dir / "image_tower.pt", map_location="cpu", weights_only=True)["modules"]
    for prefix, module in (("vision_model.", stage.model.visual_encoder), ("names.", stage.names)):
        module.load_state_dict({k.removeprefix(prefix): v for k, v in tower.items() if k.startswith(prefix)})

    def loss_of(step: int):
        return stage.loss_of_scenes(cache, step, batch, _side(MATCHING_SIDES, step / steps))

    train_stage(
        "matching",
        work_dir,
        stage,
        loss_of,
        steps,
        1e-3,
        warm_up=100,
        muon_rate=0.01,
        heads=stage.heads,
        machine=machine,
    )


def train_refinement(
    work_dir: Path, cache: SceneCache, steps: int, machine: Machine = Machine(), batch: int = 24
) -> None:
    """Stage 3: goes on from stage 2 with larger images and more relations, the learning rate raised once more;
    checkpoint `refinement.pt`."""
    stage = new_matching_stage(work_dir)
    stage.load_state_dict(torch.load(work_dir / "matching.pt", map_location="cpu", weights_only=True)["modules"])

    def loss_of(step: int):
        return stage.loss_of_scenes(cache, step, batch, _side(REFINEMENT_SIDES, step / steps), REFINEMENT_MIXTURE, 30)

    train_stage(
        "refinement", work_dir, stage, loss_of, steps, 8e-4, muon_rate=0.008, heads=stage.heads, machine=machine
    )


def train_segmentation(
    work_dir: Path, cache: SceneCache, steps: int, machine: Machine = Machine(), batch: int = 8
) -> None:
    """Beside the others; checkpoint `segmentation.pt`."""
    torch.manual_seed(0)
    stage = SegmentationStage(EfficientSam(EFFICIENT_SAM))
    train_stage(
        "segmentation",
        work_dir,
        stage,
        lambda step: stage.loss_of_clicks(cache, step, batch),
        steps,
        8e-4,
        muon_rate=0.01,
        machine=machine,
    )
