"""The launch files run by the real launch and launch_ros, where they are installed, over executables that only note."""

import json
import os
import stat
import sys
from pathlib import Path

import pytest
import yaml

from test.conftest import ROOT

pytest.importorskip(
    "launch_ros", reason="launch_ros is not installed: it comes with apt's ROS 2, not with the PyPI wheels"
)

from launch.actions import GroupAction, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch_ros.actions import PushRosNamespace

from launch import LaunchDescription, LaunchService

WRITER = f"""#!{sys.executable}
import json, os, pathlib, sys, time
files = [sys.argv[i + 1] for i, word in enumerate(sys.argv) if word == "--params-file"]
texts = [pathlib.Path(file).read_text() for file in files]
seen = {{"arguments": sys.argv[1:], "files": texts, "environment": dict(os.environ)}}
name, folder = pathlib.Path(sys.argv[0]).name, pathlib.Path({{folder!r}})
new = folder / f"{{name}}.{{os.getpid()}}.new"
new.write_text(json.dumps(seen))
new.rename(new.with_suffix(".json"))
# a camera lives longer than the nodes: a demo may end with its camera
while name != "esam" and len(list(folder.glob("esam.*.json"))) < int(os.environ["NODES"]):
    time.sleep(0.05)
"""


@pytest.fixture
def prefix(tmp_path, monkeypatch):
    """An installed esam_perception of the sources' launch files, its executables replaced."""
    share, seen = tmp_path / "share" / "esam_perception", tmp_path / "seen"
    for folder in (
        share,
        seen,
        tmp_path / "lib" / "esam_perception",
        tmp_path / "share/ament_index/resource_index/packages",
    ):
        folder.mkdir(parents=True)
    (tmp_path / "share/ament_index/resource_index/packages/esam_perception").touch()
    for folder in ("launch", "config"):
        (share / folder).symlink_to(ROOT / folder)
    for name in ("esam", "simulated_camera", "file_camera"):
        executable = tmp_path / "lib" / "esam_perception" / name
        executable.write_text(WRITER.replace("{folder!r}", repr(str(seen))))
        executable.chmod(executable.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"{tmp_path}{os.pathsep}{os.environ['AMENT_PREFIX_PATH']}")
    monkeypatch.setenv("ROS_LOG_DIR", str(tmp_path / "log"))
    monkeypatch.setenv("NODES", "0")
    return tmp_path


def include(prefix: Path, name: str = "esam.launch.py", **arguments: str) -> IncludeLaunchDescription:
    file = prefix / "share" / "esam_perception" / "launch" / name
    return IncludeLaunchDescription(PythonLaunchDescriptionSource(str(file)), launch_arguments=list(arguments.items()))


def launched(prefix: Path, *entities) -> dict[str, list[dict]]:
    """What each executable was started with, by its name. entities: each starts one node."""
    os.environ["NODES"] = str(len(entities))
    service = LaunchService()
    service.include_launch_description(LaunchDescription(list(entities)))
    assert service.run() == 0
    found: dict[str, list[dict]] = {}
    for file in (prefix / "seen").glob("*.json"):
        found.setdefault(file.name.split(".")[0], []).append(json.loads(file.read_text()))
    return found


def parameters(started: dict) -> dict:
    """The parameters of a node: of its files, the last word first."""
    values: dict = {}
    for text in started["files"]:
        (section,) = yaml.safe_load(text).values()
        values.update(section["ros__parameters"])
    return values


def after(word: str, arguments: list[str]) -> list[str]:
    return [arguments[i + 1] for i, each in enumerate(arguments) if each == word]


def test_included_twice_each_keeps_its_own_parameters_file(prefix, tmp_path):
    files = []
    for name in ("one", "two"):
        files.append(tmp_path / f"{name}.yaml")
        files[-1].write_text(
            f"/**:\n  ros__parameters: {{image: /{name}/image, model: {name}, reliability: reliable}}\n"
        )
    includes = [include(prefix, params_file=str(f), namespace=f.stem) for f in files]
    nodes = launched(prefix, *includes)["esam"]
    found = {parameters(node)["model"]: parameters(node) for node in nodes}
    assert set(found) == {"one", "two"}
    for name, values in found.items():
        assert values == {"image": f"/{name}/image", "model": name, "reliability": "reliable"}


def test_after_the_demo_a_node_of_ones_own_knows_nothing_of_it(prefix):
    """The demo's arguments, and those that it hands on."""
    mine = prefix / "mine.yaml"
    mine.write_text("/**:\n  ros__parameters: {depth: /my/depth, device: cuda}\n")
    started = launched(prefix, include(prefix, "demo.launch.py", rviz="false"), include(prefix, params_file=str(mine)))
    assert len(started["simulated_camera"]) == 1
    models = [parameters(node) for node in started["esam"]]
    assert {"depth": "/my/depth", "device": "cuda"} in models
    assert any(values.get("model") == "tabletop" and values["depth"] == "/camera/depth/image_raw" for values in models)


def test_an_argument_that_is_given_wins_over_the_parameters_file(prefix):
    (node,) = launched(prefix, include(prefix, reliability="reliable", target_frame="base_link", autostart="false"))[
        "esam"
    ]
    values = parameters(node)
    defaults = yaml.safe_load((ROOT / "config" / "esam.yaml").read_text())["/**"]["ros__parameters"]
    assert values == {**defaults, "reliability": "reliable", "target_frame": "base_link", "autostart": False}


@pytest.mark.parametrize("pushed, namespace, logger", [("", "", "esam"), ("robot", "front", "robot.front.esam")])
def test_the_level_is_of_the_nodes_own_logger(prefix, pushed, namespace, logger):
    """Its name holds all the namespaces that the node is in."""
    inner = include(prefix, log_level="DEBUG", namespace=namespace)
    (node,) = launched(prefix, GroupAction([PushRosNamespace(pushed), inner]) if pushed else inner)["esam"]
    assert after("--log-level", node["arguments"]) == [f"{logger}:=debug"]
    given = [word.split(":=")[1] for word in after("-r", node["arguments"]) if word.startswith("__ns:=")]
    assert ".".join(filter(None, [*"".join(given).strip("/").split("/"), "esam"])) == logger


def test_the_processes_get_the_transport_for_large_images(prefix):
    from esam_perception.environment.distro import profile_in_use

    started = launched(prefix, include(prefix, "demo.launch.py", rviz="false"))
    for name in ("esam", "simulated_camera"):
        (process,) = started[name]
        assert profile_in_use(process["environment"]).endswith("fastdds.xml")
        assert int(process["environment"]["MALLOC_TRIM_THRESHOLD_"]) > 1 << 27
