"""The one place where matching and segmentation meet: `locate(image, queries) -> matches`.

An image is encoded once by each network; what a further query costs is text, ITM, Grad-CAM and one mask.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from esam_perception.computing import choose_precision, hold_weights_in, mixed_precision, slow_precision, upload
from esam_perception.matching.checkpoint import load_blip_state, load_state
from esam_perception.matching.configuration import BlipArchitecture, build_blip
from esam_perception.matching.matcher import BlipMatcher, ImageEncoding, WordMap
from esam_perception.matching.stem import ConvolutionalStem
from esam_perception.matching.tokenizer import BlipTokenizer
from esam_perception.pipeline import fusion
from esam_perception.pipeline.fusion import FusionOptions
from esam_perception.pipeline.labels import segment_label
from esam_perception.pipeline.mask_head import MaskHeadConfig
from esam_perception.pipeline.prompting import PromptingOptions, choose_heat
from esam_perception.pipeline.regions import RegionMask, find_all_regions, mask_map, masked_crop, native_segment
from esam_perception.pipeline.verdict import check_thresholds, confidence, decide, itm_score
from esam_perception.profiles.registry import AUTO, load_profile
from esam_perception.profiles.schema import Profile, ProfileError, build_config
from esam_perception.profiles.weights import load_weights
from esam_perception.segmentation import EfficientSam, EfficientSamConfig
from esam_perception.types import Located, Match, Query, Segment, Timing, Verdict


class _Stopwatch:
    """Milliseconds per stage. On CUDA, stages are measured as the host sees them."""

    def __init__(self) -> None:
        self.stages: dict[str, float] = {}
        self._began = self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.stages[stage] = self.stages.get(stage, 0.0) + 1000 * (now - self._last)
        self._last = now

    def timing(self) -> Timing:
        return Timing(**self.stages, total=1000 * (self._last - self._began))


@dataclass(frozen=True)
class EncodedImage:
    """An image as both networks see it; whatever is asked of it, it is never encoded again. size: (height, width)."""

    size: tuple[int, int]
    matching: ImageEncoding
    segmentation: torch.Tensor


class Pipeline:
    """BLIP-ITM and EfficientSAM of one profile on one device. Not thread-safe: one caller at a time."""

    def __init__(
        self,
        profile: Profile,
        matcher: BlipMatcher,
        segmenter: EfficientSam,
        device: torch.device,
        weights_sha256: str = "",
        precision: torch.dtype = torch.float32,
    ) -> None:
        self.profile, self.device, self.weights_sha256, self.precision = profile, device, weights_sha256, precision
        self.warnings: list[str] = []
        self._matcher = matcher
        self._segmenter = segmenter.to(device).eval().requires_grad_(False)
        self._segmenter.hold_tables()
        if precision != torch.float32:
            # masks are decided by small differences of large sums: the decoders stay float32; the stem sees to itself
            for network in (matcher.model, self._segmenter.image_encoder):
                hold_weights_in(network, precision, but=(ConvolutionalStem,))

    @classmethod
    def from_profile(cls, name_or_path: str = AUTO, device: str = "auto", precision: str = "auto") -> Pipeline:
        """Load a profile (see profiles.load_profile) on `auto` (CUDA if there is one), `cpu` or `cuda[:N]`, in a precision
        of computing.choose_precision.

        Raises ProfileError for a profile that cannot be used, ValueError for a device that is not there, or a precision
        that it has not.
        """
        profile, warnings = load_profile(name_or_path)
        chosen = choose_device(device)
        dtype = choose_precision(precision, chosen)
        architecture = build_config(BlipArchitecture, profile.blip, f"profile '{profile.name}': blip")
        sam_config = build_config(EfficientSamConfig, profile.efficient_sam, f"profile '{profile.name}': efficient_sam")
        blip, segmenter = build_blip(architecture), EfficientSam(sam_config)
        blip_state, blip_digest = load_weights(profile, profile.blip_weights)
        sam_state, sam_digest = load_weights(profile, profile.efficient_sam_weights)
        digests = [blip_digest, sam_digest]
        try:
            load_blip_state(blip, blip_state)
            load_state(segmenter, sam_state, "EfficientSAM")
            mask_head = None
            if profile.mask_head is not None and profile.mask_head_weights is not None:
                config = build_config(MaskHeadConfig, profile.mask_head, "mask_head")
                mask_head = config.build(architecture.vision.hidden_size, architecture.text.hidden_size)
                state, digest = load_weights(profile, profile.mask_head_weights)
                load_state(mask_head, state, "the mask head's")
                digests.append(digest)
            tokenizer = BlipTokenizer(profile.find(profile.vocab), architecture.max_length)
            matcher = BlipMatcher(blip, tokenizer, architecture, chosen, mask_head)
        except ProfileError:
            raise
        except ValueError as error:
            raise ProfileError(f"profile '{profile.name}': {error}") from error
        # one checksum for all files: that of theirs, in hex, joined
        digest = hashlib.sha256("".join(digests).encode()).hexdigest()
        pipeline = cls(profile, matcher, segmenter, chosen, digest, dtype)
        slow = slow_precision(dtype, chosen)
        pipeline.warnings = [*warnings, *([slow] if slow else [])]
        return pipeline

    def locate(
        self,
        image: np.ndarray,
        queries: Sequence[Query | str],
        segment_always: bool = False,
        match_threshold: float = 0.0,
        reject_threshold: float = 0.0,
    ) -> list[Match]:
        """Say of each query whether the image shows it, how sure that is, and where.

        image: uint8 [H, W, 3] RGB. Thresholds: the query's where positive, else the argument's where positive, else the
        profile's. segment_always: give segments whatever the verdict. Returns matches in the order of the queries.
        Raises ValueError for an image of another kind and for a query with no words.
        """
        return list(self.locate_timed(image, queries, segment_always, match_threshold, reject_threshold).matches)

    def locate_timed(
        self,
        image: np.ndarray,
        queries: Sequence[Query | str],
        segment_always: bool = False,
        match_threshold: float = 0.0,
        reject_threshold: float = 0.0,
        region_scores: bool = False,
    ) -> Located:
        """As `locate`, with the milliseconds of every stage. region_scores: score every segment by itself (see
        regions.masked_crop)."""
        check_image(image)
        asked = [Query(query) if isinstance(query, str) else query for query in queries]
        if not asked:
            return Located(())
        # what is wrong with a query is found before anything is computed
        for query in asked:
            self.check_text(query.text)
            self.thresholds(query, match_threshold, reject_threshold)
        watch = _Stopwatch()
        encoded = self._encode(image, watch)
        matches = self._ask(encoded, asked, segment_always, match_threshold, reject_threshold, watch)
        if region_scores:
            matches = self._score_regions(image, matches)
            watch.lap("blip_image")
        return Located(tuple(matches), watch.timing())

    def warm_up(self) -> None:
        """Do what the first frames would take longer for: memory is allocated and kernels are chosen, on CUDA for several
        numbers of queries."""
        for count in (1, 4, 16) if self.device.type == "cuda" else (1,):
            self.locate(np.zeros((480, 640, 3), np.uint8), [f"warm up {i}" for i in range(count)], segment_always=True)

    def encode(self, image: np.ndarray) -> EncodedImage:
        """Encode an image (uint8 [H, W, 3] RGB) once, to be asked about with `ask`. Raises ValueError."""
        check_image(image)
        return self._encode(image, _Stopwatch())

    def ask(self, encoded: EncodedImage, queries: Sequence[Query | str], segment_always: bool = False) -> list[Match]:
        """What `locate` says of these queries, of an image that is encoded already."""
        asked = [Query(query) if isinstance(query, str) else query for query in queries]
        return self._ask(encoded, asked, segment_always, 0.0, 0.0, _Stopwatch()) if asked else []

    def explain(self, encoded: EncodedImage, text: str) -> list[WordMap]:
        """What each word of a text looks at (Grad-CAM per word). Raises ValueError for a text with no words."""
        with self._mixed():
            return self._matcher.match_words(encoded.matching, text)

    def with_options(self, prompting: PromptingOptions | None = None, fusion: FusionOptions | None = None) -> Pipeline:
        """The same networks under other options; nothing is loaded or copied."""
        profile = dataclasses.replace(
            self.profile, prompting=prompting or self.profile.prompting, fusion=fusion or self.profile.fusion
        )
        return Pipeline(profile, self._matcher, self._segmenter, self.device, self.weights_sha256, self.precision)

    def _mixed(self) -> torch.autocast:
        return mixed_precision(self.device, self.precision)

    def check_text(self, text: str) -> None:
        """Raise ValueError for a query text with no words to look for."""
        self._matcher.tokenizer.tokens(text)

    def thresholds(self, query: Query, match_threshold: float, reject_threshold: float) -> tuple[float, float]:
        """(match, reject) that hold for a query: its own where positive, else the argument's where positive, else the
        profile's. Raises ValueError where they are out of order."""
        options = self.profile.verdict
        match = query.match_threshold or match_threshold or options.match_threshold
        # a default below which nothing is rejected must not lie above a lower threshold that was asked for
        reject = query.reject_threshold or reject_threshold or min(options.reject_threshold, match)
        check_thresholds(match, reject)
        return match, reject

    def _score_regions(self, image: np.ndarray, matches: list[Match]) -> list[Match]:
        """The matches with the ITM score of each segment's masked crop, all crops in one batch."""
        window = self.profile.verdict.region_window
        asked = [(match.query.text, segment) for match in matches for segment in match.segments]
        if not asked:
            return matches
        crops = [self._matcher.preprocess(masked_crop(image, segment, window)) for _, segment in asked]
        with self._mixed():
            scores = iter(self._matcher.match_pairs(torch.cat(crops), [text for text, _ in asked]))
        return [
            dataclasses.replace(
                match, segments=tuple(dataclasses.replace(s, region_score=next(scores)) for s in match.segments)
            )
            for match in matches
        ]

    def _encode(self, image: np.ndarray, watch: _Stopwatch) -> EncodedImage:
        raw = upload(image, self.device)
        pixels = self._matcher.preprocess(raw)
        watch.lap("preprocess")
        with self._mixed():
            matching = self._matcher.encode_image(pixels)
        watch.lap("blip_image")
        with torch.inference_mode(), self._mixed():
            segmentation = self._segmenter.encode_image(raw.permute(0, 3, 1, 2).float() / 255).float()
        watch.lap("sam_image")
        return EncodedImage(image.shape[:2], matching, segmentation)

    def _ask(
        self,
        encoded: EncodedImage,
        asked: list[Query],
        segment_always: bool,
        match_threshold: float,
        reject_threshold: float,
        watch: _Stopwatch,
    ) -> list[Match]:
        options = self.profile
        texts = [query.text for query in asked]
        with self._mixed():
            text_features = self._matcher.text_features(texts)
            watch.lap("blip_text")
            scores = self._matcher.match(encoded.matching, texts, text_features)
        gradcams = [fusion.min_max(gradcam) for gradcam in scores.gradcam]
        mask_heads = [None] * len(asked) if scores.mask_head is None else scores.mask_head
        heats = [choose_heat(*maps, options.prompting.source) for maps in zip(gradcams, mask_heads)]
        watch.lap("gradcam")
        all_regions = find_all_regions(
            self._segmenter, encoded.segmentation, heats, encoded.size, options.prompting, options.fusion,
            cells=heats[0].shape[0] // gradcams[0].shape[0],
        )  # fmt: skip
        watch.lap("sam_decode")
        matches = []
        for i, query in enumerate(asked):
            logits = (float(scores.itm_logits[i, 0]), float(scores.itm_logits[i, 1]))
            score = itm_score(logits)
            verdict = decide(score, *self.thresholds(query, match_threshold, reject_threshold))
            gradcam, heat, regions = gradcams[i], heats[i], all_regions[i]
            wanted = verdict is Verdict.MATCH or segment_always
            segments = _segments(regions, encoded.size, i, len(asked)) if wanted else ()
            watch.lap("sam_decode")
            low_res = mask_map(regions)
            matches.append(
                Match(
                    query=query,
                    verdict=verdict,
                    itm_logits=logits,
                    itm_score=score,
                    itc_similarity=float(scores.itc_similarity[i]),
                    confidence=confidence(logits, options.verdict),
                    gradcam=gradcam,
                    heatmap=fusion.fuse(fusion.resize_map(heat, *gradcam.shape), low_res, options.fusion.alpha),
                    peak=_peak(heat, low_res, encoded.size, options.fusion.alpha),
                    segments=segments,
                    mask_head=mask_heads[i],
                    heat=heat,
                )
            )
            watch.lap("fuse")
        return matches


def _segments(regions: list[RegionMask], size: tuple[int, int], query: int, queries: int) -> tuple[Segment, ...]:
    """The regions of a query at native resolution, as far as there are labels for them."""
    labels = (segment_label(query, rank, queries) for rank in range(len(regions)))
    found = (native_segment(region, size, label) for region, label in zip(regions, labels) if label is not None)
    return tuple(segment for segment in found if segment is not None)


def _peak(heat: np.ndarray, low_res: np.ndarray, size: tuple[int, int], alpha: float) -> tuple[float, float]:
    """The maximum of the map that is fused at the resolution of the low-res mask, (x, y) in pixels of the image."""
    fused = fusion.native_heatmap(heat, low_res, alpha, *low_res.shape)
    row, column = np.unravel_index(int(fused.argmax()), fused.shape)
    return (column + 0.5) * size[1] / fused.shape[1], (row + 0.5) * size[0] / fused.shape[0]


def choose_device(name: str) -> torch.device:
    """`auto`, `cpu` or `cuda[:N]`. Raises ValueError where it is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device {name!r} is unknown: use auto, cpu or cuda") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device {name!r}: no CUDA device is available here; use device auto or cpu")
    return device


def check_image(image: np.ndarray) -> None:
    """Raise ValueError unless the image is uint8 [H, W, 3] and not empty."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        shape = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ValueError(f"the image must be uint8 [H, W, 3] RGB, got {shape}")
    if 0 in image.shape:
        raise ValueError(f"the image is empty: {list(image.shape)}")
