"""What differs between distributions, asked of each of them."""

import importlib.metadata
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from esam_perception.environment import distro
from esam_perception.environment.processes import ros_environment
from test.conftest import ROOT
from test.starters import load_starter

OLD, NEW = "FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"
# Fast DDS 2 up to Jazzy, 3 from Kilted on; an unknown distribution is taken for a newer one
READ = {"humble": OLD, "jazzy": OLD, "kilted": NEW, "lyrical": NEW, "rolling": NEW}


def test_the_supported_ones():
    assert distro.DISTROS == ("humble", "jazzy", "kilted", "lyrical")


@pytest.mark.parametrize(
    "installed, name",
    [
        ({"rclpy": "3.3.21"}, "humble"),
        ({"rclpy": "7.1.11"}, "jazzy"),
        ({"ros-jazzy-rclpy": "7.1.6"}, "jazzy"),
        ({"ros-rclpy": "9.1.2", "ros-kilted-rclpy": "9.1.2"}, "kilted"),
        ({"rclpy": "10.0.10"}, "lyrical"),
        ({"rclpy": "99.0"}, ""),
        ({}, ""),
    ],
)
def test_without_ros_distro_the_installed_rclpy_tells(monkeypatch, installed, name):
    def version(package):
        if package not in installed:
            raise importlib.metadata.PackageNotFoundError(package)
        return installed[package]

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert distro.distro_name({}) == distro.distro_name({"ROS_DISTRO": ""}) == name
    assert distro.distro_name({"ROS_DISTRO": "humble"}) == "humble"


def test_the_rclpy_of_this_environment_is_of_a_supported_one():
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    assert distro.distro_name({}) in distro.DISTROS


def test_importing_it_imports_nothing_large_and_no_ros():
    code = """
import sys
before = set(sys.modules)
import esam_perception.environment.distro
roots = {name.split(".")[0] for name in set(sys.modules) - before}
print(sorted(roots - set(sys.stdlib_module_names) - {"esam_perception"}))
"""
    assert subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT).strip() == "[]"


@pytest.mark.parametrize("name", READ)
def test_the_profile_goes_where_that_fast_dds_looks_for_it(name):
    environment = {"ROS_DISTRO": name}
    added = distro.transport_environment("/ours.xml", environment)
    assert {key: value for key, value in added.items() if key.startswith("FAST")} == {READ[name]: "/ours.xml"}
    assert distro.profile_in_use({**environment, **added}) == "/ours.xml"
    assert not [key for key in distro.transport_environment("", environment) if key.startswith("FAST")]


@settings(deadline=None)
@given(
    name=st.sampled_from(list(READ)),
    users=st.dictionaries(st.sampled_from([OLD, NEW, *distro.ALLOCATION]), st.sampled_from(["", "/users.xml", "1"])),
)
def test_what_the_user_has_set_stays_and_counts(name, users):
    """A profile under the name that this distribution does not read too: the user wants it, not ours."""
    before = {"ROS_DISTRO": name, **users}
    after = {**before, **distro.transport_environment("/ours.xml", before)}
    assert {key: after[key] for key, value in users.items() if value} == {
        key: value for key, value in users.items() if value
    }
    of_the_user = {users.get(key) for key in (OLD, NEW)} - {None, ""}
    assert distro.profile_in_use(after) in (of_the_user or {"/ours.xml"})
    assert set(distro.ALLOCATION) <= set(after)


def test_another_dds_reads_no_such_profile():
    profile = "/ours.xml"
    environment = {"ROS_DISTRO": "kilted", **distro.transport_environment(profile, {"ROS_DISTRO": "kilted"})}
    assert distro.profile_in_use(environment) == profile
    for name in ("", "rmw_fastrtps_dynamic_cpp"):  # empty is the default, Fast DDS
        assert distro.profile_in_use({**environment, "RMW_IMPLEMENTATION": name}) == profile
    assert distro.profile_in_use({**environment, "RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"}) == ""


@pytest.mark.parametrize("name", READ)
def test_one_variable_alone_keeps_it_on_this_machine(name):
    """Newer distributions warn of the older variable, and then ignore the newer one."""
    older, newer = {"ROS_LOCALHOST_ONLY": "1"}, {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    environment = {"ROS_DISTRO": name}
    assert distro.loopback_environment(environment) == (older if name == "humble" else newer)
    assert distro.loopback_environment({**environment, "ROS_LOCALHOST_ONLY": "0"}) == {}
    if name != "humble":
        assert distro.loopback_environment({**environment, "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"}) == {}


@pytest.mark.parametrize("name", ["humble", "jazzy", "kilted", "lyrical"])
def test_the_demos_processes_get_both_and_leave_a_users_profile_alone(monkeypatch, name):
    for variable in (OLD, NEW, "ROS_LOCALHOST_ONLY", "ROS_AUTOMATIC_DISCOVERY_RANGE", "ROS_DOMAIN_ID"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("ROS_DISTRO", name)
    environment = ros_environment(domain_id=7)
    assert environment["ROS_DOMAIN_ID"] == "7" and environment[READ[name]] == str(ROOT / "config" / "fastdds.xml")
    assert distro.loopback_environment(environment) == {}
    for variable in (OLD, NEW):
        with monkeypatch.context() as users:
            users.setenv(variable, "/users.xml")
            environment = ros_environment(domain_id=7)
            assert environment[variable] == environment[READ[name]] == "/users.xml"


def test_no_other_file_names_what_differs():
    """One definition: whoever needs it asks this module. (The starter cannot: the test after this; nor the
    containers, whose base is of any distribution: test_containers.py.)"""
    told = (OLD, NEW, "ROS_LOCALHOST_ONLY", "ROS_AUTOMATIC_DISCOVERY_RANGE", "MALLOC_TRIM")
    folders = ("esam_perception", "launch", "bench", "scripts")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".in")]
    for path in [*files, ROOT / "test" / "conftest.py"]:
        if path.name != "distro.py":
            text = path.read_text()
            assert not [name for name in told if name in text], path


@settings(deadline=None)
@given(
    name=st.sampled_from(distro.DISTROS),
    users=st.dictionaries(st.sampled_from([OLD, NEW]), st.sampled_from(["", "/users.xml", "/users/other.xml"])),
)
def test_the_starter_which_stands_alone_does_the_same(name, users):
    starter = load_starter(ROOT)
    ours = distro.transport_environment(ROOT / "config" / "fastdds.xml", {"ROS_DISTRO": name, **users})
    expected = {**users, **{key: value for key, value in ours.items() if key in (OLD, NEW)}}
    assert starter.WheelsSetup.with_transport(None, dict(users), name) == expected
