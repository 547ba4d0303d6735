"""Segment mask + registered depth + intrinsics -> where the thing is in space, and how sure that is. numpy and OpenCV.

The pixels of a mask are not all of its thing: masks leak over edges onto what lies behind, sensors leave holes and
average the two sides of an edge. So the depth decides which pixels count: those of the surface that most of the eroded
mask lies on (pixels connected without a jump in depth), and of other pieces at about the same depth, as an occluder may
cut a thing in two. Holes inside the mask take the depth of the nearest pixel that counts: most of a centroid is where
its pixels are in the image, and a hole must not pull it away. See docs/targets.md for how well that works, and what the covariance rests on.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

import cv2
import numpy as np

from esam_perception.errors import EsamError, InvalidInput
from esam_perception.targets.sizes import whole_factor
from esam_perception.types import Intrinsics, Match, Segment, Target3D

MIN_PIXELS = 50
# Metres; what is farther away was not measured by a depth camera.
FARTHEST = 1000.0
# Erosion in units of the square root of the mask's area: 1.5 px for the smallest things, 6 px for 100 x 100.
EROSION = 0.06
# Neighbouring pixels whose depths differ by more than this share of the depth lie on different surfaces.
DEPTH_JUMP = 0.02
# Pieces at most this many robust standard deviations (plus a share of the depth) from the surface's median belong to it,
PIECE_SIGMAS = 3.0
# and pixels at most this many.
PIXEL_SIGMAS = 5.0
DEPTH_MARGIN = 0.01
# More pixels than this say nothing new: larger masks are thinned out.
ENOUGH_PIXELS = 40_000
PERCENTILES = (1.0, 99.0)

# The centroid's error comes from the mask, not from the depth of its pixels: parts that are missed, parts that are not
# of the thing. It is a share of the thing's spread, in variance:
# SHARE[0] + SHARE[1] * (1 - IoU of the mask)^2 + SHARE[2] * (share of the mask's pixels whose depth does not count)^2,
# found on scenes 800000 to 800079 of the simulated tabletop; ROUND: how much of it is in any direction, as leaks leave
# the surface.
SHARE = (0.02, 0.6, 0.2)
ROUND = 0.1
# Standard deviation of what a depth camera gets wrong over a whole surface: of the depth along the ray, and metres.
DEPTH_ERROR = 0.005
POSITION_ERROR = 0.001
# Variance of an angle of which nothing is known: uniform over the circle, rad^2.
UNKNOWN_ANGLE = np.pi**2 / 3


class NoTarget(EsamError):
    """A segment that has no target. reason: one of REASONS, for counters; the text says more."""

    REASONS = ("size_mismatch", "too_few_valid_pixels")

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def fit_depth(depth: np.ndarray, height: int, width: int) -> np.ndarray:
    """Depth at the size of the image: float32 [height, width] metres, NaN where invalid (not finite, not positive, or
    beyond FARTHEST).

    depth: float [h, w] metres, of the same view; h, w may be the image's, a whole factor of it or a whole multiple.
    A smaller depth is repeated; of a larger one every image pixel takes the median of its valid pixels (the lower one of
    two), so that what is taken was measured. Raises NoTarget for any other size, InvalidInput for what is no depth image.
    """
    if depth.ndim != 2 or not np.issubdtype(depth.dtype, np.floating):
        raise InvalidInput(f"depth must be float [h, w] in metres, got {depth.dtype} {list(depth.shape)}")
    h, w = depth.shape
    depth = np.where((depth > 0) & (depth <= FARTHEST), depth, np.nan).astype(np.float32)
    if (h, w) == (height, width):
        return depth
    factor = whole_factor((h, w), (height, width))
    if factor is None:
        raise NoTarget("size_mismatch", f"depth of {w} x {h} is no whole factor of the image's {width} x {height}")
    if factor > 1:
        return depth.repeat(int(factor), axis=0).repeat(int(factor), axis=1)
    n = factor.denominator
    blocks = depth.reshape(height, n, width, n).swapaxes(1, 2).reshape(height, width, n**2)
    blocks = np.sort(blocks, axis=2)  # NaN last
    middle = np.maximum(np.isfinite(blocks).sum(2) - 1, 0) // 2
    return np.take_along_axis(blocks, middle[..., None], axis=2)[..., 0]


def organized_points(mask: np.ndarray, depth: np.ndarray, intrinsics: Intrinsics) -> np.ndarray:
    """The points of the set pixels of a bool [H, W] mask: float32 [H, W, 3] metres in the camera's optical frame, NaN
    elsewhere and where the depth is invalid. depth: float32 [H, W], see `fit_depth`."""
    z = np.where(mask & (depth > 0) & (depth <= FARTHEST), depth, np.nan).astype(np.float32)
    columns = (np.arange(z.shape[1], dtype=np.float32) - np.float32(intrinsics.cx)) / np.float32(intrinsics.fx)
    rows = (np.arange(z.shape[0], dtype=np.float32) - np.float32(intrinsics.cy)) / np.float32(intrinsics.fy)
    return np.stack([columns[None] * z, rows[:, None] * z, z], axis=2)


def measure_target(
    mask: np.ndarray,
    depth: np.ndarray,
    intrinsics: Intrinsics,
    probability: np.ndarray | None = None,
    predicted_iou: float = float("nan"),
    min_pixels: int = MIN_PIXELS,
) -> Target3D:
    """The target of one segment.

    mask: bool [H, W]. depth: float [h, w] metres of the same view (see `fit_depth`). probability: float [H, W] in 0..1,
    of the pixels to belong to the thing: chooses among surfaces, and tells how sure the mask is where predicted_iou (the
    model's own estimate of the mask's IoU) is NaN. With neither, the mask is taken for exact.
    Raises NoTarget where fewer than `min_pixels` pixels of the mask have a valid depth, or of the surface found; and for
    a depth of another size. Raises InvalidInput for arguments of other kinds.
    """
    if mask.ndim != 2 or mask.dtype != bool:
        raise InvalidInput(f"the mask must be bool [H, W], got {mask.dtype} {list(mask.shape)}")
    if probability is not None and probability.shape != mask.shape:
        raise InvalidInput(f"the probability is {list(probability.shape)}, the mask {list(mask.shape)}")
    return _measure(mask, fit_depth(depth, *mask.shape), intrinsics, probability, predicted_iou, min_pixels)


def with_targets(
    matches: Sequence[Match], depth: np.ndarray, intrinsics: Intrinsics, min_pixels: int = MIN_PIXELS
) -> tuple[tuple[Match, ...], Counter[str]]:
    """The matches with the targets of their segments, and how many segments got none by reason (NoTarget.REASONS).

    depth: float [h, w] metres, see `fit_depth`. A depth of another size leaves every segment without a target.
    """
    reasons: Counter[str] = Counter()
    fitted: dict[tuple[int, int], np.ndarray] = {}

    def measured(segment: Segment) -> Segment:
        try:
            # fitted once, not once a segment
            if segment.mask.shape not in fitted:
                fitted[segment.mask.shape] = fit_depth(depth, *segment.mask.shape)
            target = _measure(
                segment.mask,
                fitted[segment.mask.shape],
                intrinsics,
                segment.probability,
                segment.predicted_iou,
                min_pixels,
            )
        except NoTarget as error:
            reasons[error.reason] += 1
            return segment
        return replace(segment, target=target)

    done = tuple(replace(match, segments=tuple(measured(segment) for segment in match.segments)) for match in matches)
    return done, reasons


def transformed(target: Target3D, rotation: np.ndarray, translation: np.ndarray) -> Target3D:
    """The target in another frame: points p become rotation @ p + translation ([3, 3] and [3], metres)."""
    both = np.kron(np.eye(2), rotation)
    return replace(
        target,
        position=rotation @ target.position + translation,
        rotation=rotation @ target.rotation,
        box_centre=rotation @ target.box_centre + translation,
        covariance=both @ target.covariance @ both.T,
    )


def union_mask(segments: Iterable[Segment], height: int, width: int) -> np.ndarray:
    """bool [height, width]: the pixels of any of the segments."""
    union = np.zeros((height, width), bool)
    for segment in segments:
        union |= segment.mask
    return union


def _measure(
    mask: np.ndarray,
    depth: np.ndarray,
    intrinsics: Intrinsics,
    probability: np.ndarray | None,
    predicted_iou: float,
    min_pixels: int,
) -> Target3D:
    """`measure_target` with a depth that is the mask's size already (float32, NaN where invalid)."""
    valid = int(np.count_nonzero(mask & np.isfinite(depth)))
    needed = max(int(min_pixels), 3)
    if valid < needed:
        raise NoTarget("too_few_valid_pixels", f"{valid} pixels with a valid depth, {needed} are needed")
    rows, columns, z, used = _surface(mask, depth, probability)
    on_surface = round(used * np.count_nonzero(mask))
    if on_surface < needed or len(z) < 3:
        raise NoTarget("too_few_valid_pixels", f"{on_surface} pixels on one surface, {needed} are needed")
    points = np.stack(
        [(columns - intrinsics.cx) / intrinsics.fx * z, (rows - intrinsics.cy) / intrinsics.fy * z, z], axis=1
    )
    position = points.mean(0)
    spread = np.cov(points.T)
    values, axes = _principal_axes(spread, position)
    low, high = np.percentile((points - position) @ axes, PERCENTILES, axis=0)
    mask_error = 1 - _expected_iou(mask, probability, predicted_iou)
    share = SHARE[0] + SHARE[1] * mask_error**2 + SHARE[2] * (1 - used) ** 2
    covariance = np.zeros((6, 6))
    covariance[:3, :3] = _position_covariance(spread, position, share)
    covariance[3:, 3:] = _angle_covariance(values, axes, share)
    return Target3D(position, axes, high - low, position + axes @ ((low + high) / 2), covariance, valid)


def _surface(
    mask: np.ndarray, depth: np.ndarray, probability: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """(rows, columns, depths) of the pixels that count, those on the surface that most of the mask lies on, and of the
    holes of the mask, which take the depth of the nearest of these; and the share of the mask that counts, holes not.

    mask: bool [H, W]. depth: float32 [H, W] metres, valid in the mask somewhere. The depths: float64, metres.
    """
    # large masks are thinned out: what more pixels say is nothing new
    stride = max(1, math.ceil(math.sqrt(np.count_nonzero(mask) / ENOUGH_PIXELS)))
    set_rows, set_columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, left = int(set_rows[0]), int(set_columns[0])
    window = np.s_[top : set_rows[-1] + 1 : stride, left : set_columns[-1] + 1 : stride]
    mask, depth = mask[window], depth[window]
    valid = mask & np.isfinite(depth)
    if not valid.any():  # thinned out to nothing but holes
        return np.zeros(0, int), np.zeros(0, int), np.zeros(0), 0.0
    holes = mask & ~valid
    depth = np.where(valid, depth, 0)
    core = _eroded(mask) & valid
    if not core.any():
        core = valid  # holes where the thing is, or thinner than the erosion
    pieces, count = _pieces(valid, depth, DEPTH_JUMP * stride)
    # the surface which most of the core lies on; a pixel counts as much as it is likely to be of the thing
    weight = core.astype(np.float64) if probability is None else np.where(core, probability[window] + 1e-6, 0)
    votes = np.bincount(pieces.ravel(), weights=weight.ravel(), minlength=count)
    votes[0] = -1  # the invalid pixels
    main = int(votes.argmax())
    own = depth[(pieces == main) & core]
    median = np.median(own)
    sigma = 1.4826 * np.median(np.abs(own - median))
    size = np.maximum(np.bincount(pieces.ravel(), minlength=count), 1)
    mean_depth = np.bincount(pieces.ravel(), weights=depth.ravel(), minlength=count) / size
    near = np.abs(mean_depth - median) <= PIECE_SIGMAS * sigma + DEPTH_MARGIN * median
    near[main], near[0] = True, False
    found = near[pieces]
    # what hangs on to the surface and runs away from it: pixels between two surfaces, the ground
    values = depth[found]
    median = np.median(values)
    sigma = 1.4826 * np.median(np.abs(values - median))
    found &= np.abs(depth - median) <= PIXEL_SIGMAS * sigma + DEPTH_MARGIN * median
    used = float(np.count_nonzero(found) / np.count_nonzero(mask))
    depth = _filled(depth.astype(np.float64), found, holes)
    rows, columns = np.nonzero(found | holes)
    return top + stride * rows, left + stride * columns, depth[rows, columns], used


def _filled(depth: np.ndarray, known: np.ndarray, holes: np.ndarray) -> np.ndarray:
    """The depth, in place, with every pixel of `holes` at that of the nearest `known` one (both bool [h, w])."""
    if holes.any():
        _, nearest = cv2.distanceTransformWithLabels(
            1 - known.view(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
        )
        of_label = np.zeros(int(nearest.max()) + 1)
        of_label[nearest[known]] = depth[known]
        depth[holes] = of_label[nearest[holes]]
    return depth


def _eroded(mask: np.ndarray) -> np.ndarray:
    radius = max(1, round(EROSION * float(np.sqrt(np.count_nonzero(mask)))))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    # outside of the window is outside of the mask
    return cv2.erode(mask.view(np.uint8), kernel, borderType=cv2.BORDER_CONSTANT, borderValue=0).astype(bool)


def _pieces(valid: np.ndarray, depth: np.ndarray, jump: float) -> tuple[np.ndarray, int]:
    """Label the valid pixels by pieces of surface, int32 [h, w] from 1 on (0: invalid), and the number of labels.

    Two neighbours are connected unless their depths differ by more than `jump` of the smaller one. OpenCV connects set
    pixels; so the connections become pixels of their own, between those of the image.
    """
    height, width = valid.shape
    grid = np.zeros((2 * height - 1, 2 * width - 1), np.uint8)
    grid[::2, ::2] = valid
    for between, a, b in (
        (np.s_[::2, 1::2], np.s_[:, :-1], np.s_[:, 1:]),
        (np.s_[1::2, ::2], np.s_[:-1], np.s_[1:]),
    ):
        close = np.abs(depth[a] - depth[b]) <= jump * np.minimum(depth[a], depth[b])
        grid[between] = valid[a] & valid[b] & close
    count, labels = cv2.connectedComponents(grid, connectivity=4)
    return labels[::2, ::2], count


def _principal_axes(spread: np.ndarray, position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(variances along the axes, greatest first; axes as columns), with the signs that Target3D.rotation promises."""
    values, vectors = np.linalg.eigh(spread)
    first = _pointing(vectors[:, 2], (np.array([1.0, 0, 0]), np.array([0, 1.0, 0]), np.array([0, 0, 1.0])))
    third = _pointing(
        vectors[:, 0], (-position / np.linalg.norm(position), np.array([0, -1.0, 0]), np.array([-1.0, 0, 0]))
    )
    return np.maximum(values[::-1], 0), np.stack([first, np.cross(third, first), third], axis=1)


def _pointing(axis: np.ndarray, references: Sequence[np.ndarray]) -> np.ndarray:
    """The axis or its opposite: to the side of the first reference that it has a side of."""
    for reference in references:
        side = float(axis @ reference)
        if abs(side) > 1e-6:
            return axis if side > 0 else -axis
    return axis


def _expected_iou(mask: np.ndarray, probability: np.ndarray | None, predicted_iou: float) -> float:
    """What the IoU of the mask and its thing is taken to be, 0..1, as no truth is at hand."""
    if np.isfinite(predicted_iou):
        return float(np.clip(predicted_iou, 0, 1))
    if probability is None:
        return 1.0
    # what the IoU would be if every pixel were of the thing with its probability
    inside = float(probability[mask].sum())
    return inside / max(int(np.count_nonzero(mask)) + float(probability.sum()) - inside, 1e-9)


def _position_covariance(spread: np.ndarray, position: np.ndarray, share: float) -> np.ndarray:
    of_mask = share * (spread + ROUND * np.trace(spread) / 3 * np.eye(3))
    # a wrong depth moves the point along its ray
    covariance: np.ndarray = of_mask + DEPTH_ERROR**2 * np.outer(position, position) + POSITION_ERROR**2 * np.eye(3)
    return covariance


def _angle_covariance(values: np.ndarray, axes: np.ndarray, share: float) -> np.ndarray:
    """Of the rotation about the frame's axes. Principal axes i and j of n samples turn into each other by an angle of
    variance l_i l_j / (n (l_i - l_j)^2); the mask's error is that of 1 / share samples. Equal l: nothing is known."""
    variances = np.zeros(3)
    for about, i, j in ((0, 1, 2), (1, 0, 2), (2, 0, 1)):
        # a surface is never known to be thinner than what its position is known to
        a, b = values[i] + POSITION_ERROR**2, values[j] + POSITION_ERROR**2
        gap = (a - b) ** 2
        known = share * a * b
        variances[about] = UNKNOWN_ANGLE * known / (known + UNKNOWN_ANGLE * gap)
    covariance: np.ndarray = axes @ np.diag(variances) @ axes.T
    return covariance
