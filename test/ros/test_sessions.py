"""What holds while the node changes: sessions, parameters, the service in every state. Real nodes over DDS."""

import re
import signal
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from std_msgs.msg import String

from esam_perception import msg, srv
from esam_perception.environment.domains import claimed_domain
from esam_perception.environment.processes import ros_environment
from esam_perception.ros.wire.messages import ROS
from test.conftest import ROOT
from test.missing import environment_without
from test.ros.client import Client
from test.ros.forgetful_node import GATE, SLOW
from test.ros.forked import ForkedChild
from test.ros.test_service import picture, request, set_parameter


def structured(client, *queries: msg.Query) -> None:
    client.active.clear()
    client.queries_publisher.publish(msg.QueryArray(queries=list(queries)))


def error_of(client) -> str:
    """The message of the next diagnostics that are an error."""
    return client.wait(lambda: (s := client.status())["level"] == DiagnosticStatus.ERROR and s["message"], "an error")


def change(client, name: str) -> bool:
    return client.change_state(getattr(Transition, f"TRANSITION_{name}"))


def test_a_package_that_is_missing_is_named_and_the_node_stays(start, tiny_profile, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", environment_without(tmp_path, ["safetensors"])["PYTHONPATH"])
    client, child = start({"model": str(tiny_profile)})
    assert "configure failed" in (said := error_of(client)) and "safetensors" in said
    assert client.state() == "unconfigured" and child.exit_code is None
    assert "safetensors" in child.log.read_text()
    assert not change(client, "CONFIGURE") and client.state() == "unconfigured"


def test_a_call_lives_with_its_session_while_the_node_is_deactivated_and_cleaned_up(
    start, tiny_profile, tmp_path, monkeypatch
):
    gate = tmp_path / "gate"
    monkeypatch.setenv(GATE, str(gate))
    client, child = start({"model": str(tiny_profile)}, module="test.ros.forgetful_node")
    client.wait_until_active()
    sha = client.show(picture(40)).weights_sha256
    gate.touch()
    slow = ROS.image(picture(SLOW), "rgb8", client.next_header())
    service = client.service(srv.Locate, "/esam/locate")
    running = service.call_async(request(["a mug"], slow))
    client.wait(gate.with_suffix(".begun").exists, "the inference to begin")
    waiting = service.call_async(request(["a mug"], slow))
    client.spin(0.5)  # it reaches the node and waits for its turn
    change_state = client.service(ChangeState, "/esam/change_state")
    asked = ChangeState.Request()
    asked.transition.id = Transition.TRANSITION_DEACTIVATE
    deactivated = change_state.call_async(asked)
    client.spin(0.5)
    gate.unlink()
    client.wait(lambda: running.done() and waiting.done() and deactivated.done(), "all answers")
    assert deactivated.result().success
    assert running.result().success and running.result().result.weights_sha256 == sha
    assert not waiting.result().success and "not active" in waiting.result().message
    assert change(client, "CLEANUP") and child.exit_code is None

    # in no state but active is anything inferred, from the frames of before least of all
    for state, transition in (("unconfigured", "CONFIGURE"), ("inactive", "ACTIVATE")):
        assert client.state() == state
        for image in (None, ROS.image(picture(40), "rgb8", client.next_header())):
            answer = client.locate(["a mug"], image)
            assert not answer.success and "not active" in answer.message, state
        assert change(client, transition)
    answer = client.locate(["a mug"])
    assert not answer.success and "none arrived" in answer.message
    assert int(client.status()["refused/esam/locate:not_active"]) == 5
    assert client.locate(["a mug"], ROS.image(picture(40), "rgb8", client.next_header())).success


@pytest.fixture(scope="module")
def running(tmp_path_factory, tiny_profile):
    from test.ros.client import running_node

    with running_node(tmp_path_factory.mktemp("node") / "node.log", {"model": str(tiny_profile)}) as (client, child):
        client.wait_until_active()
        yield client, child


def test_a_query_whose_thresholds_cannot_hold_is_refused_when_it_comes(client):
    client.ask("the red ring")
    before = int(client.status().get("refused/esam/queries:bad_threshold", 0))
    # its own reject threshold above the profile's match threshold
    structured(client, msg.Query(id="odd", text="a mug", reject_threshold=0.99))
    status = client.wait(
        lambda: int((s := client.status()).get("refused/esam/queries:bad_threshold", 0)) > before and s, "the refusal"
    )
    assert "0.99" in status["last_error"] and "a mug" in status["last_error"]
    assert [m.text for m in client.show(picture(40)).matches] == ["the red ring"]


def test_a_default_never_makes_a_query_impossible(client):
    client.ask("the red ring; a mug")
    assert set_parameter(client, "reject_threshold", double_value=1.0).successful
    assert set_parameter(client, "match_threshold", double_value=0.25).successful
    array = client.show(picture(40))
    assert [m.text for m in array.matches] == ["the red ring", "a mug"]
    for match in array.matches:  # nothing lies between the two
        assert match.verdict == (msg.Match.MATCH if match.itm_score >= 0.25 else msg.Match.NO_MATCH)
    # 1 is taken for 1.0
    assert set_parameter(client, "match_threshold", integer_value=1).successful
    assert all(m.verdict == msg.Match.NO_MATCH for m in client.show(picture(40)).matches)
    for name in ("reject_threshold", "match_threshold"):
        assert set_parameter(client, name, double_value=0.0).successful


def test_every_text_of_a_call_has_its_match_in_order(client):
    texts = ["a mug; a bowl", "a mug", "a mug"]
    answer = client.locate(texts, ROS.image(picture(40), "rgb8", client.next_header()))
    assert answer.success and [match.text for match in answer.result.matches] == texts
    first, second = answer.result.matches[1:]
    np.testing.assert_array_equal(first.itm_logits, second.itm_logits)
    labels = [segment.label for match in answer.result.matches for segment in match.segments]
    assert len(labels) == len(set(labels))


def test_a_parameter_that_cannot_apply_now_is_refused_with_the_reason(client):
    for name, said in (("image", "next activation"), ("reliability", "next activation"), ("depth", "next configure"),
                       ("model", "next configure"), ("target_frame", "next configure")):  # fmt: skip
        value = "reliable" if name == "reliability" else "/some/where"
        result = set_parameter(client, name, string_value=value)
        assert not result.successful and name in result.reason and said in result.reason
    assert client.show(picture(40)).header.frame_id == "some_camera"  # from the topic that it was
    assert change(client, "DEACTIVATE")
    assert not set_parameter(client, "model", string_value="tabletop").successful
    assert set_parameter(client, "image", string_value="/other/image_raw").successful
    assert set_parameter(client, "image", string_value=client.image_topic).successful
    assert change(client, "ACTIVATE")
    client.wait(lambda: client.image_publisher.get_subscription_count() > 0, "the node to subscribe again")


def test_the_parameter_queries_is_a_message(client):
    client.active.clear()
    assert set_parameter(client, "queries", string_value="a white cube; a banana").successful
    client.wait(lambda: client.active and [q.text for q in client.active[-1].queries] == ["a white cube", "a banana"],
                "the queries")  # fmt: skip
    assert [m.text for m in client.show(picture(40)).matches] == ["a white cube", "a banana"]
    assert not set_parameter(client, "queries", string_value="?!").successful
    assert [m.text for m in client.show(picture(40)).matches] == ["a white cube", "a banana"]


def test_queries_at_a_high_rate_are_no_flood_of_lines(running):
    client, child = running
    client.ask("a first one")
    lines = lambda: len(re.findall("active queries: ", child.log.read_text()))  # noqa: E731
    client.spin(1.2)  # the throttle's second is over
    before = lines()
    client.active.clear()
    for _ in range(40):
        client.query_publisher.publish(String(data="the same again"))
        client.executor.spin_once(timeout_sec=0.01)
    client.wait(lambda: len(client.active) >= 20, "the queries to be taken")
    assert lines() == before + 1


def test_a_wrong_value_at_the_start_is_named_and_can_be_mended(start, tiny_profile):
    client, child = start({"model": str(tiny_profile), "image_transport": "pigeon", "match_treshold": 0.5})
    said = error_of(client)
    assert "configure failed" in said and "image_transport is 'pigeon'" in said and "raw, compressed" in said
    assert client.state() == "unconfigured" and child.exit_code is None
    assert "match_treshold" in child.log.read_text()
    assert set_parameter(client, "image_transport", string_value="raw").successful
    assert change(client, "CONFIGURE") and change(client, "ACTIVATE")
    client.wait_until_active()
    assert client.show(picture(40)).matches == []
    status = client.status()
    assert "match_treshold" in status["remark/0"] and status["model"] == "tiny"


def test_a_graph_that_cannot_be_looked_at_costs_neither_frames_nor_diagnostics(start, tiny_profile):
    client, child = start({"model": str(tiny_profile)}, module="test.ros.faulty_node")
    client.wait_until_active()
    broken = ROS.image(picture(40), "rgb8", client.next_header())
    broken.encoding = "rgb48float"
    refused = lambda: int(client.status().get("refused//camera/image_raw:unknown_encoding", 0))  # noqa: E731

    def counted():
        client.image_publisher.publish(broken)
        return refused() > 1

    client.wait(counted, "the refusals")
    assert client.show(picture(40)).frames_refused > 1 and child.exit_code is None
    assert "diagnostics failed: RuntimeError: the graph is gone" in child.log.read_text()


def test_queries_survive_a_kill_and_no_other_run(tmp_path, tiny_profile, monkeypatch):
    monkeypatch.setenv("ROS_HOME", str(tmp_path / "ros_home"))
    parameters = {
        "model": str(tiny_profile),
        "image": "/camera/image_raw",
        "keep_queries": True,
        "queries": "a first one",
    }
    with claimed_domain() as domain_id:
        environment = {**ros_environment(domain_id), "ROS_DOMAIN_ID": str(domain_id), "ESAM_RUN": "one"}

        def node(run: str, number: int) -> ForkedChild:
            return ForkedChild("esam_perception.ros.node", {"device": "cpu", **parameters}, tmp_path / f"{number}.log",
                         {**environment, "ESAM_RUN": run})  # fmt: skip

        def active(client) -> list[tuple[str, str, float]]:
            client.active.clear()
            client.wait_until_active()
            client.wait(lambda: client.active, "the active queries")
            return [(q.id, q.text, round(q.match_threshold, 3)) for q in client.active[-1].queries]

        client, child = Client(domain_id), node("one", 1)
        try:
            assert active(client) == [("a first one", "a first one", 0.0)]
            structured(client, msg.Query(id="mug", text="the red mug", match_threshold=0.75))
            client.wait(lambda: client.active and client.active[-1].queries[0].id == "mug", "the query")
            client.spin(0.2)
            child.signal(signal.SIGKILL)
            client.wait(lambda: child.exit_code is not None, "the end")
            client.close()
            client, child = Client(domain_id), node("one", 2)
            assert active(client) == [("mug", "the red mug", 0.75)]
            status = client.status()
            assert status["restored_queries"] == "1" and status["active_queries"] == "1"
            assert "restored" in child.log.read_text() and "the red mug" in child.log.read_text()
            assert [m.query_id for m in client.show(picture(40)).matches] == ["mug"]
            # an empty set is one too
            client.ask("")
            child.stop()
            client.close()
            client, child = Client(domain_id), node("one", 3)
            assert active(client) == []
            child.stop()
            client.close()
            # what another launch begins with is its own
            client, child = Client(domain_id), node("two", 4)
            assert active(client) == [("a first one", "a first one", 0.0)]
        finally:
            child.stop()
            client.close()


NAMES = """
import sys, rclpy
from esam_perception.ros.node import node as module
rclpy.init(args=sys.argv)
node = module.EsamNode()
print("torch:", "torch" in sys.modules)
print("image:", node._image_topic(node._settings))
print("depth:", module.depth_topics(node._settings, node, node._image_base(node._settings)))
print("queries:", node._query_topic)
print("topics:", *sorted(name for name, _ in node.get_topic_names_and_types()))
node.destroy_node()
rclpy.try_shutdown()
"""


def names(*arguments: str) -> dict[str, str]:
    """What a node says of itself that waits to be configured."""
    with claimed_domain() as domain_id:
        command = [sys.executable, "-c", NAMES, "--ros-args", "-p", "autostart:=false", *arguments]
        environment = ros_environment(domain_id)
        done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return dict(line.split(": ", 1) for line in done.stdout.splitlines())


def test_a_renamed_node_takes_its_topics_along_and_inputs_are_remapped():
    told = names("-r", "__node:=eyes", "-r", "__ns:=/robot", "-r", "image:=/front/image", "-r", "depth:=/front/depth")
    assert told["torch"] == "False"  # seconds, which only configure should cost
    assert told["image"] == "/front/image" and told["queries"] == "/robot/eyes/query"
    assert "depth='/front/depth'" in told["depth"] and "camera_info='/front/camera_info'" in told["depth"]
    assert {"/robot/eyes/matches", "/robot/eyes/mask", "/robot/eyes/active_queries"} <= set(told["topics"].split())
    assert "/esam/" not in told["topics"]


def test_parameters_win_over_remappings_and_without_both_inputs_are_relative():
    told = names("-r", "__ns:=/robot", "-r", "image:=/front/image", "-p", "image:=back/image",
                 "-p", "image_transport:=compressed")  # fmt: skip
    assert told["image"] == "/robot/back/image/compressed" and told["depth"] == "None"
    told = names()
    assert told["image"] == "/image" and told["depth"] == "None" and told["queries"] == "/esam/query"
