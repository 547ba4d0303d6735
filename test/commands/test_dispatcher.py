import subprocess
import sys
from types import SimpleNamespace

import pytest

from esam_perception.commands.dispatcher import COMMANDS, main
from test.conftest import ROOT


def test_help_teaches_every_command(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    text = capsys.readouterr().out
    assert end.value.code == 0 and all(name in text for name in COMMANDS) and "examples" in text


def test_the_starter_passes_every_command_on():
    shown = subprocess.run([sys.executable, str(ROOT / "esam"), "--help"], capture_output=True, text=True, check=True)
    said = subprocess.run([sys.executable, str(ROOT / "esam"), "dance"], capture_output=True, text=True)
    assert said.returncode == 2
    for command in COMMANDS:
        assert f"./esam {command}" in shown.stdout and command in said.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capsys):
    if command == "replay":
        pytest.importorskip("rosbags", reason="rosbags is not installed")
    with pytest.raises(SystemExit) as end:
        main([command, "--help"])
    text = capsys.readouterr().out
    assert end.value.code == 0 and "usage: esam" in text and "--" in text


def test_no_command_imports_ros_before_it_runs():
    """Help and wrong usage are answered where there is no ROS."""
    code = """
import sys
from esam_perception.commands.dispatcher import COMMANDS, build_parser
for command in COMMANDS:
    build_parser(command)
print(sorted(name for name in sys.modules if name.split(".")[0] in ("rclpy", "sensor_msgs", "std_msgs")
             or name.startswith(("esam_perception.ros", "esam_perception.msg"))))
"""
    pytest.importorskip("rosbags", reason="rosbags is not installed")
    assert subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT).strip() == "[]"


@pytest.mark.parametrize("arguments", [[], ["dance"], ["locate", "--loudly"], ["train", "everything"]])
def test_wrong_usage_is_exit_code_2(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2 and capsys.readouterr().err


def test_the_starter_teaches_without_setting_anything_up(tmp_path):
    starter = tmp_path / "esam"
    starter.write_bytes((ROOT / "esam").read_bytes())
    answer = subprocess.run([sys.executable, starter, "--help"], capture_output=True, text=True)
    assert answer.returncode == 0 and "./esam demo" in answer.stdout
    wrong = subprocess.run([sys.executable, starter, "dance"], capture_output=True, text=True)
    assert wrong.returncode == 2 and "dance" in wrong.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["esam"]


@pytest.mark.parametrize(
    "module, cure", [("rclpy", "ROS 2"), ("mujoco", "pip install"), ("rosbags.rosbag2", "pip install rosbags")]
)
def test_what_is_not_installed_is_said_in_one_line(module, cure, monkeypatch, capsys):
    def run(args):
        raise ModuleNotFoundError(f"No module named '{module}'", name=module)

    monkeypatch.setitem(COMMANDS, "demo", ("stand_in", "a stand-in"))
    monkeypatch.setitem(sys.modules, "stand_in", SimpleNamespace(add_arguments=lambda parser: None, run=run))
    assert main(["demo"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert module in line and cure in line


def test_a_missing_module_of_our_own_is_a_bug_and_raises(monkeypatch):
    monkeypatch.setitem(COMMANDS, "demo", ("esam_perception.nowhere", "a stand-in"))
    with pytest.raises(ModuleNotFoundError, match="nowhere"):
        main(["demo"])


def test_help_is_quick():
    """Nothing heavy is imported for it: the interpreter itself and argparse."""
    code = "import sys; from esam_perception.commands.dispatcher import build_parser; build_parser(None); print(len(sys.modules))"
    modules = int(subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT))
    plain = int(
        subprocess.check_output([sys.executable, "-c", "import sys, argparse, re; print(len(sys.modules))"], text=True)
    )
    assert modules - plain < 40
