"""/esam/locate beside a running stream, overload, and what the node says about its connections: real nodes over DDS."""

import os
import re
import signal
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from builtin_interfaces.msg import Time
from lifecycle_msgs.msg import Transition
from rcl_interfaces.msg import Parameter, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from esam_perception import srv
from esam_perception.contract import to_nanoseconds
from esam_perception.environment.processes import Child
from esam_perception.ros.node.ending import LIMIT_SECONDS
from esam_perception.ros.wire.messages import ROS
from test.ros.forgetful_node import GATE, SLOW, TOO_LARGE


def request(texts, image=None, stamp=None):
    asked = srv.Locate.Request(texts=texts)
    if image is not None:
        asked.image = image
    if stamp is not None:
        asked.stamp = Time(sec=stamp // 10**9, nanosec=stamp % 10**9)
    return asked


def set_parameter(client, name, **value):
    kinds = {"string_value": 4, "double_value": 3, "bool_value": 1, "integer_value": 2}
    (field,) = value
    change = Parameter(name=name, value=ParameterValue(type=kinds[field], **value))
    (result,) = client.call(SetParameters, "/esam/set_parameters", SetParameters.Request(parameters=[change])).results
    return result


def picture(width, colour=90):
    return np.full((48, width, 3), colour, np.uint8)


def shared_memory(pid: int) -> set[str]:
    """The files in /dev/shm that a process has mapped."""
    return set(re.findall(r"/dev/shm/(\S+)", Path(f"/proc/{pid}/maps").read_text()))


def test_frames_are_kept_for_questions_and_calls_wait_in_a_bounded_queue(
    start, tiny_profile, clip, tmp_path, monkeypatch
):
    gate = tmp_path / "gate"
    monkeypatch.setenv(GATE, str(gate))
    parameters = {"model": str(tiny_profile), "frame_buffer": 3, "locate_queue": 2}
    client, child = start(parameters, module="test.ros.forgetful_node", process=Child)
    client.wait_until_active()
    call = lambda *args, **kwargs: client.call(srv.Locate, "/esam/locate", request(*args, **kwargs))  # noqa: E731
    answer = call(["a mug"])
    assert not answer.success and "none arrived" in answer.message
    client.ask("the red ring")
    shown = [client.show(frame.image) for frame in clip[:4]]
    stamps = [to_nanoseconds(array.header.stamp) for array in shown]

    # a frame by its stamp; the newest; one that is not kept any more; one that never was
    for i in (1, 2, 3):
        answer = call(["the red ring"], stamp=stamps[i])
        assert answer.success and answer.result.header == shown[i].header
        np.testing.assert_allclose(answer.result.matches[0].itm_logits, shown[i].matches[0].itm_logits, atol=1e-4)
    assert call(["a mug"]).result.header == shown[3].header
    for stamp in (stamps[0], 5):
        answer = call(["a mug"], stamp=stamp)
        assert not answer.success and "kept are 3 frames from" in answer.message

    # what cannot be asked
    answer = call([f"thing number {i}" for i in range(1000)])
    assert not answer.success and "1000 texts, at most 64" in answer.message

    # one call may wait while another one is answered; the third is told so at once, and the stream goes on
    slow = ROS.image(picture(SLOW), "rgb8", client.next_header())
    gate.touch()
    service = client.service(srv.Locate, "/esam/locate")
    futures = [service.call_async(request(["a mug"], slow)) for _ in range(3)]
    client.wait(lambda: any(future.done() for future in futures), "the refusal")
    (refused,) = [future.result() for future in futures if future.done()]  # the others cannot be before the gate opens
    assert not refused.success and "2 calls are waiting already" in refused.message
    assert client.status()["refused/esam/locate:busy"] == "1"
    gate.unlink()
    array = client.show(clip[4].image)
    assert [m.text for m in array.matches] == ["the red ring"]
    client.wait(lambda: all(future.done() for future in futures), "the slow answers")
    assert sum(future.result().success for future in futures) == 2
    status = client.status()
    assert status["refused/esam/locate:busy"] == "1" and int(status["refused/esam/locate:refused"]) == 4

    # memory that runs out costs one frame, not the node
    key = "refused//camera/image_raw:out_of_memory"
    header = client.next_header()

    def dropped():
        client.image_publisher.publish(ROS.image(picture(TOO_LARGE), "rgb8", header))
        return int(client.status().get(key, 0)) > 0

    client.wait(dropped, "the frame that does not fit to be counted")
    assert [m.text for m in client.show(clip[5].image).matches] == ["the red ring"]

    # SIGINT in the middle of an inference that never ends: gone all the same, cleanly, and without waiting for longer
    # than the 3 s that launch files and people have
    gate.touch()
    begun = gate.with_suffix(".begun")
    begun.unlink()

    def working():
        client.image_publisher.publish(ROS.image(picture(SLOW), "rgb8", client.next_header()))
        return begun.exists()

    client.wait(working, "the inference to begin")
    own = shared_memory(child.pid) - shared_memory(os.getpid())
    assert own, "the node holds shared memory of its own while it runs"
    child.signal(signal.SIGINT)
    client.wait(lambda: child.exit_code is not None, "the node to end")
    assert child.exit_code == 0 and LIMIT_SECONDS < 3, child.log_tail(20)
    assert not own & set(os.listdir("/dev/shm"))


def test_parameters_of_a_stream_and_nonsense_at_run_time(start, clip):
    client, child = start(
        {"model": "tabletop", "segment_always": True, "region_scores": True, "stable_labels": True, "hysteresis": 0.1}
    )
    client.wait_until_active()
    client.ask("the red ring; a white cube; a blue elephant")
    array = client.show(clip[0].image)
    segments = [segment for match in array.matches for segment in match.segments]
    assert segments and all(0 <= segment.region_score <= 1 for segment in segments)
    for place, match in enumerate(array.matches):
        assert all((segment.label - 1) % 3 == place for segment in match.segments)
    before = [[s.label for s in m.segments] for m in array.matches]
    assert [[s.label for s in m.segments] for m in client.show(clip[0].image).matches] == before

    for name, value, said in (
        ("image_transport", {"string_value": "pigeon"}, "must be one of: raw, compressed"),
        ("image", {"string_value": "no topic!"}, "image"),
        ("jpeg_quality", {"integer_value": 900}, "range"),
        ("hysteresis", {"double_value": 7.0}, "range"),
        ("locate_queue", {"integer_value": 8}, "read-only"),
        ("max_age", {"string_value": "soon"}, "type"),
    ):
        result = set_parameter(client, name, **value)
        assert not result.successful and said in result.reason.lower().replace("read only", "read-only"), (name, result)

    # a budget that no machine can keep: one query a frame, each in its turn, and it is announced
    assert client.status()["degradation"] == "none"
    assert set_parameter(client, "frame_budget", double_value=0.001).successful
    texts = [[m.text for m in client.show(clip[i % 3].image).matches] for i in range(6)]
    assert all(len(row) == 1 for row in texts[-3:]) and {row[0] for row in texts[-3:]} == {
        "the red ring", "a white cube", "a blue elephant"
    }  # fmt: skip
    degradation = client.status()["degradation"]
    assert "1 of 3 queries a frame, in rotation" in degradation and "the rate falls" in degradation


def test_transitions_in_any_order_during_inference(start, tiny_profile, clip):
    client, child = start({"model": str(tiny_profile)})
    client.wait_until_active()
    assert not client.change_state(Transition.TRANSITION_CONFIGURE) and client.state() == "active"
    client.ask("the red ring")
    rng = np.random.default_rng(3)
    names = ("CONFIGURE", "ACTIVATE", "DEACTIVATE", "CLEANUP")
    for step in range(24):
        for _ in range(3):
            client.image_publisher.publish(ROS.image(clip[0].image, "rgb8", client.next_header()))
        client.change_state(getattr(Transition, f"TRANSITION_{names[rng.integers(4)]}"))
    for name, state in (("CLEANUP", "inactive"), ("DEACTIVATE", "active")):
        if client.state() == state:
            client.change_state(getattr(Transition, f"TRANSITION_{name}"))
    if client.state() == "unconfigured":
        assert client.change_state(Transition.TRANSITION_CONFIGURE)
    assert client.change_state(Transition.TRANSITION_ACTIVATE) and child.exit_code is None
    client.wait(lambda: client.image_publisher.get_subscription_count() > 0, "the node to subscribe again")
    assert len(client.show(clip[0].image).matches) == 1


def test_the_node_says_which_publisher_does_not_fit_and_what_mends_it(start, tiny_profile):
    client, child = start({"model": str(tiny_profile), "reliability": "reliable", "image": "/front/image_raw"})
    client.wait(lambda: client.state() == "active", "the node")
    told = lambda: " ".join(v for k, v in client.status().items() if k.startswith("connection/"))  # noqa: E731
    found = client.wait(lambda: (t := told()) and "/camera/image_raw" in t and t, "the missing publisher to be named")
    # the client publishes on the default topic: it is offered as a way out
    assert "/front/image_raw: nobody publishes it (published are /camera/image_raw)" in found
    assert "set parameter image" in found

    best_effort = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    camera = client.node.create_publisher(Image, "/front/image_raw", best_effort)
    found = client.wait(lambda: "best_effort" in (t := told()) and t, "the QoS to be compared")
    assert (
        "offers best_effort volatile, requested is reliable volatile; set parameter reliability:=best_effort" in found
    )
    client.node.destroy_publisher(camera)

    camera = client.node.create_publisher(CompressedImage, "/front/image_raw", 1)
    found = client.wait(lambda: "CompressedImage" in (t := told()) and t, "the type to be compared")
    assert "image_transport:=compressed" in found
    client.node.destroy_publisher(camera)

    client.node.create_publisher(Image, "/front/image_raw", 1)
    client.wait(lambda: not told(), "everything to be in order")
    assert "offers best_effort" in child.log.read_text()
