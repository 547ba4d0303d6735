"""Several bags at once: in processes, and on a Ray cluster where Ray is installed."""

import os
import sys

import pytest

pytest.importorskip("rosbags", reason="rosbags is not installed")

from esam_perception.recordings.parallel import ParallelError, mapper
from test.recordings.bag_maker import image, write_bag
from test.recordings.replaying import files_of, replay


def end_this_process(code):
    os._exit(code)


@pytest.mark.long
def test_a_killed_process_is_said():
    with pytest.raises(ParallelError, match="fewer --jobs"), mapper(2, None) as mapped:
        list(mapped(end_this_process, [9]))


def test_a_cluster_gives_the_same_bytes(tiny_profile, queries, bag, frames, tmp_path, monkeypatch):
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")  # it would leave a token in the home folder
    other = write_bag(tmp_path / "other", {"/front": [image(p) for p in frames[:2]]})
    assert replay(tiny_profile, queries, tmp_path / "alone", bag, other) == 0
    assert replay(tiny_profile, queries, tmp_path / "ray", bag, other, "--ray", "local", "--jobs", 2) == 0
    assert not ray.is_initialized()
    assert files_of(tmp_path / "alone") == files_of(tmp_path / "ray")


def test_without_ray_the_cure_is_named(tiny_profile, queries, bag, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert replay(tiny_profile, queries, tmp_path / "out", bag, "--ray", "auto") == 2
    assert "pip install ray" in capsys.readouterr().err.splitlines()[-1]
