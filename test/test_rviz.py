"""config/esam.rviz, as far as it can be checked without RViz: what it shows are the contract's topics, as they are sent."""

import numpy as np
import yaml

from test.conftest import ROOT

# the contract: topic -> type, by the display that takes it
DISPLAYS = {
    "/esam/overlay": "rviz_default_plugins/Image",
    "/esam/mask_view": "rviz_default_plugins/Image",
    "/esam/heatmap": "rviz_default_plugins/Image",
    "/esam/targets": "rviz_default_plugins/MarkerArray",
    "/esam/target_poses": "rviz_default_plugins/PoseArray",
    "/esam/points": "rviz_default_plugins/PointCloud2",
}


def displays():
    content = yaml.safe_load((ROOT / "config" / "esam.rviz").read_text())
    return content, {d["Topic"]["Value"]: d for d in content["Visualization Manager"]["Displays"] if "Topic" in d}


def test_every_output_for_people_has_a_display_of_its_kind():
    _, shown = displays()
    assert {topic: display["Class"] for topic, display in shown.items()} == DISPLAYS
    for topic, display in shown.items():
        assert display["Enabled"] and display["Value"] is True, topic
        assert display["Name"] and len({d["Name"] for d in shown.values()}) == len(shown)
        # the node's outputs are reliable and volatile: a display that asks for more would stay empty
        assert display["Topic"]["Durability Policy"] == "Volatile"
        assert display["Topic"]["Reliability Policy"] in ("Reliable", "Best Effort")


def test_the_heatmap_keeps_its_scale():
    _, shown = displays()
    heatmap = shown["/esam/heatmap"]
    assert (heatmap["Normalize Range"], heatmap["Min Value"], heatmap["Max Value"]) == (False, 0, 1)


def test_the_window_fits_a_laptops_screen_and_every_dock_has_its_place():
    content, shown = displays()
    geometry = content["Window Geometry"]
    # of 1366 x 768, less the desktop's bar, the window's frame and title
    assert geometry["X"] + geometry["Width"] <= 1366 and geometry["Y"] + geometry["Height"] <= 730
    state = bytes.fromhex(geometry["QMainWindow State"])
    # QMainWindow.saveState(): its mark, the version that RViz restores (0), then the docks by objectName
    assert state.startswith(bytes.fromhex("000000ff00000000fd"))
    images = [display["Name"] for display in shown.values() if display["Class"] == "rviz_default_plugins/Image"]
    for name in [*images, *(panel["Name"] for panel in content["Panels"]), "Tools"]:
        text = name.encode("utf-16-be")
        assert len(text).to_bytes(4, "big") + text in state, f"{name}: run scripts/rviz_layout.py"
        assert name == "Tools" or geometry[name] == {"collapsed": False}


def test_the_first_view_shows_the_camera_and_what_stands_before_it(clip):
    """RViz' Orbit view: the eye lies `Distance` from the focal point, z of the target frame is up; Ogre's camera opens 45
    degrees vertically."""
    view = displays()[0]["Visualization Manager"]["Views"]["Current"]
    yaw, pitch = view["Yaw"], view["Pitch"]
    back = np.array([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), np.sin(pitch)])
    eye = np.array([view["Focal Point"][axis] for axis in "XYZ"]) + view["Distance"] * back
    right = np.cross([0, 0, 1], back) / np.cos(pitch)
    axes = [[0, 0, 0], [0.1, 0, 0], [0, 0.1, 0], [0, 0, 0.1]]
    objects = [item.position for frame in clip for item in frame.objects if item.visible]
    x, y, ahead = ((np.array([*axes, *objects]) - eye) @ np.stack([right, np.cross(back, right), -back]).T).T
    half = np.tan(np.radians(45) / 2)
    # a view as high as wide, with room for a thing's own size and its label
    assert (ahead > view["Near Clip Distance"]).all() and max(np.abs([x, y] / ahead).max(axis=1)) < 0.9 * half
    assert y[: len(axes)].mean() < y[len(axes) :].mean()  # the camera in front, below; what it looks at behind it


def test_the_3d_view_is_the_cameras():
    content, shown = displays()
    manager = content["Visualization Manager"]
    # what the cameras of this package stamp their images with
    text = (ROOT / "esam_perception" / "ros" / "cameras" / "camera.py").read_text()
    assert f'FRAME_ID = "{manager["Global Options"]["Fixed Frame"]}"' in text
    assert shown["/esam/points"]["Color Transformer"] == "AxisColor"  # the cloud has x, y, z alone
    assert manager["Views"]["Current"]["Class"] == "rviz_default_plugins/Orbit"
    panels = [panel["Class"] for panel in content["Panels"]]
    assert {"rviz_common/Displays", "rviz_common/Time"} <= set(panels)


def test_the_launch_files_use_it():
    assert any("esam.rviz" in path.read_text() for path in (ROOT / "launch").glob("*.py"))
