"""The naive way, written from the description of the official code: for every query the image is encoded anew by both
networks, attention is explicit, and Grad-CAM differentiates all of BLIP (LAVIS' compute_gradcam).

The same weights and options as the pipeline that it is compared with. BLIP is transformers' own forward; EfficientSAM's
image encoder has explicit attention, its decoder is asked for one query and brings all candidates to native resolution, as
the official model does. Prompts are drawn and maps are fused by the package's own functions: they are not what is compared.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.machine import wait
from esam_perception.matching.image_encoder import preprocess
from esam_perception.pipeline import fusion
from esam_perception.pipeline.pipeline import Pipeline
from esam_perception.pipeline.prompting import make_prompts
from esam_perception.pipeline.regions import RegionMask, mask_map
from esam_perception.pipeline.stopwatch import Stopwatch
from esam_perception.segmentation import EfficientSam, upsample_mask


@dataclass(frozen=True, eq=False)
class NaiveMatch:
    """itm_logits: float32 [2]; itc_similarity; gradcam and heatmap: float32 [G, G] in 0..1; masks: bool [H, W], one a
    region, of those that hold anything."""

    itm_logits: np.ndarray
    itc_similarity: float
    gradcam: np.ndarray
    heatmap: np.ndarray
    masks: list[np.ndarray]


class Naive:
    """Shares the weights of a float32 pipeline; leaves it as it was after every call."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline, self._matcher, self.device = pipeline, pipeline._matcher, pipeline.device
        self._segmenter = copy.deepcopy(pipeline._segmenter)
        self._segmenter.image_encoder.held_positions = self._segmenter.prompt_encoder.held_grid = None
        self.stages: dict[str, float] = {}

    def locate(self, image: np.ndarray, texts: Sequence[str]) -> list[NaiveMatch]:
        """One query after the other. `stages`, afterwards: milliseconds under the names of types.Timing."""
        watch = Stopwatch()
        model = self._matcher.model.requires_grad_(True)
        try:
            found = [self._one(image, text, watch) for text in texts]
        finally:
            model.requires_grad_(False)
            model.zero_grad(set_to_none=True)
        timing = watch.timing()
        self.stages = {**watch.stages, "total": timing.total}
        return found

    def _lap(self, watch: Stopwatch, stage: str) -> None:
        wait(self.device)
        watch.lap(stage)

    def _one(self, image: np.ndarray, text: str, watch: Stopwatch) -> NaiveMatch:
        model, size = self._matcher.model, image.shape[:2]
        options = self._pipeline.profile
        raw = torch.from_numpy(image).to(self.device)[None]
        pixels = preprocess(raw, self._matcher.architecture.image_size)
        self._lap(watch, "preprocess")
        embeds = model.vision_model(pixel_values=pixels).last_hidden_state
        self._lap(watch, "blip_image")
        with torch.no_grad():
            ids, mask = (t.to(self.device) for t in self._matcher.tokenizer.encode_for_itc([text]))
            hidden = model.text_encoder(ids, attention_mask=mask, is_decoder=False).last_hidden_state
            text_feature = F.normalize(model.text_proj(hidden[:, 0]), dim=-1)
            similarity = (text_feature * F.normalize(model.vision_proj(embeds[:, 0]), dim=-1)).sum()
        self._lap(watch, "blip_text")
        logits, gradcam = self._gradcam(embeds, text)
        self._lap(watch, "gradcam")
        with torch.no_grad():
            embeddings = _encode(self._segmenter, raw.permute(0, 3, 1, 2).float() / 255)
        self._lap(watch, "sam_image")
        regions, masks = self._decode(embeddings, gradcam, size)
        self._lap(watch, "sam_decode")
        heatmap = fusion.fuse(gradcam, mask_map(regions), options.fusion.alpha)
        self._lap(watch, "fuse")
        return NaiveMatch(logits, float(similarity), gradcam, heatmap, masks)

    def _gradcam(self, embeds: Tensor, text: str) -> tuple[np.ndarray, np.ndarray]:
        model, architecture = self._matcher.model, self._matcher.architecture
        model.zero_grad(set_to_none=True)
        ids, mask = (t.to(self.device) for t in self._matcher.tokenizer.encode_for_itm([text]))
        seen = torch.ones(embeds.shape[:2], dtype=torch.long, device=self.device)
        kept: list[Tensor] = []
        # LAVIS keeps the probabilities of the layer and their gradient in hooks
        attention = model.text_encoder.encoder.layer[architecture.gradcam_layer].crossattention.self

        def keep(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            args[0].retain_grad()
            kept.append(args[0])

        hook = attention.dropout.register_forward_pre_hook(keep)
        try:
            hidden = model.text_encoder(
                ids, attention_mask=mask, encoder_hidden_states=embeds, encoder_attention_mask=seen, is_decoder=False
            ).last_hidden_state
        finally:
            hook.remove()
        logits = model.itm_head(hidden[:, 0])
        logits[:, 1].sum().backward()
        (probabilities,) = kept
        assert probabilities.grad is not None  # kept by the hook
        cam = probabilities[..., 1:] * probabilities.grad[..., 1:].clamp_min(0) * mask[:, None, :, None]
        cam = cam.mean(1)[0, 1:-1].mean(0).view(architecture.grid, architecture.grid)
        return logits[0].detach().cpu().numpy(), fusion.min_max(cam.detach().cpu().numpy())

    @torch.no_grad()
    def _decode(
        self, embeddings: Tensor, heat: np.ndarray, size: tuple[int, int]
    ) -> tuple[list[RegionMask], list[np.ndarray]]:
        options = self._pipeline.profile
        regions: list[RegionMask] = []
        masks: list[np.ndarray] = []
        for prompt in make_prompts(heat, size, options.prompting):
            points, labels = torch.from_numpy(prompt.points)[None, None], torch.from_numpy(prompt.labels)[None, None]
            logits, predicted = self._segmenter.decode(embeddings, points, labels, size)
            native = upsample_mask(logits[0, 0], size)
            probabilities = logits[0, 0].sigmoid().cpu().numpy()
            trust = predicted[0, 0].cpu().numpy()
            best = fusion.choose_candidate(trust, probabilities, heat, options.fusion.candidate_choice)
            low, mask = probabilities[best] > 0.5, (native[best] > 0).cpu().numpy()
            others = [region.probability > 0.5 for region in regions]
            if regions and (not low.any() or any((low & o).sum() > 0.5 * (low | o).sum() for o in others)):
                continue
            regions.append(RegionMask(logits[0, 0, best], probabilities[best], float(trust[best]), prompt))
            masks += [mask] if mask.any() else []
        return regions, masks


def _encode(segmenter: EfficientSam, images: Tensor) -> Tensor:
    """`EfficientSam.encode_image` with explicit attention."""
    side, encoder = segmenter.config.image_size, segmenter.image_encoder
    images = F.interpolate(images, (side, side), mode="bilinear", align_corners=False)
    x = encoder.patch_embed((images - segmenter.pixel_mean) / segmenter.pixel_std)
    batch, width, rows, columns = x.shape
    x = (x + encoder.positions(rows, columns)).flatten(2).transpose(1, 2)
    blocks: Iterable[Any] = encoder.blocks
    for block in blocks:
        x = x + _attention(block.attn, block.norm1(x))
        x = x + block.mlp(block.norm2(x))
    embeddings: Tensor = encoder.neck(x.transpose(1, 2).reshape(batch, width, rows, columns))
    return embeddings


def _attention(block: Any, x: Tensor) -> Tensor:
    batch, tokens, width = x.shape
    qkv = block.qkv(x).view(batch, tokens, 3, block.heads, -1).permute(2, 0, 3, 1, 4)
    query, key, value = qkv
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    seen: Tensor = block.proj((scores.softmax(-1) @ value).transpose(1, 2).reshape(batch, tokens, width))
    return seen
