"""config/esam.rviz, as far as it can be checked without RViz: what it shows are the contract's topics, as they are sent."""

import yaml

from test.conftest import ROOT

# the contract: topic -> type, by the display that takes it
DISPLAYS = {
    "/esam/overlay": "rviz_default_plugins/Image",
    "/esam/mask": "rviz_default_plugins/Image",
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


def test_the_heatmap_keeps_its_scale_and_the_mask_is_seen():
    _, shown = displays()
    heatmap, mask = shown["/esam/heatmap"], shown["/esam/mask"]
    assert (heatmap["Normalize Range"], heatmap["Min Value"], heatmap["Max Value"]) == (False, 0, 1)
    assert mask["Normalize Range"] is True  # labels begin at 1, which is black otherwise


def test_the_3d_view_is_the_cameras():
    content, shown = displays()
    manager = content["Visualization Manager"]
    # what the cameras of this package stamp their images with
    text = (ROOT / "esam_perception" / "ros" / "camera.py").read_text()
    assert f'FRAME_ID = "{manager["Global Options"]["Fixed Frame"]}"' in text
    assert shown["/esam/points"]["Color Transformer"] == "AxisColor"  # the cloud has x, y, z alone
    assert manager["Views"]["Current"]["Class"] == "rviz_default_plugins/Orbit"
    panels = [panel["Class"] for panel in content["Panels"]]
    assert {"rviz_common/Displays", "rviz_common/Time"} <= set(panels)


def test_the_launch_files_use_it():
    assert any("esam.rviz" in path.read_text() for path in (ROOT / "launch").glob("*.py"))
