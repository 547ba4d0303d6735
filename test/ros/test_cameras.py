"""The camera nodes and the demo, in processes of their own."""

import json
import os
import subprocess
import sys
from contextlib import ExitStack

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from rclpy.qos import DurabilityPolicy, QoSProfile
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import String

from esam_perception.commands.dispatcher import main
from esam_perception.environment.processes import Child
from esam_perception.images.encodings import depth_to_metres, image_to_rgb
from esam_perception.ros.cameras.file_camera import SourceError, frames_of
from esam_perception.tabletop.needs import CANNOT_RENDER_EXIT_CODE
from test.conftest import ROOT
from test.missing import SIMULATOR, environment_without
from test.ros.client import Client, own_environment


class Watcher(Client):
    """A client that keeps what a camera publishes."""

    def __init__(self, domain_id: int) -> None:
        super().__init__(domain_id, "/unused")
        self.seen: dict[str, list] = {"image": [], "info": [], "depth": [], "instances": [], "scene": []}
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        for name, kind, topic, qos in (
            ("image", Image, "image_raw", 5), ("info", CameraInfo, "camera_info", 5), ("depth", Image, "depth/image_raw", 5),
            ("instances", Image, "truth/instances", 5), ("scene", String, "truth/scene", latched),
        ):  # fmt: skip
            self.node.create_subscription(kind, f"/camera/{topic}", self.seen[name].append, qos)


@pytest.fixture
def watch(tmp_path, domain_id):
    with ExitStack() as ending:

        def start(module: str, parameters: dict) -> Watcher:
            environment = own_environment(domain_id)
            child = Child(f"esam_perception.ros.cameras.{module}", parameters, tmp_path / "camera.log", environment)
            ending.callback(child.stop)
            watcher = Watcher(domain_id)
            ending.callback(watcher.close)
            return watcher

        yield start


def test_the_simulated_camera(watch, tabletop):
    watcher = watch("simulated_camera", {"width": 320, "height": 240, "seed": 900_003, "orbit_speed": 0.0, "rate": 4.0})
    watcher.wait(lambda: all(watcher.seen.values()) and len(watcher.seen["image"]) > 2, "every topic of the camera")

    def complete():
        """An image of which everything came: the first ones' companions may be lost to slow discovery."""
        headers = [[m.header for m in watcher.seen[name]] for name in ("info", "depth", "instances")]
        return [m for m in watcher.seen["image"] if all(m.header in others for others in headers)]

    image = watcher.wait(complete, "an image with all that belongs to it")[-1]
    expected = tabletop.render(tabletop.sample(900_003))
    np.testing.assert_array_equal(image_to_rgb(image), expected.image)
    assert image.header.frame_id == "camera_optical_frame"
    np.testing.assert_allclose(watcher.seen["info"][-1].k, expected.camera_matrix.ravel())
    depth = depth_to_metres(next(m for m in watcher.seen["depth"] if m.header == image.header))
    np.testing.assert_allclose(depth[expected.depth > 0], expected.depth[expected.depth > 0], atol=1e-6)
    assert json.loads(watcher.seen["scene"][-1].data)["seed"] == 900_003


def test_the_recorded_clip_is_replayed_with_its_truth(watch, clip):
    watcher = watch("file_camera", {"source": "clip", "rate": 20.0})
    watcher.wait(lambda: all(watcher.seen.values()) and len(watcher.seen["image"]) > 3, "every topic of the camera")
    shown = image_to_rgb(watcher.seen["image"][-1])
    assert any((shown == frame.image).all() for frame in clip)


def test_a_machine_without_gl_gets_one_line(domain_id):
    """MuJoCo told to use a GL that does not exist: what a machine without any looks like."""
    environment = {**os.environ, "MUJOCO_GL": "egl", "PYOPENGL_PLATFORM": "egl", "__EGL_VENDOR_LIBRARY_FILENAMES": "/nonexistent.json",
                   "PYTHONPATH": str(ROOT), "ROS_DOMAIN_ID": str(domain_id)}  # fmt: skip
    code = "import sys; from esam_perception.ros.cameras.simulated_camera import main; sys.exit(main())"
    camera = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert camera.returncode == CANNOT_RENDER_EXIT_CODE, camera.stderr
    assert "apt-get install" in camera.stderr and "Traceback" not in camera.stderr


@pytest.mark.long
def test_the_demo_replays_the_clip_where_nothing_can_be_rendered(tmp_path):
    demo = run_demo(tmp_path, "--seconds", "2", environment=environment_without(tmp_path, SIMULATOR))
    assert demo.returncode == 0, demo.stderr
    assert "replaying the recorded clip" in demo.stderr and "pip install -r requirements-tabletop.txt" in demo.stderr


def run_demo(output, *arguments, environment=None):
    command = [
        sys.executable,
        "-m",
        "esam_perception",
        "demo",
        "--device",
        "cpu",
        "--output",
        str(output),
        *arguments,
    ]
    environment = dict(environment or {**os.environ, "PYTHONPATH": str(ROOT)})
    environment.pop("ROS_DOMAIN_ID", None)
    return subprocess.run(command, cwd=output, env=environment, capture_output=True, text=True, timeout=240)


def test_the_demo_on_an_image_of_the_user(tmp_path, clip):
    path = tmp_path / "photo.png"
    cv2.imwrite(str(path), clip[0].image[..., ::-1])
    demo = run_demo(
        tmp_path,
        "--image",
        str(path),
        "--query",
        "the red ring; the blue elephant",
        "--model",
        "tabletop",
        "--seconds",
        "2",
    )
    assert demo.returncode == 0, demo.stderr
    assert "the red ring" in demo.stdout and "the blue elephant" in demo.stdout
    results = json.loads((tmp_path / "results.json").read_text())
    assert [row["query"] for row in results["rows"]] == ["the red ring", "the blue elephant"]
    assert results["rows"][1]["verdict"] in ("NO_MATCH", "UNSURE")
    sheet = cv2.imread(str(tmp_path / "contact_sheet.png"))
    assert sheet.shape[1] == 1280


def test_what_the_demo_cannot_show_is_one_line(capsys):
    assert main(["demo", "--image", "missing.png"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "missing.png" in line


@pytest.mark.long
def test_a_profile_that_is_not_there_ends_the_demo(tmp_path, clip):
    cv2.imwrite(str(tmp_path / "photo.png"), clip[0].image[..., ::-1])
    demo = run_demo(tmp_path, "--image", "photo.png", "--model", str(tmp_path / "nothing"), "--seconds", "1")
    assert demo.returncode == 1 and "no profile" in demo.stderr


def test_sources(tmp_path):
    for i, value in enumerate((10, 200)):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((20, 30, 3), value, np.uint8))
    cv2.imwrite(str(tmp_path / "1.depth.png"), np.full((20, 30), 1500, np.uint16))
    first, second = frames_of(str(tmp_path), 1.0)
    assert first[0][0, 0, 0] == 10 and first[2] is None
    np.testing.assert_allclose(second[2], 1.5)
    assert first[1][0, 0] == pytest.approx(15 / np.tan(0.5))
    video = tmp_path / "video.avi"
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter_fourcc(*"MJPG"), 10, (32, 24))
    for _ in range(3):
        writer.write(np.full((24, 32, 3), 90, np.uint8))
    writer.release()
    assert len(list(frames_of(str(video), 1.0))) == 3
    empty = tmp_path / "empty"
    empty.mkdir()
    (tmp_path / "broken.png").write_bytes(b"x")
    (tmp_path / "broken.avi").write_bytes(b"x")
    for wrong in (empty, tmp_path / "none", tmp_path / "broken.png", tmp_path / "broken.avi"):
        with pytest.raises(SourceError, match=wrong.name):
            list(frames_of(str(wrong), 1.0))
