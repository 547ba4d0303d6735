"""Prompts for EfficientSAM as the pipeline draws them: from the heatmaps of a BLIP that has learned."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from esam_perception.errors import InvalidOptions
from esam_perception.matching.matcher import BlipMatcher
from esam_perception.pipeline.fusion import min_max
from esam_perception.pipeline.mask_head import TextMaskHead, read_masks
from esam_perception.pipeline.prompting import PromptingOptions, choose_heat, make_prompts
from esam_perception.tabletop.language import TabletopObject, draw_true
from esam_perception.types import PROMPT_SLOTS, PromptLabel

KINDS = {"colour_category": 0.6, "category": 0.25, "colour": 0.15}
PHRASES = 3


class HeatPrompts:
    """Draws phrases that are true of a scene, and the prompts of their heatmaps. options: of a kind with points, which
    tell what a prompt is about. mask_head: where options' source needs one; the matcher then keeps hidden states."""

    def __init__(self, matcher: BlipMatcher, options: PromptingOptions, mask_head: TextMaskHead | None = None) -> None:
        if options.kind == "box":
            raise InvalidOptions("boxes alone do not say which thing they are about: prompts need points")
        if options.source != "gradcam" and mask_head is None:
            raise InvalidOptions(f"prompts from {options.source!r} need a mask_head")
        self._matcher, self._options, self._mask_head = matcher, options, mask_head

    def draw(
        self, image: np.ndarray, instances: np.ndarray, objects: Sequence[TabletopObject], rng: np.random.Generator
    ) -> list[tuple[np.ndarray, np.ndarray, int]]:
        """(points float32 [6, 2] as (x, y) in pixels, labels float32 [6] of PromptLabel, label of the object) of every
        region of the heatmaps of a few phrases. The object is the one under most of the region's points, whether or not
        it is what was asked for: a mask is to be that of a thing. Regions on none are left out.

        image: uint8 [h, w, 3] RGB; instances: uint8 [h, w], the labels of `objects`.
        """
        phrases = [draw_true(objects, rng, KINDS) for _ in range(PHRASES)]
        texts = list(dict.fromkeys(phrase.text for phrase in phrases if phrase is not None))
        if not texts:
            return []
        matcher, drawn = self._matcher, []
        with torch.autocast(matcher.device.type, enabled=False):
            encoding = matcher.encode_image(matcher.preprocess(image.copy()))
            scores = matcher.match(encoding, texts, matcher.text_features(texts))
        heads = None if self._mask_head is None else read_masks(self._mask_head, encoding, scores)
        known = {o.label for o in objects}
        for row, gradcam in enumerate(scores.gradcam):
            heat = choose_heat(min_max(gradcam), None if heads is None else heads[row], self._options.source)
            cells = heat.shape[0] // gradcam.shape[0]
            for prompt in make_prompts(heat, instances.shape, self._options, cells):
                inside = prompt.points[prompt.labels == PromptLabel.POINT].astype(int)
                label = int(np.bincount(instances[inside[:, 1], inside[:, 0]]).argmax())
                if label in known:
                    points = np.full((PROMPT_SLOTS, 2), -1, np.float32)
                    labels = np.full(PROMPT_SLOTS, PromptLabel.PADDING, np.float32)
                    points[: len(prompt.points)], labels[: len(prompt.labels)] = prompt.points, prompt.labels
                    drawn.append((points, labels, label))
        return drawn
