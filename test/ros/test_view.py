"""`esam view`: what is logged to Rerun, with a stand-in that keeps it, and with Rerun itself where it is installed."""

import subprocess
import sys
import threading
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

pytest.importorskip("rosbags", reason="rosbags is not installed")

from esam_perception.commands.dispatcher import main
from esam_perception.contract import Counts, Messages
from esam_perception.images.drawing import PALETTE
from esam_perception.recordings.bag_messages import bag_types
from esam_perception.recordings.rerun_scene import RerunScene, cloud, layout
from esam_perception.types import Provenance, Timing, Verdict
from test.recordings.bag_maker import START, STEP, STORE, compressed, header, image, write_bag
from test.recordings.replaying import replay

QUERIES = "- {text: the red mug, id: mug, match_threshold: 0.4, reject_threshold: 0.35}\n- a banana\n"


class StandIn:
    """The rerun module: whatever is made of it remembers its name and arguments."""

    class ViewCoordinates:
        RDF = "RDF"

    @property
    def blueprint(self):
        return self

    def __getattr__(self, name):
        def make(*arguments, **named):
            return SimpleNamespace(kind=name, arguments=arguments, **named)

        return make


class Recording:
    """A RecordingStream that keeps what is logged: (stamp, entity, what, static)."""

    def __init__(self):
        self.kept, self.stamp = [], None

    def set_time(self, timeline, *, timestamp):
        assert timeline == "stamp" and timestamp.dtype == "datetime64[ns]"
        self.stamp = int(timestamp.astype(np.int64))

    def log(self, entity, what, static=False):
        self.kept.append((self.stamp, "/".join(entity) if isinstance(entity, list) else entity, what, static))

    def of(self, entity):
        return [what for _, name, what, _ in self.kept if name == entity]


@pytest.fixture
def recording():
    return Recording()


@pytest.fixture
def scene(recording):
    return RerunScene(StandIn(), recording)


def array_of(stamp, *matches):
    messages = Messages(bag_types())
    return messages.match_array(matches, Timing(), messages.header(stamp, "cam"), Provenance("p", ""), Counts(1))


def matched(label, verdict, rows):
    from test.ros.test_messages import make_match

    return make_match(label, verdict, rows, 0.9)


def test_scores_masks_boxes_and_verdicts(scene, recording):
    pytest.importorskip("rclpy", reason="the matches of this test are made beside ROS' own")
    scene.matches(array_of(START, matched(3, Verdict.MATCH, slice(2, 5))), with_heatmap=True)
    scene.matches(array_of(START + STEP, matched(3, Verdict.MATCH, slice(2, 5))))
    scene.matches(array_of(START + 2 * STEP, matched(3, Verdict.NO_MATCH, slice(2, 5))))
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


def test_without_rerun_the_cure_is_one_line(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "rerun", None)
    assert main(["view", "--save", str(tmp_path / "x.rrd")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "pip install rerun-sdk" in line


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--save", "x.rrd", "--connect", "rerun+http://x"], "either"),
        (["--bag", "x"], "esam replay"),
        (["--save", "/nowhere/at/all/x.rrd"], "no such folder"),
        (["--seconds", "0", "--save", "x.rrd"], "more than 0"),
        ([], "no screen"),
    ],
)
def test_wrong_arguments(arguments, said, capsys, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert main(["view", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_a_viewer_that_does_not_answer_is_said(monkeypatch, capsys, tmp_path, clip):
    from esam_perception.commands import view

    class Deaf(Recording):
        def flush(self):
            raise RuntimeError("gRPC has been unable to connect\nfor 12 s")

    bag = write_bag(tmp_path / "in", {"/esam/matches": []})
    monkeypatch.setattr(view, "load_rerun", StandIn)
    monkeypatch.setattr(view, "open_recording", lambda rr, args: Deaf())
    monkeypatch.setattr(view, "show_replay", lambda *arguments: 0)
    assert main(["view", "--replay", str(bag), "--connect", "rerun+http://nowhere:1/proxy"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "unable to connect" in line and "--save" in line


def test_a_replay_becomes_a_recording(tiny_profile, clip, tmp_path, capsys):
    """With Rerun itself: the file is whole and holds the entities."""
    pytest.importorskip("rerun", reason="rerun-sdk is not installed")
    frames = [np.ascontiguousarray(seen.image[::4, ::4]) for seen in clip[:2]]
    bag = write_bag(tmp_path / "drive", {"/front": [image(p, stamp=START + i * STEP) for i, p in enumerate(frames)]})
    (tmp_path / "q.yaml").write_text(QUERIES)
    assert replay(tiny_profile, tmp_path / "q.yaml", tmp_path / "out", bag, "--segment-always") == 0
    file = tmp_path / "run.rrd"
    assert main(["view", "--replay", str(tmp_path / "out/drive_matches"), "--bag", str(bag), "--save", str(file)]) == 0
    assert "2 frames with matches" in capsys.readouterr().out
    code = [sys.executable, "-m", "rerun_cli", "rrd"]
    subprocess.run([*code, "verify", str(file)], check=True, capture_output=True)
    listed = subprocess.run([*code, "print", str(file)], check=True, capture_output=True, text=True).stdout
    for entity in ("/camera/image", "/camera/mask", "/camera/segments", "/heatmap", "/scores/mug", "/verdicts"):
        assert entity in listed, entity


@pytest.mark.parametrize("given", ["nowhere", "no matches"])
def test_what_is_no_replay_is_said(given, tmp_path, clip, capsys, monkeypatch):
    from esam_perception.commands import view

    path = tmp_path / "nowhere"
    if given == "no matches":
        path = write_bag(tmp_path / "in", {"/front": [image(clip[0].image[:8, :8])]})
    monkeypatch.setattr(view, "load_rerun", StandIn)
    monkeypatch.setattr(view, "has_screen", lambda: True)
    monkeypatch.setattr(view, "open_recording", lambda rr, args: Recording())
    assert main(["view", "--replay", str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("esam view: ") and ("no such file" in line or "/esam/matches" in line)


def test_a_running_node_is_watched_over_dds(scene, recording, domain_id, monkeypatch):
    """Real topics in a namespace: what a publisher sends arrives in the scene, under its stamp."""
    rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    from rclpy.context import Context
    from rclpy.node import Node
    from sensor_msgs.msg import Image

    from esam_perception import msg
    from esam_perception.environment.distro import loopback_environment
    from esam_perception.ros.viewer.view_node import watch

    for name, value in loopback_environment().items():
        monkeypatch.setenv(name, value)

    context = Context()
    rclpy.init(context=context, domain_id=domain_id)
    node, done = Node("publisher", context=context), threading.Event()
    publishers = [node.create_publisher(Image, "/front/image_raw", 5), node.create_publisher(msg.MatchArray, "/robot1/esam/matches", 5),
                  node.create_publisher(Image, "/robot1/esam/heatmap", 5)]  # fmt: skip
    from esam_perception.ros.wire.messages import ROS  # it needs ROS

    head = ROS.header(START + 9, "cam")
    sent = [
        ROS.image(np.full((6, 8, 3), 90, np.uint8), "rgb8", head),
        ROS.match_array([matched(3, Verdict.MATCH, slice(2, 5))], Timing(), head, Provenance("p", "")),
        ROS.image(np.full((6, 8), 0.25, np.float32), "32FC1", head),
    ]

    def publish():
        while not done.wait(0.2):
            for publisher, message in zip(publishers, sent):
                publisher.publish(message)

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        frames = 0
        for seconds in (1.0, 2.0, 4.0, 8.0, 16.0):  # discovery may take seconds
            frames += watch(scene, "robot1", "/front/image_raw", seconds, domain_id)
            if frames and recording.of("camera/image") and recording.of("heatmap"):
                break
    finally:
        done.set()
        thread.join()
        node.destroy_node()
        rclpy.try_shutdown(context=context)
    assert frames and recording.of("camera/image") and recording.of("scores/mug")
    np.testing.assert_array_equal(recording.of("heatmap")[-1].arguments[0], np.full((6, 8), 0.25, np.float32))
    assert {stamp for stamp, _, _, static in recording.kept if not static} == {START + 9}
