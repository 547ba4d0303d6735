import json

import numpy as np
import pytest

from esam_perception.commands.dispatcher import main
from esam_perception.training.measure.evaluate import extremes
from esam_perception.training.measure.judging import Judged, area_under_curve, calibration, summarise, table
from esam_perception.types import Verdict
from test.tiny import write_tiny_profile


def true(score, iou, kind="category", pixels=900, seed=0, category="mug", occlusion=0.0):
    verdict = Verdict.MATCH if score > 0.5 else Verdict.NO_MATCH
    return Judged(kind, True, score, verdict, iou > 0, iou, pixels, "a mug", seed, category, occlusion)


def false(score, kind, seed=0):
    return Judged(kind, False, score, Verdict.MATCH if score > 0.5 else Verdict.UNSURE, False, 0.0, 0, "a key", seed)


def test_area_under_curve():
    assert area_under_curve(np.array([0.9, 0.8]), np.array([0.1, 0.2])) == 1
    assert area_under_curve(np.array([0.5]), np.array([0.5])) == 0.5
    assert area_under_curve(np.array([0.1, 0.9]), np.array([0.5])) == 0.5


def test_figures_are_counted_per_kind_size_occlusion_and_category():
    judged = [
        true(0.9, 0.8), true(0.2, 0.0, pixels=100, category="key", occlusion=0.5), true(0.7, 0.4, "relation"),
        false(0.4, "wrong_colour"), false(0.8, "wrong_category"), false(0.1, "unknown_word"), false(0.6, "false_relation"),
    ]  # fmt: skip
    figures = summarise(judged)
    row = figures["true"]["category"]
    assert (row["phrases"], row["pointing"], row["mean_iou"], row["mean_iou_large"], row["accepted"]) == (
        2,
        0.5,
        0.4,
        0.8,
        0.5,
    )
    assert figures["true"]["all"]["phrases"] == 3
    assert list(figures["size"]) == ["0 to 400", "400 to 1600"] and figures["size"]["0 to 400"]["phrases"] == 1
    assert list(figures["occlusion"]) == ["0 to 0.05", "from 0.3"]
    assert {name: row["phrases"] for name, row in figures["category"].items()} == {"key": 1, "mug": 1}
    # of the six pairs of a true and a hard false phrase, .9 wins both, .7 one, .2 none
    assert figures["false"]["hard negatives"]["auc"] == pytest.approx(3 / 6)
    # relations apart, without the .7; a false relation only has that one against it
    assert figures["false"]["hard negatives"]["auc_relations_apart"] == pytest.approx(2 / 4)
    assert figures["false"]["false_relation"]["auc_relations_apart"] == 1.0
    assert figures["false"]["all"]["auc_relations_apart"] == figures["false"]["all"]["auc"]
    without = "all without relations"
    assert (figures["true"][without]["phrases"], figures["false"][without]["phrases"]) == (2, 3)
    assert figures["false"]["random negatives"]["phrases"] == 1 and figures["false"]["all"]["phrases"] == 4
    text = table(figures)
    assert "| category | 2 | 0.500 |" in text and "| hard negatives | 2 | 0.500 |" in text


def test_calibration_by_hand():
    found = calibration([0.95, 0.95, 0.95, 0.05], [True, True, False, False])
    assert [(b["from"], b["phrases"]) for b in found["bins"]] == [(0.0, 1), (0.9, 3)]
    error = 0.25 * 0.05 + 0.75 * abs(0.95 - 2 / 3)
    assert found["expected_calibration_error"] == pytest.approx(error)


def test_extremes_are_of_different_scenes():
    judged = [true(0.9, 0.1 * i, seed=i // 2) for i in range(10)] + [false(0.1 * i, "x", seed=i) for i in range(5)]
    found = extremes(judged, 2)
    assert [round(j.iou, 1) for j in found[:2]] == [0.9, 0.7] and [round(j.iou, 1) for j in found[2:4]] == [0.0, 0.2]
    assert [round(j.score, 1) for j in found[4:]] == [0.4, 0.3]
    # the worst of all, though its scene has good ones too
    worst = [true(0.9, iou, seed=seed) for iou, seed in ((0.0, 0), (1.0, 0), (0.3, 1), (0.4, 1), (0.5, 2))]
    assert [j.iou for j in extremes(worst, 2)[2:]] == [0.0, 0.3]


def test_what_hides_an_object_is_known(tabletop):
    hidden = 0
    for seed in range(900_000, 900_010):
        scene = tabletop.sample(seed)
        whole = tabletop.unhidden_pixels(scene)
        seen = tabletop.render(scene)
        for o in seen.objects:
            # silhouettes against another background differ by an edge pixel now and then
            assert whole[o.label] >= o.pixels - 3
            hidden += whole[o.label] > 1.1 * o.pixels
    assert hidden > 3


def test_the_command_writes_tables_json_and_a_sheet(tabletop, tiny_profile, tmp_path, capsys):
    sheet, output = tmp_path / "cases.jpg", tmp_path / "figures.json"
    command = ["evaluate", str(tiny_profile), "--scenes", "2", "--sheet", str(sheet), "--output", str(output)]
    assert main(command) == 0
    assert "hidden share" in capsys.readouterr().out
    figures = json.loads(output.read_text())
    assert figures["scenes"] == 2 and figures["profile"] == "tiny" and figures["true"]["all"]["phrases"] > 10
    assert sheet.stat().st_size > 20_000


@pytest.mark.long
@pytest.mark.parametrize("with_mask_head", [False, True])
def test_the_command_compares_options(tabletop, tmp_path, capsys, with_mask_head):
    output = tmp_path / "options.json"
    profile = write_tiny_profile(tmp_path, with_mask_head)
    assert main(["evaluate", str(profile), "--options", "--scenes", "1", "--output", str(output)]) == 0
    rows = json.loads(output.read_text())["options"]
    names = [row["options"] for row in rows]
    printed = capsys.readouterr().out
    assert len(set(names)) == len(names) > 15 and all(f"| {name} |" in printed for name in names)
    assert len({row["phrases"] for row in rows}) == 1
    assert "Grad-CAM alone" in names and ("mask head alone" in names) is with_mask_head
    assert ("mask head to EfficientSAM, box" in names) is with_mask_head
    assert all(0 <= row["mean_iou"] <= row["mean_iou_any"] <= 1 for row in rows)
