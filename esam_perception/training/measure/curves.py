"""The curves of a training run, out of the logs that its stages write: one JSON file, one picture."""

from __future__ import annotations

import json
from pathlib import Path

from esam_perception.errors import InvalidInput

LOSSES, QUALITY = "losses", "quality"
# what is not a loss: shares and IoU, 0..1
QUALITIES = ("accuracy", "category_accuracy", "iou", "best_iou")


def read_curve(path: Path) -> dict[str, list[float]]:
    """The columns of a stage's log (a JSON object a line), "step" among them, by step: what was logged twice, because a
    run was interrupted and went on from its last checkpoint, is there once, as logged last."""
    rows = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        rows[row["step"]] = row
    ordered = [rows[step] for step in sorted(rows)]
    names = dict.fromkeys(name for row in ordered for name in row)
    return {name: [row.get(name) for row in ordered] for name in names}


def write_curves(folder: Path, output: Path) -> dict[str, dict]:
    """Every stage's curve of a work directory as `output`/curves.json and curves.png; returns what the JSON holds, the
    columns (see read_curve) by stage. Raises InvalidInput where there are no logs."""
    curves = {path.stem: read_curve(path) for path in sorted(folder.glob("*.jsonl"))}
    if not curves:
        raise InvalidInput(f"{folder}: holds no logs of training stages (*.jsonl)")
    output.mkdir(parents=True, exist_ok=True)
    (output / "curves.json").write_text(json.dumps(curves) + "\n", encoding="utf-8")
    _draw(curves, output / "curves.png")
    return curves


def _draw(curves: dict[str, dict], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")  # no display
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(len(curves), 2, figsize=(11, 3.2 * len(curves)), squeeze=False)
    for (stage, curve), (left, right) in zip(curves.items(), axes):
        for name, values in curve.items():
            if name != "step":
                (right if name in QUALITIES else left).plot(curve["step"], values, label=name, linewidth=1)
        for axis, what in ((left, LOSSES), (right, QUALITY)):
            axis.set_title(f"{stage.replace('_', ' ')}: {what}", fontsize=10)
            axis.set_xlabel("step", fontsize=8)
            axis.grid(alpha=0.3)
            if axis.lines:
                axis.legend(fontsize=7)
        left.set_yscale("log")
        right.set_ylim(0, 1)
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    plt.close(figure)
