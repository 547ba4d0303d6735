"""The one place where matching and segmentation meet: `locate(image, queries) -> matches`.

An image is encoded once by each network; what a further query costs is text, ITM, Grad-CAM and one mask.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from esam_perception.computing import hold_weights_in, mixed_precision, upload
from esam_perception.matching.matcher import BlipMatcher, ImageEncoding, WordMap
from esam_perception.matching.stem import ConvolutionalStem
from esam_perception.pipeline import fusion
from esam_perception.pipeline.fusion import FusionOptions
from esam_perception.pipeline.inputs import Queries, as_queries, check_image
from esam_perception.pipeline.labels import segment_label
from esam_perception.pipeline.loading import load
from esam_perception.pipeline.mask_head import TextMaskHead, read_masks
from esam_perception.pipeline.prompting import PromptingOptions, choose_heat
from esam_perception.pipeline.regions import RegionMask, find_all_regions, mask_map, masked_crop, native_segment
from esam_perception.pipeline.stopwatch import Stopwatch
from esam_perception.pipeline.verdict import check_thresholds, confidence, decide, itm_score, thresholds_that_hold
from esam_perception.profiles.registry import AUTO
from esam_perception.profiles.schema import Profile
from esam_perception.segmentation import EfficientSam
from esam_perception.types import Located, Match, Provenance, Query, Segment, Verdict

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class EncodedImage:
    """An image as both networks see it; whatever is asked of it, it is never encoded again.

    image: the uint8 [H, W, 3] RGB that was given, not a copy: leave it as it is while it is asked for region_scores.
    matching: BLIP's. segmentation: EfficientSAM's embedding, float32 [1, D, g, g] on the device.
    """

    image: np.ndarray
    matching: ImageEncoding
    segmentation: torch.Tensor

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.image.shape[0], self.image.shape[1]


@dataclass(frozen=True)
class _Question:
    """A query with the thresholds that hold for it."""

    query: Query
    match_threshold: float
    reject_threshold: float


class Pipeline:
    """BLIP-ITM and EfficientSAM of one profile on one device.

    Not thread-safe: one caller at a time, for every method but the attributes. It has no lock of its own, as only its
    owner knows whose turn is next: threads that share one take turns under a lock of theirs (the node's is fair,
    stream.turns), or have one each. What `with_options` returns shares the networks, and so the turns.

    profile: with its options. device, precision: where and in which number format it computes. provenance: the same and
    more as text, for results.
    """

    def __init__(
        self,
        profile: Profile,
        matcher: BlipMatcher,
        segmenter: EfficientSam,
        device: torch.device,
        weights_sha256: str = "",
        precision: torch.dtype = torch.float32,
        notes: Sequence[str] = (),
        mask_head: TextMaskHead | None = None,
    ) -> None:
        """mask_head: one that was trained with the matcher's weights, which must be made with `keep_hidden` then."""
        self.profile, self.device, self.precision = profile, device, precision
        number_format = str(precision).removeprefix("torch.")
        self.provenance = Provenance(profile.name, weights_sha256, str(device), number_format, tuple(notes))
        self._matcher = matcher
        self._mask_head = mask_head.to(device).eval().requires_grad_(False) if mask_head is not None else None
        self._segmenter = segmenter.to(device).eval().requires_grad_(False)
        self._segmenter.hold_tables()
        if precision != torch.float32:
            # masks are decided by small differences of large sums: the decoders stay float32; the stem sees to itself
            for network in (matcher.model, self._segmenter.image_encoder):
                hold_weights_in(network, precision, but=(ConvolutionalStem,))

    @classmethod
    def from_profile(cls, name_or_path: str = AUTO, device: str = "auto", precision: str = "auto") -> Pipeline:
        """Load a profile: `auto`, `tabletop`, `blip_base`, `blip_large` or a directory (see profiles.registry.load_profile).

        device: `auto` (CUDA if there is one), `cpu` or `cuda[:N]`. precision: `auto`, `float32` or `bfloat16` (see
        computing.choose_precision). What a user should know of it (that another profile stands in, that it is slow here)
        is logged as a warning and stays in `provenance.notes`.

        Raises ProfileError for a profile that cannot be used, InvalidDevice for a device that is not there or a precision
        that it has not.
        """
        loaded = load(name_or_path, device, precision)
        for note in loaded.notes:
            log.warning(note)
        return cls(
            loaded.profile, loaded.matcher, loaded.segmenter, loaded.device, loaded.weights_sha256, loaded.precision,
            loaded.notes, loaded.mask_head,
        )  # fmt: skip

    def locate(
        self,
        image: np.ndarray,
        queries: Queries,
        segment_always: bool = False,
        match_threshold: float = 0.0,
        reject_threshold: float = 0.0,
        region_scores: bool = False,
    ) -> list[Match]:
        """Say of each query whether the image shows it, how sure that is, and where.

        image: uint8 [H, W, 3] RGB of any size, H and W at least 1. queries: a text, a Query, or a sequence of these; none
        gives no matches. segment_always: give segments whatever the verdict. match_threshold, reject_threshold: in 0..1,
        0 <= reject <= match; what holds is the query's where positive, else these where positive, else the profile's.
        region_scores: score every segment by itself, too (Segment.region_score; see regions.masked_crop).

        Returns matches in the order of the queries. Raises InvalidImage; InvalidQuery for what is no query or has no words;
        InvalidThresholds where they are out of range or order. Nothing is computed before all of it is found good.
        """
        located = self.locate_timed(
            image, queries, segment_always, match_threshold, reject_threshold, region_scores
        )  # fmt: skip
        return list(located.matches)

    def locate_timed(
        self,
        image: np.ndarray,
        queries: Queries,
        segment_always: bool = False,
        match_threshold: float = 0.0,
        reject_threshold: float = 0.0,
        region_scores: bool = False,
    ) -> Located:
        """As `locate`, with the milliseconds of every stage."""
        check_image(image)
        asked = self._asked(queries, match_threshold, reject_threshold)
        if not asked:
            return Located(())
        watch = Stopwatch()
        matches = self._ask(self._encode(image, watch), asked, segment_always, region_scores, watch)
        return Located(tuple(matches), watch.timing())

    def warm_up(self) -> None:
        """Do what the first frames would take longer for: memory is allocated and kernels are chosen, on CUDA for several
        numbers of queries."""
        for count in (1, 4, 16) if self.device.type == "cuda" else (1,):
            self.locate(np.zeros((480, 640, 3), np.uint8), [f"warm up {i}" for i in range(count)], segment_always=True)

    def encode(self, image: np.ndarray) -> EncodedImage:
        """Encode an image (uint8 [H, W, 3] RGB) once, to be asked about with `ask`. Raises InvalidImage."""
        check_image(image)
        return self._encode(image, Stopwatch())

    def ask(
        self,
        encoded: EncodedImage,
        queries: Queries,
        segment_always: bool = False,
        match_threshold: float = 0.0,
        reject_threshold: float = 0.0,
        region_scores: bool = False,
    ) -> list[Match]:
        """What `locate` says, of an image that is encoded already (by this pipeline or one `with_options` of it)."""
        asked = self._asked(queries, match_threshold, reject_threshold)
        return self._ask(encoded, asked, segment_always, region_scores, Stopwatch()) if asked else []

    def explain(self, encoded: EncodedImage, text: str) -> list[WordMap]:
        """What each word of a text looks at: Grad-CAM per word, float32 [G, G] each, not normalised. Raises InvalidQuery for a
        text with no words."""
        with self._mixed():
            return self._matcher.match_words(encoded.matching, text)

    def with_options(self, prompting: PromptingOptions | None = None, fusion: FusionOptions | None = None) -> Pipeline:
        """The same networks under other options; nothing is loaded or copied."""
        profile = dataclasses.replace(
            self.profile, prompting=prompting or self.profile.prompting, fusion=fusion or self.profile.fusion
        )
        origin = self.provenance
        return Pipeline(
            profile,
            self._matcher,
            self._segmenter,
            self.device,
            origin.weights_sha256,
            self.precision,
            origin.notes,
            self._mask_head,
        )

    def _mixed(self) -> torch.autocast:
        return mixed_precision(self.device, self.precision)

    def check_text(self, text: str) -> None:
        """Raise InvalidQuery for a query text with no words to look for."""
        self._matcher.tokenizer.tokens(text)

    def thresholds(self, query: Query, match_threshold: float, reject_threshold: float) -> tuple[float, float]:
        """(match, reject) that hold for a query with these arguments of `locate`: see verdict.thresholds_that_hold. Raises
        InvalidThresholds."""
        return thresholds_that_hold(query, match_threshold, reject_threshold, self.profile.verdict)

    def _asked(self, queries: Queries, match_threshold: float, reject_threshold: float) -> list[_Question]:
        """The queries as they are asked. Raises InvalidQuery and InvalidThresholds."""
        if match_threshold and reject_threshold:
            check_thresholds(match_threshold, reject_threshold)
        asked = []
        for query in as_queries(queries):
            self.check_text(query.text)
            asked.append(_Question(query, *self.thresholds(query, match_threshold, reject_threshold)))
        return asked

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

    def _encode(self, image: np.ndarray, watch: Stopwatch) -> EncodedImage:
        raw = upload(image, self.device)
        pixels = self._matcher.preprocess(raw)
        watch.lap("preprocess")
        with self._mixed():
            matching = self._matcher.encode_image(pixels)
        watch.lap("blip_image")
        with torch.inference_mode(), self._mixed():
            segmentation = self._segmenter.encode_image(raw.permute(0, 3, 1, 2).float() / 255).float()
        watch.lap("sam_image")
        return EncodedImage(image, matching, segmentation)

    def _ask(
        self,
        encoded: EncodedImage,
        asked: Sequence[_Question],
        segment_always: bool,
        region_scores: bool,
        watch: Stopwatch,
    ) -> list[Match]:
        options = self.profile
        texts = [question.query.text for question in asked]
        with self._mixed():
            text_features = self._matcher.text_features(texts)
            watch.lap("blip_text")
            scores = self._matcher.match(encoded.matching, texts, text_features)
        gradcams = [fusion.min_max(gradcam) for gradcam in scores.gradcam]
        mask_heads: Sequence[np.ndarray | None] = [None] * len(asked)
        if self._mask_head is not None:
            mask_heads = list(read_masks(self._mask_head, encoded.matching, scores))
        heats = [choose_heat(*maps, options.prompting.source) for maps in zip(gradcams, mask_heads)]
        watch.lap("gradcam")
        all_regions = find_all_regions(
            self._segmenter, encoded.segmentation, heats, encoded.size, options.prompting, options.fusion,
            cells=heats[0].shape[0] // gradcams[0].shape[0],
        )  # fmt: skip
        watch.lap("sam_decode")
        matches = []
        for i, question in enumerate(asked):
            logits = (float(scores.itm_logits[i, 0]), float(scores.itm_logits[i, 1]))
            score = itm_score(logits)
            verdict = decide(score, question.match_threshold, question.reject_threshold)
            gradcam, heat, regions = gradcams[i], heats[i], all_regions[i]
            wanted = verdict is Verdict.MATCH or segment_always
            segments = _segments(regions, encoded.size, i, len(asked)) if wanted else ()
            watch.lap("sam_decode")
            low_res = mask_map(regions)
            matches.append(
                Match(
                    query=question.query,
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
        if region_scores:
            matches = self._score_regions(encoded.image, matches)
            watch.lap("blip_image")
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
