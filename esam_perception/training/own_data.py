"""`esam train --data DIR`: a profile's two networks go on learning on a user's labelled images; see docs/own_data.md."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from esam_perception.blip_esam_itm import BlipEsamItm, BlipEsamItmConfig
from esam_perception.errors import InvalidInput
from esam_perception.matching.checkpoint import load_blip_state, load_state
from esam_perception.matching.configuration import BlipArchitecture, build_blip
from esam_perception.pipeline.mask_head import MaskHeadConfig
from esam_perception.pipeline.pipeline import Pipeline
from esam_perception.profiles.registry import load_profile
from esam_perception.profiles.schema import Profile, build_config, check_file_name, write_profile
from esam_perception.profiles.weights import load_weights, save_weights
from esam_perception.segmentation import EfficientSam, EfficientSamConfig
from esam_perception.training.data.labelled_images import ANNOTATIONS, read_labelled_images, split
from esam_perception.training.data.own_scenes import OwnScenes
from esam_perception.training.data.vocabulary import extend_vocabulary
from esam_perception.training.loop import Machine, train_stage
from esam_perception.training.measure.calibrate import fit_or_keep
from esam_perception.training.measure.curves import write_curves
from esam_perception.training.measure.judging import summarise
from esam_perception.training.measure.own_images import judge_images
from esam_perception.training.stages.matching import MatchingStage
from esam_perception.training.stages.segmentation import SegmentationStage


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to learn."""

    matching_steps: int = 500
    segmentation_steps: int = 300
    batch: int = 8
    learning_rate: float = 1e-4
    validation_share: float = 0.1


def train_own(
    data: Path, base: str, work_dir: Path, output: Path, schedule: Schedule, machine: Machine = Machine()
) -> dict[str, Any]:
    """Train the profile `base` on the images in `data`; write the profile into `output`; return the figures on the images
    that were held out (see judging.summarise).

    Resumes from the checkpoints in `work_dir`. Raises EsamError (DatasetError, ProfileError, InvalidInput ...).
    """
    name = output.resolve().name
    check_file_name(name, "the output folder, which names the profile")
    images = read_labelled_images(data)
    learning, held_out = split(images, schedule.validation_share)
    profile = load_profile(base)
    _claim(work_dir, data, profile, schedule)
    where = f"profile '{profile.name}'"
    phrases = {phrase for image in images for phrase in (*image.phrases, *image.negatives)}
    old = build_config(BlipArchitecture, profile.blip, f"{where}: blip")
    sam_config = build_config(EfficientSamConfig, profile.efficient_sam, f"{where}: efficient_sam")
    head_config = build_config(MaskHeadConfig, profile.mask_head or {}, f"{where}: mask_head")
    vocab, new_words = extend_vocabulary(profile.find(profile.vocab), phrases, work_dir / "vocab.txt")
    blip = dataclasses.replace(old, vocab_size=old.vocab_size + len(new_words))

    torch.manual_seed(0)
    model = _matching_model(profile, old, blip, head_config, vocab)
    stage = MatchingStage(model, with_names=False)
    scenes = OwnScenes(learning, data, blip.image_size)
    print(
        f"{len(scenes)} images to learn from, {len(held_out)} held out; {len(phrases)} phrases, new words: "
        f"{', '.join(new_words) or 'none'}"
    )

    def loss_of_phrases(step: int):
        rng = np.random.default_rng([50, step])
        return stage.loss_of_batch(scenes.draw_batch(rng, schedule.batch, blip.patch_size), rng)

    train_stage(
        "matching", work_dir, stage, loss_of_phrases, schedule.matching_steps, schedule.learning_rate,
        warm_up=min(50, schedule.matching_steps // 5), machine=machine,
    )  # fmt: skip
    segmenter = EfficientSam(sam_config)
    load_state(segmenter, load_weights(profile, profile.efficient_sam_weights)[0], "EfficientSAM")
    clicks = SegmentationStage(segmenter)
    outlines = OwnScenes(learning, data, sam_config.image_size)
    train_stage(
        "segmentation", work_dir, clicks, lambda step: clicks.loss_of_clicks(outlines, step, schedule.batch),
        schedule.segmentation_steps, schedule.learning_rate, warm_up=min(50, schedule.segmentation_steps // 5),
        machine=machine,
    )  # fmt: skip

    write_curves(work_dir, work_dir)

    output.mkdir(parents=True, exist_ok=True)
    (output / "vocab.txt").write_bytes(vocab.read_bytes())
    trained = dataclasses.replace(
        profile, name=name, description=f"'{profile.name}', trained on {len(scenes)} images of {data.name}",
        directory=output, blip=dataclasses.asdict(blip), vocab="vocab.txt", sources=(),
        **_mask_head(profile, model, head_config, output),
        blip_weights=save_weights(model.blip_state(), output / "blip.safetensors"),
        efficient_sam_weights=save_weights(segmenter.state_dict(), output / "efficient_sam.safetensors"),
        training={
            "base": profile.name, "images": len(scenes), "annotations_sha256": _digest(data),
            **dataclasses.asdict(schedule),
        },
    )  # fmt: skip
    write_profile(trained)
    judged = judge_images(Pipeline.from_profile(str(output), "cpu"), held_out, images, data)
    verdict = fit_or_keep(profile.verdict, judged, f"{len(held_out)} held-out images of {data.name}")
    write_profile(dataclasses.replace(trained, verdict=verdict))
    figures = summarise(judged)
    (output / "figures.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return figures


def _matching_model(
    profile: Profile, old: BlipArchitecture, blip: BlipArchitecture, head: MaskHeadConfig, vocab: Path
) -> BlipEsamItm:
    """BlipEsamItm with the profile's weights; words that are new start as the mean of all words."""
    networks = build_blip(old)
    load_blip_state(networks, load_weights(profile, profile.blip_weights)[0])
    state = networks.state_dict()
    name = "text_encoder.embeddings.word_embeddings.weight"
    more = blip.vocab_size - old.vocab_size
    mean = state[name].mean(0, keepdim=True)
    state[name] = torch.cat([state[name], mean + 0.02 * torch.randn(more, mean.shape[1])])
    model = BlipEsamItm.from_config(
        BlipEsamItmConfig(
            str(vocab), blip, head.decoder, sam_prompt_dim=head.width, sam_embed_dim=head.width, normalize_input=False
        )
    )
    model.load_blip_state(state)
    if profile.mask_head_weights is not None:
        load_state(model.mask_head, load_weights(profile, profile.mask_head_weights)[0], "the mask head's")
    return model


def _mask_head(profile: Profile, model: BlipEsamItm, config: MaskHeadConfig, output: Path) -> dict[str, Any]:
    """The fields of the trained mask head, its weights written; none where the profile draws no prompts from it: it would
    run in every frame for nothing. It is trained all the same: its losses teach BLIP where things are."""
    if profile.prompting.source == "gradcam":
        return {"mask_head": None, "mask_head_weights": None}
    weights = save_weights(model.mask_head.state_dict(), output / "mask_head.safetensors")
    return {"mask_head": dataclasses.asdict(config), "mask_head_weights": weights}


def _digest(data: Path) -> str:
    return hashlib.sha256((data / ANNOTATIONS).read_bytes()).hexdigest()


def _claim(work_dir: Path, data: Path, profile: Profile, schedule: Schedule) -> None:
    """Say in the work directory what it is for; raise InvalidInput where its checkpoints are of something else."""
    work_dir.mkdir(parents=True, exist_ok=True)
    run = {"annotations_sha256": _digest(data), "base": profile.name, **dataclasses.asdict(schedule)}
    path = work_dir / "run.json"
    if path.exists() and json.loads(path.read_text(encoding="utf-8")) != run:
        raise InvalidInput(
            f"{work_dir} holds a run on other data or with other settings; give another --work-dir or delete it"
        )
    path.write_text(json.dumps(run, indent=1) + "\n", encoding="utf-8")
