"""The launch files, read, and run over stand-ins: launch is not on PyPI. test_launch_real.py runs them where it is."""

import ast
import os
import re
import runpy
import sys
from types import ModuleType, SimpleNamespace

import pytest
import yaml

from esam_perception.environment.distro import transport_environment
from test.conftest import ROOT

# The public contract: argument names and defaults of esam.launch.py (None: a path inside the installed package).
CONTRACT = {
    "namespace": "", "cameras": "", "params_file": None, "use_sim_time": "false", "autostart": "true", "log_level": "info",
    "image": "/camera/image_raw", "depth": "", "camera_info": "", "image_transport": "raw",
    "reliability": "best_effort", "target_frame": "", "model": "auto", "device": "auto", "rviz": "false",
    "respawn": "false", "keep_queries": "false", "fastdds_profile": None,
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
        if name in values and name != "image":  # that default is a remapping
            told = values[name]
            assert (str(told).lower() if isinstance(told, bool) else told) == default


def test_what_the_node_advises_is_a_parameter_and_an_argument():
    """`ros2 launch` passes over an argument that is not declared: advice that names one would do nothing."""
    values = yaml.safe_load((ROOT / "config" / "esam.yaml").read_text())["/**"]["ros__parameters"]
    advised = set()
    for path in sorted((ROOT / "esam_perception" / "ros").rglob("*.py")):
        texts = [node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)]
        advised |= {name for text in texts if isinstance(text, str) for name in re.findall(r"\b([a-z]\w+):=", text)}
    assert {"reliability", "image_transport"} <= advised <= set(CONTRACT) & set(values)
    # graph_check's "set parameter {wanted.parameter}"
    assert {"image", "depth", "camera_info"} <= set(CONTRACT) & set(values)


def test_the_installed_files_that_they_name_exist():
    for name in ("esam.yaml", "fastdds.xml", "esam.rviz"):
        assert (ROOT / "config" / name).is_file()
        assert name in (ROOT / "launch" / "esam.launch.py").read_text()


def test_rviz_shows_what_the_node_publishes():
    displays = yaml.safe_load((ROOT / "config" / "esam.rviz").read_text())["Visualization Manager"]["Displays"]
    topics = {display.get("Topic", {}).get("Value") for display in displays}
    assert {"/esam/overlay", "/esam/mask_view", "/esam/heatmap", "/esam/targets"} <= topics


# Executed with stand-ins that record what they are given, so that the logic in the files is tested too. ---------------


class Recorded:
    def __init__(self, *args, **kwargs):
        self.args, self.kwargs = args, kwargs


@pytest.fixture
def share(tmp_path, monkeypatch):
    """The folder that stands for the installed share/esam_perception; the variables of a shell without ROS."""
    (tmp_path / "config").mkdir()
    for name in ("esam.yaml", "fastdds.xml", "esam.rviz"):
        (tmp_path / "config" / name).write_bytes((ROOT / "config" / name).read_bytes())
    for name in list(os.environ):
        if name.startswith(("FAST", "ROS_", "MALLOC_")):
            monkeypatch.delenv(name)
    return tmp_path


@pytest.fixture
def load(share, monkeypatch):
    """A function of a launch file's name to its module, over stand-ins for launch and what goes with it."""
    names = {
        "launch": ("LaunchDescription",),
        "launch.actions": (
            "DeclareLaunchArgument", "IncludeLaunchDescription", "LogInfo", "OpaqueFunction", "PopLaunchConfigurations",
            "PushLaunchConfigurations", "Shutdown",
        ),
        "launch.launch_description_sources": ("PythonLaunchDescriptionSource",),
        "launch.substitutions": ("LaunchConfiguration",),
        "launch_ros": (),
        "launch_ros.actions": ("Node",),
        "launch_ros.parameter_descriptions": ("ParameterValue",),
        "ament_index_python": (),
    }  # fmt: skip
    for module, classes in names.items():
        stand_in = ModuleType(module)
        for name in classes:
            setattr(stand_in, name, type(name, (Recorded,), {}))
        monkeypatch.setitem(sys.modules, module, stand_in)
    packages = ModuleType("ament_index_python.packages")
    packages.get_package_share_directory = lambda name: str(share)
    packages.get_packages_with_prefixes = lambda: load.installed
    monkeypatch.setitem(sys.modules, packages.__name__, packages)

    def load(name):
        return SimpleNamespace(**runpy.run_path(str(ROOT / "launch" / name)))

    load.installed = {}
    return load


def launch(module, context=None, **given) -> list:
    """What a launch file starts when these arguments are given, as launch does it: defaults filled in by the way.

    context: of a file that includes it; what is given, and what the file leaves behind, stays in there."""
    context = context or SimpleNamespace(launch_configurations={})
    context.launch_configurations.update(given)
    started, pushed = [], []
    for action in module.generate_launch_description().args[0]:
        match type(action).__name__:
            case "DeclareLaunchArgument":
                context.launch_configurations.setdefault(action.args[0], action.kwargs["default_value"])
            case "PushLaunchConfigurations":
                pushed.append(dict(context.launch_configurations))
            case "PopLaunchConfigurations":
                context.launch_configurations = pushed.pop()
            case "OpaqueFunction":
                started += action.kwargs["function"](context) or []
            case _:
                started.append(action)
    assert not pushed
    return started


def test_an_argument_that_is_not_given_leaves_the_parameters_file_alone(load, share):
    (node,) = launch(load("esam.launch.py"))
    assert node.kwargs["parameters"] == [str(share / "config" / "esam.yaml"), {}]
    assert [node.kwargs[key] for key in ("package", "executable", "name")] == ["esam_perception", "esam", "esam"]


def test_a_given_argument_wins_and_keeps_its_type(load):
    (node,) = launch(load("esam.launch.py"), autostart="False", image="/left", depth="", model="1", namespace="/one/")
    overrides = node.kwargs["parameters"][1]
    assert set(overrides) == {"autostart", "image", "depth", "model"} and overrides["autostart"] is False
    for name, value in {"image": "/left", "depth": "", "model": "1"}.items():
        assert overrides[name].args == (value,) and overrides[name].kwargs == {"value_type": str}
    assert node.kwargs["namespace"] == "one"


def test_included_twice_each_keeps_its_own_parameters_file(load, tmp_path):
    context = SimpleNamespace(launch_configurations={"mine": "1"})
    module = load("esam.launch.py")
    for name in ("one", "two"):
        (tmp_path / name).touch()
        (node,) = launch(module, context, params_file=str(tmp_path / name))
        assert node.kwargs["parameters"] == [str(tmp_path / name), {}]
    assert context.launch_configurations == {"mine": "1", "params_file": str(tmp_path / "two")}


def test_the_demo_leaves_nothing_behind(load):
    names = [type(action).__name__ for action in load("demo.launch.py").generate_launch_description().args[0]]
    assert names[0] == "PushLaunchConfigurations" and names[-1] == "PopLaunchConfigurations"
    assert len([name for name in names if name.endswith("LaunchConfigurations")]) == 2


@pytest.mark.parametrize(
    "given, name",
    [({}, "esam"), ({"namespace": "/robot/front/"}, "robot.front.esam"),
     ({"ros_namespace": "/robot", "cameras": "front"}, "robot.front.esam")],
)  # fmt: skip
def test_the_level_is_of_the_nodes_own_logger(load, given, name):
    """A level without a name turns on the logs of rcl and rmw too."""
    (node,) = launch(load("esam.launch.py"), log_level="Debug", **given)
    assert node.kwargs["arguments"] == ["--ros-args", "--log-level", f"{name}:=debug"]
    with pytest.raises(ValueError, match="log_level is 'loud', it must be one of: debug"):
        launch(load("esam.launch.py"), log_level="loud")


def test_several_cameras_are_several_nodes_in_namespaces(load):
    nodes = launch(
        load("esam.launch.py"), cameras="front, left", namespace="robot", model="tabletop", depth="/{camera}/depth"
    )
    assert [node.kwargs["namespace"] for node in nodes] == ["robot/front", "robot/left"]
    for camera, node in zip(("front", "left"), nodes):
        values = {name: value.args[0] for name, value in node.kwargs["parameters"][1].items()}
        assert values == {"image": f"/{camera}/image_raw", "depth": f"/{camera}/depth", "model": "tabletop"}
    module = load("esam.launch.py")
    with pytest.raises(ValueError, match="must say {camera}"):
        launch(module, cameras="front,left", image="/image_raw")
    with pytest.raises(ValueError, match="twice"):
        launch(module, cameras="front,front")


@pytest.mark.parametrize("name", ["autostart", "use_sim_time", "rviz", "respawn"])
def test_what_is_neither_true_nor_false_is_refused(load, name):
    with pytest.raises(ValueError, match=f"{name} is 'maybe'"):
        launch(load("esam.launch.py"), **{name: "maybe"})


def test_a_parameters_file_that_is_not_there_is_refused(load):
    with pytest.raises(FileNotFoundError, match="params_file.*nowhere"):
        launch(load("esam.launch.py"), params_file="/nowhere.yaml")


@pytest.mark.parametrize("file", ["esam.launch.py", "demo.launch.py"])
def test_the_processes_get_the_transport_for_large_images(load, share, monkeypatch, file):
    """What that is by distribution: test/environment/test_distro.py."""
    monkeypatch.setenv("ROS_DISTRO", "kilted")
    module = load(file)
    (node,) = (node for node in launch(module) if type(node).__name__ == "Node")
    environment = dict(node.kwargs["additional_env"])
    assert (environment.pop("ESAM_RUN", None) is not None) == (file == "esam.launch.py")
    assert environment == transport_environment(share / "config" / "fastdds.xml")
    assert node.kwargs["additional_env"]["FASTDDS_DEFAULT_PROFILES_FILE"] == str(share / "config" / "fastdds.xml")


def values_of(node) -> dict:
    """The parameters that a launch file gives a node beside its file."""
    return {name: getattr(value, "args", (value,))[0] for name, value in node.kwargs["parameters"][1].items()}


def test_images_are_remapped_so_that_the_parameter_wins(load):
    module = load("esam.launch.py")
    (node,) = launch(module)
    assert node.kwargs["remappings"] == [("image", "/camera/image_raw")]
    (node,) = launch(module, image="/front/image")
    assert node.kwargs["remappings"] == [("image", "/front/image")]
    assert values_of(node)["image"] == "/front/image"


def test_queries_are_kept_where_the_node_is_started_again(load):
    module = load("esam.launch.py")
    for given, kept in (({}, None), ({"respawn": "true"}, True), ({"keep_queries": "true"}, True),
                        ({"respawn": "true", "keep_queries": "false"}, False)):  # fmt: skip
        (node,) = launch(module, **given)
        assert values_of(node).get("keep_queries") == kept, given


def test_rviz_where_it_is_installed_and_a_line_where_it_is_not(load):
    displays = yaml.safe_load((ROOT / "config" / "esam.rviz").read_text())["Visualization Manager"]["Displays"]
    shown = {(d["Topic"]["Value"], f"/one{d['Topic']['Value']}") for d in displays if "Topic" in d}
    module = load("esam.launch.py")
    (_, message) = launch(module, rviz="true")
    assert "apt-get install" in message.kwargs["msg"]
    load.installed["rviz2"] = "/opt/ros/any"
    (_, rviz) = launch(module, rviz="true", namespace="one")
    assert rviz.kwargs["executable"] == "rviz2" and shown <= set(rviz.kwargs["remappings"])
    assert load("esam.launch.py").SHOWN and len(launch(module)) == 1


def test_the_demo_hands_the_simulated_cameras_topics_to_the_node(load):
    actions = load("demo.launch.py").generate_launch_description().args[0]
    (include,) = (action for action in actions if type(action).__name__ == "IncludeLaunchDescription")
    handed = dict(include.kwargs["launch_arguments"])
    assert set(handed) <= set(CONTRACT)
    source = (ROOT / "esam_perception" / "ros" / "cameras" / "camera.py").read_text()
    for name in ("image", "depth", "camera_info"):
        assert f'"{handed[name].lstrip("/")}"' in source  # what the camera publishes


# The demo's camera -----------------------------------------------------------------------------------------------


def camera_of(module, **given):
    (camera,) = (action for action in launch(module, **given) if type(action).__name__ == "Node")
    return camera


def ended(camera, code: int, is_shutdown: bool = False):
    """What launch does when the camera's process ends."""
    return camera.kwargs["on_exit"](SimpleNamespace(returncode=code), SimpleNamespace(is_shutdown=is_shutdown))


def test_the_demos_camera_is_a_choice_of_words(load):
    (argument,) = (
        action
        for action in load("demo.launch.py").generate_launch_description().args[0]
        if type(action).__name__ == "DeclareLaunchArgument" and action.args == ("camera",)
    )
    # launch itself refuses any other word, and --show-args lists these
    assert argument.kwargs["choices"] == ("auto", "simulated", "clip") and argument.kwargs["default_value"] == "auto"


def test_the_demo_replays_the_clip_when_told_to(load):
    camera = camera_of(load("demo.launch.py"), camera="clip", rate="2")
    assert camera.kwargs["executable"] == "file_camera" and camera.kwargs["parameters"] == [
        {"source": "clip", "rate": 2.0}
    ]


def test_the_demo_falls_back_to_the_clip_where_nothing_can_be_rendered(load):
    from esam_perception.tabletop.needs import CANNOT_RENDER_EXIT_CODE

    module = load("demo.launch.py")
    camera = camera_of(module)
    assert camera.kwargs["executable"] == "simulated_camera"
    assert camera.kwargs["parameters"] == [{"seed": 900_000, "rate": 5.0, "scene_period": 20.0}]
    line, clip = ended(camera, CANNOT_RENDER_EXIT_CODE)
    assert "recorded clip" in line.kwargs["msg"] and clip.kwargs["executable"] == "file_camera"
    # who asks for the simulation by name gets no other
    _, end = ended(camera_of(module, camera="simulated"), CANNOT_RENDER_EXIT_CODE)
    assert type(end).__name__ == "Shutdown" and "exit code 3" in end.kwargs["reason"]


@pytest.mark.parametrize("camera", ["auto", "simulated", "clip"])
def test_the_demo_does_not_go_on_without_a_camera(load, camera):
    started = camera_of(load("demo.launch.py"), camera=camera)
    _, end = ended(started, -11)
    assert type(end).__name__ == "Shutdown" and "exit code -11" in end.kwargs["reason"]
    assert not ended(started, 0, is_shutdown=True)  # Ctrl-C: it is ending anyway


@pytest.mark.parametrize("name", ["rate", "seed", "scene_period"])
def test_what_is_no_number_is_refused(load, name):
    with pytest.raises(ValueError, match=f"{name} is 'fast'"):
        launch(load("demo.launch.py"), **{name: "fast"})
