"""The starter `./esam`: its steps, and the environment that it hands on."""

import importlib.machinery
import importlib.util
import os
import re
import sys
from pathlib import Path

import pytest

from test.conftest import ROOT


@pytest.fixture
def starter(tmp_path, monkeypatch):
    """The starter as a module, its .venv in an empty folder."""
    loader = importlib.machinery.SourceFileLoader("esam_starter", str(ROOT / "esam"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    loader.exec_module(module)
    module.ROOT = tmp_path
    module.VENV = tmp_path / ".venv"
    module.STAMPS = module.VENV / ".esam"
    module.STAMPS.mkdir(parents=True)
    return module


def test_a_step_is_done_once_for_a_key_and_again_for_another(starter):
    done = []
    for key in ("one", "one", "two"):
        starter.step("step", key, "a step", lambda key=key: done.append(key))
    assert done == ["one", "two"]


def test_an_interrupted_step_is_done_again(starter):
    def interrupted():
        raise KeyboardInterrupt

    starter.step("step", "one", "a step", lambda: None)
    with pytest.raises(KeyboardInterrupt):
        starter.step("step", "two", "a step", interrupted)
    done = []
    # not even what the step was before counts any more: the interruption left something between the two
    starter.step("step", "one", "a step", lambda: done.append(1))
    assert done == [1]


def test_a_failed_command_shows_its_last_lines_and_stops(starter, capsys):
    with pytest.raises(SystemExit) as end:
        starter.call([sys.executable, "-c", "print('the reason'); raise SystemExit(3)"], "trying")
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


def test_another_ros_stays_out_of_the_environment(starter, monkeypatch):
    monkeypatch.setenv("AMENT_PREFIX_PATH", "/home/me/ws/install/a:/opt/ros/jazzy")
    monkeypatch.setenv("PATH", "/opt/ros/jazzy/bin:/home/me/ws/install/a/bin:/usr/bin")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/ros/jazzy/lib:/usr/local/cuda/lib64")
    monkeypatch.setenv("PYTHONPATH", "/opt/ros/jazzy/lib/python3.12/site-packages")
    monkeypatch.setenv("RMW_IMPLEMENTATION", "rmw_cyclonedds_cpp")
    monkeypatch.setenv("_ROS_WHEELS_BOOTSTRAP_COMPLETE", "1")
    environment = starter.environment()
    assert environment["PATH"] == f"{starter.VENV}/bin:/usr/bin"
    assert environment["LD_LIBRARY_PATH"] == "/usr/local/cuda/lib64"
    assert environment["AMENT_PREFIX_PATH"] == str(starter.VENV)
    assert not {"PYTHONPATH", "RMW_IMPLEMENTATION", "_ROS_WHEELS_BOOTSTRAP_COMPLETE"} & set(environment)


def test_what_pip_left_half_installed_is_removed(starter):
    packages = starter.VENV / "lib" / "python3.11" / "site-packages"
    for name, files in {"whole-1.dist-info": ("METADATA", "RECORD"), "half-1.dist-info": ("METADATA",)}.items():
        (packages / name).mkdir(parents=True)
        for file in files:
            (packages / name / file).write_text("")
    starter.remove_half_installed()
    assert [path.name for path in packages.iterdir()] == ["whole-1.dist-info"]


@pytest.mark.parametrize(
    "answer, told",
    [
        ('{"version": [3, 8], "headers": true, "venv": true}', "Python 3.10 to 3.14 is needed"),
        ('{"version": [3, 15], "headers": true, "venv": true}', "Python 3.10 to 3.14 is needed"),
        ('{"version": [3, 12], "headers": true, "venv": false}', "apt-get install -y python3.12-venv"),
        ('{"version": [3, 12], "headers": false, "venv": true}', "apt-get install -y python3.12-dev"),
        ('{"version": [3, 10], "headers": true, "venv": true}', ""),
        ("nonsense", "does not run"),
    ],
)
def test_what_a_python_lacks_is_one_line_with_its_cure(starter, tmp_path, answer, told):
    python = tmp_path / "python3"
    python.write_text(f"#!/bin/sh\necho '{answer}'\n")
    python.chmod(0o755)
    lack = starter.what_python_lacks(str(python))
    assert told in lack and bool(told) == bool(lack) and "\n" not in lack


def test_it_says_what_is_missing_also_under_an_old_python():
    """No syntax that Python 3.6 does not have."""
    import ast

    ast.parse((ROOT / "esam").read_text(), feature_version=(3, 6))


def test_every_requirement_is_pinned_for_every_python():
    lines = [
        line.split("#")[0].strip()
        for path in ROOT.glob("requirements*.txt")
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
