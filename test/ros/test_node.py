"""The real node in a process of its own, over DDS on loopback."""

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import Transition
from sensor_msgs.msg import Image
from std_msgs.msg import String

from esam_perception import msg
from esam_perception.contract import to_nanoseconds
from esam_perception.images.drawing import PALETTE
from esam_perception.images.encodings import image_to_rgb
from esam_perception.images.masks import mask_iou
from esam_perception.pipeline.pipeline import Pipeline
from esam_perception.ros.wire.messages import ROS
from test.ros.client import running_node


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """The node with the bundled profile, active, and a client."""
    with running_node(tmp_path_factory.mktemp("node") / "node.log", {"model": "tabletop"}) as (client, child):
        client.wait_until_active()
        yield client, child


@pytest.fixture(scope="module")
def told(clip):
    """What the core says of the first frame: a query that it matches, and one that it rejects."""
    pipeline = Pipeline.from_profile("tabletop", "cpu")
    frame = clip[0]
    true = [p for p in frame.phrases if p.true and p.kind == "colour_category"]
    absent = "the blue elephant"
    best, there = 0.0, None
    for match, phrase in zip(pipeline.locate(frame.image, [p.text for p in true]), true):
        for segment in match.segments:  # there are some for a MATCH only
            if (iou := mask_iou(segment.mask, np.isin(frame.instances, phrase.labels))) > best:
                best, there = iou, phrase
    assert there is not None, "the bundled profile matches nothing in the recorded clip"
    return frame, there, absent, pipeline.locate(frame.image, [there.text, absent])


def test_a_frame_and_two_queries(client, told):
    frame, there, absent, expected = told
    client.ask(f"{there.text}; {absent}")
    assert [q.text for q in client.active[-1].queries] == [there.text, absent]
    before = client.arrays[-1].frames_processed if client.arrays else 0
    array = client.show(frame.image)
    assert array.header.frame_id == "some_camera" and to_nanoseconds(array.header.stamp) == client.stamp
    assert array.profile == "tabletop" and len(array.weights_sha256) == 64
    assert array.frames_processed > before

    # verdicts, and the same numbers as the core's
    assert [m.text for m in array.matches] == [there.text, absent]
    assert [m.verdict for m in array.matches] == [int(m.verdict) for m in expected]
    assert array.matches[0].verdict == msg.Match.MATCH and array.matches[1].verdict == msg.Match.NO_MATCH
    for got, core in zip(array.matches, expected):
        np.testing.assert_allclose(got.itm_logits, core.itm_logits, atol=1e-3)
        assert got.itm_score == pytest.approx(core.itm_score, abs=1e-3)
        for image, values in ((got.heatmap, core.heatmap), (got.gradcam, core.gradcam)):
            assert image.header == array.header and image.encoding == "32FC1"
            seen = np.frombuffer(image.data, np.float32).reshape(image.height, image.width)
            assert 0 <= seen.min() and seen.max() <= 1
            np.testing.assert_allclose(seen, values, atol=1e-2)
    assert not array.matches[1].segments

    # the segment is the object
    (segment,) = array.matches[0].segments
    assert 1 <= segment.label <= 254 and segment.mask.header == array.header and not segment.has_target
    mask = np.frombuffer(segment.mask.data, np.uint8).reshape(segment.mask.height, segment.mask.width)
    assert mask.shape == frame.image.shape[:2] and set(np.unique(mask)) == {0, 255}
    truth = np.isin(frame.instances, there.labels)
    assert mask_iou(mask > 0, truth) > 0.5

    # the images of the same frame
    labels = client.image_of("mask", array)
    assert labels.encoding == "mono8" and labels.step == labels.width == frame.image.shape[1]
    np.testing.assert_array_equal(
        np.frombuffer(labels.data, np.uint8).reshape(mask.shape), np.where(mask > 0, segment.label, 0)
    )
    confidence = np.frombuffer(client.image_of("confidence", array).data, np.uint8).reshape(mask.shape)
    assert (confidence[mask == 0] == 0).all() and (confidence[mask > 0] >= 127).all()
    view = client.image_of("mask_view", array)
    assert view.encoding == "rgb8"
    np.testing.assert_array_equal(image_to_rgb(view), np.where(mask[..., None] > 0, np.uint8(PALETTE[0]), 0))
    heatmap = client.image_of("heatmap", array)
    values = np.frombuffer(heatmap.data, np.float32).reshape(heatmap.height, heatmap.width)
    assert heatmap.encoding == "32FC1" and values.shape == mask.shape and 0 <= values.min() and 0.5 < values.max() <= 1
    overlay = client.image_of("overlay", array)
    assert overlay.encoding == "rgb8" and (image_to_rgb(overlay) != frame.image).any()

    timing = array.timing
    assert timing.total > timing.blip_image > 0 and timing.gradcam > 0 and timing.sam_image > 0 and timing.publish > 0


def test_two_things_that_fit_one_phrase_are_two_segments_with_their_margin(client, clip):
    frame = clip[2]
    (phrase,) = {p for p in frame.phrases if p.text == "the cyan object"}
    truths = [frame.instances == label for label in phrase.labels]
    assert len(truths) == 2
    client.ask(phrase.text)
    array = client.show(frame.image)
    segments = array.matches[0].segments
    assert array.matches[0].verdict == msg.Match.MATCH and [segment.label for segment in segments] == [1, 2]
    overlaps = np.array([[mask_iou(image_to_rgb(s.mask)[..., 0] > 0, truth) for truth in truths] for s in segments])
    assert sorted(overlaps.argmax(1)) == [0, 1] and (overlaps.max(1) > 0.6).all(), overlaps
    assert segments[0].salience == 1.0 and 0.2 < segments[1].salience < 1.0
    labels = image_to_rgb(client.image_of("mask", array))[..., 0]
    for segment, place in zip(segments, overlaps.argmax(1)):
        assert mask_iou(labels == segment.label, truths[place]) > 0.6


def test_no_active_query_gives_an_empty_array_not_silence(client, clip):
    client.ask("")
    assert client.active[-1].queries == []
    array = client.show(clip[0].image)
    assert array.matches == []
    assert not np.frombuffer(client.image_of("mask", array).data, np.uint8).any()


def test_structured_queries_with_ids_and_thresholds(client, clip):
    client.active.clear()
    queries = [msg.Query(id="always", text="a mug", match_threshold=0.000001, reject_threshold=0.0000001),
               msg.Query(id="never", text="a mug", match_threshold=1.0, reject_threshold=1.0)]  # fmt: skip
    client.queries_publisher.publish(msg.QueryArray(queries=queries))
    client.wait(lambda: client.active and len(client.active[-1].queries) == 2, "the structured queries")
    array = client.show(clip[1].image)
    assert [(m.query_id, m.verdict) for m in array.matches] == [
        ("always", msg.Match.MATCH),
        ("never", msg.Match.NO_MATCH),
    ]


def broken(change: dict) -> Image:
    message = ROS.image(np.zeros((24, 32, 3), np.uint8), "rgb8", msg.QueryArray().header)
    for name, value in change.items():
        setattr(message, name, value)
    return message


@pytest.mark.parametrize(
    "change, reason",
    [
        ({"encoding": "rgb48float"}, "unknown_encoding"),
        ({"step": 7}, "bad_step"),
        ({"step": 1000}, "bad_length"),
        ({"data": b"too short"}, "bad_length"),
        ({"width": 0, "height": 0, "step": 0, "data": b""}, "zero_size"),
    ],
)
def test_a_bad_image_is_refused_counted_and_the_next_good_one_processed(client, clip, change, reason):
    key = f"refused//camera/image_raw:{reason}"
    before = int(client.status().get(key, 0))

    def counted():
        client.image_publisher.publish(broken(change))
        return int((status := client.status()).get(key, 0)) > before and status

    status = client.wait(counted, f"{reason} to be counted")
    assert reason in status["last_error"] and "/camera/image_raw" in status["last_error"]
    assert status["level"] == DiagnosticStatus.WARN
    if reason == "unknown_encoding":
        assert "rgb48float" in status["last_error"]
    client.ask("the red ring")
    array = client.show(clip[2].image)
    assert len(array.matches) == 1 and array.frames_refused > 0


@pytest.mark.parametrize(
    "text, reason",
    [("x" * 100_000, "too_long"), ("the \x07 bell", "control_characters"), ("?!", "no_words")],
)
def test_a_bad_query_is_refused_and_the_active_ones_stay(client, clip, text, reason):
    client.ask("the red ring")
    before = int(client.status().get(f"refused/esam/query:{reason}", 0))
    client.query_publisher.publish(String(data=text))
    client.wait(lambda: int(client.status().get(f"refused/esam/query:{reason}", 0)) > before, f"{reason} to be counted")
    assert [m.text for m in client.show(clip[3].image).matches] == ["the red ring"]


def test_a_query_in_another_script_is_answered(client, clip):
    client.ask("赤いマグカップ; кружка")
    array = client.show(clip[0].image)
    assert [m.text for m in array.matches] == ["赤いマグカップ", "кружка"]
    assert all(0 <= m.itm_score <= 1 for m in array.matches)


def test_a_camera_that_goes_away_and_comes_back(client, clip):
    client.ask("the red ring")
    client.show(clip[0].image)
    client.node.destroy_publisher(client.image_publisher)
    client.wait(lambda: "no image on /camera/image_raw" in client.status()["message"], "the silence to be reported")
    client.image_publisher = client.node.create_publisher(Image, client.image_topic, 5)
    client.wait(lambda: client.image_publisher.get_subscription_count() > 0, "the node to find the camera again")
    assert len(client.show(clip[1].image).matches) == 1


def test_more_frames_than_the_node_can_take_are_dropped_and_counted(client, clip):
    client.ask("; ".join(f"the red thing number {i}" for i in range(12)))
    before = client.show(clip[0].image)
    for i in range(40):
        client.image_publisher.publish(ROS.image(clip[i % len(clip)].image, "rgb8", client.next_header()))
        client.spin(0.02)
    after = client.show(clip[0].image)
    assert after.frames_dropped > before.frames_dropped
    stamps = [to_nanoseconds(array.header.stamp) for array in client.arrays]
    assert stamps == sorted(stamps)  # never an older frame after a newer one
    counts = [array.frames_processed for array in client.arrays]
    assert counts == list(range(counts[0], counts[-1] + 1))  # one message for every frame that is counted
    assert counts[-1] >= after.frames_processed > before.frames_processed


def test_locate_answers_about_an_image_and_about_the_newest_frame_without_touching_the_queries(client, told):
    frame, there, absent, expected = told
    client.ask("something blue")
    shown = client.show(frame.image)
    answer = client.locate([there.text, absent])
    assert answer.success and not answer.message
    assert answer.result.header == shown.header
    assert [m.verdict for m in answer.result.matches] == [int(m.verdict) for m in expected]
    answer = client.locate([there.text], ROS.image(frame.image, "rgb8", client.next_header("another")))
    assert answer.success and answer.result.header.frame_id == "another"
    refused = client.locate([])
    assert not refused.success and "no texts" in refused.message
    refused = client.locate(["mug"], broken({"encoding": "odd"}))
    assert not refused.success and "unknown_encoding" in refused.message
    assert [m.text for m in client.show(frame.image).matches] == ["something blue"]


def test_diagnostics_tell_what_there_is_to_know(client, clip):
    client.show(clip[0].image)
    status = client.status()
    for key in (
        "rate_hz",
        "frames_in",
        "frames_processed",
        "frames_dropped",
        "frames_dropped_stale",
        "refused",
        "model",
        "device",
        "memory_mb",
    ):
        assert key in status
    assert status["model"] == "tabletop" and status["device"] == "cpu" and float(status["memory_mb"]) > 50
    assert status["latency_ms/total"].startswith("p50 ")


def test_the_lifecycle(client, clip):
    client.ask("the red ring")
    assert client.change_state(Transition.TRANSITION_DEACTIVATE) and client.state() == "inactive"
    client.wait(lambda: client.image_publisher.get_subscription_count() == 0, "the node to leave the camera alone")
    client.image_publisher.publish(ROS.image(clip[0].image, "rgb8", client.next_header()))
    came = int(client.status()["frames_in"])
    assert client.change_state(Transition.TRANSITION_CLEANUP) and client.state() == "unconfigured"
    assert not client.locate(["mug"], ROS.image(clip[0].image, "rgb8", client.next_header())).success
    assert client.change_state(Transition.TRANSITION_CONFIGURE) and client.change_state(Transition.TRANSITION_ACTIVATE)
    client.wait(lambda: client.image_publisher.get_subscription_count() > 0, "the node to subscribe again")
    assert int(client.status()["frames_in"]) == came
    answer = client.locate(["mug"])  # what was kept before is none of this activation's
    assert not answer.success and "none arrived" in answer.message
    assert [m.text for m in client.show(clip[0].image).matches] == ["the red ring"]
