"""What the tests of training share: a folder of labelled images as a user would make it."""

import json

import cv2
import numpy as np
import pytest

WIDTH, HEIGHT = 96, 64
COLOURS = {"gripper": (200, 40, 30), "pallet": (30, 60, 200), "mug": (40, 180, 60)}


def run_lengths(mask):
    values = mask.T.ravel().astype(int)
    edges = np.flatnonzero(np.diff(values)) + 1
    counts = np.diff([0, *edges, len(values)]).tolist()
    return {"size": list(mask.shape), "counts": counts if values[0] == 0 else [0, *counts]}


@pytest.fixture
def folder(tmp_path):
    """Ten images, each with two of three kinds of things; their outlines as polygon, run lengths and PNG."""
    data = tmp_path / "warehouse"
    (data / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    content = {"images": [], "annotations": [], "categories": [{"id": i, "name": n} for i, n in enumerate(COLOURS)]}
    for number in range(10):
        picture = np.full((HEIGHT, WIDTH, 3), 120, np.uint8)
        for slot, kind in enumerate(rng.permutation(3)[:2]):
            left, top = 6 + 46 * slot + int(rng.integers(6)), 8 + int(rng.integers(16))
            box = (slice(top, top + 26), slice(left, left + 30))
            picture[box] = list(COLOURS.values())[kind]
            mask = np.zeros((HEIGHT, WIDTH), bool)
            mask[box] = True
            identity = 2 * number + slot
            if kind == 0:
                outline = [[left, top, left + 29, top, left + 29, top + 25, left, top + 25]]
            elif kind == 1:
                outline = run_lengths(mask)
            else:
                outline = f"images/mask_{identity}.png"
                cv2.imwrite(str(data / outline), mask.astype(np.uint8) * 255)
            name = list(COLOURS)[kind]
            content["annotations"].append(
                {
                    "id": identity,
                    "image_id": number,
                    "category_id": int(kind),
                    "segmentation": outline,
                    "phrases": [name, f"the {name}"],
                }
            )
        cv2.imwrite(str(data / f"images/{number}.png"), picture[..., ::-1])
        content["images"].append({"id": number, "file_name": f"images/{number}.png", "negatives": ["the yellow mug"]})
    (data / "annotations.json").write_text(json.dumps(content))
    return data
