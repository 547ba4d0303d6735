"""The pipeline beside the naive way: one command, one run, the same weights, the same image.

    python -m bench.pipeline                      # CPU, and CUDA where there is one; 1, 4, 16 and 64 queries
    python -m bench.pipeline --queries 1 4 --rounds 1      # a first impression, in a minute

For every number of queries both are run in turn, medians and spreads are taken over the rounds, and both must say the same.
"Floor": the stage's FLOPs at the machine's own measured GEMM peak, or its bytes at its copy bandwidth, whichever takes longer.
"""

from __future__ import annotations

import argparse
import datetime
import os
import shlex
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm

from bench import machine, report
from bench.counting import Work, count
from bench.models import full_size_pipeline, queries
from bench.naive import Naive, NaiveMatch
from esam_perception.computing import choose_threads
from esam_perception.environment.distro import ALLOCATION
from esam_perception.images.masks import mask_iou
from esam_perception.pipeline.pipeline import Pipeline
from esam_perception.tabletop.clip import load_clip
from esam_perception.types import Match

STAGES = ("preprocess", "blip_image", "blip_text", "gradcam", "sam_image", "sam_decode", "fuse", "total")


def parser() -> argparse.ArgumentParser:
    parsed = argparse.ArgumentParser(
        prog="python -m bench.pipeline", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parsed.add_argument(
        "--queries", type=int, nargs="+", default=[1, 4, 16, 64], help="numbers of queries (default: %(default)s)"
    )
    parsed.add_argument("--rounds", type=int, default=3, help="runs of each, in turn (default: %(default)s)")
    parsed.add_argument(
        "--naive-runs", type=int, default=24,
        help="queries asked in the naive way for one number of queries, over all rounds: it gets as many rounds as fit, one at "
        "least (default: %(default)s)",
    )  # fmt: skip
    parsed.add_argument(
        "--naive-most", type=int, default=16,
        help="beyond this many queries the naive way is not run: its time is that of the largest run, scaled by the number, "
        "and the table says so (default: %(default)s)",
    )  # fmt: skip
    parsed.add_argument(
        "--threads", type=int, default=0, help="CPU threads; 0: as the node chooses them (default: %(default)s)"
    )
    parsed.add_argument(
        "--bfloat16", action="store_true", help="also the pipeline in bfloat16 on the CPU (fast only with AMX)"
    )
    parsed.add_argument(
        "--size", type=int, nargs=2, default=(640, 480), metavar=("W", "H"), help="of the image (default: 640 480)"
    )
    parsed.add_argument(
        "--output",
        type=Path,
        default=Path("bench/results"),
        help="folder of pipeline.md, .json, .png (default: %(default)s)",
    )
    return parsed


@dataclass
class Measured:
    """Milliseconds by stage, one entry a round, and `cpu`, those that the process computed; mb: peak memory; extrapolated_from: queries really run, if fewer."""

    stages: dict[str, list[float]]
    mb: float
    rounds: int
    extrapolated_from: int = 0

    def median(self, stage: str) -> float:
        return statistics.median(self.stages[stage]) if self.stages[stage] else 0.0


def timed(pipeline: Pipeline, image: np.ndarray, texts: list[str]) -> tuple[tuple[Match, ...], dict[str, float]]:
    """(matches, milliseconds by stage), the device's work included."""
    machine.wait(pipeline.device)
    located = pipeline.locate_timed(image, texts, segment_always=True)
    return located.matches, vars(located.timing)


def differences(ours: Sequence[Match], naive: Sequence[NaiveMatch]) -> dict[str, float]:
    """The largest differences of two answers; masks: the least IoU of a query's masks."""
    worst = {"itm_logits": 0.0, "itc": 0.0, "gradcam": 0.0, "heatmap": 0.0, "mask_iou": 1.0}
    for a, b in zip(ours, naive, strict=True):
        worst["itm_logits"] = max(worst["itm_logits"], float(np.abs(np.array(a.itm_logits) - b.itm_logits).max()))
        worst["itc"] = max(worst["itc"], abs(a.itc_similarity - b.itc_similarity))
        worst["gradcam"] = max(worst["gradcam"], float(np.abs(a.gradcam - b.gradcam).max()))
        worst["heatmap"] = max(worst["heatmap"], float(np.abs(a.heatmap - b.heatmap).max()))
        masks = [segment.mask for segment in a.segments]
        if len(masks) != len(b.masks):
            worst["mask_iou"] = 0.0
        for own, other in zip(masks, b.masks):
            worst["mask_iou"] = min(worst["mask_iou"], mask_iou(own, other))
    return worst


def equal(worst: dict[str, float]) -> bool:
    """Whether two float32 answers are the same but for rounding (maps are in 0..1, scaled to their own range)."""
    return (
        worst["itm_logits"] < 1e-4
        and worst["itc"] < 1e-4
        and max(worst["gradcam"], worst["heatmap"]) < 5e-3
        and worst["mask_iou"] > 0.99
    )


def stage_work(pipeline: Pipeline, image: np.ndarray, texts: list[str]) -> dict[str, Work]:
    """FLOPs and bytes of the pipeline's stages; text features are cached, as from a query's second frame on."""
    matcher, segmenter = pipeline._matcher, pipeline._segmenter
    encoded, features = pipeline.encode(image), matcher.text_features(texts)
    pixels = matcher.preprocess(image)
    raw = torch.from_numpy(image).to(pipeline.device).permute(2, 0, 1)[None].float() / 255
    prompts = sum(len(match.segments) for match in pipeline.ask(encoded, texts, segment_always=True))
    points = torch.full((1, prompts, 1, 2), 50.0)
    with torch.no_grad():
        return {
            "blip_image": count(lambda: matcher.encode_image(pixels)),
            "gradcam": count(lambda: matcher.match(encoded.matching, texts, features)),
            "sam_image": count(lambda: segmenter.encode_image(raw)),
            "sam_decode": count(
                lambda: segmenter.decode(encoded.segmentation, points, torch.ones(1, prompts, 1), image.shape[:2])
            ),
        }


def measure(device: torch.device, args: argparse.Namespace, image: np.ndarray) -> report.Result:
    """Everything about one device."""
    head = machine.describe(device)
    peaks = [machine.gemm_peak(device)]
    bandwidth = machine.copy_bandwidth(device)
    pipelines = {"ours": full_size_pipeline(device)}
    if device.type == "cuda" or args.bfloat16:
        pipelines["ours, bfloat16"] = full_size_pipeline(device, torch.bfloat16)
        head["bfloat16 GEMM"] = f"{machine.gemm_peak(device, torch.bfloat16) / 1e9:.0f} GFLOP/s"
    naive = Naive(pipelines["ours"])
    for pipeline in pipelines.values():
        pipeline.locate(image, queries(64), segment_always=True)  # warm; the text features are cached from here on
    rows, checks, works = {}, {}, {}
    plan = [(n, min(n, args.naive_most)) for n in sorted(set(args.queries))]
    naive_rounds = {n: max(1, min(args.rounds, args.naive_runs // n)) if n == asked else 0 for n, asked in plan}
    steps = sum(args.rounds * len(pipelines) * (1 + n / 16) + 3 * n * naive_rounds[n] for n, _ in plan)
    progress = tqdm(total=round(steps), unit="step", desc=head["device"], file=sys.stderr)
    for n, _ in plan:
        texts = queries(n)
        times: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in (*pipelines, "naive")}
        memory: dict[str, float] = defaultdict(float)
        for turn in range(args.rounds):
            answers: dict[str, tuple[Match, ...]] = {}
            naive_answers: list[NaiveMatch] = []
            if turn < naive_rounds[n]:
                with machine.PeakMemory(device) as peak:
                    began = time.process_time()
                    naive_answers = naive.locate(image, texts)
                    times["naive"]["cpu"].append(1000 * (time.process_time() - began))
                memory["naive"] = max(memory["naive"], peak.megabytes)
                for stage in STAGES:
                    times["naive"][stage].append(naive.stages[stage])
                progress.update(3 * n)
            for name, pipeline in pipelines.items():
                with machine.PeakMemory(device) as peak:
                    began = time.process_time()
                    answers[name], stages = timed(pipeline, image, texts)
                    times[name]["cpu"].append(1000 * (time.process_time() - began))
                memory[name] = max(memory[name], peak.megabytes)
                for stage in STAGES:
                    times[name][stage].append(stages[stage])
                progress.update(round(1 + n / 16))
            if naive_answers:
                checks[n] = differences(answers["ours"], naive_answers)
        for name, measured_stages in times.items():
            if measured_stages:
                rows[name, n] = Measured(measured_stages, memory[name], len(measured_stages["total"]))
        works[n] = stage_work(pipelines["ours"], image, texts)
        peaks.append(machine.gemm_peak(device))
    progress.close()
    measured = [n for n, _ in plan if ("naive", n) in rows]
    for n, _ in plan:
        if ("naive", n) not in rows and measured:
            base = rows["naive", measured[-1]]
            scaled = {stage: [value * n / measured[-1] for value in values] for stage, values in base.stages.items()}
            rows["naive", n] = Measured(scaled, base.mb, base.rounds, measured[-1])
    head["GEMM peak"] = (
        f"{max(peaks) / 1e9:.0f} GFLOP/s (float32; {min(peaks) / 1e9:.0f} to {max(peaks) / 1e9:.0f} during the run)"
    )
    head["copy bandwidth"] = f"{bandwidth / 1e9:.1f} GB/s (read + write)"
    return {"head": head, "peak": max(peaks), "bandwidth": bandwidth, "rows": rows, "checks": checks, "works": works}


def main() -> int:
    args = parser().parse_args()
    if any(os.environ.get(name) != value for name, value in ALLOCATION.items()):
        # glibc reads these once, at start
        os.execve(sys.executable, [sys.executable, "-m", "bench.pipeline", *sys.argv[1:]], {**os.environ, **ALLOCATION})
    torch.set_num_threads(args.threads or choose_threads())
    image = cv2.resize(load_clip()[0].image, tuple(args.size))
    devices = [torch.device("cpu")] + ([torch.device("cuda")] if torch.cuda.is_available() else [])
    results = {str(device): measure(device, args, image) for device in devices}
    command = shlex.join(["python", "-m", "bench.pipeline", *sys.argv[1:]])
    report.write(args.output, results, command, datetime.date.today().isoformat(), tuple(args.size))
    print((args.output / "pipeline.md").read_text())
    wrong = [
        f"{device}, {n} queries: {worst}"
        for device, r in results.items()
        for n, worst in r["checks"].items()
        if not equal(worst)
    ]
    if wrong:
        print("NOT EQUAL: " + "; ".join(wrong), file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
