"""The demo's table, results.json and sheet, of frames made by hand."""

import json
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from esam_perception.images.files import ImageFileError
from esam_perception.ros.viewer import demo_report
from esam_perception.types import Verdict

SCENE = {
    "phrases": [
        {"text": "the mug", "true": True, "labels": [1]},
        {"text": "a banana", "true": False, "labels": []},
    ]
}


def match(verdict, score, iou=None, at=None):
    """An esam_perception/Match, with a segment of that predicted IoU, and a target there."""
    covariance = np.diag([0.0001, 0.0004, 0.0004, 1, 1, 1]).ravel()
    position = SimpleNamespace(x=0.1, y=-0.2, z=at)
    target = SimpleNamespace(pose=SimpleNamespace(position=position), covariance=covariance)
    segment = SimpleNamespace(predicted_iou=iou, has_target=at is not None, target=target)
    return SimpleNamespace(verdict=int(verdict), itm_score=score, segments=[segment] if iou is not None else [])


def frame(latency, true_iou, *matches):
    array = SimpleNamespace(matches=matches, profile="p", frames_dropped=3, frames_refused=1)
    return SimpleNamespace(
        array=array, image=np.full((40, 60, 3), 90, np.uint8), latency_ms=latency, core_matches=list,
        true_iou=lambda index, labels: true_iou if (index, labels) == (0, [1]) else None,
    )  # fmt: skip


@pytest.fixture
def frames():
    absent = match(Verdict.NO_MATCH, 0.1)
    return [
        frame(10.0, 0.5, match(Verdict.MATCH, 0.9, 0.8, 0.7), absent),
        frame(30.0, 0.7, match(Verdict.MATCH, 0.7, 0.6, 0.9), absent),
        frame(80.0, 0.0, match(Verdict.UNSURE, 0.5), match(Verdict.UNSURE, 0.4)),
    ]


def test_a_row_a_query(frames):
    known, absent = demo_report.rows_of(frames, ["the mug", "a banana"], SCENE)
    assert known == ("the mug", "there", "MATCH", "0.70", "0.70", "0.50", "0.10, -0.20, 0.90 m +- 3.0 cm", "30 ms")
    assert absent == ("a banana", "absent", "NO_MATCH", "0.10", "-", "-", "-", "30 ms")
    unknown, _ = demo_report.rows_of(frames, ["a cup", "b"], None)
    assert unknown[:2] == ("a cup", "?") and unknown[5] == "-"
    titles, rule, *lines = demo_report.table([known, absent]).splitlines()
    assert titles.split("  ")[0] == "query" and len(lines) == 2 and set(rule) == {"-", " "}
    assert [line.index("MATCH") - line.index("NO_") if "NO_" in line else 0 for line in lines] == [0, 3]
    told = demo_report.about(frames)
    assert "3 frames" in told and "median 30 ms, worst 80 ms" in told and "dropped 3" in told and "refused 1" in told


def test_what_is_written(frames, tmp_path):
    rows = demo_report.rows_of(frames, ["the mug", "a banana"], SCENE)
    sheet = demo_report.write(tmp_path, frames, rows)
    assert cv2.imread(str(sheet)).ndim == 3
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["latency_ms"] == [10.0, 30.0, 80.0] and results["profile"] == "p"
    assert [tuple(row.values()) for row in results["rows"]] == rows
    (tmp_path / "contact_sheet.png").unlink()
    (tmp_path / "contact_sheet.png").mkdir()
    with pytest.raises(ImageFileError, match="contact_sheet.png"):
        demo_report.write(tmp_path, frames, rows)
