"""The types that travel from camera to message. One definition each; numpy only, no ROS, no torch.

All are immutable; what holds arrays is equal to itself alone (`eq=False`: arrays have no one answer to `==`) and can be a
key. Nothing copies the arrays: who gives one away leaves it as it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import IntEnum

import numpy as np


class Verdict(IntEnum):
    """What the scores say about the presence of the queried thing. Values equal esam_perception/msg/Match."""

    UNSURE = 0
    MATCH = 1
    NO_MATCH = 2


class PromptLabel(IntEnum):
    """What a prompt point is to EfficientSAM; the values of the official model, which knows no negative points."""

    PADDING = -1
    POINT = 1
    BOX_TOP_LEFT = 2
    BOX_BOTTOM_RIGHT = 3


PROMPT_SLOTS = 6


@dataclass(frozen=True)
class Intrinsics:
    """Pinhole intrinsics in pixels of an image of `width` x `height` (no distortion: rectified images).

    fx, fy: focal lengths. cx, cy: the principal point; the middle of the upper left pixel is (0, 0).
    """

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int


@dataclass(frozen=True, eq=False)
class Frame:
    """One camera frame.

    image: uint8 [H, W, 3] RGB.
    stamp: acquisition time in nanoseconds since the epoch of the camera's clock; never altered.
    frame_id: coordinate frame of the camera; never altered.
    depth: float32 [H, W] metres, NaN where invalid, or None.
    intrinsics: of the image, or None where they are not known.
    """

    image: np.ndarray
    stamp: int = 0
    frame_id: str = ""
    depth: np.ndarray | None = None
    intrinsics: Intrinsics | None = None


@dataclass(frozen=True)
class Query:
    """A phrase to look for.

    text: in the words of the model (lower and upper case are the same). id: for answers; empty: the text. match_threshold,
    reject_threshold: ITM scores in 0..1, 0 <= reject <= match (see verdict.decide); 0 means the caller's default (node
    parameter, argument), else the profile's.
    """

    text: str
    id: str = ""
    match_threshold: float = 0.0
    reject_threshold: float = 0.0

    @property
    def key(self) -> str:
        """The id, or the text where no id was given."""
        return self.id or self.text


@dataclass(frozen=True, eq=False)
class Target3D:
    """Where a segment is in space, in the camera's optical frame (x right, y down, z forward), metres.

    position: float64 [3], centroid of the visible surface: the mean of the points of the segment's pixels.
    rotation: float64 [3, 3], right-handed; its columns are the principal axes of these points, longest first. The third
    points towards the camera, the first to the right of the image (where it has no such side: downwards).
    extent: float64 [3], metres between the 1st and 99th percentile of the points along these axes.
    box_centre: float64 [3], the middle of that range: where a box of `extent` and `rotation` encloses the points.
    covariance: float64 [6, 6], of (x, y, z, rotation about the x, y, z axis of the frame; radians), symmetric, positive
    definite. Position and orientation are taken as independent.
    valid_pixels: pixels of the mask with a valid depth.
    """

    position: np.ndarray
    rotation: np.ndarray
    extent: np.ndarray
    box_centre: np.ndarray
    covariance: np.ndarray
    valid_pixels: int

    @property
    def quaternion(self) -> tuple[float, float, float, float]:
        """`rotation` as a unit quaternion (x, y, z, w), w >= 0."""
        m = self.rotation
        # the eigenvector of this matrix' greatest eigenvalue (Bar-Itzhack): exact, and without cases to tell apart
        k = np.array(
            [
                [m[0, 0] - m[1, 1] - m[2, 2], m[1, 0] + m[0, 1], m[2, 0] + m[0, 2], m[2, 1] - m[1, 2]],
                [m[1, 0] + m[0, 1], m[1, 1] - m[0, 0] - m[2, 2], m[2, 1] + m[1, 2], m[0, 2] - m[2, 0]],
                [m[2, 0] + m[0, 2], m[2, 1] + m[1, 2], m[2, 2] - m[0, 0] - m[1, 1], m[1, 0] - m[0, 1]],
                [m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1], m[0, 0] + m[1, 1] + m[2, 2]],
            ]
        )
        x, y, z, w = np.linalg.eigh(k)[1][:, -1]
        sign = -1.0 if w < 0 else 1.0
        return float(sign * x), float(sign * y), float(sign * z), float(sign * w)


@dataclass(frozen=True, eq=False)
class Segment:
    """One region that may be the queried thing.

    label: 1..254, unique in a frame; the value of this segment's pixels in the label image.
    mask: bool [H, W], native resolution.
    probability: float32 [H, W] in 0..1, sigmoid of the mask logits, native resolution.
    predicted_iou: EfficientSAM's own estimate of the mask's IoU.
    box: (x, y, width, height) in pixels, tight around the mask; all 0 for an empty mask.
    prompt_points: float32 [N, 2], (x, y) in pixels; the corners of the box first where the prompt has one.
    region_score: ITM probability of the masked crop; NaN if not computed.
    salience: the highest heat of its region against that of the query's strongest region, 0..1.
    target: where it is in space; None without depth and where depth does not tell.
    """

    label: int
    mask: np.ndarray
    probability: np.ndarray
    predicted_iou: float
    box: tuple[int, int, int, int]
    prompt_points: np.ndarray
    region_score: float = float("nan")
    salience: float = 1.0
    target: Target3D | None = None


@dataclass(frozen=True, eq=False)
class Match:
    """What the pipeline says of one query in one image.

    itm_logits: (not match, match). itm_score: softmax(itm_logits)[1].
    itc_similarity: cosine in -1..1.
    confidence: calibrated probability that the thing is there; NaN if the profile has no calibration.
    gradcam: float32 [G, G] in 0..1 (min-max), before fusion; the grid covers the whole (stretched) image.
    heatmap: float32 [G, G] in 0..1, fused: alpha * heat + (1 - alpha) * mask; heat: see PromptingOptions.source.
    peak: (x, y) in pixels, the maximum of the map fused at the resolution of the low-res mask.
    segments: best first; empty unless the verdict is MATCH or segments were asked for always (`segment_always`).
    mask_head: float32 [m, m] in 0..1, what the profile's text-prompted mask head says; None where it has none.
    heat: float32 [G, G] or [m, m] in 0..1, what prompts were drawn from (see PromptingOptions.source); None: gradcam.
    """

    query: Query
    verdict: Verdict
    itm_logits: tuple[float, float]
    itm_score: float
    itc_similarity: float
    confidence: float
    gradcam: np.ndarray
    heatmap: np.ndarray
    peak: tuple[float, float]
    segments: tuple[Segment, ...] = ()
    mask_head: np.ndarray | None = None
    heat: np.ndarray | None = None


@dataclass(frozen=True)
class Provenance:
    """What an answer comes from: by this a result can be traced and made again.

    profile: its name. weights_sha256: one checksum over all its weights files, hex; empty where they come from no file.
    device: `cpu`, `cuda:0` ... precision: `float32` or `bfloat16`. notes: what a user should know of it, a line each, with
    its cure: a profile that stands in for another, a precision that is slow here. Empty where all is well.
    """

    profile: str
    weights_sha256: str
    device: str = ""
    precision: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Timing:
    """Milliseconds per stage of one frame; a stage that did not take place is 0. `age_at_start` and `publish` are filled by the ROS layer, which also adds
    the measuring of 3D targets to `fuse`."""

    age_at_start: float = 0.0
    preprocess: float = 0.0
    blip_image: float = 0.0
    blip_text: float = 0.0
    gradcam: float = 0.0
    sam_image: float = 0.0
    sam_decode: float = 0.0
    fuse: float = 0.0
    publish: float = 0.0
    total: float = 0.0

    def plus(self, **milliseconds: float) -> Timing:
        """The same with these added, each to its stage and, but for `age_at_start`, to the total."""
        added = {stage: getattr(self, stage) + spent for stage, spent in milliseconds.items()}
        total = self.total + sum(spent for stage, spent in milliseconds.items() if stage != "age_at_start")
        return replace(self, **added, total=total)


@dataclass(frozen=True, eq=False)
class Located:
    """All matches of one image, in query order, with the time each stage took."""

    matches: tuple[Match, ...]
    timing: Timing = field(default_factory=Timing)


@dataclass(frozen=True, eq=False)
class FrameResult:
    """All that is known of a frame: what it was (with the depth and the intrinsics that were found for it), what was found in
    it, in query order, the time each stage took, and by what."""

    frame: Frame
    matches: tuple[Match, ...]
    timing: Timing
    provenance: Provenance
