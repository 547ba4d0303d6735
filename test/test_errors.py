"""One family of errors: what a user can mend is one line, what is a bug is a traceback."""

import ast
import builtins

import cv2
import numpy as np
import pytest

from esam_perception.commands.dispatcher import main
from esam_perception.errors import EsamError, InvalidDevice, InvalidImage, InvalidQuery, InvalidThresholds
from esam_perception.pipeline.pipeline import Pipeline
from esam_perception.profiles.schema import ProfileError
from esam_perception.types import Query
from test.conftest import ROOT

APART = {"OffscreenGLError"}  # tabletop imports nothing of ours


class Bug(ValueError):
    """What NumPy, torch and our own slips raise."""


@pytest.fixture
def image_file(tmp_path):
    path = tmp_path / "scene.png"
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8))
    return path


def broken(*arguments, **options):
    raise Bug("shapes (3,4) and (5,6) not aligned")


@pytest.mark.parametrize("where", ["from_profile", "_encode", "_ask"])
def test_a_bug_in_the_pipeline_is_no_user_error_of_locate(
    tiny_profile, image_file, tmp_path, monkeypatch, capsys, where
):
    monkeypatch.setattr(Pipeline, where, broken)
    arguments = ["--model", str(tiny_profile), "--device", "cpu", "--output", str(tmp_path / "out")]
    with pytest.raises(Bug):
        main(["locate", str(image_file), "the red mug", *arguments])
    assert "esam locate:" not in capsys.readouterr().err


@pytest.mark.parametrize("command", ["evaluate", "calibrate"])
def test_nor_of_the_commands_that_measure(command, tiny_profile, monkeypatch, capsys):
    monkeypatch.setattr(Pipeline, "from_profile", broken)
    with pytest.raises(Bug):
        main([command, str(tiny_profile), "--scenes", "1"])
    assert f"esam {command}:" not in capsys.readouterr().err


def test_nor_of_training(tmp_path, monkeypatch, capsys):
    from esam_perception.training import own_data

    monkeypatch.setattr(own_data, "train_own", broken)
    with pytest.raises(Bug):
        main(["train", "--data", str(tmp_path), "--device", "cpu"])
    assert "esam train:" not in capsys.readouterr().err


def test_nor_is_it_a_fault_of_the_recording(tmp_path, monkeypatch):
    pytest.importorskip("rosbags", reason="rosbags is not installed")
    from esam_perception.recordings import replay

    monkeypatch.setattr(replay, "_replay", broken)
    with pytest.raises(Bug):
        replay.replay_bag(replay.BagJob(tmp_path / "in.mcap", tmp_path / "out", (Query("a mug"),)))


def test_a_device_that_is_not_there_is_one_line_of_training_too(capsys):
    """A stage of the bundled profile's training, on a device that is not there."""
    assert main(["train", "tabletop", "--stage", "matching", "--device", "quantum"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("esam train: device 'quantum' is unknown")


def test_every_error_of_ours_is_of_the_family():
    """Read from the sources: not every room can be imported everywhere."""
    known = {
        name for name, kind in vars(builtins).items() if isinstance(kind, type) and issubclass(kind, BaseException)
    }
    strays, family = [], {"EsamError"}
    classes = [
        (node.name, {ast.unparse(base).rpartition(".")[2] for base in node.bases})
        for path in sorted((ROOT / "esam_perception").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    ]
    for _ in range(4):  # generations
        family |= {name for name, bases in classes if bases & family}
    strays = {name for name, bases in classes if bases & known and name not in family}
    assert strays == APART
    assert {"ProfileError", "RefusedImage", "BagError", "NoTransform", "UsageError", "NoTarget"} < family


@pytest.mark.parametrize(
    "kind, ask",
    [
        (InvalidDevice, lambda profile: Pipeline.from_profile(profile, "quantum")),
        (InvalidDevice, lambda profile: Pipeline.from_profile(profile, "cpu", "float16")),
        (ProfileError, lambda profile: Pipeline.from_profile("nothing")),
        (InvalidImage, lambda profile: Pipeline.from_profile(profile, "cpu").encode(np.zeros((4, 4), np.uint8))),
        (InvalidQuery, lambda profile: Pipeline.from_profile(profile, "cpu").check_text("!!!")),
        (
            InvalidThresholds,
            lambda profile: Pipeline.from_profile(profile, "cpu").thresholds(Query("a", "", 0.2, 0.9), 0, 0),
        ),
    ],
)
def test_what_a_caller_gives_wrongly_has_a_class_of_its_own_and_stays_a_value_error(tiny_profile, kind, ask):
    with pytest.raises(kind) as error:
        ask(str(tiny_profile))
    assert isinstance(error.value, EsamError) and isinstance(error.value, ValueError) and "\n" not in str(error.value)
