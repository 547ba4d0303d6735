"""`esam evaluate --targets`: the figures, and what a depth camera is said to do."""

import json
from dataclasses import replace

import numpy as np
import pytest

from esam_perception.commands.dispatcher import main
from esam_perception.training.measure import targets
from esam_perception.training.measure.targets import CONDITIONS, Measured, evaluate_targets, holed, noisy, targets_table
from esam_perception.types import Match, Query, Segment, Verdict


def rng():
    return np.random.default_rng(1)


def test_simulated_depth_is_noisy_holed_and_the_same_again():
    depth = np.full((96, 128), 1.0, np.float32)
    depth[:, 64:] = 1.5
    depth[:8] = 0  # the sky
    measured = noisy(depth, rng())
    np.testing.assert_array_equal(measured, noisy(depth, rng()))
    assert (measured[:8] == 0).all()
    flat = measured[10:, 4:60]
    assert flat.mean() == pytest.approx(1.0, abs=1e-3) and 0.001 < flat.std() < 0.004
    edge = measured[10:, 63:65]
    assert 0.3 < (edge == 0).mean() < 0.7
    assert ((edge > 1.05) & (edge < 1.45)).any()  # between the two sides
    lost = np.isnan(holed(depth, rng())).mean()
    assert 0.15 < lost < 0.5
    for change in CONDITIONS.values():
        assert change(depth, rng()).dtype == np.float32


def test_rows_by_hand():
    measured = Measured([0.001, 0.002, 0.030], [1.0, 2.0, 100.0])
    measured.reasons["too_few_valid_pixels"] = 2
    row = measured.row()
    assert (row["targets"], row["none"], row["median_m"], row["worst_m"]) == (3, 2, 0.002, 0.030)
    assert row["inside_95"] == pytest.approx(2 / 3) and 0.02 < row["p95_m"] < 0.03
    assert np.isnan(Measured().row()["median_m"]) and Measured().row()["targets"] == 0


class Oracle:
    """A pipeline that knows the instances, and is told which share of each mask to leave out."""

    def __init__(self, table, missing: float) -> None:
        self._table, self._missing = table, missing

    def locate(self, image, texts, segment_always):
        seen = self._table.current
        found = []
        for text in texts:
            (label,) = next(p.labels for p in seen.phrases if p.text == text and p.true)
            mask = seen.instances == label
            rows = np.flatnonzero(mask.any(1))
            mask[rows[0] : rows[0] + round(self._missing * len(rows))] = False
            segment = Segment(1, mask, mask.astype(np.float32), 1 - self._missing, (0, 0, 1, 1), np.zeros((1, 2)))
            maps = np.zeros((2, 2), np.float32)
            match = Match(
                Query(text), Verdict.MATCH, (0, 1), 0.7, 0.1, float("nan"), maps, maps, (0.0, 0.0), (segment,)
            )
            found.append(match if mask.any() else replace(match, segments=()))
        return found


@pytest.fixture
def watched(tabletop, monkeypatch):
    """The renderer as the evaluation makes it, with the scene that it shows at hand."""

    class Table:
        def __init__(self, *size):
            Table.instance = self

        def sample(self, seed):
            return tabletop.sample(seed)

        def render(self, scene):
            Table.current = tabletop.render(scene)
            return Table.current

        def close(self):
            pass

    monkeypatch.setattr(targets, "Tabletop", Table)
    return Table


def test_true_masks_have_no_error_and_worse_ones_more(watched):
    seeds = range(900_000, 900_004)
    perfect = evaluate_targets(Oracle(watched, 0.0), seeds, (320, 240))
    assert perfect["named"] == perfect["matched"] == perfect["accepted"] > 8
    row = perfect["targets"]["perfect depth"]
    assert row["median_m"] < 0.001 and row["inside_95"] > 0.9
    assert perfect["targets"][targets.ACCEPTED] == row  # the oracle accepts all
    assert perfect["targets"]["the same, 2 px off"]["median_m"] > row["median_m"]
    worse = evaluate_targets(Oracle(watched, 0.3), seeds, (320, 240))
    assert worse["targets"]["perfect depth"]["median_m"] > 0.003
    assert worse["targets"][targets.TRUE_MASK] == perfect["targets"][targets.TRUE_MASK]
    lost = evaluate_targets(Oracle(watched, 0.8), seeds, (320, 240))  # IoU below 0.5: nothing is matched
    assert lost["matched"] == 0 and lost["targets"] == {}
    assert f"| {targets.PERFECT} |" in targets_table(perfect) and "0 matched" in targets_table(lost)


def test_the_command_writes_table_and_json(tabletop, tiny_profile, tmp_path, capsys):
    output = tmp_path / "figures.json"
    assert main(["evaluate", str(tiny_profile), "--targets", "--scenes", "1", "--output", str(output)]) == 0
    assert "inside the 95 % ellipsoid" in capsys.readouterr().out
    figures = json.loads(output.read_text())
    assert figures["profile"] == "tiny" and figures["named"] > 0 and figures["matched_iou"] == 0.5
