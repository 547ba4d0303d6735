"""`esam replay`: values against the pipeline itself, the same bytes twice, and what is wrong said in one line."""

import csv
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="rosbags is not installed")

from rosbags.rosbag2 import StoragePlugin

from esam_perception.commands.dispatcher import main
from esam_perception.commands.replay import ReplayError, mapper
from esam_perception.pipeline.pipeline import Pipeline
from esam_perception.recordings.bag_messages import bag_types
from esam_perception.recordings.bags import BagError, image_connections, open_bag, raw_messages
from esam_perception.types import Query, Verdict
from test.conftest import ROOT
from test.recordings.bag_maker import IMAGE, LATE, START, STEP, compressed, image, write_bag

QUERIES = [Query("the red mug", "mug", 0.4, 0.35), Query("a banana", "", 0.0, 0.0)]
QUERY_FILE = """queries:
  - {text: the red mug, id: mug, match_threshold: 0.4, reject_threshold: 0.35}
  - a banana
"""


@pytest.fixture(scope="module")
def frames(clip):
    """Four frames of the clip, made small: what is tested is not the networks."""
    return [np.ascontiguousarray(seen.image[::4, ::4]) for seen in clip[:4]]


@pytest.fixture(scope="module")
def queries(tmp_path_factory):
    path = tmp_path_factory.mktemp("queries") / "queries.yaml"
    path.write_text(QUERY_FILE)
    return path


@pytest.fixture(scope="module")
def bag(tmp_path_factory, frames):
    messages = [image(pixels, stamp=START + i * STEP, padding=5 * (i % 2)) for i, pixels in enumerate(frames)]
    return write_bag(tmp_path_factory.mktemp("bags") / "drive", {"/camera/image_raw": messages})


def replay(tiny_profile, queries, output, *arguments):
    fixed = ["--queries", queries, "--model", tiny_profile, "--device", "cpu", "--output", output]
    return main(["replay", *map(str, [*arguments, *fixed])])


def read(folder):
    """[(topic, time, message)] of a bag, with the types that are written in it."""
    from rosbags.highlevel import AnyReader

    with AnyReader([folder]) as reader:
        return [(c.topic, time, reader.deserialize(raw, c.msgtype)) for c, time, raw in reader.messages()]


def pixels_of(message, dtype=np.uint8):
    return np.frombuffer(message.data, dtype).reshape(message.height, message.width)


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


def files_of(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


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


def end_this_process(code):
    os._exit(code)


@pytest.mark.long
def test_a_killed_process_is_said():
    with pytest.raises(ReplayError, match="fewer --jobs"), mapper(2, None) as mapped:
        list(mapped(end_this_process, [9]))


def test_a_cluster_gives_the_same_bytes(tiny_profile, queries, bag, frames, tmp_path, monkeypatch):
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # it would leave a token in the home folder
    other = write_bag(tmp_path / "other", {"/front": [image(p) for p in frames[:2]]})
    assert replay(tiny_profile, queries, tmp_path / "alone", bag, other) == 0
    assert replay(tiny_profile, queries, tmp_path / "ray", bag, other, "--ray", "local", "--jobs", 2) == 0
    assert not ray.is_initialized()
    assert files_of(tmp_path / "alone") == files_of(tmp_path / "ray")


def test_without_ray_the_cure_is_named(tiny_profile, queries, bag, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert replay(tiny_profile, queries, tmp_path / "out", bag, "--ray", "auto") == 2
    assert "pip install ray" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize("storage", list(StoragePlugin), ids=lambda s: s.name)
def test_files_and_folders_of_both_storages(tiny_profile, queries, frames, tmp_path, storage):
    folder = write_bag(tmp_path / "in", {"/front": [image(frames[0])]}, storage)
    file = next(path for path in folder.iterdir() if path.suffix in (".mcap", ".db3"))
    for name, given in {"folder": folder, "file": file}.items():
        assert replay(tiny_profile, queries, tmp_path / name, given) == 0
    assert files_of(tmp_path / "folder")["summary.csv"].replace(b"in,", b"") == files_of(tmp_path / "file")[
        "summary.csv"
    ].replace(f"{file.name},".encode(), b"")


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
    from esam_perception.ros.node import node

    assert node.message_to_rgb is replay_bag.message_to_rgb is encodings.message_to_rgb


def test_messages_for_bags_are_those_of_ros():
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    from rclpy.serialization import serialize_message

    from esam_perception.contract import Messages
    from esam_perception.ros.wire.messages import ROS
    from esam_perception.types import Target3D, Timing
    from test.ros.test_messages import make_match

    found = [make_match(3, Verdict.MATCH, slice(2, 5), 0.9), make_match(4, Verdict.UNSURE, slice(1, 2), 0.5)]
    target = Target3D(
        np.array([0.1, 0.2, 0.9]), np.eye(3), np.array([0.3, 0.2, 0.1]), np.zeros(3), np.eye(6) * 1e-4, 50
    )
    found[0] = replace(found[0], segments=(replace(found[0].segments[0], target=target),))
    about = {
        "profile": "p",
        "weights_sha256": "abc",
        "frames_processed": 2**40,
        "frames_dropped": 1,
        "frames_refused": 2,
    }
    timing, types = Timing(preprocess=1.5, total=7.25), bag_types()
    ros = ROS.match_array(found, timing, ROS.header(START + 5, "cam"), about)
    bag = Messages(types)
    ours = bag.match_array(found, timing, bag.header(START + 5, "cam"), about)
    # ROS leaves garbage in the padding of its CDR: read and written again, it is zero
    by_ros = types.store.deserialize_cdr(serialize_message(ros), types.full_name("MatchArray"))
    expected = bytes(types.serialize(by_ros, "MatchArray"))
    assert bytes(types.serialize(ours, "MatchArray")) == expected and len(expected) == len(serialize_message(ros))
    assert by_ros.matches[0].segments[0].has_target and by_ros.matches[0].segments[0].target.pose.position.z == 0.9
    # any object with the fields will do
    assert bytes(types.serialize(ros, "MatchArray")) == expected
    queries = bag.query_array(QUERIES, types.Header())
    told = types.store.deserialize_cdr(types.serialize(queries, "QueryArray"), types.full_name("QueryArray"))
    assert [(q.id, q.text) for q in told.queries] == [("mug", "the red mug"), ("a banana", "a banana")]


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


def truncated(bag, path):
    data = next(bag.glob("*.mcap")).read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return path


def bad_inputs(tmp_path, bag, frames):
    """name -> (bag, more arguments, what the line must say)"""
    text = tmp_path / "notes.mcap"
    text.write_text("hello")
    other = tmp_path / "photo.jpg"
    other.write_text("hello")
    plain = tmp_path / "plain"
    plain.mkdir()
    old = tmp_path / "old.bag"
    old.write_text("x")
    database = tmp_path / "cut.db3"
    database.write_bytes(b"SQLite format 3\0" + bytes(20))
    strings = {"/a": [image(frames[0])], "/b": [image(frames[0])]}
    from test.recordings.bag_maker import header

    return {
        "missing": (tmp_path / "nowhere", (), "no such file"),
        "text": (text, (), "cannot be read"),
        "jpeg": (other, (), "is not a bag"),
        "no metadata": (plain, (), "ros2 bag reindex"),
        "ros 1": (old, (), "rosbags-convert"),
        "truncated": (truncated(bag, tmp_path / "cut.mcap"), (), "mcap recover"),
        "truncated database": (database, (), ".recover"),
        "empty": (write_bag(tmp_path / "empty", {}), (), "holds no messages"),
        "empty topic": (write_bag(tmp_path / "silent", {"/a": [], "/h": [header(1)]}), (), "/a holds no messages"),
        "no images": (write_bag(tmp_path / "headers", {"/h": [header(1)]}), (), "no image topic"),
        "two topics": (write_bag(tmp_path / "two", strings), (), "--image-topic: /a, /b"),
        "wrong topic": (bag, ("--image-topic", "/x"), "can be: /camera/image_raw"),
        "no model": (bag, ("--model", "nothing"), "nothing"),
    }


def test_bad_bags_are_one_line_each(tiny_profile, queries, bag, frames, tmp_path, capsys):
    for name, (given, more, said) in bad_inputs(tmp_path, bag, frames).items():
        arguments = [
            "replay",
            given,
            "--queries",
            queries,
            "--model",
            tiny_profile,
            *more,
            "--output",
            tmp_path / "out",
        ]
        code = main(list(map(str, arguments)))
        error = capsys.readouterr().err.strip().splitlines()
        assert code == 2 and len(error) == 1, (name, error)
        assert error[0].startswith("esam replay: ") and said in error[0], (name, error)
        assert not (tmp_path / "out").exists(), name


@pytest.mark.parametrize("storage", list(StoragePlugin), ids=lambda s: s.name)
def test_no_damage_brings_it_down(storage, frames, tmp_path):
    """Whatever bytes are wrong, a bag is read, or refused with a BagError."""
    small = [image(np.ascontiguousarray(pixels[:8, :8])) for pixels in frames]
    folder = write_bag(tmp_path / "in", {"/front": small}, storage, compress=storage is StoragePlugin.MCAP)
    data = next(path for path in folder.iterdir() if path.suffix != ".yaml").read_bytes()
    suffix = ".mcap" if storage is StoragePlugin.MCAP else ".db3"
    damaged, rng, refused = tmp_path / f"damaged{suffix}", np.random.default_rng(3), 0
    for _ in range(150):
        wrong = bytearray(data)
        for position in rng.integers(0, len(data), rng.choice([1, 5, 40])):
            wrong[position] = rng.integers(0, 256)
        damaged.write_bytes(wrong)
        try:
            with open_bag(damaged) as reader:
                list(raw_messages(reader, image_connections(reader, damaged, None), damaged))
        except BagError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused


def test_one_of_two_topics_can_be_chosen(tiny_profile, queries, frames, tmp_path):
    bag = write_bag(tmp_path / "two", {"/a": [image(frames[0])], "/b": [image(frames[1]), image(frames[2])]})
    assert replay(tiny_profile, queries, tmp_path / "out", bag, "--image-topic", "/b") == 0
    assert "2 of 2 frames of /b" in (tmp_path / "out" / "summary.md").read_text()


def test_a_bag_that_breaks_on_the_way_fails_alone(tiny_profile, queries, bag, frames, tmp_path, capsys):
    """Its index is whole, its data are not: seen only when they are read. The other bag is replayed."""
    broken = tmp_path / "broken.db3"
    rng = np.random.default_rng(0)
    folder = write_bag(tmp_path / "in", {"/front": [image(rng.permutation(f)) for f in frames]}, StoragePlugin.SQLITE3)
    data = bytearray(next(folder.glob("*.db3")).read_bytes())
    data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    broken.write_bytes(data)
    code = replay(tiny_profile, queries, tmp_path / "out", broken, bag)
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert code == 1 and "broken.db3: FAILED" in error and ".recover" in error
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["drive_matches", "summary.csv", "summary.md"]


def test_what_is_there_is_kept_unless_forced(tiny_profile, queries, bag, frames, tmp_path, capsys):
    out = tmp_path / "out"
    assert replay(tiny_profile, queries, out, bag) == 0
    before = files_of(out)
    assert replay(tiny_profile, queries, out, bag) == 2
    assert "--force" in capsys.readouterr().err and files_of(out) == before
    assert replay(tiny_profile, queries, out, bag, "--every", 2, "--force") == 0
    assert files_of(out) != before
    # never what is no result of a replay, and never a bag that is being read
    other = write_bag(out / "x", {"/front": [image(frames[0])]})
    (out / "x_matches").mkdir()
    (out / "x_matches" / "thesis.txt").write_text("precious")
    assert replay(tiny_profile, queries, out, other, "--force") == 2
    assert (out / "x_matches" / "thesis.txt").exists()
    write_bag(out / "y_matches", {"/front": [image(frames[0])]})
    y = write_bag(out / "y", {"/front": [image(frames[0])]})
    assert replay(tiny_profile, queries, out, y, out / "y_matches", "--force") == 2
    assert "is to be read" in capsys.readouterr().err and (out / "y_matches" / "metadata.yaml").exists()


@pytest.mark.parametrize("arguments", [("--every", "0"), ("--jobs", "0"), ("--every", "x")])
def test_wrong_numbers_are_usage_errors(arguments, queries, bag, capsys):
    with pytest.raises(SystemExit) as end:
        main(["replay", str(bag), "--queries", str(queries), *arguments])
    assert end.value.code == 2
