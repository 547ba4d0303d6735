"""Which ROS the starter takes, and how it builds against a sourced one."""

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from test.conftest import ROOT
from test.starters import DECIDING, copy_starter, fake_ros, load_starter, run_starter

# Where rclpy lies: apt's Jazzy and later, apt's Humble.
LAYOUTS = ("lib/python3.{}/site-packages", "local/lib/python3.{}/dist-packages")


@pytest.fixture
def starter(tmp_path, monkeypatch):
    """The starter as a module, in a shell without ROS, on a machine with wheels."""
    for name in DECIDING:
        monkeypatch.delenv(name, raising=False)
    module = load_starter(copy_starter(tmp_path))
    monkeypatch.setattr(module, "why_no_wheels", lambda venv: "")
    return module


@pytest.fixture
def jazzy(starter, monkeypatch):
    """A prefix by the name of /opt/ros/jazzy, sourced."""
    prefix = starter.OPT_ROS / "jazzy"
    packages = fake_ros(prefix, starter)
    (prefix / "setup.bash").touch()
    monkeypatch.setenv("ROS_DISTRO", "jazzy")
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(prefix))
    monkeypatch.setenv("PYTHONPATH", str(packages))
    return prefix


def chosen(starter, *arguments):
    setup = starter.choose_ros(list(arguments))
    return setup.ros, setup.venv.name


def failure(capsys, act) -> str:
    with pytest.raises(SystemExit):
        act()
    (told,) = capsys.readouterr().err.splitlines()
    return told


def test_each_ros_has_an_environment_of_its_own(starter, jazzy, monkeypatch):
    assert chosen(starter) == ("jazzy", ".venv")
    for ros, venv in {"jazzy": ".venv", "kilted": ".venv-kilted", "system": ".venv-system"}.items():
        monkeypatch.setenv("ESAM_ROS", ros)
        assert chosen(starter) == (ros, venv)


def test_an_unknown_ros_is_one_line(tmp_path):
    (told,) = run_starter(copy_starter(tmp_path), "demo", ESAM_ROS="noetic")
    assert "ESAM_ROS is 'noetic', it can be jazzy, kilted, system" in told


def test_a_sourced_ros_is_offered_in_one_line_until_the_user_chooses(starter, jazzy, capsys, monkeypatch):
    assert chosen(starter, "demo", "--query", "the red mug") == ("jazzy", ".venv")
    (told,) = capsys.readouterr().err.splitlines()
    assert "ROS 2 jazzy is sourced" in told and told.endswith("ESAM_ROS=system ./esam demo --query 'the red mug'")
    for ros in starter.VENVS:
        monkeypatch.setenv("ESAM_ROS", ros)
        chosen(starter, "demo")
    assert capsys.readouterr().err == ""


def test_our_own_environments_are_no_sourced_ros(starter, monkeypatch, capsys):
    """A shell of `./esam shell`."""
    (starter.ROOT / ".venv" / ".esam").mkdir(parents=True)
    monkeypatch.setenv("ROS_DISTRO", "jazzy")
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(starter.ROOT / ".venv"))
    assert chosen(starter) == ("jazzy", ".venv") and capsys.readouterr().err == ""


def test_where_no_wheels_can_be_had_a_sourced_ros_is_taken_and_said(starter, jazzy, capsys, monkeypatch):
    monkeypatch.setattr(starter, "why_no_wheels", lambda venv: "PyPI has ROS 2 for others alone (this is aarch64)")
    assert chosen(starter) == ("system", ".venv-system")
    (told,) = capsys.readouterr().err.splitlines()
    assert "aarch64" in told and "taking the sourced ROS 2 jazzy (ESAM_ROS=system)" in told
    monkeypatch.setenv("ESAM_ROS", "jazzy")  # the user insists
    assert "aarch64" in failure(capsys, lambda: chosen(starter))


@pytest.mark.parametrize("wanted", ["", "system"])
def test_a_ros_that_is_there_but_not_sourced_is_named(starter, capsys, monkeypatch, wanted):
    monkeypatch.setattr(starter, "why_no_wheels", lambda venv: "PyPI has ROS 2 for others alone (this is aarch64)")
    monkeypatch.setenv("ESAM_ROS", wanted)
    humble = starter.OPT_ROS / "humble"
    humble.mkdir(parents=True)
    (humble / "setup.bash").touch()
    told = failure(capsys, lambda: chosen(starter))
    assert f"source {humble}/setup.bash, and run the same command again" in told


@pytest.mark.parametrize("release, distro", [("22.04", "humble"), ("24.04", "jazzy"), ("26.04", "lyrical")])
def test_without_any_ros_the_one_of_this_ubuntu_is_named(starter, capsys, monkeypatch, tmp_path, release, distro):
    (tmp_path / "os-release").write_text(f'NAME="Ubuntu"\nVERSION_ID="{release}"\nID=ubuntu\n')
    monkeypatch.setattr(starter, "OS_RELEASE", tmp_path / "os-release")
    monkeypatch.setenv("ESAM_ROS", "system")
    told = failure(capsys, lambda: chosen(starter))
    assert f"sudo apt-get install -y ros-{distro}-ros-base" in told and f"source /opt/ros/{distro}/setup.bash" in told


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("minor", [10, 14])
def test_the_python_is_the_one_the_sourced_ros_is_built_for(starter, tmp_path, monkeypatch, layout, minor):
    packages = fake_ros(tmp_path / "ros", starter, minor, layout)
    for path in (str(packages), ""):  # a shell that lost PYTHONPATH
        monkeypatch.setenv("PYTHONPATH", path)
        setup = starter.SystemSetup("some", [str(tmp_path / "ros")])
        assert setup.rclpy == packages and setup.python_version() == (3, minor)


def test_the_systems_python_comes_before_another_one_of_that_version(starter, jazzy, tmp_path, monkeypatch, capsys):
    setup = starter.SystemSetup("jazzy", [str(jazzy)])
    tried = []
    monkeypatch.setattr(starter, "what_python_lacks", lambda python: tried.append(python) or "no")
    monkeypatch.setattr(starter.os.path, "exists", lambda path: True)
    other = tmp_path / "bin" / "python3.12"
    other.parent.mkdir()
    other.touch(0o755)
    monkeypatch.setenv("PATH", str(other.parent))
    with pytest.raises(SystemExit):
        setup.find_python()
    assert tried == ["/usr/bin/python3.12", str(other)]


def test_the_sourced_ros_stays_whole_and_the_environment_comes_first(starter, jazzy, monkeypatch):
    for name in starter.FASTDDS_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    kept = {
        "PATH": f"{jazzy}/bin:/usr/bin",
        "PYTHONPATH": f"/ws/install/lib/python3.12/site-packages:{jazzy}/lib/python3.12/site-packages",
        "LD_LIBRARY_PATH": f"{jazzy}/lib:/usr/local/cuda/lib64",
        "AMENT_PREFIX_PATH": f"/ws/install:{jazzy}",
        "CMAKE_PREFIX_PATH": "/ws/install",
        "RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp",
        "ROS_DISTRO": "jazzy",
    }
    for name, value in kept.items():
        monkeypatch.setenv(name, value)
    setup = starter.SystemSetup("jazzy", ["/ws/install", str(jazzy)])
    env, venv = setup.environment(), setup.venv
    assert env["PATH"] == f"{venv}/bin:{kept['PATH']}"
    assert env["PYTHONPATH"] == f"{venv}/lib/python3.12/site-packages:{kept['PYTHONPATH']}"
    assert env["LD_LIBRARY_PATH"] == f"{venv}/lib:{kept['LD_LIBRARY_PATH']}"
    assert env["AMENT_PREFIX_PATH"] == f"{venv}:{kept['AMENT_PREFIX_PATH']}"
    assert env["CMAKE_PREFIX_PATH"] == f"{venv}:/ws/install:{jazzy}"
    assert (env["RMW_IMPLEMENTATION"], env["ROS_DISTRO"]) == ("rmw_cyclonedds_cpp", "jazzy")
    assert env["FASTRTPS_DEFAULT_PROFILES_FILE"].endswith("/config/fastdds.xml")
    # what one run hands on (`./esam shell`) leads the next one to the same place, and to the same search paths
    (venv / ".esam").mkdir(parents=True)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    again = starter.choose_ros(["demo"])
    assert again.venv == venv and again.prefixes == setup.prefixes
    assert again.environment() == env


@pytest.mark.parametrize(
    "gone, package",
    [
        ("packages/rosidl_default_generators", "ros-jazzy-rosidl-default-generators"),
        ("packages/visualization_msgs", "ros-jazzy-visualization-msgs"),
        ("rmw_typesupport/rmw_cyclonedds_cpp", "ros-jazzy-rmw-fastrtps-cpp"),
    ],
)
def test_what_the_sourced_ros_lacks_is_one_line_with_apts_package(starter, jazzy, capsys, gone, package):
    setup = starter.SystemSetup("jazzy", [str(jazzy)])
    setup.check_ros()
    (jazzy / "share" / "ament_index" / "resource_index" / gone).unlink()
    told = failure(capsys, setup.check_ros)
    assert f"sudo apt-get install -y {package}" in told and str(jazzy) in told


def test_a_workspace_that_is_not_built_is_one_line(starter, tmp_path, capsys):
    setup = starter.SystemSetup("humble", [str(tmp_path / "install")])
    assert "lacks ament_cmake" in failure(capsys, setup.check_ros)


def test_a_ros_whose_python_lacks_numpy_is_one_line(starter, jazzy, monkeypatch, capsys):
    setup = starter.SystemSetup("jazzy", [str(jazzy)])
    monkeypatch.setattr(setup, "find_python", lambda: "/usr/bin/true")  # answers nothing
    assert "/usr/bin/true has no NumPy" in (told := failure(capsys, setup.there)) and "python3-numpy" in told


def test_an_older_ros_is_one_line(starter, tmp_path, monkeypatch, capsys):
    fake_ros(tmp_path / "foxy", starter, 8)
    setup = starter.SystemSetup("foxy", [str(tmp_path / "foxy")])
    assert "built for Python 3.8, 3.10 is needed: ROS 2 Humble or newer" in failure(capsys, setup.check_ros)


@pytest.mark.parametrize(
    "there, numpy, opencv",
    [
        ({"numpy": "1.21.5", "cv2": "4.5.4"}, "numpy>=1.26,<2", None),
        ({"numpy": "1.26.4"}, "numpy>=1.26,<2", "opencv-python-headless>=4.8,<5"),
        ({"numpy": "2.3.4", "cv2": "4.10.0"}, "numpy>=2,<3", None),
    ],
)
def test_numpy_stays_what_ros_was_compiled_for(starter, jazzy, there, numpy, opencv):
    from packaging.requirements import Requirement

    setup = starter.SystemSetup("jazzy", [str(jazzy)])
    setup.stamps.mkdir(parents=True)
    setup._there = there
    bent = {}
    for name in starter.REQUIREMENTS:
        for line in filter(None, setup.requirement_file(name).read_text().splitlines()):
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate():
                bent[requirement.name] = requirement.specifier
    assert bent["numpy"] == Requirement(numpy).specifier
    assert bent.get("opencv-python-headless") == (opencv and Requirement(opencv).specifier)
    assert "2.4.0" in bent["torch"] and "9.0" not in bent["pytest"]
    assert str(bent["safetensors"]).startswith("==")  # all else is what was tested


@pytest.mark.parametrize(
    "distro, there, wanted",
    [
        ("humble", {"em": "3.3.4", "lark": "1", "catkin_pkg": "1"}, []),
        ("kilted", {"em": "4.2", "lark": "1", "catkin_pkg": "1"}, ["empy==3.3.4"]),
        ("lyrical", {"em": "4.2", "lark": "1", "catkin_pkg": "1"}, []),
        ("lyrical", {}, ["lark-parser==0.12.0", "catkin-pkg==1.1.1", "empy==4.2.1"]),
    ],
)
def test_the_builds_tools_are_the_systems_or_what_this_ros_fits(starter, jazzy, monkeypatch, distro, there, wanted):
    setup = starter.SystemSetup(distro, [str(jazzy)])
    setup.stamps.mkdir(parents=True)
    setup._there = {"numpy": "1.26.4", **there}
    called = []
    monkeypatch.setattr(setup, "call", lambda command, what: called.append(command))
    monkeypatch.setattr(starter.shutil, "which", lambda name, path=None: "/usr/bin/" + name)
    setup.install_tools()
    assert [word for command in called for word in command if "==" in word] == wanted


def test_another_ros_or_an_upgraded_one_is_built_against_anew(starter, jazzy):
    setup = starter.SystemSetup("jazzy", [str(jazzy)])
    before = starter.digest(*setup.ros_versions())
    manifest = jazzy / "share" / "sensor_msgs" / "package.xml"
    manifest.parent.mkdir(parents=True)
    manifest.write_text("<version>5.3.7</version>")
    assert starter.digest(*setup.ros_versions()) != before
    assert starter.SystemSetup("humble", [str(jazzy)]).venv_key() != setup.venv_key()


def test_what_is_asked_of_a_sourced_ros_is_what_the_package_declares(starter):
    root = ElementTree.parse(ROOT / "package.xml").getroot()
    to_build, to_run = (
        {element.text for kind in kinds for element in root.iter(kind)}
        for kinds in (("buildtool_depend", "depend"), ("exec_depend",))
    )
    assert to_build <= set(starter.ROS_PACKAGES) <= to_build | to_run


def test_a_bare_shell_runs_the_default_without_a_word(tmp_path):
    """The real command, as far as it gets without a compiler."""
    environment = {name: value for name, value in os.environ.items() if name not in DECIDING}
    environment.update({"PATH": str(tmp_path), "CC": "", "CXX": ""})
    command = [sys.executable, str(Path(copy_starter(tmp_path)) / "esam"), "setup"]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert run.stderr.splitlines() == ["esam: a C++ compiler is missing: sudo apt-get install -y g++"]
