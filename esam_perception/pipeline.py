"""The one place where matching and segmentation meet: `locate(image, queries) -> matches`.

An image is encoded once by each network; what a further query costs is text, ITM, Grad-CAM and one mask.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence

import numpy as np
import torch

from esam_perception import fusion
from esam_perception.matching.checkpoint import load_blip_state, load_state
from esam_perception.matching.configuration import BlipArchitecture, build_blip
from esam_perception.matching.matcher import BlipMatcher
from esam_perception.matching.tokenizer import BlipTokenizer
from esam_perception.profiles import AUTO, Profile, ProfileError, build_config, load_profile
from esam_perception.prompting import prompt_points
from esam_perception.segmentation import EfficientSam, EfficientSamConfig, check_prompt, upsample_mask
from esam_perception.segmentation.mask_decoder import POINT
from esam_perception.types import Located, Match, Query, Segment, Timing, Verdict
from esam_perception.verdict import check_thresholds, confidence, decide, itm_score
from esam_perception.weights import load_weights

LAST_LABEL = 254  # 255 is reserved (vision_msgs/LabelInfo calls the greatest id unlabeled)


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


class Pipeline:
    """BLIP-ITM and EfficientSAM of one profile on one device. Not thread-safe: one caller at a time."""

    def __init__(
        self,
        profile: Profile,
        matcher: BlipMatcher,
        segmenter: EfficientSam,
        device: torch.device,
        weights_sha256: str = "",
    ) -> None:
        self.profile, self.device, self.weights_sha256 = profile, device, weights_sha256
        self.warnings: list[str] = []
        self._matcher = matcher
        self._segmenter = segmenter.to(device).eval().requires_grad_(False)

    @classmethod
    def from_profile(cls, name_or_path: str = AUTO, device: str = "auto") -> Pipeline:
        """Load a profile (see profiles.load_profile) on `auto` (CUDA if there is one), `cpu` or `cuda[:N]`.

        Raises ProfileError for a profile that cannot be used, ValueError for a device that is not there.
        """
        profile, warnings = load_profile(name_or_path)
        chosen = choose_device(device)
        architecture = build_config(BlipArchitecture, profile.blip, f"profile '{profile.name}': blip")
        sam_config = build_config(EfficientSamConfig, profile.efficient_sam, f"profile '{profile.name}': efficient_sam")
        blip, segmenter = build_blip(architecture), EfficientSam(sam_config)
        blip_state, blip_digest = load_weights(profile, profile.blip_weights)
        sam_state, sam_digest = load_weights(profile, profile.efficient_sam_weights)
        try:
            load_blip_state(blip, blip_state)
            load_state(segmenter, sam_state, "EfficientSAM")
            tokenizer = BlipTokenizer(profile.find(profile.vocab), architecture.max_length)
            matcher = BlipMatcher(blip, tokenizer, architecture, chosen)
        except ValueError as error:
            raise ProfileError(f"profile '{profile.name}': {error}") from error
        # one checksum for both files: that of their two, in hex, joined
        digest = hashlib.sha256((blip_digest + sam_digest).encode()).hexdigest()
        pipeline = cls(profile, matcher, segmenter, chosen, digest)
        pipeline.warnings = warnings
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
    ) -> Located:
        """As `locate`, with the milliseconds of every stage."""
        check_image(image)
        asked = [Query(query) if isinstance(query, str) else query for query in queries]
        if not asked:
            return Located(())
        thresholds = [self._thresholds(query, match_threshold, reject_threshold) for query in asked]
        texts = [query.text for query in asked]
        watch = _Stopwatch()
        # the text first: a query with no words is refused before anything is computed
        text_features = self._matcher.text_features(texts)
        watch.lap("blip_text")
        pixels = self._matcher.preprocess(image)
        watch.lap("preprocess")
        encoding = self._matcher.encode_image(pixels)
        watch.lap("blip_image")
        scores = self._matcher.match(encoding, texts, text_features)
        watch.lap("gradcam")
        embeddings = self._encode_for_segmentation(image)
        watch.lap("sam_image")
        matches: list[Match] = []
        for i, query in enumerate(asked):
            logits = (float(scores.itm_logits[i, 0]), float(scores.itm_logits[i, 1]))
            score = itm_score(logits)
            verdict = decide(score, *thresholds[i])
            gradcam = fusion.min_max(scores.gradcam[i])
            # the label is the query's place: stable from frame to frame while the queries stay the same
            wanted = (verdict is Verdict.MATCH or segment_always) and i < LAST_LABEL
            low_res, segment = self._segment(embeddings, gradcam, image.shape[:2], i + 1 if wanted else None, watch)
            matches.append(
                Match(
                    query=query,
                    verdict=verdict,
                    itm_logits=logits,
                    itm_score=score,
                    itc_similarity=float(scores.itc_similarity[i]),
                    confidence=confidence(logits, self.profile.verdict),
                    gradcam=gradcam,
                    heatmap=fusion.fuse(gradcam, low_res, self.profile.fusion.alpha),
                    peak=self._peak(gradcam, low_res, image.shape[:2]),
                    segments=() if segment is None else (segment,),
                )
            )
            watch.lap("fuse")
        return Located(tuple(matches), watch.timing())

    def check_text(self, text: str) -> None:
        """Raise ValueError for a query text with no words to look for."""
        self._matcher.tokenizer.tokens(text)

    def _thresholds(self, query: Query, match_threshold: float, reject_threshold: float) -> tuple[float, float]:
        options = self.profile.verdict
        match = query.match_threshold or match_threshold or options.match_threshold
        # a default below which nothing is rejected must not lie above a lower threshold that was asked for
        reject = query.reject_threshold or reject_threshold or min(options.reject_threshold, match)
        check_thresholds(match, reject)
        return match, reject

    @torch.inference_mode()
    def _encode_for_segmentation(self, image: np.ndarray) -> torch.Tensor:
        pixels = torch.from_numpy(np.ascontiguousarray(image)).to(self.device).permute(2, 0, 1)[None].float() / 255
        return self._segmenter.encode_image(pixels)

    @torch.inference_mode()
    def _segment(
        self, embeddings: torch.Tensor, gradcam: np.ndarray, size: tuple[int, int], label: int | None, watch: _Stopwatch
    ) -> tuple[np.ndarray, Segment | None]:
        """Probabilities of the best candidate at low resolution, float32 [m, m]; and, where a label is given and the
        mask is not empty, the segment at native resolution."""
        points = prompt_points(gradcam, size, self.profile.prompting)
        prompt = torch.from_numpy(points)[None, None].to(self.device)
        labels = torch.full(prompt.shape[:-1], POINT, device=self.device)
        check_prompt(prompt, labels)
        logits, predicted = self._segmenter.decode(embeddings, prompt, labels, size)
        probabilities = logits[0, 0].sigmoid().float().cpu().numpy()
        predicted_iou = predicted[0, 0].float().cpu().numpy()
        best = fusion.choose_candidate(predicted_iou, probabilities, gradcam, self.profile.fusion.candidate_choice)
        segment = None
        if label is not None:
            native = upsample_mask(logits[0, 0, best], size)
            mask = (native > 0).cpu().numpy()
            if mask.any():
                probability = native.sigmoid().float().cpu().numpy()
                segment = Segment(label, mask, probability, float(predicted_iou[best]), bounding_box(mask), points)
        watch.lap("sam_decode")
        return probabilities[best], segment

    def _peak(self, gradcam: np.ndarray, low_res: np.ndarray, size: tuple[int, int]) -> tuple[float, float]:
        fused = fusion.native_heatmap(gradcam, low_res, self.profile.fusion.alpha, *low_res.shape)
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


def bounding_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """(x, y, width, height) of the set pixels of a bool [H, W] mask; all 0 where none is set."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1] - columns[0] + 1), int(rows[-1] - rows[0] + 1)
