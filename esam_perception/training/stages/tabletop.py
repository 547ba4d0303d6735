"""The training stages of the tabletop profile, and the sizes of its two networks."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch

from esam_perception.blip_esam_itm import BlipEsamItm, BlipEsamItmConfig
from esam_perception.matching.checkpoint import load_blip_state
from esam_perception.matching.configuration import BlipArchitecture, TowerSize, build_blip
from esam_perception.matching.matcher import BlipMatcher
from esam_perception.matching.tokenizer import BlipTokenizer
from esam_perception.pipeline.mask_head import MaskDecoderSize, MaskHeadConfig, TextMaskHead
from esam_perception.pipeline.prompting import PromptingOptions
from esam_perception.segmentation import EfficientSam, EfficientSamConfig
from esam_perception.tabletop.language import FALSE_KINDS
from esam_perception.training.data.batches import PhraseMixture
from esam_perception.training.data.scenes import SIDE, SceneCache
from esam_perception.training.data.vocabulary import tabletop_vocabulary
from esam_perception.training.loop import Machine, train_stage
from esam_perception.training.stages.heat_prompts import HeatPrompts
from esam_perception.training.stages.image_tower import ImageTowerStage
from esam_perception.training.stages.matching import MatchingStage
from esam_perception.training.stages.segmentation import SegmentationStage

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
# Measured on validation scenes (docs/options.md): Grad-CAM and the mask head together point best, a box with points cuts
# best.
PROMPTING = PromptingOptions(
    source="both", kind="box_and_points", max_points=3, sigma=0.7, max_regions=3, further_share=0.1
)
# Sides of the images by the share of the steps that is done. Crops are cheaper than whole images; objects keep their
# size in them.
MATCHING_SIDES = ((0.0, 128), (0.3, 192), (0.8, SIDE))
REFINEMENT_SIDES = ((0.0, 192), (0.4, SIDE))
# Relations are learned last: both things must be found first. A relation beside its own opposite differs in nothing else.
REFINEMENT_TRUE = {"colour_category": 0.35, "category": 0.2, "colour": 0.05, "relation": 0.4}
# By cycle; in the second, more of what was confused most after the first: a category with another one that is there.
REFINEMENT_MIXTURES = (
    PhraseMixture(REFINEMENT_TRUE, {**FALSE_KINDS, "false_relation": 0.3}, contradicted=0.6),
    PhraseMixture(REFINEMENT_TRUE, {**FALSE_KINDS, "false_relation": 0.3, "absent_category": 0.25}, contradicted=0.6),
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
    assert stage.names is not None  # the tabletop's patches have names
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


def _refinement_loss(
    stage: MatchingStage, cache: SceneCache, steps: int, batch: int, mixture: PhraseMixture, stream: int, step: int
) -> dict[str, torch.Tensor]:
    return stage.loss_of_scenes(cache, step, batch, _side(REFINEMENT_SIDES, step / steps), mixture, stream)


def train_refinement(
    work_dir: Path, cache: SceneCache, steps: int, machine: Machine = Machine(), batch: int = 24
) -> None:
    """Stage 3: goes on from stage 2 with larger images and more relations, in cycles of `steps` steps; the learning rate
    is raised again for each (warm restarts, Loshchilov and Hutter 2017). Checkpoints `refinement_1.pt`, ..., and
    `refinement.pt`, the mean of their weights (Izmailov et al. 2018)."""
    before = "matching"
    for cycle, mixture in enumerate(REFINEMENT_MIXTURES, 1):
        stage = new_matching_stage(work_dir)
        stage.load_state_dict(_learned(work_dir, before))

        loss_of = partial(_refinement_loss, stage, cache, steps, batch, mixture, 29 + cycle)
        before = f"refinement_{cycle}"
        train_stage(before, work_dir, stage, loss_of, steps, 8e-4, muon_rate=0.008, heads=stage.heads, machine=machine)
    cycles = [_learned(work_dir, f"refinement_{cycle}") for cycle in range(1, len(REFINEMENT_MIXTURES) + 1)]
    mean = {
        name: torch.stack([cycle[name] for cycle in cycles]).mean(0) if value.is_floating_point() else value
        for name, value in cycles[-1].items()
    }
    torch.save({"modules": mean, "step": steps}, work_dir / "refinement.pt")


def _learned(work_dir: Path, name: str) -> dict[str, torch.Tensor]:
    return torch.load(work_dir / f"{name}.pt", map_location="cpu", weights_only=True)["modules"]


def train_segmentation(
    work_dir: Path, cache: SceneCache, steps: int, machine: Machine = Machine(), batch: int = 8
) -> None:
    """Stage 4, beside the others; checkpoint `segmentation.pt`."""
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


def train_segmentation_refinement(
    work_dir: Path, cache: SceneCache, steps: int, machine: Machine = Machine(), batch: int = 8
) -> None:
    """Stage 5: EfficientSAM goes on from stage 4 with prompts from BLIP's heatmaps too, those after the first cycle of
    stage 3, so that it may run beside the second; checkpoint `segmentation_refinement.pt`."""
    matcher, mask_head = trained_matcher(work_dir, "refinement_1", machine.device)
    heat = HeatPrompts(matcher, PROMPTING, mask_head)
    stage = SegmentationStage(EfficientSam(EFFICIENT_SAM), heat)
    stage.load_state_dict(_learned(work_dir, "segmentation"))
    train_stage(
        "segmentation_refinement",
        work_dir,
        stage,
        lambda step: stage.loss_of_clicks(cache, step, batch, 40),
        steps,
        4e-4,
        muon_rate=0.005,
        machine=machine,
    )


def last_stages(work_dir: Path) -> tuple[str, str]:
    """The names of the last checkpoints in `work_dir`, of BLIP's and of EfficientSAM's stages; an unfinished
    refinement of BLIP counts for nothing."""
    blip = "refinement" if (work_dir / "refinement.pt").exists() else "matching"
    refined = (work_dir / "segmentation_refinement.pt").exists()
    return blip, "segmentation_refinement" if refined else "segmentation"


def trained_matcher(work_dir: Path, name: str, device: torch.device) -> tuple[BlipMatcher, TextMaskHead]:
    """What the stage of that checkpoint in `work_dir` has learned, ready to be asked."""
    stage = new_matching_stage(work_dir)
    stage.load_state_dict(_learned(work_dir, name))
    blip = build_blip(BLIP)
    load_blip_state(blip, stage.model.blip_state())
    tokenizer = BlipTokenizer(write_vocabulary(work_dir), BLIP.max_length)
    mask_head = stage.model.mask_head.to(device).eval().requires_grad_(False)
    return BlipMatcher(blip, tokenizer, BLIP, device, keep_hidden=True), mask_head
