"""Checkpoints -> a profile directory that the pipeline loads: fp16 safetensors, vocabulary, profile.yaml."""

from __future__ import annotations

import dataclasses
import json
import platform
from importlib.metadata import version
from pathlib import Path

import torch
import transformers

from esam_perception.pipeline.fusion import FusionOptions
from esam_perception.pipeline.pipeline import Pipeline
from esam_perception.pipeline.verdict import VerdictOptions
from esam_perception.profiles.schema import Profile, write_profile
from esam_perception.profiles.weights import save_weights
from esam_perception.segmentation import EfficientSam
from esam_perception.training.data.seeds import TRAIN_SEED, VALIDATION_SEED
from esam_perception.training.measure.calibrate import fit_or_keep
from esam_perception.training.measure.evaluate import evaluate
from esam_perception.training.stages import tabletop as stages

DESCRIPTION = (
    "Small BLIP-ITM and EfficientSAM trained from scratch on this package's simulated tabletop. It knows 32 household "
    "categories, 12 colours and nothing else; it is not meant for photographs."
)
# Measured on validation scenes (docs/options.md): agreement with the heat chooses the better candidate.
FUSION = FusionOptions(alpha=0.1, candidate_choice="agreement")
# It has only seen things at the scale of whole images.
REGION_WINDOW = 1.0


def _last_line(path: Path) -> dict:
    lines = path.read_text(encoding="utf-8").splitlines()
    return json.loads(lines[-1])


def export_profile(work_dir: Path, output: Path, validation_scenes: int = 200) -> Profile:
    """Write the profile of the checkpoints in `work_dir` into `output`, its thresholds fitted on validation scenes.

    The weights are those of a finished or an unfinished run; `training` in profile.yaml says which step they are of.
    The auxiliary heads are left behind.
    """
    profile = _write_untuned(work_dir, output)
    seeds = range(VALIDATION_SEED, VALIDATION_SEED + validation_scenes)
    judged = evaluate(Pipeline.from_profile(str(output), "cpu"), seeds, occlusion=False)
    where = f"{validation_scenes} scenes of the simulated tabletop from seed {VALIDATION_SEED}"
    profile = dataclasses.replace(profile, verdict=fit_or_keep(profile.verdict, judged, where))
    write_profile(profile)
    size = sum(path.stat().st_size for path in output.iterdir())
    print(f"profile '{profile.name}' written to {output} ({size / 1e6:.1f} MB)")
    return profile


def _write_untuned(work_dir: Path, output: Path) -> Profile:
    """The profile with default thresholds."""
    vocab = stages.write_vocabulary(output)
    matching = stages.new_matching_stage(work_dir)
    segmenter = torch.nn.ModuleDict({"model": EfficientSam(stages.EFFICIENT_SAM)})
    # what the logs say last; the checkpoint of an interrupted run is not quite as far
    steps = {log.stem: _last_line(log) for log in sorted(work_dir.glob("*.jsonl"))}
    blip, segmentation = stages.last_stages(work_dir)
    for name, module in ((blip, matching), (segmentation, segmenter)):
        state = torch.load(work_dir / f"{name}.pt", map_location="cpu", weights_only=True)
        module.load_state_dict(state["modules"])
        if name in steps:  # the mean of cycles has no log of its own
            steps[name]["step"] = state["step"]
    profile = Profile(
        name="tabletop",
        description=DESCRIPTION,
        directory=output,
        blip=dataclasses.asdict(stages.BLIP),
        efficient_sam=dataclasses.asdict(stages.EFFICIENT_SAM),
        blip_weights=save_weights(matching.model.blip_state(), output / "blip.safetensors"),
        efficient_sam_weights=save_weights(segmenter["model"].state_dict(), output / "efficient_sam.safetensors"),
        mask_head=dataclasses.asdict(stages.MASK_HEAD),
        mask_head_weights=save_weights(matching.model.mask_head.state_dict(), output / "mask_head.safetensors"),
        vocab=vocab.name,
        prompting=stages.PROMPTING,
        fusion=FUSION,
        verdict=VerdictOptions(source="defaults, not fitted", region_window=REGION_WINDOW),
        training={
            "first_seed": TRAIN_SEED,
            "versions": {
                "torch": str(torch.__version__),
                "transformers": transformers.__version__,
                "mujoco": version("mujoco"),
                "python": platform.python_version(),
            },  # fmt: skip
            "last_step": steps,
        },
    )
    write_profile(profile)
    return profile
