"""The real `ros2 launch`, once: the node becomes active and finds a thing of the recorded clip.

    python3 test/ros/launch_smoke.py        # in a shell with ROS and this package sourced

CI runs it on every distribution (the PyPI wheels have no ros2 launch, so `./esam test` cannot). Exit code 0; or 1, with
what did not come and launch's own output.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import rclpy
from lifecycle_msgs.srv import GetState
from rclpy.node import Node
from sensor_msgs.msg import Image
from std_msgs.msg import Header, String

from esam_perception import msg
from esam_perception.environment.domains import claimed_domain
from esam_perception.environment.processes import ros_environment
from esam_perception.ros.wire.messages import ROS
from esam_perception.ros.wire.qos import LATCHED
from esam_perception.tabletop.clip import load_clip

NAMESPACE, TOPIC = "smoke", "/smoke/camera/image_raw"
# torch is imported, a model loaded and warmed up, on a runner of two slow cores
PATIENCE = 240.0
LAUNCH = [
    "ros2", "launch", "esam_perception", "esam.launch.py", f"namespace:={NAMESPACE}", f"image:={TOPIC}", "model:=tabletop",
    "device:=cpu", "log_level:=debug",
]  # fmt: skip


class Failure(Exception):
    """Something did not come, or was wrong; the text says what."""


def ask(node: Node, process: subprocess.Popen) -> str:
    """Wait until the node is active, show it a frame with a phrase, and check the answer; what it said."""
    frame = load_clip()[0]
    phrases = json.loads(frame.truth_json())["phrases"]
    phrase = next(p["text"] for p in phrases if p["true"] and p["kind"] == "colour_category")
    arrays: list = []
    active: list = []
    node.create_subscription(msg.MatchArray, f"/{NAMESPACE}/esam/matches", arrays.append, 10)
    node.create_subscription(msg.QueryArray, f"/{NAMESPACE}/esam/active_queries", active.append, LATCHED)
    queries = node.create_publisher(String, f"/{NAMESPACE}/esam/query", 10)
    images = node.create_publisher(Image, TOPIC, 5)
    states = node.create_client(GetState, f"/{NAMESPACE}/esam/get_state")
    end = time.monotonic() + PATIENCE

    def wait(condition, what: str, again=None) -> None:
        """Spin until the condition holds; `again` is done every second meanwhile."""
        last = 0.0
        while not condition():
            if process.poll() is not None:
                raise Failure(f"ros2 launch ended with exit code {process.returncode}")
            if time.monotonic() > end:
                raise Failure(f"waited {PATIENCE:.0f} s in all, at the end for {what}")
            if again and time.monotonic() - last > 1:
                last = time.monotonic()
                again()
            rclpy.spin_once(node, timeout_sec=0.1)

    wait(states.service_is_ready, "the node's services")
    asked: list = []
    wait(
        lambda: asked and asked[-1].done() and asked[-1].result().current_state.label == "active",
        "the state active",
        lambda: asked.append(states.call_async(GetState.Request())),
    )
    wait(
        lambda: active and [query.text for query in active[-1].queries] == [phrase],
        f"the query {phrase!r} to be active",
        lambda: queries.publish(String(data=phrase)),
    )
    sent: list = []

    def show() -> None:
        sent.append(Header(stamp=node.get_clock().now().to_msg(), frame_id="smoke_camera"))
        images.publish(ROS.image(frame.image, "rgb8", sent[-1]))

    wait(lambda: any(array.matches for array in arrays), "matches", show)
    array = next(array for array in arrays if array.matches)
    (match,) = array.matches
    if array.header not in sent:
        raise Failure(f"the matches have the header {array.header}, no image had it")
    if match.text != phrase or match.verdict != msg.Match.MATCH or not match.segments:
        raise Failure(f"{phrase!r} is there: {match.text!r}, verdict {match.verdict}, {len(match.segments)} segments")
    return f"{phrase!r}: MATCH, score {match.itm_score:.2f}, {len(match.segments)} segments, profile {array.profile}"


def main() -> int:
    if shutil.which("ros2") is None:
        print("launch_smoke: there is no ros2 on PATH: source ROS and this package first", file=sys.stderr)
        return 1
    with claimed_domain() as domain, tempfile.TemporaryDirectory() as folder:
        os.environ.update(ros_environment(domain))
        log = Path(folder) / "launch.log"
        with open(log, "wb") as output:
            process = subprocess.Popen(LAUNCH, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
        rclpy.init()
        node = Node("launch_smoke")
        problem = ""
        try:
            print(ask(node, process))
        except Failure as failure:
            problem = str(failure)
        finally:
            node.destroy_node()
            rclpy.try_shutdown()
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGINT)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                problem = problem or "ros2 launch did not end within 30 s of SIGINT"
        text = log.read_text(errors="replace")
        if "[DEBUG]" in text and "] [rcl" in text:
            problem = problem or "log_level:=debug turned on the logs of ROS itself"
        if problem:
            print(f"launch_smoke: {problem}\n--- ros2 launch\n{text[-8000:]}", file=sys.stderr)
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main())
