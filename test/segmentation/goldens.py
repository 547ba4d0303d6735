"""The goldens of EfficientSAM: a model under their weights, and every number that they hold beside our own (yielded, not
asserted: see test/matching/goldens.py)."""

import copy
import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from esam_perception.segmentation import EfficientSam, EfficientSamConfig, upsample_mask
from test.numerics.bounds import Compared

SIZES = {"vitt": EfficientSamConfig(), "vits": EfficientSamConfig(embed_dim=384, num_heads=6)}
SETS = {"vitt": "vitt", "vits": "vits", "vitt_portrait": "vitt", "vitt_eps": "vitt"}  # and the size of each
# More points than slots, and labels that are scores: the official code cuts the one and ignores the other in silence.
ILLEGAL = {"p8": "1 to 6 points", "frac": "labels"}


@dataclass(frozen=True)
class SamGolden:
    """One golden: its name (of SETS), the model with its weights, its description and arrays, its images' folder."""

    name: str
    model: EfficientSam
    content: dict
    arrays: dict
    folder: Path

    @property
    def images(self) -> list[str]:
        return list(self.content["prompts"])

    def image(self, name: str) -> np.ndarray:
        """uint8 [H, W, 3] RGB."""
        return np.array(Image.open(self.folder / f"{name}.png").convert("RGB"))

    def size(self, name: str) -> tuple[int, int]:
        return self.image(name).shape[:2]

    def prompts(self, image: str) -> list[str]:
        """Names of the prompts that our model takes."""
        return [name for name in self.content["prompts"][image] if name not in ILLEGAL]

    def prompt(self, image: str, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Points [1, Q, N, 2] and labels [1, Q, N], in the model's own precision."""
        prompt = self.content["prompts"][image][name]
        dtype = self.model.prompt_encoder.invalid_points.weight.dtype
        points, labels = (torch.tensor(prompt[key], dtype=dtype)[None] for key in ("points", "labels"))
        return points, labels

    def encode(self, image: str) -> torch.Tensor:
        pixels = torch.from_numpy(self.image(image)).permute(2, 0, 1)[None]
        return self.model.encode_image(pixels.to(self.model.prompt_encoder.invalid_points.weight.dtype) / 255)

    def in_double(self) -> "SamGolden":
        """The same in float64."""
        return dataclasses.replace(self, model=copy.deepcopy(self.model).double())


def load_golden(folder: Path, name: str, golden_weights) -> SamGolden:
    """The golden `name` of SETS."""
    model = EfficientSam(SIZES[SETS[name]]).eval().requires_grad_(False)
    weights = name if name == "vitt_eps" else SETS[name]
    model.load_state_dict(golden_weights("efficient_sam", weights))  # strict: the official 278 names
    content = json.loads((folder / f"golden_{name}.json").read_text())
    return SamGolden(name, model, content, dict(np.load(folder / f"golden_{name}.npz")), folder)


def embedding_beside(golden: SamGolden, image: str, embedding: torch.Tensor) -> Iterator[Compared]:
    yield Compared("embedding", image, embedding[0, ::4, ::4, ::4], golden.arrays[f"{image}/embedding"])


def masks_beside(golden: SamGolden, image: str, embedding: torch.Tensor, prompts=None) -> Iterator[Compared]:
    """IoU, low-res logits and native logits of every prompt (or those of the names given)."""
    size = golden.size(image)
    for name in prompts or golden.prompts(image):
        where = f"{image}/{name}"
        logits, iou = golden.model.decode(embedding, *golden.prompt(image, name), size)
        # float32 in any case: its coordinates round alike on every machine, exact ones are others
        full = upsample_mask(logits.float(), size)[0]
        yield Compared("iou", where, iou[0], golden.arrays[f"{where}/iou"])
        yield Compared("low", where, logits[0, :, :, ::4, ::4], golden.arrays[f"{where}/low"])
        yield Compared("full", where, full[:, :, ::8, ::8], golden.arrays[f"{where}/full"])
        complete = (
            ("low_all", "low", logits[0]),
            ("low_candidate1", "low", logits[0, -1, 1]),
            ("full_mask1", "full", full[0, 1]),
        )
        for key, kind, own in complete:
            if f"{where}/{key}" in golden.arrays:
                stored = golden.arrays[f"{where}/{key}"]
                yield Compared(kind, f"{where}/{key}", own.reshape(stored.shape), stored)
        yield Compared("area", where, full, golden.arrays[f"{where}/full_area"])
        if f"{where}/low_sum" in golden.arrays:
            yield Compared("low_sum", where, logits[0].double().sum((-2, -1)), golden.arrays[f"{where}/low_sum"])


def everything_beside(golden: SamGolden) -> Iterator[Compared]:
    """Every number of one golden."""
    with torch.inference_mode():
        for image in golden.images:
            embedding = golden.encode(image)
            yield from embedding_beside(golden, image, embedding)
            yield from masks_beside(golden, image, embedding)
