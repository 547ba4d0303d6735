"""`esam train --data DIR`: a profile's two networks go on learning on a user's labelled images; see docs/own_data.md."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm

from esam_perception.blip_esam_itm import BlipEsamItm, BlipEsamItmConfig
from esam_perception.errors import InvalidInput
from esam_perception.images.masks import mask_iou
from esam_perception.matching.checkpoint import load_blip_state, load_state
from esam_perception.matching.configuration import BlipArchitecture, build_blip
from esam_perception.pipeline.mask_head import MaskHeadConfig
from esam_perception.pipeline.pipeline import Pipeline
from esam_perception.profiles.registry import Profile, build_config, load_profile, write_profile
from esam_perception.profiles.weights import load_weights
from esam_perception.segmentation import EfficientSam, EfficientSamConfig
from esam_perception.training.data.batches import PhraseBatch
from esam_perception.training.data.labelled_images import (
    ANNOTATIONS,
    DatasetError,
    LabelledImage,
    read_image,
    read_labelled_images,
    read_mask,
    split,
)  # fmt: skip
from esam_perception.training.data.vocabulary import extend_vocabulary
from esam_perception.training.export import save_weights
from esam_perception.training.loop import Machine, train_stage
from esam_perception.training.measure.calibrate import fit_verdict
from esam_perception.training.measure.curves import write_curves
from esam_perception.training.measure.judging import Judged, summarise
from esam_perception.training.stages.matching import MatchingStage
from esam_perception.training.stages.segmentation import SegmentationStage

PHRASES = 8
# Thresholds out of fewer phrases would be chance: the profile then keeps those it came with.
ENOUGH_PHRASES = 50
KEPT_IMAGES = 512


@dataclass(frozen=True)
class OutlinedThing:
    """What stage 3 asks of an object: its label in the instance image."""

    label: int
    visible: bool = True


class OwnScenes:
    """Labelled images stretched to squares of `side` px, as both networks take them. The last KEPT_IMAGES stay in memory.

    Raises DatasetError where nothing false can be said of an image: a matcher that only hears true phrases learns to
    say yes.
    """

    def __init__(self, images: Sequence[LabelledImage], folder: Path, side: int) -> None:
        self.images = [image for image in images if image.things]
        self._folder, self.side = folder, side
        self.false = [false_phrases(image, images) for image in self.images]
        for image, false in zip(self.images, self.false):
            if not false:
                raise DatasetError(
                    f"{image.path.name}: nothing is known to be false of it: every category is in it; add phrases to its negatives"
                )
        self._load = lru_cache(KEPT_IMAGES)(self._read)

    def __len__(self) -> int:
        return len(self.images)

    def _read(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        image = self.images[index]
        pixels = read_image(image)
        height, width = pixels.shape[:2]
        masks = [read_mask(thing, self._folder, height, width).astype(np.uint8) for thing in image.things]
        size = (self.side, self.side)
        smaller = self.side < min(height, width)
        resized = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)
        return resized, np.stack([cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST) for mask in masks]) > 0

    def masks(self, index: int) -> np.ndarray:
        """bool [things, side, side]."""
        return self._load(index)[1]

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, list[OutlinedThing]]:
        """(image uint8 [side, side, 3], instances int32 [side, side], things), as SceneCache gives them."""
        pixels, masks = self._load(index)
        instances = np.zeros(masks.shape[1:], np.int32)
        for label, mask in enumerate(masks, start=1):
            instances[mask] = label
        return pixels, instances, [OutlinedThing(label + 1) for label in range(len(masks))]

    def draw_batch(self, rng: np.random.Generator, count: int, patch: int) -> PhraseBatch:
        """A batch of `count` images with PHRASES phrases each, half true, half false; masks in quarters of patches of
        `patch` px. Images are not mirrored: phrases may say left and right."""
        images, texts, match, masks = [], [], [], []
        cells = 4 * self.side // patch
        for index in rng.integers(len(self), size=count):
            pixels, things = self._load(int(index))
            image, false = self.images[index], self.false[index]
            images.append(pixels)
            for i in range(PHRASES):
                true = i % 2 == 0
                phrases = image.phrases if true else false
                phrase = phrases[rng.integers(len(phrases))]
                meant = [mask for thing, mask in zip(image.things, things) if phrase in thing.phrases] if true else []
                union = np.any(meant, axis=0).astype(np.float32) if meant else np.zeros(pixels.shape[:2], np.float32)
                texts.append(phrase)
                match.append(int(true))
                masks.append(cv2.resize(union, (cells, cells), interpolation=cv2.INTER_AREA))
        return PhraseBatch(np.stack(images), texts, np.array(match, np.int64), np.stack(masks))


def false_phrases(image: LabelledImage, images: Sequence[LabelledImage]) -> list[str]:
    """What is false of an image: its own negatives, and the phrases of things whose category it does not show."""
    shown, true = {thing.category for thing in image.things}, set(image.phrases)
    others = [
        phrase
        for other in images
        for thing in other.things
        if thing.category not in shown
        for phrase in thing.phrases
        if phrase not in true
    ]
    # the stated ones are harder: as likely as all the others together
    found = list(dict.fromkeys(others))
    stated = list(image.negatives)
    return stated * max(1, len(found) // max(1, len(stated))) + found


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
) -> dict:
    """Train the profile `base` on the images in `data`; write the profile into `output`; return the figures on the images
    that were held out (see judging.summarise).

    Resumes from the checkpoints in `work_dir`. Raises EsamError (DatasetError, ProfileError, InvalidInput ...).
    """
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
        profile, name=output.name, description=f"'{profile.name}', trained on {len(scenes)} images of {data.name}",
        directory=output, blip=dataclasses.asdict(blip), vocab="vocab.txt", sources=(),
        mask_head=dataclasses.asdict(head_config),
        blip_weights=save_weights(model.blip_state(), output / "blip.safetensors"),
        mask_head_weights=save_weights(model.mask_head.state_dict(), output / "mask_head.safetensors"),
        efficient_sam_weights=save_weights(segmenter.state_dict(), output / "efficient_sam.safetensors"),
        training={
            "base": profile.name, "images": len(scenes), "annotations_sha256": _digest(data),
            **dataclasses.asdict(schedule),
        },
    )  # fmt: skip
    write_profile(trained)
    judged = judge_images(Pipeline.from_profile(str(output), "cpu"), held_out, images, data)
    if len(judged) >= ENOUGH_PHRASES:
        fitted = fit_verdict(judged, f"{len(held_out)} held-out images of {data.name}")
        verdict = dataclasses.replace(fitted, region_window=profile.verdict.region_window)
    else:
        source = f"{profile.verdict.source}; not fitted again: only {len(judged)} phrases were held out"
        verdict = dataclasses.replace(profile.verdict, source=source)
    write_profile(dataclasses.replace(trained, verdict=verdict))
    figures = summarise(judged)
    (output / "figures.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    return figures


def judge_images(
    pipeline: Pipeline, held_out: Sequence[LabelledImage], images: Sequence[LabelledImage], folder: Path
) -> list[Judged]:
    """Every phrase of the held-out images, true and false (at most as many false as true ones), held against the masks."""
    judged = []
    for image in tqdm(held_out, unit="image", desc="checking"):
        pixels = read_image(image)
        masks = [read_mask(thing, folder, *pixels.shape[:2]) for thing in image.things]
        true, false = image.phrases, list(dict.fromkeys(false_phrases(image, images)))
        matches = pipeline.locate(pixels, [*true, *false[: len(true)]], segment_always=True)
        for match in matches[: len(true)]:
            truths = [mask for thing, mask in zip(image.things, masks) if match.query.text in thing.phrases]
            found = match.segments[0].mask if match.segments else np.zeros(pixels.shape[:2], bool)
            column, row = (int(value) for value in match.peak)
            judged.append(
                Judged(
                    "phrase",
                    True,
                    match.itm_score,
                    match.verdict,
                    bool(any(mask[row, column] for mask in truths)),
                    max(mask_iou(found, mask) for mask in truths),
                    max(int(mask.sum()) for mask in truths),
                    match.query.text,
                    confidence=match.confidence,
                )  # fmt: skip
            )
        judged += [
            Judged(
                "negative",
                False,
                match.itm_score,
                match.verdict,
                False,
                0.0,
                0,
                match.query.text,
                confidence=match.confidence,
            )
            for match in matches[len(true) :]
        ]
    return judged


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
