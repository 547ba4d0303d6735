"""Several bags at once: in processes of this machine, or on a Ray cluster."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from esam_perception.errors import EsamError
from esam_perception.recordings.replay import BagJob, BagResult, replay_bag

_Map = Callable[[Callable[[Any], Any], Iterable[Any]], Iterator[Any]]


class ParallelError(EsamError):
    """Bags that cannot be replayed at once, here or on that cluster; one line that says why."""


def in_one_process(bags: int, at_once: int | None, ray_address: str | None) -> bool:
    """Whether `replay_bags` stays in this process; arguments as there."""
    return ray_address is None and min(at_once or 1, bags) == 1


def replay_bags(
    jobs: Sequence[BagJob],
    frames: Sequence[int],
    at_once: int | None = None,
    ray_address: str | None = None,
    on_bag: Callable[[BagJob], object] = lambda job: None,
    on_frames: Callable[[int], object] = lambda count: None,
) -> list[BagResult]:
    """Replay bags; the results in the order of the jobs. Raises ParallelError.

    frames: how many images each announces, for the progress. at_once: how many bags, each in a process (None: one; with Ray
    all CPUs). ray_address: of the cluster to run on; None: this machine. on_bag: called before a bag, where they come one
    after the other in this process. on_frames: called with how many images have been read since the last call.
    """
    results: list[BagResult] = []
    if in_one_process(len(jobs), at_once, ray_address):
        for job in jobs:
            on_bag(job)
            results.append(replay_bag(job, lambda: on_frames(1)))
        return results
    with mapper(at_once, ray_address) as mapped:
        for result, announced in zip(mapped(replay_bag, jobs), frames):
            results.append(result)
            on_frames(announced)
    return results


@contextmanager
def mapper(jobs: int | None, ray_address: str | None) -> Iterator[_Map]:
    """A `map(function, items)` whose calls run at once, in processes or on a Ray cluster, its results in order.

    Raises ParallelError where there is no Ray, no cluster at its address, or where a process was killed.
    """
    if ray_address is None:
        # fork would copy torch's threads in whatever state they are
        with ProcessPoolExecutor(jobs or 1, multiprocessing.get_context("spawn")) as pool:
            try:
                yield pool.map
            except BrokenProcessPool as error:
                raise ParallelError("a process was killed, perhaps for want of memory: take fewer --jobs") from error
        return
    try:
        import ray
        from ray.util.multiprocessing import Pool
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "ray":
            raise
        raise ParallelError(
            "--ray needs Ray, which is not installed here and on the cluster: pip install ray"
        ) from error
    try:
        ray.init(address=ray_address, ignore_reinit_error=True, log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        first_line = (str(error).splitlines() or [""])[0]
        raise ParallelError(f"--ray {ray_address}: no Ray cluster answers there ({first_line}); start one with: "
                          "ray start --head") from error  # fmt: skip
    try:
        with Pool(processes=jobs) as pool:
            yield pool.imap
    finally:
        ray.shutdown()
