"""`esam replay`: values against the pipeline itself, the same bytes twice, and frames that cannot be taken."""

import csv
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch

pytest.importorskip("rosbags", reason="rosbags is not installed")

from rosbags.rosbag2 import StoragePlugin

from esam_perception.commands.dispatcher import main
from esam_perception.pipeline.pipeline import Pipeline
from esam_perception.types import Verdict
from test.conftest import ROOT
from test.recordings.bag_maker import IMAGE, LATE, START, STEP, compressed, image, write_bag
from test.recordings.replaying import QUERIES, files_of, pixels_of, read, replay


def test_the_values_are_the_pipelines(tiny_profile, queries, bag, frames, tmp_path, capsys):
    assert replay(tiny_profile, queries, tmp_path, bag, "--segment-always", "--images") == 0
    written = read(tmp_path / "drive_matches")
    pipeline = Pipeline.from_profile(str(tiny_profile), "cpu")
    arrays = [(time, message) for topic, time, message in written if topic == "/esam/matches"]
    assert [time for time, _ in arrays] == [START + i * STEP + LATE for i in range(4)]
    segments = 0
    for i, ((_, array), pixels) in enumerate(zip(arrays, frames, strict=True)):
        stamp = array.header.stamp
        assert stamp.sec * 10**9 + stamp.nanosec == START + i * STEP
        assert array.header.frame_id == "camera_optical_frame"
        assert (array.profile, array.weights_sha256) == ("tiny", pipeline.provenance.weights_sha256)
        assert (array.frames_processed, array.frames_dropped, array.frames_refused) == (i + 1, 0, 0)
        assert all(getattr(array.timing, name) == 0 for name in ("total", "preprocess", "age_at_start", "publish"))
        expected = pipeline.locate(pixels, QUERIES, segment_always=True)
        for match, told in zip(expected, array.matches, strict=True):
            assert (told.query_id, told.text, told.verdict) == (match.query.key, match.query.text, int(match.verdict))
            np.testing.assert_allclose(told.itm_logits, match.itm_logits, rtol=1e-6)
            assert told.itm_score == pytest.approx(match.itm_score, rel=1e-6)
            assert told.itc_similarity == pytest.approx(match.itc_similarity, rel=1e-5)
            assert told.confidence == pytest.approx(match.confidence, rel=1e-6, nan_ok=True)
            np.testing.assert_array_equal(pixels_of(told.heatmap, np.float32), match.heatmap)
            np.testing.assert_array_equal(pixels_of(told.gradcam, np.float32), match.gradcam)
            assert told.heatmap.header == array.header
            for segment, seen in zip(match.segments, told.segments, strict=True):
                segments += 1
                np.testing.assert_array_equal(pixels_of(seen.mask), segment.mask * np.uint8(255))
                box = (seen.box.x_offset, seen.box.y_offset, seen.box.width, seen.box.height)
                assert (seen.label, box) == (segment.label, segment.box)
                assert seen.predicted_iou == pytest.approx(segment.predicted_iou, rel=1e-6)
                np.testing.assert_allclose([(p.x, p.y) for p in seen.prompt_points], segment.prompt_points, rtol=1e-6)
                assert not seen.has_target and seen.target.pose.orientation.w == 1
    assert segments
    (active,) = [message for topic, _, message in written if topic == "/esam/active_queries"]
    assert [(q.id, q.text) for q in active.queries] == [("mug", "the red mug"), ("a banana", "a banana")]
    assert active.queries[0].match_threshold == pytest.approx(0.4)
    masks = [message for topic, _, message in written if topic == "/esam/mask"]
    assert len(masks) == 4 and {m.encoding for m in masks} == {"mono8"}
    labels = {segment.label for _, array in arrays for match in array.matches for segment in match.segments}
    assert set(np.unique(pixels_of(masks[0]))) <= labels | {0}
    heatmap = next(message for topic, _, message in written if topic == "/esam/heatmap")
    assert pixels_of(heatmap, np.float32).shape == frames[0].shape[:2]


def test_the_summary_counts_what_the_messages_say(tiny_profile, queries, bag, tmp_path, capsys):
    assert replay(tiny_profile, queries, tmp_path, bag) == 0
    arrays = [m for topic, _, m in read(tmp_path / "drive_matches") if topic == "/esam/matches"]
    rows = list(csv.DictReader((tmp_path / "summary.csv").read_text().splitlines()))
    assert [row["query"] for row in rows] == ["mug", "a banana"]
    for i, row in enumerate(rows):
        matches = [(array.header.stamp, array.matches[i]) for array in arrays]
        for verdict in Verdict:
            assert int(row[verdict.name]) == sum(match.verdict == verdict for _, match in matches)
        assert row["frames"] == "4" and row["bag"] == "drive"
        assert float(row["mean_score"]) == pytest.approx(np.mean([match.itm_score for _, match in matches]), abs=1e-6)
        hits = [f"{stamp.sec}.{stamp.nanosec:09d}" for stamp, match in matches if match.verdict == Verdict.MATCH]
        assert (row["first_match"], row["last_match"]) == ((hits[0], hits[-1]) if hits else ("", ""))
    assert any(row["first_match"] for row in rows)
    table = (tmp_path / "summary.md").read_text()
    assert "| drive | mug | the red mug | 4 |" in table and "4 of 4 frames of /camera/image_raw" in table
    assert table in capsys.readouterr().out


@pytest.mark.parametrize(
    "jobs", [(), pytest.param(("--jobs", 2), marks=pytest.mark.long)], ids=["alone", "in_processes"]
)
def test_the_same_bag_gives_the_same_bytes(jobs, tiny_profile, queries, bag, frames, tmp_path):
    other = write_bag(
        tmp_path / "other.d" / "drive", {"/front": [compressed(p) for p in frames[:2]]}, StoragePlugin.SQLITE3
    )
    for name, arguments in {"one": (), "two": jobs}.items():
        assert replay(tiny_profile, queries, tmp_path / name, bag, other, *arguments) == 0
    one = files_of(tmp_path / "one")
    assert {name.split("/")[0] for name in one} == {"drive_matches", "drive_2_matches", "summary.csv", "summary.md"}
    assert one == files_of(tmp_path / "two")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_what_stands_in_for_auto_is_said_once(queries, bag, frames, tmp_path, monkeypatch, capsys):
    """By the pipeline as it is loaded; where that is in another process, whose log nobody sees, by the command."""
    from esam_perception.commands import replay as command
    from esam_perception.recordings.replay import _load

    monkeypatch.setenv("ESAM_HOME", str(tmp_path))
    other = write_bag(tmp_path / "other", {"/front": [image(frames[0])]})
    fixed = ["--queries", str(queries), "--device", "cpu", "--every", "4"]
    _load.cache_clear()
    assert main(["replay", str(bag), str(other), *fixed, "--output", str(tmp_path / "one")]) == 0
    alone = capsys.readouterr().err
    monkeypatch.setattr(command, "_replay_all", lambda args, jobs, frames: [])
    assert main(["replay", str(bag), str(other), *fixed, "--output", str(tmp_path / "two"), "--jobs", "2"]) == 0
    for said in (alone, capsys.readouterr().err):
        assert said.count("esam replay: model 'auto': blip_base is not fetched") == said.count("blip_base is not") == 1


def as_bgr(pixels):
    return image(np.ascontiguousarray(pixels[..., ::-1]), "bgr8")


@pytest.mark.parametrize("make", [image, as_bgr, compressed], ids=["rgb8", "bgr8", "compressed"])
def test_encodings_go_through_the_nodes_code(tiny_profile, queries, frames, tmp_path, make, monkeypatch):
    """The same picture in another encoding gives the same matches, and it is encodings.py that reads it."""
    from esam_perception.images import encodings
    from esam_perception.recordings import replay as replay_bag

    read_by = []
    monkeypatch.setattr(
        replay_bag, "message_to_rgb", lambda m: read_by.append(encodings.message_to_rgb(m)) or read_by[-1]
    )
    bag = write_bag(tmp_path / "in", {"/front": [make(frames[0])]})
    assert replay(tiny_profile, queries, tmp_path / "out", bag) == 0
    np.testing.assert_array_equal(read_by[0], frames[0])
    (array,) = [m for topic, _, m in read(tmp_path / "out" / "in_matches") if topic == "/esam/matches"]
    expected = Pipeline.from_profile(str(tiny_profile), "cpu").locate(frames[0], QUERIES)
    np.testing.assert_allclose([m.itm_score for m in array.matches], [m.itm_score for m in expected], rtol=1e-6)


def test_the_node_reads_images_with_the_same_function():
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    from esam_perception.images import encodings
    from esam_perception.recordings import replay as replay_bag
    from esam_perception.ros.node import activation

    assert activation.message_to_rgb is replay_bag.message_to_rgb is encodings.message_to_rgb


def test_no_ros_is_imported(tiny_profile, queries, bag, tmp_path):
    code = (
        "import sys; from esam_perception.commands.dispatcher import main; code = main(sys.argv[1:]);"
        "print('ROS:', sorted(m for m in sys.modules if m.split('.')[0] in ('rclpy', 'sensor_msgs', 'std_msgs')));"
        "sys.exit(code)"
    )
    arguments = ["replay", bag, "--queries", queries, "--model", tiny_profile, "--output", tmp_path / "out"]
    answer = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, cwd=ROOT
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.splitlines()[-1] == "ROS: []"
    assert "frame" in answer.stderr  # the bar


def test_every_nth_frame(tiny_profile, queries, bag, tmp_path):
    assert replay(tiny_profile, queries, tmp_path / "out", bag, "--every", 3) == 0
    arrays = [m for topic, _, m in read(tmp_path / "out" / "drive_matches") if topic == "/esam/matches"]
    assert [a.header.stamp.nanosec for a in arrays] == [0, 3 * STEP]
    assert [(a.frames_processed, a.frames_dropped) for a in arrays] == [(1, 0), (2, 2)]
    assert "2 left out by --every" in (tmp_path / "out" / "summary.md").read_text()


def test_a_refused_frame_is_counted_and_the_rest_goes_on(tiny_profile, queries, frames, tmp_path, capsys):
    wrong = image(frames[1], "thermal9")
    short = image(frames[1])
    short.data = short.data[:-10]
    messages = [image(frames[0]), wrong, short, wrong, image(frames[2])]
    bag = write_bag(tmp_path / "in", {"/front": messages})
    assert replay(tiny_profile, queries, tmp_path / "out", bag) == 0
    arrays = [m for topic, _, m in read(tmp_path / "out" / "in_matches") if topic == "/esam/matches"]
    assert [(a.frames_processed, a.frames_refused) for a in arrays] == [(1, 0), (2, 3)]
    told = capsys.readouterr().err.splitlines()[-1]
    assert "2 of 5 frames" in told and "1 refused: bad_length" in told
    assert "2 refused: unknown_encoding (the first: encoding 'thermal9'" in told


def test_a_message_that_is_no_image_is_refused_too(tiny_profile, queries, frames, tmp_path):
    from rosbags.rosbag2 import Writer

    from test.recordings.bag_maker import STORE

    with Writer(tmp_path / "in", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection("/front", IMAGE, typestore=STORE)
        good = bytes(STORE.serialize_cdr(image(frames[0]), IMAGE))
        for i, raw in enumerate([good[:40], good]):
            writer.write(connection, START + i, raw)
    assert replay(tiny_profile, queries, tmp_path / "out", tmp_path / "in") == 0
    assert "1 refused: bad_message" in (tmp_path / "out" / "summary.md").read_text()


def bomb(stamp=START):
    """A small PNG whose header claims 60000 x 60000."""
    from test.images.test_compressed import lying

    message = compressed(np.zeros((4, 4, 3), np.uint8), stamp)
    message.data = np.frombuffer(lying(".png", 60000, 60000), np.uint8)
    return message


def test_a_png_that_claims_to_be_huge_costs_its_frame_alone(tiny_profile, queries, frames, tmp_path):
    bag = write_bag(tmp_path / "in", {"/front": [compressed(frames[0]), bomb(), compressed(frames[1])]})
    assert replay(tiny_profile, queries, tmp_path / "out", bag) == 0
    arrays = [m for topic, _, m in read(tmp_path / "out" / "in_matches") if topic == "/esam/matches"]
    assert [(a.frames_processed, a.frames_refused) for a in arrays] == [(1, 0), (2, 1)]
    assert "1 refused: bad_compression (the first: " in (tmp_path / "out" / "summary.md").read_text()


def test_a_bag_of_which_nothing_can_be_taken_has_failed(tiny_profile, queries, tmp_path, capsys):
    bag = write_bag(tmp_path / "in", {"/front": [bomb(), bomb(START + STEP)]})
    assert replay(tiny_profile, queries, tmp_path / "out", bag) == 1
    told = capsys.readouterr().err.splitlines()[-1]
    assert "FAILED" in told and "none of its 2 images" in told and "2 times bad_compression" in told
    assert not (tmp_path / "out" / "in_matches").exists()


@pytest.fixture
def failing(monkeypatch):
    """A function that makes the pipeline raise for every second frame."""

    def fail(error):
        answer, asked = Pipeline.locate_timed, []

        def locate_timed(self, *given, **named):
            asked.append(1)
            if len(asked) % 2 == 0:
                raise error
            return answer(self, *given, **named)

        monkeypatch.setattr(Pipeline, "locate_timed", locate_timed)

    return fail


@pytest.mark.parametrize(
    "error", [ValueError("odd\nframe"), cv2.error("odd frame"), RuntimeError("shape"), KeyError("x")]
)
def test_a_frame_that_cannot_be_answered_is_counted_and_the_rest_goes_on(
    error, failing, tiny_profile, queries, bag, tmp_path
):
    failing(error)
    assert replay(tiny_profile, queries, tmp_path / "out", bag) == 0
    arrays = [m for topic, _, m in read(tmp_path / "out" / "drive_matches") if topic == "/esam/matches"]
    assert [(a.frames_processed, a.frames_refused) for a in arrays] == [(1, 0), (2, 1)]
    summary = (tmp_path / "out" / "summary.md").read_text()
    assert f"2 refused: processing_failed (the first: {type(error).__name__}: " in summary


@pytest.mark.parametrize(
    "error",
    [MemoryError(), torch.cuda.OutOfMemoryError("CUDA out of memory."), RuntimeError("CUDA error: device-side assert"),
     RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")],
    ids=["host", "gpu", "cuda", "cpu"],
)  # fmt: skip
def test_what_is_the_devices_fault_ends_the_bag_and_leaves_no_output(
    error, failing, tiny_profile, queries, bag, tmp_path, capsys
):
    """The frames are not to blame, and the same bag must give the same bytes."""
    failing(error)
    assert replay(tiny_profile, queries, tmp_path / "out", bag) == 1
    told = capsys.readouterr().err.splitlines()[-1]
    assert "drive: FAILED: " in told and (str(error) or "MemoryError") in told
    assert not (tmp_path / "out" / "drive_matches").exists()


def test_a_query_that_is_wrong_in_every_frame_is_said_once(tiny_profile, bag, tmp_path, capsys, monkeypatch):
    """Its reject threshold lies above the profile's match threshold: known before a frame is read."""
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("- {text: the red mug, reject_threshold: 0.99}\n")
    monkeypatch.setattr(Pipeline, "locate_timed", None)
    assert replay(tiny_profile, wrong, tmp_path / "out", bag) == 1
    assert "drive: FAILED: " in (told := capsys.readouterr().err.splitlines()[-1]) and "threshold" in told
