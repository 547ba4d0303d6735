"""What bench.pipeline measured, as Markdown, JSON and a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeAlias

from bench.counting import Work

# Of one device: head, peak, bandwidth, rows, checks, works, as bench.pipeline's `measure` makes it.
Result: TypeAlias = dict[str, Any]
STAGES = ("preprocess", "blip_image", "blip_text", "gradcam", "sam_image", "sam_decode", "fuse", "total")
NAMES = {
    "preprocess": "preprocessing",
    "blip_image": "BLIP image",
    "blip_text": "ITC text",
    "gradcam": "ITM + Grad-CAM",
    "sam_image": "EfficientSAM image",
    "sam_decode": "mask decoding",
    "fuse": "fusion, native masks",
    "total": "whole",
}


def floor_ms(work: Work, result: Result) -> float:
    """Milliseconds that a stage must take: its FLOPs or its bytes, whichever takes longer."""
    milliseconds: float = 1000 * max(work.flops / result["peak"], work.bytes / result["bandwidth"])
    return milliseconds


def gemm_floor_ms(result: Result, n: int) -> float:
    """Milliseconds of all FLOPs of n queries at the GEMM peak."""
    milliseconds: float = 1000 * sum(work.flops for work in result["works"][n].values()) / result["peak"]
    return milliseconds


def write(folder: Path, results: dict[str, Result], command: str, date: str, size: tuple[int, int]) -> None:
    """pipeline.md, pipeline.json and pipeline.png in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    text = [
        "# The pipeline beside the naive way",
        "",
        f"{date}; `{command}`; image {size[0]}x{size[1]}; `blip_base` at full size under deterministic weights; segments of all "
        "queries; text features cached for ours, as from a query's second frame on. Naive: `bench/naive.py`.",
    ]
    for device, result in results.items():
        text += [
            "",
            f"## {result['head']['device']}",
            "",
            *(f"- {key}: {value}" for key, value in result["head"].items()),
            "",
        ]
        text += whole_table(result) + [""] + stage_tables(result) + equality(result)
    (folder / "pipeline.md").write_text("\n".join(text) + "\n")
    (folder / "pipeline.json").write_text(json.dumps(as_json(results, command, date, size), indent=1) + "\n")
    draw(results, folder / "pipeline.png")


def spread(values: list[float]) -> str:
    """Median, and the range where there is one."""
    ordered = sorted(values)
    middle = ordered[len(ordered) // 2] if len(ordered) % 2 else sum(ordered[len(ordered) // 2 - 1 :][:2]) / 2
    return f"{middle:.0f}" if len(values) == 1 else f"{middle:.0f} ({ordered[0]:.0f} to {ordered[-1]:.0f})"


def whole_table(result: Result) -> list[str]:
    """Whole frames: both ways, the ratio, the floor."""
    lines = [
        "| queries | way | ms, median (range) | CPU ms | runs | naive / this | by CPU time | GEMM floor ms | this / floor | peak MB |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, n in sorted(result["rows"], key=lambda key: (key[1], key[0] != "naive", key[0])):
        row, naive = result["rows"][name, n], result["rows"].get(("naive", n))
        runs = f"extrapolated from {row.extrapolated_from} queries" if row.extrapolated_from else str(row.rounds)
        ratio = f"{naive.median('total') / row.median('total'):.1f}" if naive and name != "naive" else ""
        ratio += f" | {naive.median('cpu') / row.median('cpu'):.1f}" if naive and name != "naive" else " | "
        floor = gemm_floor_ms(result, n)
        above = (
            (f"{floor:.0f}", f"{row.median('total') / floor:.2f}; CPU {row.median('cpu') / floor:.2f}")
            if name == "ours"
            else ("", "")
        )
        memory = "" if row.extrapolated_from else f"{row.mb:.0f}"
        lines.append(
            f"| {n} | {name} | {spread(row.stages['total'])} | {row.median('cpu'):.0f} | {runs} | {ratio} | {above[0]} | {above[1]} | {memory} |"
        )
    return lines


def stage_tables(result: Result) -> list[str]:
    """Every stage of ours, with its floor."""
    lines = []
    for n in sorted(result["works"]):
        ours, naive = result["rows"]["ours", n], result["rows"].get(("naive", n))
        lines += [
            f"### Stages, {n} {'query' if n == 1 else 'queries'}",
            "",
            "| stage | naive ms | ours ms | GFLOP | MB | floor ms | ours / floor |",
            "|---|---|---|---|---|---|---|",
        ]
        for stage in STAGES:
            work = result["works"][n].get(stage)
            floor = floor_ms(work, result) if work else 0.0
            cells = ["", "", "", ""]
            if work:
                cells = [
                    f"{work.flops / 1e9:.1f}",
                    f"{work.bytes / 1e6:.0f}",
                    f"{floor:.1f}",
                    f"{ours.median(stage) / floor:.2f}",
                ]
            before = f"{naive.median(stage):.0f}{'*' if naive.extrapolated_from else ''}" if naive else ""
            lines.append(f"| {NAMES[stage]} | {before} | {ours.median(stage):.1f} | " + " | ".join(cells) + " |")
        if naive and naive.extrapolated_from:
            lines += ["", f"\\* scaled from {naive.extrapolated_from} queries, not run."]
        lines.append("")
    return lines


def equality(result: Result) -> list[str]:
    """The largest differences between both ways."""
    lines = ["### Largest differences between the naive way and ours (float32)", ""]
    lines += [
        "| queries | ITM logits | ITC | Grad-CAM (0..1) | heatmap (0..1) | least mask IoU |",
        "|---|---|---|---|---|---|",
    ]
    for n, worst in result["checks"].items():
        lines.append(
            f"| {n} | {worst['itm_logits']:.1e} | {worst['itc']:.1e} | {worst['gradcam']:.1e} | {worst['heatmap']:.1e} | "
            f"{worst['mask_iou']:.4f} |"
        )
    return lines


def as_json(results: dict[str, Result], command: str, date: str, size: tuple[int, int]) -> dict[str, Any]:
    """The same with every single run."""
    devices = {
        device: {
            "head": result["head"],
            "gemm_peak_flops": result["peak"],
            "copy_bandwidth": result["bandwidth"],
            "runs": [{"way": name, "queries": n, **vars(row)} for (name, n), row in result["rows"].items()],
            "work": {
                str(n): {stage: vars(work) for stage, work in works.items()} for n, works in result["works"].items()
            },
            "differences": {str(n): worst for n, worst in result["checks"].items()},
        }
        for device, result in results.items()
    }
    return {"date": date, "command": command, "image": size, "devices": devices}


def draw(results: dict[str, Result], path: Path) -> None:
    """Milliseconds over the number of queries, one panel a device."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(results), figsize=(6 * len(results), 4), squeeze=False)
    for panel, result in zip(panels[0], results.values()):
        for name in dict.fromkeys(name for name, _ in result["rows"]):
            counts = sorted(n for own, n in result["rows"] if own == name)
            rows = [result["rows"][name, n] for n in counts]
            panel.plot(counts, [row.median("total") for row in rows], "o-", label=name)
        counts = sorted(result["works"])
        panel.plot(counts, [gemm_floor_ms(result, n) for n in counts], "k--", label="GEMM floor")
        panel.set(xscale="log", yscale="log", xlabel="queries", ylabel="ms a frame", title=result["head"]["device"])
        panel.set_xticks(counts, [str(n) for n in counts])
        panel.grid(True, which="both", alpha=0.3)
        panel.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    pyplot.close(figure)
