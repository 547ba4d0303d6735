"""The launch files, read: the launch package is not on PyPI, so they cannot be executed here."""

import ast

import pytest
import yaml

from test.conftest import ROOT

# The public contract: argument names and defaults of esam.launch.py (None: a path inside the installed package).
CONTRACT = {
    "namespace": "", "params_file": None, "use_sim_time": "false", "autostart": "true", "log_level": "info",
    "image": "/camera/image_raw", "depth": "", "camera_info": "", "image_transport": "raw", "model": "auto", "device": "auto",
    "rviz": "false", "respawn": "false", "fastdds_profile": None,
}  # fmt: skip


def declared(path) -> dict:
    """name -> (default, description) of every DeclareLaunchArgument; a default that is computed is None."""
    found = {}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "DeclareLaunchArgument":
            keywords = {k.arg: k.value for k in node.keywords}
            default = keywords["default_value"]
            found[node.args[0].value] = (getattr(default, "value", None), ast.literal_eval(keywords["description"]))
    return found


@pytest.mark.parametrize("name", ["esam.launch.py", "demo.launch.py"])
def test_it_compiles_and_describes_itself(name):
    path = ROOT / "launch" / name
    module = ast.parse(path.read_text())
    compile(module, str(path), "exec")
    assert any(isinstance(n, ast.FunctionDef) and n.name == "generate_launch_description" for n in module.body)
    assert all(len(description) > 5 for _, description in declared(path).values())


def test_arguments_and_defaults_are_the_contracts():
    found = declared(ROOT / "launch" / "esam.launch.py")
    assert {name: default for name, (default, _) in found.items()} == CONTRACT


def test_defaults_agree_with_the_parameters_file():
    values = yaml.safe_load((ROOT / "config" / "esam.yaml").read_text())["/**"]["ros__parameters"]
    for name, default in CONTRACT.items():
        if name in values:
            told = values[name]
            assert (str(told).lower() if isinstance(told, bool) else told) == default


def test_the_installed_files_that_they_name_exist():
    for name in ("esam.yaml", "fastdds.xml", "esam.rviz"):
        assert (ROOT / "config" / name).is_file()
        assert name in (ROOT / "launch" / "esam.launch.py").read_text()


def test_rviz_shows_what_the_node_publishes():
    displays = yaml.safe_load((ROOT / "config" / "esam.rviz").read_text())["Visualization Manager"]["Displays"]
    topics = {display.get("Topic", {}).get("Value") for display in displays}
    assert {"/esam/overlay", "/esam/mask", "/esam/heatmap", "/esam/targets"} <= topics
