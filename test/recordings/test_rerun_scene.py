"""What is logged to Rerun, with a stand-in that keeps it."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

pytest.importorskip("rosbags", reason="rosbags is not installed")

from esam_perception.images.drawing import PALETTE
from esam_perception.recordings.bag_messages import bag_types
from esam_perception.recordings.rerun_recording import layout
from esam_perception.recordings.rerun_scene import RerunScene, cloud
from esam_perception.types import Verdict
from test.matches import make_match
from test.recordings.bag_maker import START, STEP, STORE, compressed, header, image
from test.recordings.rerun_stand_in import Recording, StandIn, array_of


@pytest.fixture
def recording():
    return Recording()


@pytest.fixture
def scene(recording):
    return RerunScene(StandIn(), recording)


def test_scores_masks_boxes_and_verdicts(scene, recording):
    scene.matches(array_of(START, make_match(3, Verdict.MATCH, slice(2, 5), 0.9)), with_heatmap=True)
    scene.matches(array_of(START + STEP, make_match(3, Verdict.MATCH, slice(2, 5), 0.9)))
    scene.matches(array_of(START + 2 * STEP, make_match(3, Verdict.NO_MATCH, slice(2, 5), 0.9)))
    assert {stamp for stamp, _, _, static in recording.kept if not static} == {START, START + STEP, START + 2 * STEP}
    style, *scores = recording.of("scores/mug")
    assert style.kind == "SeriesLines" and style.names == ["the red mug"] and style.colors == [PALETTE[0]]
    assert [(s.kind, s.arguments) for s in scores] == [("Scalars", (pytest.approx(0.95),))] * 3
    assert [t.arguments[0] for t in recording.of("verdicts")] == [
        "the red mug: MATCH 0.95",
        "the red mug: NO_MATCH 0.95",
    ]
    first, second, gone = recording.of("camera/mask")
    expected = np.zeros((8, 10), np.uint8)
    expected[2:5] = 3
    for mask in (first, second):
        assert mask.kind == "SegmentationImage"
        np.testing.assert_array_equal(mask.arguments[0], expected)
    assert gone.kind == "Clear"  # what is no longer seen goes away
    (context,) = [what for what in recording.of("camera") if what.kind == "AnnotationContext"]
    assert [(c.id, c.label, c.color) for c in context.arguments[0]] == [(3, "the red mug", PALETTE[0])]
    boxes = recording.of("camera/segments")[0]
    assert (boxes.mins, boxes.sizes, boxes.class_ids) == ([(0, 2)], [(10, 3)], [3])
    (heat,) = recording.of("heatmap")
    np.testing.assert_allclose(heat.arguments[0], np.linspace(0, 1, 16).reshape(4, 4)[::-1], atol=1e-6)
    assert list(heat.depth_range) == [0, 1]
    assert recording.of("targets")[-1].kind == "Clear"


def test_targets(scene, recording):
    types = bag_types()
    array = types.MatchArray(header=types.Header(frame_id="cam"))
    segment = types.Segment(label=7, has_target=True, extent=[0.1, 0.2, 0.3])
    segment.mask.height = segment.mask.width = 1
    segment.mask.data = np.zeros(1, np.uint8)
    pose = segment.target.pose
    pose.position.x, pose.position.y, pose.position.z = 0.4, -0.5, 0.9
    pose.orientation.z, pose.orientation.w = 1.0, 0.0
    array.matches = [types.Match(text="a cup", query_id="a cup", segments=[segment])]
    scene.matches(array)
    (boxes,) = [what for what in recording.of("targets") if getattr(what, "kind", "") == "Boxes3D"]
    assert (boxes.centers, boxes.sizes, boxes.labels) == ([(0.4, -0.5, 0.9)], [[0.1, 0.2, 0.3]], ["a cup"])
    assert boxes.quaternions[0].xyzw == [0, 0, 1, 0]
    assert recording.kept[0][1:] == ("targets", "RDF", True)  # optical frame: x right, y down


@pytest.mark.parametrize("make", [image, compressed], ids=["raw", "compressed"])
def test_images_and_refused_ones(scene, recording, clip, make):
    rgb = np.ascontiguousarray(clip[0].image[::4, ::4])
    scene.image(make(rgb, stamp=START + 5))
    (seen,) = recording.of("camera/image")
    assert recording.kept[-1][0] == START + 5 and seen.media_type == "image/jpeg"
    shown = cv2.imdecode(np.frombuffer(seen.contents, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert shown.shape == rgb.shape and np.abs(shown.astype(int) - rgb).mean() < 6
    for _ in range(2):  # said once
        scene.image(image(rgb, "thermal9"))
    (told,) = recording.of("verdicts")
    assert "unknown_encoding" in told.arguments[0] and told.level == "ERROR"


def camera_info(fx):
    k = np.array([fx, 0, 80, 0, fx, 60, 0, 0, 1.0])
    return SimpleNamespace(header=header(START), width=160, height=120, k=k)


def test_an_image_that_cannot_be_shown_is_said_and_the_next_one_is_shown(scene, recording):
    for pixels in (np.zeros((1, 70_000), np.uint8), np.zeros((2, 3), np.uint8)):  # JPEG has sides of 65500 at most
        scene.image(image(pixels, "mono8"))
    (told,) = recording.of("verdicts")
    assert "too_large" in told.arguments[0] and "70000 x 1" in told.arguments[0]
    assert len(recording.of("camera/image")) == 1


def test_intrinsics_are_logged_when_they_change_and_never_zeros(scene, recording):
    for fx in (0, 100, 100, 120):
        scene.camera_info(camera_info(fx))
    assert [p.image_from_camera[0, 0] for p in recording.of("camera")] == [100, 120]


def point_cloud(padding):
    """Two rows of two points, x y z (float32) and rgb, with a gap and padded rows; one point is NaN."""
    dtype = np.dtype(
        {"names": ["x", "y", "z", "rgb"], "formats": ["<f4"] * 3 + ["<u4"], "offsets": [0, 4, 8, 16], "itemsize": 20}
    )
    points = np.zeros((2, 2), dtype)
    points["x"], points["y"], points["z"] = [[1, 2], [3, 4]], [[5, 6], [7, 8]], [[9, np.nan], [11, 12]]
    points["rgb"] = 0x00102030
    rows = np.pad(points.view(np.uint8).reshape(2, -1), ((0, 0), (0, padding)))
    field = STORE.types["sensor_msgs/msg/PointField"]
    fields = [field(name, offset, 7, 1) for name, offset in zip(("x", "y", "z", "rgb"), (0, 4, 8, 16))]
    return STORE.types["sensor_msgs/msg/PointCloud2"](
        header(START), 2, 2, fields, False, 20, rows.shape[1], rows.ravel(), False
    )


@pytest.mark.parametrize("padding", [0, 12])
def test_points(scene, recording, padding):
    positions, colours = cloud(point_cloud(padding))
    np.testing.assert_array_equal(positions, [[1, 5, 9], [3, 7, 11], [4, 8, 12]])
    np.testing.assert_array_equal(colours, [[16, 32, 48]] * 3)
    scene.points(point_cloud(padding))
    np.testing.assert_array_equal(recording.of("points")[0].arguments[0], positions)


def test_the_layout_names_every_entity():
    def origins(view):
        found = {view.origin, *getattr(view, "contents", [])} if hasattr(view, "origin") else set()
        return found.union(*map(origins, (a for a in view.arguments if hasattr(a, "kind"))))

    assert origins(layout(StandIn())) == {"camera", "heatmap", "/", "scores", "verdicts", "targets/**", "points/**"}
