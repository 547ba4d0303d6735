"""The rules of the house (README, "How it is built"): which room may import what, read off the syntax trees; how large files
and rooms are; and that what is pure is tested where there is no ROS."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from test.conftest import ROOT
from test.import_graph import Import, ImportGraph

PACKAGE = "esam_perception"
# `launch` is ROS' own; the folder of that name holds the launch files, which are no modules.
ROS = re.compile(
    r"(rclpy|rcl_interfaces|\w+_msgs|\w+_interfaces|std_srvs|ament_\w+|launch|launch_\w+|tf2_\w+|rosidl_\w+|cv_bridge"
    rf"|rosbag2_\w+|message_filters|{PACKAGE}\.(msg|srv|action))(\..+)?"
)
# What takes seconds to import: torch, and what imports it.
TORCH = re.compile(r"(torch|torchvision|transformers|safetensors\.torch)(\..+)?")
# Tests outside of test/ros that need ROS to be collected, and why.
TESTS_OF_ROS = {"test.test_launch_real": "runs the launch files under the real launch"}
LONGEST_FILE = 350
LARGEST_ROOM = 8
REASON_FOR_LENGTH = "One file because"

# What the rules still find, and who is at it; an entry that is no longer found fails its test.
KNOWN: dict[str, dict[str, str]] = {}


def check(rule: str, found: dict[str, str]) -> None:
    """Nothing is found but what is known; nothing is known but what is found."""
    known = KNOWN.get(rule, {})
    new = "".join(f"\n  {key}: {why}" for key, why in sorted(found.items()) if key not in known)
    assert not new, f"{rule}:{new}"
    assert not (gone := set(known) - set(found)), f"{rule}: mended, delete it from KNOWN: {sorted(gone)}"


@pytest.fixture(scope="module")
def package() -> ImportGraph:
    return ImportGraph(ROOT, (PACKAGE,))


@pytest.fixture(scope="module")
def everything() -> ImportGraph:
    return ImportGraph(ROOT, (PACKAGE, "test", "bench", "scripts"))


def within(module: str, *rooms: str) -> bool:
    """Whether a module lies in one of these rooms (or is one of these modules) of the package."""
    return any((module + ".").startswith(f"{PACKAGE}.{room}.") for room in rooms)


def modules_in(graph: ImportGraph, *rooms: str) -> list[str]:
    found = [module for module in graph.files if within(module, *rooms)]
    assert found, f"no such room: {rooms}"
    return found


def outside(graph: ImportGraph, *rooms: str) -> list[str]:
    return [module for module in graph.files if not within(module, *rooms)]


def shortest(chains: Iterable[str]) -> str:
    return min(chains, key=lambda chain: chain.count("->"), default="")


def reaching(graph: ImportGraph, modules: Iterable[str], forbidden, with_functions: bool) -> dict[str, str]:
    """Which of the modules reach what is forbidden, and the shortest way."""
    found = {}
    for module in modules:
        reached = graph.reached(module, with_functions)
        if way := shortest(chain for target, chain in reached.items() if forbidden(target)):
            found[module] = way
    return found


def is_ros(module: str) -> bool:
    return ROS.fullmatch(module) is not None


def test_nothing_outside_of_ros_imports_ros(package):
    check("ROS outside of ros/", reaching(package, outside(package, "ros"), is_ros, with_functions=False))


def test_no_function_outside_of_ros_imports_ros(package):
    found = {
        f"{module} {one.target}": package.where(module, one.line)
        for module in outside(package, "ros")
        for one in package.imports[module]
        if is_ros(one.target)
    }
    check("ROS in functions outside of ros/", found)


def test_only_commands_use_ros_rooms_and_only_when_called(package):
    found = {
        f"{module} {one.target}": package.where(module, one.line)
        for module in outside(package, "ros")
        for one in package.imports[module]
        if within(one.target, "ros") and not (within(module, "commands") and one.in_function)
    }
    check("who imports ros/", found)


def test_matching_and_segmentation_do_not_know_each_other(package):
    for own, other in (("matching", "segmentation"), ("segmentation", "matching")):
        modules = modules_in(package, own)
        found = reaching(package, modules, lambda target, other=other: within(target, other), with_functions=True)
        check(f"{own} knows {other}", found)


def test_matching_and_segmentation_know_no_room_above_them(package):
    modules = modules_in(package, "matching", "segmentation")
    above = ("pipeline", "profiles", "targets", "stream", "recordings", "commands", "training", "tabletop", "ros")
    check("networks know rooms above", reaching(package, modules, lambda t: within(t, *above), with_functions=True))


def test_what_is_used_without_networks_imports_no_torch(package):
    modules = modules_in(package, "stream", "targets", "images", "profiles", "types")
    modules.append(PACKAGE)  # what everybody imports first
    check("torch at import", reaching(package, modules, lambda t: TORCH.fullmatch(t) is not None, with_functions=False))


def test_the_package_imports_nothing_of_ros_or_torch(package):
    reached = package.reached(PACKAGE)
    assert not [chain for target, chain in reached.items() if is_ros(target) or TORCH.fullmatch(target)]


def test_tabletop_imports_nothing_of_ours_but_its_own(package):
    found = {
        f"{module} {one.target}": package.where(module, one.line)
        for module in modules_in(package, "tabletop")
        for one in package.imports[module]
        if one.target.split(".")[0] in (PACKAGE, "test", "bench") and not within(one.target, "tabletop")
    }
    check("tabletop", found)


def test_the_core_knows_no_training(package):
    modules = outside(package, "training", "commands", "__main__")
    check("training in the core", reaching(package, modules, lambda t: within(t, "training"), with_functions=True))


def test_the_package_knows_neither_tests_nor_benchmarks(package):
    modules = list(package.files)
    found = reaching(package, modules, lambda t: t.split(".")[0] in ("test", "bench", "scripts"), with_functions=True)
    check("tests in the package", found)


def test_no_import_circle(everything):
    check("circles", {" <-> ".join(sorted(circle)): "import each other" for circle in everything.circles()})


def test_rooms_of_ros_are_small():
    folder = ROOT / PACKAGE / "ros"
    rooms = {folder, *(path.parent for path in folder.rglob("*.py"))}
    count = {room: sum(path.name != "__init__.py" for path in room.glob("*.py")) for room in rooms}
    found = {str(room.relative_to(ROOT)): f"{n} files" for room, n in count.items() if n > LARGEST_ROOM}
    check(f"rooms of more than {LARGEST_ROOM} files", found)


def own_python_files() -> Iterator[Path]:
    """Every file of Python that is ours."""
    yield ROOT / "esam"
    yield ROOT / "setup.py"
    for folder in (PACKAGE, "test", "bench", "scripts", "launch", "docker", "docs"):
        yield from (ROOT / folder).rglob("*.py")


def test_files_are_short_or_say_why_not():
    found = {}
    for path in own_python_files():
        text = path.read_text(encoding="utf-8")
        lines = text.count("\n")
        if lines > LONGEST_FILE and REASON_FOR_LENGTH not in (ast.get_docstring(ast.parse(text)) or ""):
            found[str(path.relative_to(ROOT))] = (
                f"{lines} lines: split it, or say in its docstring why not ('{REASON_FOR_LENGTH} ...')"
            )
    check(f"files of more than {LONGEST_FILE} lines", found)


def test_pure_tests_are_collected_where_there_is_no_ros(everything):
    modules = [module for module in everything.files if (module + ".").startswith("test.")]
    pure = [module for module in modules if not (module + ".").startswith("test.ros.")]
    found = reaching(everything, [m for m in pure if m not in TESTS_OF_ROS], is_ros, with_functions=False)
    check("ROS in tests outside of test/ros", found)
    needed = reaching(everything, TESTS_OF_ROS, is_ros, with_functions=False)
    assert set(needed) == set(TESTS_OF_ROS), "no longer needed in TESTS_OF_ROS"


WITHOUT_ROS = """
import re, sys
class NoROS:
    def find_spec(self, name, path=None, target=None):
        if re.fullmatch({pattern!r}, name):
            raise ModuleNotFoundError("there is no ROS here: " + name, name=name)
sys.meta_path.insert(0, NoROS())
import pytest
sys.exit(pytest.main(sys.argv[1:]))
"""


def test_pytest_collects_all_pure_tests_without_ros():
    """In a process of its own, in which no package of ROS can be imported."""
    of_ros = {*TESTS_OF_ROS, *KNOWN.get("ROS in tests outside of test/ros", {})}
    files = {str(path.relative_to(ROOT)) for path in (ROOT / "test").rglob("test_*.py")}
    pure = {path for path in files if not path.startswith("test/ros/") and module_of(path) not in of_ros}
    command = [sys.executable, "-c", WITHOUT_ROS.format(pattern=ROS.pattern), "--collect-only", "-q", "-m", ""]
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", *sorted(pure)],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    collected = set(re.findall(r"^(test/\S+?\.py)::", done.stdout, re.MULTILINE))
    # a file may be left out for what else is missing (timm, rosbags), never for ROS
    skipped = dict(re.findall(r"^SKIPPED \[\d+\] (test/\S+?\.py):\d+: (.+)", done.stdout, re.MULTILINE))
    assert collected | set(skipped) == pure and not any("ROS" in reason for reason in skipped.values()), skipped


def module_of(path: str) -> str:
    return path.removesuffix(".py").replace("/", ".")


def graph_of(folder: Path, **files: str) -> ImportGraph:
    for name, text in files.items():
        path = folder / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return ImportGraph(folder, ("p",))


def test_the_graph_sees_every_way_to_import(tmp_path):
    graph = graph_of(
        tmp_path,
        p____init__="",
        p__a="from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\nelse:\n    import json\nfrom p import b, name",
        p__b="try:\n    import rclpy.node\nexcept ImportError:\n    pass\nclass C:\n    import os\n    def f(self):\n"
        "        from p.c import thing",
        p__c="import pytest\npytest.importorskip('launch')\nx = lambda: __import__('sys')\nfrom esam_perception import msg",
    )
    assert graph.imports["p.a"] == (
        Import("typing", False, 1), Import("json", False, 5), Import("p.b", False, 6), Import("p", False, 6),
    )  # fmt: skip
    assert graph.imports["p.b"] == (Import("rclpy.node", False, 2), Import("os", False, 6), Import("p.c", True, 8))
    assert set(graph.reached("p.a")) == {"typing", "json", "p", "p.b", "rclpy.node", "rclpy", "os"}
    assert graph.reached("p.a", with_functions=True)["launch"] == "p.a -> p.b -> p.c -> launch"
    assert "esam_perception.msg" in graph.reached("p.c") and graph.circles() == []


def test_the_graph_finds_circles_that_functions_close(tmp_path):
    graph = graph_of(
        tmp_path,
        p____init__="",
        p__a="import p.b",
        p__b="def f():\n    import p.c",
        p__c="import p.a",
        p__d="import p.a",
    )
    assert graph.circles() == [frozenset({"p.a", "p.b", "p.c"})]


def test_names_of_ros():
    of_ros = (
        "rclpy",
        "rclpy.node",
        "sensor_msgs.msg",
        "tf2_ros",
        "esam_perception.msg",
        "launch.actions",
        "ament_package",
    )
    others = ("rosbags", "rclpython", "msgs", "esam_perception.ros", "esam_perception.contract", "launcher", "numpy")
    assert all(map(is_ros, of_ros)) and not any(map(is_ros, others))
