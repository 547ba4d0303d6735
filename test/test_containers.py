"""docker/ and CI, read: they cannot run where this is developed. What they name is there; what is supported is covered."""

import ast
import os
import re
import xml.etree.ElementTree as ElementTree

import yaml

from esam_perception.environment.distro import DISTROS, FASTDDS_VARIABLES
from test.conftest import ROOT

DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())
CI = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
STAGES = re.findall(r"^FROM \S+ AS (\w+)", DOCKERFILE, re.MULTILINE)


def commands(job: str) -> str:
    return "\n".join(step.get("run", "") for step in CI["jobs"][job]["steps"])


def test_ci_covers_every_distribution_on_both_machines():
    job = CI["jobs"]["apt"]
    assert tuple(job["strategy"]["matrix"]["distro"]) == DISTROS
    assert set(job["strategy"]["matrix"]["machine"]) == {"amd64", "arm64"} and "-arm'" in job["runs-on"]
    assert "--build-arg ROS_DISTRO=${{ matrix.distro }}" in commands("apt")
    for wanted in ("colcon test", "colcon test-result", "launch_smoke.py", "--shm-size=512m"):
        assert wanted in commands("apt")


def test_ci_runs_the_starter_with_every_python_and_both_wheel_sets():
    matrix = CI["jobs"]["starter"]["strategy"]["matrix"]
    oldest, newest = re.search(r"PYTHONS? = \(?\(3, (\d+)\), \(3, (\d+)\)", (ROOT / "esam").read_text()).groups()
    assert matrix["python"] == [f"3.{minor}" for minor in range(int(oldest), int(newest) + 1)]
    assert matrix["ros"] == ["jazzy", "kilted"]  # those that PyPI has
    assert CI["jobs"]["starter"]["env"] == {"ESAM_ROS": "${{ matrix.ros }}"}
    for wanted in ("./esam setup", "./esam demo", "./esam test"):
        assert wanted in commands("starter")


def test_what_ci_names_is_there():
    for job in CI["jobs"]:
        text = commands(job).replace("src/esam_perception/", "")
        for path in re.findall(r"(?:^|[\s<])((?:docker|test)/[\w./]+)", text):
            assert (ROOT / path).exists(), path
        assert set(re.findall(r"--target (\w+)", text)) <= set(STAGES)


def test_the_dockerfile_copies_what_is_there_and_ends_as_no_root():
    for source in re.findall(r"^COPY (?:--\S+ )*(\S+) \S+$", DOCKERFILE, re.MULTILINE):
        assert (ROOT / source).exists(), source
    assert STAGES[0] == "base" and STAGES[-1] == "node"  # the last is what is built where none is named
    for stage in re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[2:]:
        users = re.findall(r"^USER (\S+)", stage, re.MULTILINE)
        assert users == ["${UID}"] and "ARG UID" in stage
    assert os.access(ROOT / "docker" / "entrypoint.sh", os.X_OK)
    for file in re.findall(r"src/esam_perception/([\w./-]+\.\w+)", DOCKERFILE):
        assert (ROOT / file).is_file(), file
    for variable in FASTDDS_VARIABLES:
        assert f"{variable}=/ws/src/esam_perception/config/fastdds.xml" in DOCKERFILE


def test_the_dockerfile_leaves_out_what_rosdep_would_take_from_pypi():
    """On Ubuntu 24.04 and newer that ends in externally-managed-environment; the image has its own environment."""
    named = {
        element.text for element in ElementTree.parse(ROOT / "package.xml").getroot() if element.tag.endswith("depend")
    }
    (skipped,) = re.findall(r'--skip-keys "([^"]+)"', DOCKERFILE)
    assert set(skipped.split()) == {name for name in named if name.endswith("-pip")}


def test_what_is_built_elsewhere_stays_out_of_the_image():
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {".git", ".venv*", "build", "install", "log"} <= set(ignored)
    for needed in (
        "CMakeLists.txt",
        "package.xml",
        "msg",
        "srv",
        "launch",
        "config",
        "scripts",
        "esam_perception",
        "test",
    ):
        assert needed not in ignored


def test_compose_has_camera_node_and_viewer_that_share_memory():
    services = COMPOSE["services"]
    assert set(services) == {"camera", "node", "viewer"}
    for name, service in services.items():
        assert service["ipc"] == "host" and service["network_mode"] == "host", name
        assert service["build"]["target"] in STAGES
        assert (ROOT / "docker" / service["build"]["context"] / service["build"]["dockerfile"]).resolve().is_file()
        assert set(service["build"]["args"]) <= set(re.findall(r"^ARG (\w+)", DOCKERFILE, re.MULTILINE))
    (weights,) = services["node"]["volumes"]
    assert weights.split(":")[0] in COMPOSE["volumes"] and f"ESAM_HOME={weights.split(':')[1]}" in DOCKERFILE


def test_compose_starts_what_the_package_has():
    run, launch = (COMPOSE["services"][name]["command"].split() for name in ("camera", "node"))
    assert run[:3] == ["ros2", "run", "esam_perception"] and (ROOT / "scripts" / f"{run[3]}.in").is_file()
    assert launch[:3] == ["ros2", "launch", "esam_perception"]
    source = ast.parse((ROOT / "launch" / launch[3]).read_text())
    calls = [node for node in ast.walk(source) if isinstance(node, ast.Call)]
    declared = {call.args[0].value for call in calls if getattr(call.func, "id", "") == "DeclareLaunchArgument"}
    assert {word.split(":=")[0] for word in launch[4:]} <= declared
