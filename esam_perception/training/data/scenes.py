"""Rendered scenes of the tabletop, cached on disk for training.

A cache is a folder of shards; a shard is SHARD consecutive seeds: `images_<first seed>.npy` uint8
[SHARD, 256, 256, 3] RGB (the camera's image stretched to a square, as BLIP and EfficientSAM take it),
`instances_<first seed>.npy` uint8 [SHARD, 256, 256], `objects_<first seed>.json` (the objects of each scene).
A shard is written under a temporary name and renamed, so that an interrupted run leaves only whole ones.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from esam_perception.errors import InvalidInput
from esam_perception.tabletop import Tabletop, TabletopObject
from esam_perception.tabletop.scene import SCENES_PER_WORLD

SHARD = SCENES_PER_WORLD
SIDE = 256
RENDER_SIZE = (320, 240)
PARTS = ("images", "instances", "objects")


def _shard_files(folder: Path, first: int) -> list[Path]:
    return [folder / f"{part}_{first:07d}.{'json' if part == 'objects' else 'npy'}" for part in PARTS]


def _render_shard(job: tuple[str, int]) -> int:
    """Render one shard into its files; returns its first seed."""
    folder, first = Path(job[0]), job[1]
    images = np.empty((SHARD, SIDE, SIDE, 3), np.uint8)
    instances = np.empty((SHARD, SIDE, SIDE), np.uint8)
    objects = []
    table = Tabletop(*RENDER_SIZE)
    for i in range(SHARD):
        seen = table.render(table.sample(first + i))
        images[i] = cv2.resize(seen.image, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        instances[i] = cv2.resize(seen.instances, (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)
        objects.append([asdict(o) for o in seen.objects])
    table.close()
    contents: tuple[np.ndarray | list[list[dict[str, Any]]], ...] = (images, instances, objects)
    for path, content in zip(_shard_files(folder, first), contents):
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        with open(unfinished, "wb") as file:
            if isinstance(content, np.ndarray):
                np.save(file, content)
            else:
                file.write(json.dumps(content).encode())
        unfinished.rename(path)
    return first


def build_cache(folder: Path, first_seed: int, scenes: int, processes: int | None = None) -> None:
    """Render the shards of `first_seed ... + scenes` that are not in `folder` yet, on all cores.

    Raises InvalidInput where the range is not made of whole shards, OffscreenGLError where nothing can be rendered.
    """
    if first_seed % SHARD or scenes % SHARD:
        raise InvalidInput(f"seeds come in blocks of {SHARD}: first seed {first_seed}, scenes {scenes}")
    folder.mkdir(parents=True, exist_ok=True)
    wanted = range(first_seed, first_seed + scenes, SHARD)
    missing = [first for first in wanted if not all(path.exists() for path in _shard_files(folder, first))]
    if not missing:
        return
    # llvmpipe starts a thread a core in every process; one each is enough where every core has a process
    os.environ.setdefault("LP_NUM_THREADS", "1")
    with multiprocessing.get_context("spawn").Pool(processes or os.cpu_count()) as pool:
        jobs = [(str(folder), first) for first in missing]
        progress = tqdm(total=len(missing) * SHARD, unit="scene", desc=f"rendering into {folder}")
        for _ in pool.imap_unordered(_render_shard, jobs):
            progress.update(SHARD)
        progress.close()


class SceneCache:
    """Read access to the scenes of a cache, by position. Arrays are memory-mapped."""

    def __init__(self, folder: Path, first_seed: int, scenes: int) -> None:
        self.first_seed = first_seed
        self._images, self._instances, self._objects = [], [], []
        for first in range(first_seed, first_seed + scenes, SHARD):
            images, instances, objects = _shard_files(folder, first)
            self._images.append(np.load(images, mmap_mode="r"))
            self._instances.append(np.load(instances, mmap_mode="r"))
            for scene in json.loads(objects.read_text()):
                self._objects.append(tuple(TabletopObject(**{**o, "position": tuple(o["position"])}) for o in scene))

    def __len__(self) -> int:
        return len(self._objects)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, tuple[TabletopObject, ...]]:
        """(image uint8 [256, 256, 3], instances uint8 [256, 256], objects)."""
        shard, row = divmod(index, SHARD)
        return self._images[shard][row], self._instances[shard][row], self._objects[index]
