"""The package as a whole: contract, metadata."""

import ast
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest

from test.conftest import ROOT

SOURCES = sorted((ROOT / "esam_perception").rglob("*.py"))


def imports_of(path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def test_importing_the_package_imports_neither_torch_nor_rclpy():
    code = "import sys, esam_perception, esam_perception.commands.dispatcher; print([m for m in ('torch', 'rclpy', 'cv2', 'mujoco') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT).strip() == "[]"


def test_no_unsafe_loading_and_no_bare_except():
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ExceptHandler):
                assert node.type is not None, f"{path}: bare except"
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                assert any(k.arg == "weights_only" and k.value.value is True for k in node.keywords), path


MESSAGES = {
    "Query": {"id": "string", "text": "string", "match_threshold": "float", "reject_threshold": "float"},
    "QueryArray": {"header": "std_msgs/Header", "queries": "sequence<esam_perception/Query>"},
    "Segment": {
        "label": "uint8", "mask": "sensor_msgs/Image", "predicted_iou": "float", "region_score": "float", "salience": "float",
        "box": "sensor_msgs/RegionOfInterest", "prompt_points": "sequence<geometry_msgs/Point32>", "has_target": "boolean",
        "target": "geometry_msgs/PoseWithCovariance", "extent": "float[3]",
    },
    "Match": {
        "query_id": "string", "text": "string", "verdict": "uint8", "itm_logits": "float[2]", "itm_score": "float",
        "itc_similarity": "float", "confidence": "float", "heatmap": "sensor_msgs/Image", "gradcam": "sensor_msgs/Image",
        "segments": "sequence<esam_perception/Segment>",
    },
    "MatchArray": {
        "header": "std_msgs/Header", "matches": "sequence<esam_perception/Match>", "profile": "string",
        "weights_sha256": "string", "timing": "esam_perception/Timing", "frames_processed": "uint64",
        "frames_dropped": "uint64", "frames_refused": "uint64",
    },
    "Timing": dict.fromkeys(
        ("age_at_start", "preprocess", "blip_image", "blip_text", "gradcam", "sam_image", "sam_decode", "fuse", "publish", "total"),
        "float",
    ),
}  # fmt: skip


def test_messages_and_the_service_are_the_contracts():
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    from esam_perception import msg, srv

    for name, fields in MESSAGES.items():
        assert getattr(msg, name).get_fields_and_field_types() == fields, name
    assert (msg.Match.UNSURE, msg.Match.MATCH, msg.Match.NO_MATCH) == (0, 1, 2)
    assert srv.Locate.Request.get_fields_and_field_types() == {
        "texts": "sequence<string>", "image": "sensor_msgs/Image", "stamp": "builtin_interfaces/Time"
    }  # fmt: skip
    assert srv.Locate.Response.get_fields_and_field_types() == {
        "success": "boolean", "message": "string", "result": "esam_perception/MatchArray"
    }  # fmt: skip


def test_every_interface_is_built():
    text = (ROOT / "CMakeLists.txt").read_text()
    for path in [*(ROOT / "msg").iterdir(), *(ROOT / "srv").iterdir()]:
        assert str(path.relative_to(ROOT)) in text


def test_package_xml_names_what_is_used():
    root = ElementTree.parse(ROOT / "package.xml").getroot()
    assert root.find("name").text == "esam_perception" and root.find("license").text == "Apache-2.0"
    assert root.find("export/build_type").text == "ament_cmake"
    assert root.find("member_of_group").text == "rosidl_interface_packages"
    named = {element.text for element in root if element.tag.endswith("depend")}
    used = set()
    for path in SOURCES:
        used |= {name.split(".")[0] for name in imports_of(path)}
    assert {package for package in used if package.endswith(("_msgs", "_interfaces")) or package == "rclpy"} - {
        "vision_msgs"
    } <= named
    assert not (ROOT / "setup.cfg").exists()  # ament_cmake_python would pick it up


def test_what_is_pinned_lies_in_the_ranges_and_private_modules_have_a_last_version():
    """`pip install .` takes ranges, `./esam` exact versions: what was tested must be among what is allowed."""
    from packaging.requirements import Requirement

    (ranges,) = (
        ast.literal_eval(node.value)
        for node in ast.walk(ast.parse((ROOT / "setup.py").read_text()))
        if isinstance(node, ast.Assign) and node.targets[0].id == "REQUIRES"
    )
    allowed = {one.name: one.specifier for one in map(Requirement, ranges)}
    lines = (line.partition("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines())
    for pinned in (Requirement(line) for line in lines if line):
        (exact,) = pinned.specifier
        assert exact.operator == "==" and exact.version in allowed[pinned.name], pinned
    # its BLIP is rewired from inside (matching): any next minor version may move what is used
    assert any(one.operator.startswith("<") for one in allowed["transformers"])
