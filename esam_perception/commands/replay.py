"""`esam replay BAG... --queries FILE`: recorded data through the pipeline, without a running graph and without ROS."""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from esam_perception.profiles.registry import load_profile
from esam_perception.profiles.schema import ProfileError
from esam_perception.recordings.bag_messages import MissingInterfaces, interface_folder
from esam_perception.recordings.bags import BagError
from esam_perception.recordings.query_file import QueryFileError, read_queries
from esam_perception.recordings.replay import BagJob, BagResult, discard, image_count, replay_bag
from esam_perception.recordings.summary import about, write_summaries

EPILOG = """BAG is a rosbag2 recording: a folder with metadata.yaml, an .mcap or a .db3 file. Every frame is looked at, in the
bag's order; the same bag gives the same bytes (on the same machine, with the same model and versions).

DIR then holds, for a bag drive.mcap:
  drive_matches/     an MCAP bag: /esam/matches and /esam/active_queries as the node publishes them, with the images'
                     stamps; Timing is zero. `ros2 bag play drive_matches` plays it beside the recording
  summary.md, .csv   a row a bag and query: frames, MATCH, UNSURE, NO_MATCH, mean score, first and last stamp of a MATCH

The queries FILE holds one phrase a line, `#` begins a comment; or, as .yaml or .json, ids and thresholds:
  - {text: the red mug, id: mug, match_threshold: 0.7, reject_threshold: 0.3}
  - a banana

examples:
  echo "the red mug" > queries.txt
  ./esam replay drive.mcap --queries queries.txt --model tabletop
  ./esam replay drive.mcap --queries queries.yaml --image-topic /front/image_raw --every 5 --output labels
  ./esam replay monday/* tuesday/* --queries queries.yaml --jobs 4 --output fleet
  ./esam replay /shared/bags/* --queries queries.yaml --ray auto --output /shared/fleet
"""


class ReplayError(ValueError):
    """Input that the user must mend; one line, exit code 2."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("bags", nargs="+", type=Path, metavar="BAG", help="folder with metadata.yaml, .mcap or .db3")
    parser.add_argument("--queries", type=Path, required=True, metavar="FILE", help="what to look for")
    parser.add_argument(
        "--output", type=Path, default=Path("esam_replay"), metavar="DIR", help="(default: %(default)s)"
    )
    parser.add_argument("--force", action="store_true", help="replace what an earlier replay wrote there")
    parser.add_argument("--image-topic", metavar="TOPIC", help="default: the only image topic of the bag")
    parser.add_argument("--every", type=_positive, default=1, metavar="N", help="look at each Nth frame only")
    parser.add_argument("--segment-always", action="store_true", help="segments whatever the verdict")
    parser.add_argument(
        "--images", action="store_true", help="write /esam/mask, /esam/confidence and /esam/heatmap too"
    )
    parser.add_argument(
        "--model", default="auto", help="auto, tabletop, blip_base, blip_large or a directory (default: %(default)s)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    parser.add_argument("--threads", type=_positive, default=1, help="CPU threads of torch a process (default: 1)")
    parser.add_argument(
        "--jobs", type=_positive, metavar="N", help="bags at once, each in a process (default: 1; with --ray: all CPUs)"
    )
    parser.add_argument("--ray", metavar="ADDRESS", help="run on the Ray cluster at ADDRESS (auto, or ray://HOST:10001); "
                        "bags, DIR and a model's directory must lie at the same path on every machine")  # fmt: skip


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value


def run(args: argparse.Namespace) -> int:
    try:
        # all that can be wrong with the input is found before a model is loaded
        jobs = plan(args)
        frames = [image_count(job) for job in jobs]
        interface_folder()
        _, warnings = load_profile(args.model)
        for warning in warnings:
            print(f"esam replay: {warning}", file=sys.stderr)
        _make_room(args, jobs)
        results = _replay_all(args, jobs, frames)
    except (ReplayError, QueryFileError, BagError, ProfileError, MissingInterfaces) as error:
        print(f"esam replay: {error}", file=sys.stderr)
        return 2
    write_summaries(args.output, results)
    print((args.output / "summary.md").read_text(encoding="utf-8"), end="")
    print(f"{args.output}: {', '.join(result.output.name for result in results if not result.error) or 'nothing'}")
    for result in results:
        if result.error or result.refused or result.read < result.announced:
            print(f"esam replay: {about(result)}", file=sys.stderr)
    return 1 if any(result.error for result in results) else 0


def plan(args: argparse.Namespace) -> list[BagJob]:
    """A job a bag, each with an output folder of its own. Raises QueryFileError."""
    queries = read_queries(args.queries)
    jobs, taken = [], set()
    for bag in args.bags:
        stem = bag.resolve().name if bag.is_dir() else bag.stem
        name, number = f"{stem}_matches", 2
        while name in taken:  # bags of one name from several folders
            name, number = f"{stem}_{number}_matches", number + 1
        taken.add(name)
        jobs.append(
            BagJob(
                bag, args.output / name, queries, args.image_topic, args.model, args.device, args.threads, args.every,
                args.segment_always, args.images,
            )
        )  # fmt: skip
    return jobs


def _make_room(args: argparse.Namespace, jobs: list[BagJob]) -> None:
    """Nothing that is there is written over without --force, and no bag that is read is ever removed."""
    summaries = [args.output / "summary.csv", args.output / "summary.md"]
    there = [path for path in (*(job.output for job in jobs), *summaries) if path.exists()]
    if there and not args.force:
        raise ReplayError(f"{there[0]} is there already: give another --output, or --force to replace it")
    for job in (job for job in jobs if job.output.exists()):
        if any(job.output.resolve() in (bag.resolve(), *bag.resolve().parents) for bag in args.bags):
            raise ReplayError(f"{job.output} is to be read and cannot be replaced: give another --output")
        if not (job.output / "metadata.yaml").is_file():
            raise ReplayError(f"{job.output} is no bag of an earlier replay and is left alone: give another --output")
        discard(job.output)
    try:
        args.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ReplayError(f"{args.output}: cannot be made ({error.strerror})") from error


def _replay_all(args: argparse.Namespace, jobs: list[BagJob], frames: list[int]) -> list[BagResult]:
    """The results in the order of the jobs, with a bar of frames and the time left."""
    results = []
    with tqdm(total=sum(frames), unit="frame", smoothing=0.1) as bar:
        if args.ray is None and min(args.jobs or 1, len(jobs)) == 1:
            for job in jobs:
                bar.set_description(job.bag.name)
                results.append(replay_bag(job, bar.update))
            return results
        with mapper(args.jobs, args.ray) as mapped:
            for result, announced in zip(mapped(replay_bag, jobs), frames):
                results.append(result)
                bar.update(announced)
    return results


@contextmanager
def mapper(jobs: int | None, ray_address: str | None) -> Iterator[Callable[[Callable, Iterable], Iterator]]:
    """A `map(function, items)` whose calls run at once, in processes or on a Ray cluster, its results in order.

    Raises ReplayError where there is no Ray, no cluster at its address, or where a process was killed.
    """
    if ray_address is None:
        # fork would copy torch's threads in whatever state they are
        with ProcessPoolExecutor(jobs or 1, multiprocessing.get_context("spawn")) as pool:
            try:
                yield pool.map
            except BrokenProcessPool as error:
                raise ReplayError("a process was killed, perhaps for want of memory: take fewer --jobs") from error
        return
    try:
        import ray
        from ray.util.multiprocessing import Pool
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "ray":
            raise
        raise ReplayError("--ray needs Ray, which is not installed here and on the cluster: pip install ray") from error
    try:
        ray.init(address=ray_address, ignore_reinit_error=True, log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        first_line = (str(error).splitlines() or [""])[0]
        raise ReplayError(f"--ray {ray_address}: no Ray cluster answers there ({first_line}); start one with: "
                          "ray start --head") from error  # fmt: skip
    try:
        with Pool(processes=jobs) as pool:
            yield pool.imap
    finally:
        ray.shutdown()
