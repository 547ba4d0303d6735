"""The recorded clip: a few seconds of the simulated tabletop with its truth, for machines without off-screen GL.

`python -m esam_perception.tabletop.clip` records it anew (needs GL).
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np

from esam_perception.tabletop.language import Phrase, TabletopObject
from esam_perception.tabletop.rendered_scene import RenderedScene

FOLDER = Path(__file__).parent / "clip"
SEED, FRAMES, ORBIT_STEP = 900_000, 12, 0.06
SIZE = (640, 480)


def load_clip(folder: Path = FOLDER) -> list[RenderedScene]:
    """The frames of a clip, in order. Raises FileNotFoundError where there is none."""
    frames = []
    for told in json.loads((folder / "clip.json").read_text(encoding="utf-8")):
        name = told["name"]
        image = cv2.cvtColor(_read(folder / f"{name}.jpg", cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        instances = _read(folder / f"{name}.instances.png", cv2.IMREAD_UNCHANGED)
        depth = _read(folder / f"{name}.depth.png", cv2.IMREAD_UNCHANGED).astype(np.float32) / 1000
        objects = tuple(TabletopObject(**{**o, "position": tuple(o["position"])}) for o in told["objects"])
        phrases = tuple(Phrase(**{**p, "labels": tuple(p["labels"])}) for p in told["phrases"])
        matrix = np.array(told["camera_matrix"])
        frames.append(RenderedScene(image, depth, instances, matrix, objects, phrases, told["seed"]))
    return frames


def _read(path: Path, flags: int) -> np.ndarray:
    pixels = cv2.imread(str(path), flags)
    if pixels is None:
        raise FileNotFoundError(f"{path} is missing, or no image")
    return pixels


def record_clip(folder: Path = FOLDER) -> None:
    """Render the clip into `folder`: JPEG images, PNG instances and depth (16 bit, millimetres), clip.json."""
    from esam_perception.tabletop.renderer import Tabletop  # its packages are for recording, not for replaying

    folder.mkdir(parents=True, exist_ok=True)
    table = Tabletop(*SIZE)
    scene = table.sample(SEED)
    told = []
    for i in range(FRAMES):
        seen = table.render(scene, orbit=i * ORBIT_STEP)
        name = f"{i:02d}"
        cv2.imwrite(str(folder / f"{name}.jpg"), seen.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
        cv2.imwrite(str(folder / f"{name}.instances.png"), seen.instances)
        cv2.imwrite(str(folder / f"{name}.depth.png"), np.rint(seen.depth * 1000).astype(np.uint16))
        told.append(
            {"name": name, "seed": seen.seed, "camera_matrix": seen.camera_matrix.tolist(),
             "objects": [asdict(o) for o in seen.objects], "phrases": [asdict(p) for p in seen.phrases]}
        )  # fmt: skip
    table.close()
    (folder / "clip.json").write_text(json.dumps(told, indent=1), encoding="utf-8")


if __name__ == "__main__":
    record_clip()
