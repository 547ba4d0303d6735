"""`esam view` on the command line, and what it shows of a replay; with Rerun itself where it is installed."""

import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="rosbags is not installed")

from esam_perception.commands.dispatcher import main
from esam_perception.recordings.bags import BagError
from esam_perception.recordings.rerun_scene import RerunScene
from esam_perception.recordings.show import show_replay
from test.recordings.bag_maker import START, STEP, image, write_bag
from test.recordings.replaying import replay
from test.recordings.rerun_stand_in import Recording, StandIn

QUERIES = "- {text: the red mug, id: mug, match_threshold: 0.4, reject_threshold: 0.35}\n- a banana\n"


def test_without_rerun_the_cure_is_one_line(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "rerun", None)
    assert main(["view", "--save", str(tmp_path / "x.rrd")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "pip install rerun-sdk" in line


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--save", "x.rrd", "--connect", "rerun+http://x"], "either"),
        (["--bag", "x"], "esam replay"),
        (["--save", "/nowhere/at/all/x.rrd"], "no such folder"),
        (["--seconds", "0", "--save", "x.rrd"], "more than 0"),
        ([], "no screen"),
    ],
)
def test_wrong_arguments(arguments, said, capsys, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert main(["view", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_a_viewer_that_does_not_answer_is_said(monkeypatch, capsys, tmp_path, clip):
    from esam_perception.commands import view
    from esam_perception.recordings import show

    class Deaf(Recording):
        def flush(self):
            raise RuntimeError("gRPC has been unable to connect\nfor 12 s")

    bag = write_bag(tmp_path / "in", {"/esam/matches": []})
    monkeypatch.setattr(view, "load_rerun", StandIn)
    monkeypatch.setattr(view, "open_recording", lambda *given: Deaf())
    monkeypatch.setattr(show, "show_replay", lambda *arguments: 0)
    assert main(["view", "--replay", str(bag), "--connect", "rerun+http://nowhere:1/proxy"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "unable to connect" in line and "--save" in line


def test_a_replay_becomes_a_recording(tiny_profile, clip, tmp_path, capsys):
    """With Rerun itself: the file is whole and holds the entities."""
    pytest.importorskip("rerun", reason="rerun-sdk is not installed")
    frames = [np.ascontiguousarray(seen.image[::4, ::4]) for seen in clip[:2]]
    bag = write_bag(tmp_path / "drive", {"/front": [image(p, stamp=START + i * STEP) for i, p in enumerate(frames)]})
    (tmp_path / "q.yaml").write_text(QUERIES)
    assert replay(tiny_profile, tmp_path / "q.yaml", tmp_path / "out", bag, "--segment-always") == 0
    file = tmp_path / "run.rrd"
    assert main(["view", "--replay", str(tmp_path / "out/drive_matches"), "--bag", str(bag), "--save", str(file)]) == 0
    assert "2 frames with matches" in capsys.readouterr().out
    code = [sys.executable, "-m", "rerun_cli", "rrd"]
    subprocess.run([*code, "verify", str(file)], check=True, capture_output=True)
    listed = subprocess.run([*code, "print", str(file)], check=True, capture_output=True, text=True).stdout
    for entity in ("/camera/image", "/camera/mask", "/camera/segments", "/heatmap", "/scores/mug", "/verdicts"):
        assert entity in listed, entity


@pytest.mark.parametrize("given", ["nowhere", "no matches"])
def test_what_is_no_replay_is_said(given, tmp_path, clip, capsys, monkeypatch):
    from esam_perception.commands import view

    path = tmp_path / "nowhere"
    if given == "no matches":
        path = write_bag(tmp_path / "in", {"/front": [image(clip[0].image[:8, :8])]})
    monkeypatch.setattr(view, "load_rerun", StandIn)
    monkeypatch.setattr(view, "has_screen", lambda: True)
    monkeypatch.setattr(view, "open_recording", lambda *given: Recording())
    assert main(["view", "--replay", str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("esam view: ") and ("no such file" in line or "/esam/matches" in line)


def test_no_damage_brings_it_down(tiny_profile, clip, tmp_path):
    """Whatever bytes are wrong in what a replay wrote, and in its recording, it is shown, or refused with a BagError."""
    scene = RerunScene(StandIn(), Recording())
    frames = [np.ascontiguousarray(seen.image[::8, ::8]) for seen in clip[:2]]
    folder = write_bag(tmp_path / "in", {"/front": [image(pixels) for pixels in frames]})
    (tmp_path / "q.yaml").write_text(QUERIES)
    assert replay(tiny_profile, tmp_path / "q.yaml", tmp_path / "out", folder) == 0
    (matches,), (bag,) = (list(each.glob("*.mcap")) for each in (tmp_path / "out" / "in_matches", folder))
    assert show_replay(scene, matches, bag) == 2
    damaged, rng, refused = tmp_path / "damaged.mcap", np.random.default_rng(5), 0
    for data, others in ((matches.read_bytes(), ()), (bag.read_bytes(), (matches,))):
        for _ in range(100):
            wrong = bytearray(data)
            for position in rng.integers(0, len(data), rng.choice([1, 5, 40])):
                wrong[position] = rng.integers(0, 256)
            damaged.write_bytes(wrong)
            try:
                show_replay(scene, *(*others, damaged))
            except BagError as error:
                refused += 1
                assert "\n" not in str(error)
    assert refused
