"""`esam train tabletop`: renders scenes, trains the bundled profile's two networks on this machine, exports them.
`esam train --data DIR`: goes on with a profile on a user's own images.

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
from typing import TYPE_CHECKING

from esam_perception.errors import EsamError
from esam_perception.training.data.seeds import TRAIN_SEED, VALIDATION_SEED

if TYPE_CHECKING:  # torch takes seconds to import: not before it is needed
    from esam_perception.training.loop import Machine

PRECISIONS = ("auto", "float32", "bfloat16")
WORK_DIR = Path("esam_train")
STAGES = ("data", "image-tower", "matching", "refinement", "segmentation", "segmentation-refinement", "export")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument(
        "profile", nargs="?", choices=["tabletop"], help="train the bundled tabletop profile from nothing"
    )
    parser.add_argument("--work-dir", type=Path, metavar="DIR",
                        help="checkpoints and curves, and rendered scenes (default: esam_train, or esam_train/NAME of the data)")  # fmt: skip
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="where the profile is written (default: WORK_DIR/profile)"
    )
    parser.add_argument("--threads", type=int, default=1,
                        help="of each network; two on two contended cores are slower than one (default: %(default)s)")  # fmt: skip
    parser.add_argument("--device", default="auto", help="auto (CUDA if there is one), cpu or cuda[:N]")
    parser.add_argument("--precision", choices=PRECISIONS, default="auto",
                        help="auto: bfloat16 on CUDA devices that have it, float32 elsewhere (default: %(default)s)")  # fmt: skip
    parser.add_argument("--matching-steps", type=int, metavar="N", help="default: 2200; own data: 500")
    parser.add_argument("--segmentation-steps", type=int, metavar="N", help="default: 5200; own data: 300")
    tabletop = parser.add_argument_group("the tabletop profile")
    tabletop.add_argument("--stage", choices=["all", *STAGES], default="all",
                          help="one stage alone; all of them by default, the two networks side by side")  # fmt: skip
    tabletop.add_argument(
        "--scenes", type=int, default=30000, help="training scenes, in hundreds (default: %(default)s)"
    )
    tabletop.add_argument("--image-tower-steps", type=int, default=9000, metavar="N", help="default: %(default)s")
    tabletop.add_argument("--refinement-steps", type=int, default=1700, metavar="N",
                          help="of each of its cycles (default: %(default)s)")  # fmt: skip
    tabletop.add_argument("--segmentation-refinement-steps", type=int, default=1500, metavar="N",
                          help="default: %(default)s")  # fmt: skip
    own = parser.add_argument_group("your own images (docs/own_data.md)")
    own.add_argument("--data", type=Path, metavar="DIR", help="a folder with annotations.json: images, masks, phrases")
    own.add_argument("--from", dest="base", default="auto", metavar="PROFILE",
                     help="the profile that goes on learning (default: blip_base if it was fetched, else tabletop)")  # fmt: skip
    own.add_argument("--batch", type=int, default=8, help="images a step (default: %(default)s)")
    own.add_argument("--learning-rate", type=float, default=1e-4, metavar="RATE", help="default: %(default)s")
    own.add_argument("--validation-share", type=float, default=0.1, metavar="SHARE",
                     help="of the images, to check with (default: %(default)s)")  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Train; the exit code."""
    if (args.profile is None) == (args.data is None):
        print("esam train: say what to train: `tabletop`, or your own images with --data DIR", file=sys.stderr)
        return 2
    if args.data is not None:
        return _run_own(args)
    if args.scenes > VALIDATION_SEED:
        print(
            f"esam train: at most {VALIDATION_SEED} scenes: later seeds are for validation and tests",
            file=sys.stderr,
        )
        return 2
    args.work_dir = args.work_dir or WORK_DIR
    args.matching_steps, args.segmentation_steps = args.matching_steps or 2200, args.segmentation_steps or 5200
    began = time.monotonic()
    try:
        machine = _machine(args)  # what it has to say of device and precision comes before hours of rendering
    except EsamError as error:
        print(f"esam train: {error}", file=sys.stderr)
        return 1
    if args.stage != "all":
        _run_stage(args.stage, args, machine)
        return 0
    print(
        f"training '{args.profile}' into {args.work_dir}: about eight hours on two cores; safe to interrupt", flush=True
    )
    _run_stage("data", args, machine)
    # the two networks share nothing until EfficientSAM learns from BLIP's heatmaps: one process each
    segmentation = _start_stage("segmentation", args)
    try:
        for stage in ("image-tower", "matching", "refinement"):
            if code := _start_stage(stage, args).wait():
                return code
        if code := segmentation.wait():
            return code
    finally:
        if segmentation.poll() is None:
            segmentation.terminate()
            segmentation.wait()
    if code := _start_stage("segmentation-refinement", args).wait():
        return code
    _run_stage("export", args, machine)
    print(f"done in {(time.monotonic() - began) / 60:.0f} min", flush=True)
    return 0


def _run_own(args: argparse.Namespace) -> int:
    import torch

    torch.set_num_threads(args.threads)
    from esam_perception.training.own_data import Schedule, train_own

    work_dir = args.work_dir or WORK_DIR / args.data.resolve().name
    output = args.output or work_dir / "profile"
    try:
        schedule = Schedule(
            args.matching_steps or 500,
            args.segmentation_steps or 300,
            args.batch,
            args.learning_rate,
            args.validation_share,
        )
        figures = train_own(args.data, args.base, work_dir, output, schedule, _machine(args))
    except EsamError as error:  # of the data, the profile, the device: each says what to do
        print(f"esam train: {error}", file=sys.stderr)
        return 1
    found, absent = figures["true"]["all"], figures["false"]["all"]
    print(
        f"on the held-out images: peak in the thing {found['pointing']:.2f}, mean IoU {found['mean_iou']:.2f}, "
        f"AUC against false phrases {absent['auc']:.2f} ({found['phrases']} true, {absent['phrases']} false phrases)"
    )
    print(f"use it: ./esam locate IMAGE TEXT --model {output}   or   model:={output.resolve()} with the launch file")
    return 0


def _machine(args: argparse.Namespace) -> Machine:
    """Where to train; a warning goes to stderr where bfloat16 is slower than float32 there. Raises InvalidDevice for a
    device that is not there."""
    from esam_perception.computing import slow_precision
    from esam_perception.pipeline.loading import choose_device
    from esam_perception.training.loop import Machine

    machine = Machine(choose_device(args.device), args.precision)
    if slow := slow_precision(machine.dtype, machine.device):
        print(f"esam train: {slow}", file=sys.stderr, flush=True)
    return machine


def _start_stage(stage: str, args: argparse.Namespace) -> subprocess.Popen[bytes]:
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
    for name in STAGES[1:-1]:
        options += [f"--{name}-steps", str(getattr(args, f"{name.replace('-', '_')}_steps"))]
    environment = {**os.environ, "OMP_NUM_THREADS": str(args.threads)}
    command = [sys.executable, "-m", "esam_perception", "train", args.profile, *options]
    return subprocess.Popen(command, env=environment)


def _run_stage(stage: str, args: argparse.Namespace, machine: Machine) -> None:
    from esam_perception.training.data import scenes as data

    cache_dir = args.work_dir / "cache"
    if stage == "data":
        data.build_cache(cache_dir, VALIDATION_SEED, 200)
        data.build_cache(cache_dir, TRAIN_SEED, args.scenes)
        return

    import torch

    torch.set_num_threads(args.threads)
    from esam_perception.training import export
    from esam_perception.training.measure import curves
    from esam_perception.training.stages import tabletop as stages

    if stage == "export":
        export.export_profile(args.work_dir, args.output or args.work_dir / "profile")
        curves.write_curves(args.work_dir, args.work_dir)
        return
    cache = data.SceneCache(cache_dir, TRAIN_SEED, args.scenes)
    if stage == "image-tower":
        stages.train_image_tower(args.work_dir, cache, args.image_tower_steps, machine)
    elif stage == "matching":
        stages.train_matching(args.work_dir, cache, args.matching_steps, machine)
    elif stage == "refinement":
        stages.train_refinement(args.work_dir, cache, args.refinement_steps, machine)
    elif stage == "segmentation":
        stages.train_segmentation(args.work_dir, cache, args.segmentation_steps, machine)
    elif stage == "segmentation-refinement":
        stages.train_segmentation_refinement(args.work_dir, cache, args.segmentation_refinement_steps, machine)
