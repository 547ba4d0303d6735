"""3D targets of shapes whose truth is known by construction."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from esam_perception.images.masks import mask_iou
from esam_perception.targets.measure import (
    NoTarget,
    fit_depth,
    measure_target,
    organized_points,
    transformed,
    union_mask,
    with_targets,
)
from esam_perception.types import Intrinsics, Match, Query, Segment, Verdict

CAMERA = Intrinsics(300.0, 300.0, 159.5, 119.5, 320, 240)
HEIGHT, WIDTH = 240, 320
ROWS, COLUMNS = np.mgrid[:HEIGHT, :WIDTH].astype(float)
RAYS = np.stack([(COLUMNS - CAMERA.cx) / CAMERA.fx, (ROWS - CAMERA.cy) / CAMERA.fy, np.ones((HEIGHT, WIDTH))], 2)
NORMAL_95 = 7.8147  # chi squared, three degrees of freedom


def plane(point, normal) -> np.ndarray:
    """The depth of a plane, where a ray meets it in front of the camera."""
    normal = np.array(normal, float)
    along = RAYS @ normal
    with np.errstate(divide="ignore", invalid="ignore"):
        z = (np.array(point, float) @ normal) / along
    return np.where(np.isfinite(z) & (z > 0), z, np.nan)


def patch(centre, axes, size) -> tuple[np.ndarray, np.ndarray]:
    """(mask, depth) of a flat rectangle: axes [3, 3] with its sides and its normal as columns, size of its sides."""
    depth = plane(centre, axes[:, 2])
    local = (RAYS * depth[..., None] - centre) @ axes
    mask = (np.abs(local[..., 0]) < size[0] / 2) & (np.abs(local[..., 1]) < size[1] / 2)
    return mask, np.where(mask, depth, np.nan).astype(np.float32)


def sphere(centre, radius) -> tuple[np.ndarray, np.ndarray]:
    b = RAYS @ np.array(centre, float)
    a = (RAYS**2).sum(2)
    disc = b**2 - a * (np.dot(centre, centre) - radius**2)
    mask = disc > 0
    z = (b - np.sqrt(np.maximum(disc, 0))) / a
    return mask, np.where(mask, z, np.nan).astype(np.float32)


def turn(about, angle) -> np.ndarray:
    about = np.array(about, float) / np.linalg.norm(about)
    k = np.array([[0, -about[2], about[1]], [about[2], 0, -about[0]], [-about[1], about[0], 0]])
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k


def matrix_of(quaternion) -> np.ndarray:
    x, y, z, w = quaternion
    return np.array(
        [[1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
         [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
         [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)]]
    )  # fmt: skip


def check_sane(target) -> None:
    """What holds of every target."""
    np.testing.assert_allclose(target.rotation.T @ target.rotation, np.eye(3), atol=1e-9)
    assert np.linalg.det(target.rotation) == pytest.approx(1)
    np.testing.assert_allclose(matrix_of(target.quaternion), target.rotation, atol=1e-9)
    assert np.linalg.norm(target.quaternion) == pytest.approx(1) and target.quaternion[3] >= 0
    covariance = target.covariance
    assert covariance.shape == (6, 6) and np.isfinite(covariance).all()
    np.testing.assert_allclose(covariance, covariance.T, atol=1e-12 * abs(covariance).max())
    assert np.linalg.eigvalsh(covariance).min() > 0
    assert np.isfinite(target.position).all() and (target.extent >= 0).all()
    # the thin axis points to the camera, the long one to the right
    assert target.rotation[:, 2] @ target.position <= 1e-6 * np.linalg.norm(target.position)
    assert target.rotation[0, 0] >= -1e-6


def squared_distance(target, truth) -> float:
    error = target.position - truth
    return float(error @ np.linalg.solve(target.covariance[:3, :3], error))


def test_a_flat_patch_facing_the_camera():
    mask, depth = patch(np.array([0.1, -0.05, 1.0]), np.eye(3), (0.3, 0.12))
    target = measure_target(mask, depth, CAMERA)
    check_sane(target)
    np.testing.assert_allclose(target.position, [0.1, -0.05, 1.0], atol=0.003)
    np.testing.assert_allclose(target.box_centre, [0.1, -0.05, 1.0], atol=0.003)
    np.testing.assert_allclose(target.extent, [0.3, 0.12, 0], atol=0.01)
    np.testing.assert_allclose(target.rotation, [[1, 0, 0], [0, -1, 0], [0, 0, -1]], atol=1e-6)
    assert target.valid_pixels == np.count_nonzero(mask)


@settings(deadline=None, max_examples=40)
@given(st.floats(-np.pi, np.pi), st.floats(-0.9, 0.9), st.floats(-0.15, 0.15), st.floats(0.5, 2.0))
def test_a_slanted_patch_anywhere(roll, tilt, x, z):
    axes = turn([0, 1, 0], tilt) @ turn([0, 0, 1], roll)
    centre = np.array([x, 0.02, z])
    mask, depth = patch(centre, axes, (0.2 * z, 0.08 * z))
    target = measure_target(mask, depth, CAMERA)
    check_sane(target)
    visible = (RAYS * depth[..., None])[mask].mean(0)
    np.testing.assert_allclose(target.position, visible, atol=0.003 * z)
    # the axes are the patch's, up to their signs
    for i in range(3):
        assert abs(target.rotation[:, i] @ axes[:, i]) > 0.99
    np.testing.assert_allclose(target.extent, [0.2 * z, 0.08 * z, 0], atol=0.012 * z)


def test_a_sphere_is_measured_by_what_is_seen_of_it():
    mask, depth = sphere([0.05, 0.0, 0.8], 0.06)
    target = measure_target(mask, depth, CAMERA)
    check_sane(target)
    visible = (RAYS * depth[..., None])[mask].mean(0)
    np.testing.assert_allclose(target.position, visible, atol=0.002)
    assert target.position[2] < 0.79  # in front of its centre
    np.testing.assert_allclose(target.extent[:2], 0.12, atol=0.012)
    # round: nothing is known of the rotation about the line of sight, and much of the others
    axis = target.rotation[:, 2]
    assert axis @ target.covariance[3:, 3:] @ axis > 1.0
    side = target.rotation[:, 0]
    assert side @ target.covariance[3:, 3:] @ side < 0.3


def test_a_box_seen_at_its_corner():
    # two faces that meet at an edge which points to the camera
    axes = turn([0, 1, 0], np.pi / 4)
    edge = np.array([0, 0, 0.7])
    faces = [plane(edge, axes[:, 0]), plane(edge, axes[:, 2])]
    depth = np.fmax(*faces)  # convex: the farther plane is the face
    points = (RAYS * depth[..., None] - edge) @ axes
    mask = (np.abs(points).max(2) < 0.1) & (np.abs(points[..., 1]) < 0.05)
    assert mask.sum() > 1500
    target = measure_target(mask, depth, CAMERA)
    check_sane(target)
    np.testing.assert_allclose(target.position, (RAYS * depth[..., None])[mask].mean(0), atol=0.003)
    np.testing.assert_allclose(target.position[:2], 0, atol=0.003)
    np.testing.assert_allclose(target.rotation[:, 0], [1, 0, 0], atol=0.01)
    np.testing.assert_allclose(target.extent, [0.2 / np.sqrt(2), 0.1, 0.1 / np.sqrt(2)], rtol=0.1)


@pytest.mark.parametrize("grown", [2, 5, 9])
def test_background_that_leaks_at_the_edges_does_not_count(grown):
    import cv2

    mask, thing = sphere([0.02, 0.01, 0.8], 0.08)
    depth = np.where(mask, thing, np.float32(1.6))
    leaking = cv2.dilate(mask.astype(np.uint8), np.ones((2 * grown + 1, 2 * grown + 1), np.uint8)).astype(bool)
    target = measure_target(leaking, depth, CAMERA)
    truth = (RAYS * thing[..., None])[mask].mean(0)
    assert np.linalg.norm((RAYS * depth[..., None])[leaking].mean(0) - truth) > 0.02  # what naive means would say
    np.testing.assert_allclose(target.position, truth, atol=0.002)
    assert target.extent.max() < 0.17


def test_an_occluder_that_cuts_the_thing_in_two():
    mask, depth = patch(np.array([0, 0, 1.0]), np.eye(3), (0.4, 0.1))
    bar = np.abs(COLUMNS - 170) < 6
    depth = np.where(bar, np.float32(0.6), depth)
    target = measure_target(mask, depth, CAMERA)  # the mask leaks over the bar
    assert target.position[2] == pytest.approx(1.0, abs=0.002)
    assert target.extent[0] == pytest.approx(0.4, abs=0.015)  # both ends


def test_holes_do_not_pull_the_centroid():
    mask, depth = patch(np.array([0, 0, 1.0]), turn([0, 1, 0], 0.4), (0.3, 0.2))
    whole = measure_target(mask, depth, CAMERA)
    holed = depth.copy()
    holed[(COLUMNS > 165) & (ROWS < 125)] = 0  # a quarter of it
    holed[100:104] = np.inf
    target = measure_target(mask, holed, CAMERA)
    check_sane(target)
    assert target.valid_pixels < 0.8 * whole.valid_pixels
    np.testing.assert_allclose(target.position, whole.position, atol=0.012)
    points = (RAYS * holed[..., None])[mask & np.isfinite(holed) & (holed > 0)]
    assert np.linalg.norm(points.mean(0) - whole.position) > 0.018  # what naive means would say
    # less is known
    assert np.trace(target.covariance[:3, :3]) > np.trace(whole.covariance[:3, :3])
    assert squared_distance(target, whole.position) < NORMAL_95


def test_the_covariance_grows_as_the_mask_gets_less_sure():
    mask, depth = sphere([0, 0, 0.8], 0.06)
    sizes = [
        np.trace(measure_target(mask, depth, CAMERA, predicted_iou=iou).covariance[:3, :3]) for iou in (1, 0.8, 0.5)
    ]
    assert sizes == sorted(sizes) and sizes[2] > 1.5 * sizes[0]
    sure = np.where(mask, 0.99, 0.01).astype(np.float32)
    unsure = np.where(mask, 0.6, 0.4).astype(np.float32)
    a, b = (np.trace(measure_target(mask, depth, CAMERA, p).covariance[:3, :3]) for p in (sure, unsure))
    assert a < b


def test_the_ellipsoid_holds_the_truth_under_noise_and_bad_masks():
    """Parts of the mask are missing, others leak; the depth is noisy: the share inside is at least 90 %."""
    import cv2

    rng = np.random.default_rng(0)
    inside = []
    for _ in range(150):
        centre = [rng.uniform(-0.2, 0.2), rng.uniform(-0.15, 0.15), rng.uniform(0.6, 1.4)]
        mask, thing = sphere(centre, rng.uniform(0.04, 0.09))
        truth = (RAYS * thing[..., None])[mask].mean(0)
        table = plane([0, 0.15, 1.4], [0, -0.6, -0.8])
        depth = np.where(mask, thing, table) + rng.normal(0, 0.002, mask.shape)
        shift = rng.integers(-4, 5, 2)
        bad = np.roll(mask, shift, (0, 1))
        cut = rng.uniform(-1, 1, 2) @ np.stack([COLUMNS - COLUMNS[mask].mean(), ROWS - ROWS[mask].mean()]).reshape(
            2, -1
        )
        bad &= (cut < np.quantile(cut[mask.ravel()], 0.9)).reshape(mask.shape)
        bad = cv2.dilate(bad.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
        iou = mask_iou(bad, mask)
        inside.append(squared_distance(measure_target(bad, depth, CAMERA, predicted_iou=iou), truth) < NORMAL_95)
    assert np.mean(inside) >= 0.9


@settings(deadline=None, max_examples=60)
@given(st.data(), st.integers(1, 24), st.integers(1, 24), st.sampled_from([1, 2, 3]), st.booleans())
def test_any_depth_gives_a_target_or_a_reason(data, height, width, factor, larger):
    mask = data.draw(hnp.arrays(bool, (height * factor, width * factor)))
    shape = (mask.shape[0] * factor, mask.shape[1] * factor) if larger else (height, width)
    odd = st.sampled_from([0.0, np.nan, np.inf, -np.inf, -1.0, 1e30, 0.5, 0.501, 0.7, 1.0, 65.0])
    depth = data.draw(hnp.arrays(np.float32, shape, elements=odd))
    probability = data.draw(st.none() | hnp.arrays(np.float32, mask.shape, elements=st.floats(0, 1, width=32)))
    predicted_iou = data.draw(st.sampled_from([np.nan, 0.0, 0.5, 1.0, 1.2]))
    camera = Intrinsics(20.0, 21.0, 5.0, 4.0, mask.shape[1], mask.shape[0])
    fitted = fit_depth(depth, *mask.shape)
    assert fitted.shape == mask.shape and fitted.dtype == np.float32
    known = fitted[np.isfinite(fitted)]
    assert np.isin(known, depth).all() and (known > 0).all() and (known < 1000).all()
    points = organized_points(mask, fitted, camera)
    assert points.shape == (*mask.shape, 3) and points.dtype == np.float32
    np.testing.assert_array_equal(np.isfinite(points[..., 2]), mask & np.isfinite(fitted))
    np.testing.assert_array_equal(np.isfinite(points).all(2), np.isfinite(points).any(2))
    valid = int((mask & np.isfinite(fitted)).sum())
    try:
        target = measure_target(mask, depth, camera, probability, predicted_iou, min_pixels=5)
    except NoTarget as error:
        assert error.reason == "too_few_valid_pixels" and str(error)
        return
    assert valid >= 5 and target.valid_pixels == valid
    check_sane(target)


def test_depth_of_other_sizes():
    mask, depth = patch(np.array([0.05, 0, 1.0]), turn([0, 1, 0], 0.5), (0.3, 0.2))
    whole = measure_target(mask, depth, CAMERA)
    half = measure_target(mask, depth[::2, ::2], CAMERA)
    np.testing.assert_allclose(half.position, whole.position, atol=0.004)
    double = depth.repeat(2, 0).repeat(2, 1)
    double[::2, ::2] = np.nan  # one of four is lost
    np.testing.assert_allclose(measure_target(mask, double, CAMERA).position, whole.position, atol=1e-6)
    assert fit_depth(double, HEIGHT, WIDTH)[mask].tolist() == depth[mask].tolist()
    for wrong in ((HEIGHT, WIDTH // 2), (HEIGHT // 2, WIDTH), (100, 100), (HEIGHT - 1, WIDTH), (0, 0), (0, WIDTH)):
        with pytest.raises(NoTarget, match="no whole factor") as refused:
            measure_target(mask, np.ones(wrong, np.float32), CAMERA)
        assert refused.value.reason == "size_mismatch"


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf, -1.0, 1e9])
def test_depth_that_is_invalid_everywhere(value):
    mask, _ = patch(np.array([0, 0, 1.0]), np.eye(3), (0.3, 0.2))
    with pytest.raises(NoTarget) as refused:
        measure_target(mask, np.full((HEIGHT, WIDTH), value, np.float32), CAMERA)
    assert refused.value.reason == "too_few_valid_pixels"
    assert np.isnan(organized_points(mask, np.full((HEIGHT, WIDTH), value, np.float32), CAMERA)).all()


def test_what_is_no_mask_and_no_depth():
    mask, depth = patch(np.array([0, 0, 1.0]), np.eye(3), (0.3, 0.2))
    for arguments in (
        (mask.astype(np.uint8), depth), (mask[None], depth), (mask, depth[None]), (mask, np.ones((HEIGHT, WIDTH), np.uint16)),
        (mask, depth, CAMERA, np.zeros((3, 3))),
    ):  # fmt: skip
        with pytest.raises(ValueError) as refused:
            measure_target(*arguments[:2], CAMERA, *arguments[3:])
        assert not isinstance(refused.value, NoTarget)
    with pytest.raises(NoTarget):
        measure_target(np.zeros_like(mask), depth, CAMERA)


def test_a_huge_mask_is_thinned_out_and_says_the_same():
    camera = Intrinsics(1500.0, 1500.0, 959.5, 539.5, 1920, 1080)
    rows, columns = np.mgrid[:1080, :1920]
    mask = (np.abs(rows - 500) < 400) & (np.abs(columns - 1000) < 700)
    depth = (1 + 0.0002 * columns).astype(np.float32)
    target = measure_target(mask, depth, camera)
    check_sane(target)
    np.testing.assert_allclose(target.position, organized_points(mask, depth, camera)[mask].mean(0), atol=0.003)
    assert target.valid_pixels == mask.sum()


@given(st.floats(-3, 3), st.floats(-1, 1), st.floats(-2, 2))
@settings(deadline=None, max_examples=20)
def test_a_target_in_another_frame(angle, x, z):
    mask, depth = patch(np.array([0.05, 0, 1.0]), turn([0, 1, 0], 0.5), (0.3, 0.2))
    target = measure_target(mask, depth, CAMERA)
    rotation, translation = turn([1, 2, z], angle), np.array([x, 0.3, z])
    moved = transformed(target, rotation, translation)
    np.testing.assert_allclose(moved.position, rotation @ target.position + translation)
    np.testing.assert_allclose(moved.extent, target.extent)
    # as measured from points that were moved
    np.testing.assert_allclose(
        np.sort(np.linalg.eigvalsh(moved.covariance)), np.sort(np.linalg.eigvalsh(target.covariance)), atol=1e-9
    )
    np.testing.assert_allclose(moved.covariance[:3, :3], rotation @ target.covariance[:3, :3] @ rotation.T, atol=1e-12)
    there = rotation.T @ (moved.box_centre - translation)
    np.testing.assert_allclose(there, target.box_centre, atol=1e-12)


def make_match(*masks) -> Match:
    segments = tuple(
        Segment(i + 1, mask, mask.astype(np.float32), 0.9, (0, 0, 1, 1), np.zeros((1, 2), np.float32))
        for i, mask in enumerate(masks)
    )
    maps = np.zeros((2, 2), np.float32)
    return Match(Query("a"), Verdict.MATCH, (0.0, 1.0), 0.7, 0.1, float("nan"), maps, maps, (0.0, 0.0), segments)


def test_matches_get_targets_and_reasons_are_counted():
    seen, depth = patch(np.array([0, 0, 1.0]), np.eye(3), (0.3, 0.2))
    elsewhere = np.zeros_like(seen)
    elsewhere[:20, :20] = True
    matches = (make_match(seen, elsewhere), make_match(elsewhere))
    done, reasons = with_targets(matches, depth, CAMERA)
    assert reasons == {"too_few_valid_pixels": 2}
    assert [[s.target is not None for s in match.segments] for match in done] == [[True, False], [False]]
    assert done[0].segments[0].target.position[2] == pytest.approx(1.0)
    assert matches[0].segments[0].target is None  # nothing was changed in place
    done, reasons = with_targets(matches, depth[:7, :7], CAMERA)
    assert reasons == {"size_mismatch": 3} and not any(s.target for match in done for s in match.segments)
    assert with_targets((), depth, CAMERA) == ((), {})
    union = union_mask(matches[0].segments, HEIGHT, WIDTH)
    np.testing.assert_array_equal(union, seen | elsewhere)
