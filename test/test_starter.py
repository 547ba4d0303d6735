"""The starter `./esam`: its steps, what it installs, and the environment that it hands on."""

import os
import re
import sys
from pathlib import Path

import pytest

from esam_perception.environment import distro as differences
from test.conftest import ROOT
from test.starters import copy_starter, load_starter


@pytest.fixture
def starter(tmp_path):
    """The starter as a module, its checkout an empty folder."""
    return load_starter(tmp_path)


@pytest.fixture
def setup(starter):
    """The default set-up, nothing of it done."""
    made = starter.WheelsSetup("jazzy")
    made.stamps.mkdir(parents=True)
    return made


def test_a_step_is_done_once_for_a_key_and_again_for_another(setup):
    done = []
    for key in ("one", "one", "two"):
        setup.step("step", key, "a step", lambda key=key: done.append(key))
    assert done == ["one", "two"]


def test_an_interrupted_step_is_done_again(setup):
    def interrupted():
        raise KeyboardInterrupt

    setup.step("step", "one", "a step", lambda: None)
    with pytest.raises(KeyboardInterrupt):
        setup.step("step", "two", "a step", interrupted)
    done = []
    # not even what the step was before counts any more: the interruption left something between the two
    setup.step("step", "one", "a step", lambda: done.append(1))
    assert done == [1]


def test_a_failed_command_shows_its_last_lines_and_stops(setup, capsys):
    with pytest.raises(SystemExit) as end:
        setup.call([sys.executable, "-c", "print('the reason'); raise SystemExit(3)"], "trying")
    told = capsys.readouterr().err
    assert end.value.code == 1 and "the reason" in told and "trying failed (exit code 3)" in told and "last.log" in told


def test_the_digest_follows_names_and_contents(starter, tmp_path):
    folder = tmp_path / "sources"
    folder.mkdir()
    seen = [starter.digest(folder)]
    (folder / "a.py").write_text("1")
    seen.append(starter.digest(folder))
    (folder / "a.py").write_text("2")
    seen.append(starter.digest(folder))
    (folder / "a.py").rename(folder / "b.py")
    seen.append(starter.digest(folder))
    assert len(set(seen)) == 4
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "b.pyc").write_text("compiled")
    assert starter.digest(folder) == seen[-1]


def test_another_ros_stays_out_of_the_environment(setup, starter, monkeypatch):
    starter.OPT_ROS = Path("/opt/ros")
    monkeypatch.setenv("AMENT_PREFIX_PATH", "/home/me/ws/install/a:/opt/ros/humble")
    monkeypatch.setenv("PATH", "/opt/ros/humble/bin:/home/me/ws/install/a/bin:/usr/bin")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/ros/humble/lib:/usr/local/cuda/lib64")
    monkeypatch.setenv("PYTHONPATH", "/opt/ros/humble/lib/python3.10/site-packages")
    monkeypatch.setenv("RMW_IMPLEMENTATION", "rmw_cyclonedds_cpp")
    monkeypatch.setenv("ROS_DISTRO", "humble")
    monkeypatch.setenv("_ROS_WHEELS_BOOTSTRAP_COMPLETE", "1")
    environment = setup.environment()
    assert environment["PATH"] == f"{setup.venv}/bin:/usr/bin"
    assert environment["LD_LIBRARY_PATH"] == "/usr/local/cuda/lib64"
    assert environment["AMENT_PREFIX_PATH"] == environment["CMAKE_PREFIX_PATH"] == str(setup.venv)
    assert environment["ROS_DISTRO"] == "jazzy"
    assert not {"PYTHONPATH", "RMW_IMPLEMENTATION", "_ROS_WHEELS_BOOTSTRAP_COMPLETE"} & set(environment)


def test_what_the_starter_must_repeat_of_distro_py_agrees_with_it(starter):
    """It stands alone, so that it cannot import it."""
    assert starter.FASTDDS_VARIABLES == differences.FASTDDS_VARIABLES and starter.FASTDDS_2 == differences.FASTDDS_2


@pytest.mark.parametrize("distro, variable", [("jazzy", "FASTRTPS"), ("kilted", "FASTDDS")])
def test_fast_dds_finds_its_profile_and_what_the_user_has_set_stays(starter, monkeypatch, distro, variable):
    for name in starter.FASTDDS_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    known = variable + "_DEFAULT_PROFILES_FILE"
    (other,) = set(starter.FASTDDS_VARIABLES) - {known}
    setup = starter.WheelsSetup(distro)
    assert setup.environment()[known] == str(starter.ROOT / "config" / "fastdds.xml")
    assert other not in setup.environment()
    # given under the name that this release does not read, the user's own counts all the same
    monkeypatch.setenv(other, "/the/users.xml")
    assert setup.environment()[known] == "/the/users.xml"
    monkeypatch.setenv(known, "/the/users/other.xml")
    assert setup.environment()[known] == "/the/users/other.xml"


def test_what_pip_left_half_installed_is_removed(setup):
    packages = setup.venv / "lib" / "python3.11" / "site-packages"
    for name, files in {"whole-1.dist-info": ("METADATA", "RECORD"), "half-1.dist-info": ("METADATA",)}.items():
        (packages / name).mkdir(parents=True)
        for file in files:
            (packages / name / file).write_text("")
    setup.remove_half_installed()
    assert [path.name for path in packages.iterdir()] == ["whole-1.dist-info"]


def test_the_packages_of_another_ros_release_leave_an_older_checkouts_environment(setup, starter, monkeypatch):
    copy_starter(starter.ROOT)
    kilted, jazzy = starter.pins("requirements-ros-kilted.txt"), starter.pins("requirements-ros-jazzy.txt")
    packages = setup.venv / "lib" / "python3.11" / "site-packages"
    both = [name for name in kilted if kilted[name] == jazzy.get(name)]
    there = {**kilted, "numpy": "numpy==2.4.6", "lark": "lark==1.3.1"}  # an older checkout had lark beside lark-parser
    for pinned in there.values():
        name, version = pinned.split("==")
        (packages / f"{name.replace('-', '_')}-{version}.dist-info").mkdir(parents=True)
    (setup.stamps / "requirements-ros.txt").write_text("an older checkout's")
    called = []
    monkeypatch.setattr(setup, "call", lambda command, what: called.append(command))
    setup.remove_other_release()
    (command,) = called
    leaving = set(command[command.index("uninstall") + 2 :])
    assert leaving == (set(kilted) - set(both)) | {"lark", "lark-parser"}
    assert {"cmake", "ninja", "empy"} <= set(both) and {"ros-fastdds", "ros-rclpy"} <= leaving
    assert not (setup.stamps / "requirements-ros.txt").exists()


def test_it_says_what_is_missing_also_under_an_old_python():
    """No syntax that Python 3.6 does not have."""
    import ast

    ast.parse((ROOT / "esam").read_text(), feature_version=(3, 6))


def test_the_two_releases_of_ros_have_the_same_purpose():
    """Every message package and every generator of the one is in the other."""
    lines = {ros: (ROOT / f"requirements-ros-{ros}.txt").read_text().splitlines() for ros in ("kilted", "jazzy")}
    kilted, jazzy = ({line.split("==")[0] for line in lines[ros] if "==" in line} for ros in lines)
    differ = ("ament-cmake", "fast", "rmw-security", "python-cmake-module", "domain-coordinator")
    assert not [name for name in kilted ^ jazzy if not name.removeprefix("ros-").startswith(differ)]


@pytest.mark.parametrize("ros", ["jazzy", "kilted"])
def test_every_requirement_is_pinned_for_every_python(ros):
    lines = [
        line.split("#")[0].strip()
        for path in ROOT.glob("requirements*.txt")
        if not path.name.startswith("requirements-ros-") or path.name == f"requirements-ros-{ros}.txt"
        for line in path.read_text().splitlines()
        if line.split("#")[0].strip()
    ]
    names = {"new": [], "old": []}
    for line in lines:
        pinned = re.fullmatch(r'([\w.-]+)==[\w.]+(; python_version (>=|<) "3\.11")?', line)
        assert pinned, line
        for side in {">=": ("new",), "<": ("old",), None: ("new", "old")}[pinned[3]]:
            names[side].append(pinned[1])
    for side in names.values():
        assert len(side) == len(set(side))
    assert set(names["new"]) == set(names["old"])


def test_pip_install_takes_ranges_that_hold_the_tested_versions():
    from packaging.requirements import Requirement

    setup = (ROOT / "setup.py").read_text()
    ranges = re.findall(r'^    "([\w-]+[<>=][^"]*)"', setup, flags=re.MULTILINE)
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    pins = [Requirement(line.split("#")[0]) for line in lines if not line.startswith("#")]
    assert {Requirement(text).name for text in ranges} == {pin.name for pin in pins}
    for wanted in map(Requirement, ranges):
        for pin in (pin for pin in pins if pin.name == wanted.name):
            (version,) = (specifier.version for specifier in pin.specifier)
            assert wanted.specifier.contains(version), f"{wanted} does not hold {pin}"


def test_the_ci_script_runs_the_readmes_command():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK) and os.access(Path(ROOT / "esam"), os.X_OK)
    assert "./esam test" in script.read_text()
