"""`esam train tabletop`: renders scenes, trains the bundled profile's two networks on this machine, exports them.

Everything is deterministic from seeds and step numbers, and every stage resumes from its last checkpoint: stop it
with Ctrl-C and run the same command again.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

PRECISIONS = ("auto", "float32", "bfloat16")
STAGES = ("data", "image-tower", "matching", "segmentation", "export")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("profile", choices=["tabletop"], help="what to train: the bundled tabletop profile")
    parser.add_argument("--work-dir", type=Path, default=Path("esam_train"), metavar="DIR",
                        help="scenes, checkpoints and curves (default: %(default)s)")  # fmt: skip
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="where the profile is written (default: WORK_DIR/profile)"
    )
    parser.add_argument("--stage", choices=["all", *STAGES], default="all",
                        help="one stage alone; all of them by default, the two networks side by side")  # fmt: skip
    parser.add_argument("--scenes", type=int, default=30000, help="training scenes, in hundreds (default: %(default)s)")
    parser.add_argument("--image-tower-steps", type=int, default=9000, metavar="N", help="default: %(default)s")
    parser.add_argument("--matching-steps", type=int, default=4000, metavar="N", help="default: %(default)s")
    parser.add_argument("--segmentation-steps", type=int, default=8000, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--threads",
        type=int,
        default=1,
        help="threads of each network; two on two contended cores are slower than one (default: %(default)s)",
    )
    parser.add_argument("--device", default="auto", help="auto (CUDA if there is one), cpu or cuda[:N]")
    parser.add_argument("--precision", choices=PRECISIONS, default="auto",
                        help="auto: bfloat16 on CUDA, float32 on the CPU (default: %(default)s)")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    began = time.monotonic()
    if args.stage != "all":
        _run_stage(args.stage, args)
        return 0
    print(
        f"training '{args.profile}' into {args.work_dir}: about four hours on two cores; safe to interrupt", flush=True
    )
    _run_stage("data", args)
    # the two networks share nothing: one process each
    segmentation = _start_stage("segmentation", args)
    try:
        for stage in ("image-tower", "matching"):
            if code := _start_stage(stage, args).wait():
                return code
        if code := segmentation.wait():
            return code
    finally:
        if segmentation.poll() is None:
            segmentation.terminate()
            segmentation.wait()
    _run_stage("export", args)
    print(f"done in {(time.monotonic() - began) / 60:.0f} min", flush=True)
    return 0


def _start_stage(stage: str, args: argparse.Namespace) -> subprocess.Popen:
    options = [
        "--stage",
        stage,
        "--work-dir",
        str(args.work_dir),
        "--scenes",
        str(args.scenes),
        "--threads",
        str(args.threads),
    ]
    options += ["--device", args.device, "--precision", args.precision]
    for name in ("image_tower_steps", "matching_steps", "segmentation_steps"):
        options += [f"--{name.replace('_', '-')}", str(getattr(args, name))]
    environment = {**os.environ, "OMP_NUM_THREADS": str(args.threads)}
    command = [sys.executable, "-m", "esam_perception.cli", "train", args.profile, *options]
    return subprocess.Popen(command, env=environment)


def _run_stage(stage: str, args: argparse.Namespace) -> None:
    from esam_perception.training import data

    cache_dir = args.work_dir / "cache"
    if stage == "data":
        data.build_cache(cache_dir, data.VALIDATION_SEED, 200)
        data.build_cache(cache_dir, data.TRAIN_SEED, args.scenes)
        return

    import torch

    torch.set_num_threads(args.threads)
    from esam_perception.pipeline import choose_device
    from esam_perception.training import export, stages
    from esam_perception.training.loop import Machine

    if stage == "export":
        export.export_profile(args.work_dir, args.output or args.work_dir / "profile")
        return
    machine = Machine(choose_device(args.device), args.precision)
    cache = data.SceneCache(cache_dir, data.TRAIN_SEED, args.scenes)
    if stage == "image-tower":
        stages.train_image_tower(args.work_dir, cache, args.image_tower_steps, machine)
    elif stage == "matching":
        stages.train_matching(args.work_dir, cache, args.matching_steps, machine)
    elif stage == "segmentation":
        stages.train_segmentation(args.work_dir, cache, args.segmentation_steps, machine)
