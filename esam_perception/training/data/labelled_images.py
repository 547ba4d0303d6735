"""A user's own images with masks and phrases, in COCO's layout with two additions; docs/own_data.md describes it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from esam_perception.errors import EsamError
from esam_perception.images.files import ImageFileError, read_rgb

ANNOTATIONS = "annotations.json"


class DatasetError(EsamError):
    """A folder of labelled images that cannot be used; the text names the file, the entry and what is wrong."""


@dataclass(frozen=True)
class Thing:
    """One annotated thing: what it is called, and its outline as COCO has it (polygons, run lengths, a PNG's name)."""

    category: str
    phrases: tuple[str, ...]
    segmentation: object
    where: str


@dataclass(frozen=True)
class LabelledImage:
    """One image: its things, and phrases that are known to be false of it."""

    path: Path
    things: tuple[Thing, ...]
    negatives: tuple[str, ...]

    @property
    def phrases(self) -> list[str]:
        """Everything that is true of the image, each once."""
        return list(dict.fromkeys(phrase for thing in self.things for phrase in thing.phrases))

    @property
    def held_out_rank(self) -> int:
        """A number that is the same on every machine, by which images are chosen for validation."""
        return int.from_bytes(hashlib.sha256(self.path.name.encode()).digest()[:8], "big")


def read_labelled_images(folder: Path) -> list[LabelledImage]:
    """The images of `folder`/annotations.json, in its order. Raises DatasetError for whatever is wrong with it."""
    path = folder / ANNOTATIONS
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror or error})") from error
    except ValueError as error:
        raise DatasetError(f"{path}: is not valid JSON ({error})") from error
    if not isinstance(content, dict):
        raise DatasetError(f"{path}: must hold images, annotations and categories")
    categories = {
        _field(c, "id", (int, str), path): _field(c, "name", str, path) for c in _list(content, "categories", path)
    }
    things: dict[object, list[Thing]] = {}
    for annotation in _list(content, "annotations", path):
        image, thing = _thing(annotation, categories, path)
        things.setdefault(image, []).append(thing)
    images, known = [], set()
    for entry in _list(content, "images", path):
        number = _field(entry, "id", (int, str), path)
        file = folder / _field(entry, "file_name", str, path)
        if not file.is_file():
            raise DatasetError(f"{path}: image {number}: {file} is missing")
        known.add(number)
        negatives = _texts(entry.get("negatives", []), f"{path}: image {number}: negatives")
        images.append(LabelledImage(file, tuple(things.get(number, ())), negatives))
    if unknown := set(things) - known:
        raise DatasetError(
            f"{path}: annotations of an image that is not listed: image_id {sorted(map(str, unknown))[0]}"
        )
    if not any(image.things for image in images):
        raise DatasetError(f"{path}: no image has an annotation")
    return images


def split(images: list[LabelledImage], share: float) -> tuple[list[LabelledImage], list[LabelledImage]]:
    """(training, validation): `share` of the images (at least one, not all) by their names. Raises DatasetError for less
    than two images with annotations."""
    useful = [image for image in images if image.things]
    if len(useful) < 2:
        raise DatasetError("at least two images with annotations are needed: one to learn from, one to check with")
    count = min(max(1, round(share * len(useful))), len(useful) - 1)
    held_out = sorted(useful, key=lambda image: image.held_out_rank)[:count]
    return [image for image in images if image not in held_out], held_out


def false_phrases(image: LabelledImage, images: Sequence[LabelledImage]) -> list[str]:
    """What is false of an image: its own negatives, and the phrases of things whose category it does not show."""
    shown, true = {thing.category for thing in image.things}, set(image.phrases)
    others = [
        phrase
        for other in images
        for thing in other.things
        if thing.category not in shown
        for phrase in thing.phrases
        if phrase not in true
    ]
    # the stated ones are harder: as likely as all the others together
    found = list(dict.fromkeys(others))
    stated = list(image.negatives)
    return stated * max(1, len(found) // max(1, len(stated))) + found


def read_image(image: LabelledImage) -> np.ndarray:
    """uint8 [H, W, 3] RGB. Raises DatasetError."""
    try:
        return read_rgb(image.path)
    except ImageFileError as error:
        raise DatasetError(str(error)) from error


def read_mask(thing: Thing, folder: Path, height: int, width: int) -> np.ndarray:
    """bool [height, width] of a thing; polygons and run lengths are in pixels of the image. Raises DatasetError."""
    outline = thing.segmentation
    if isinstance(outline, str):
        mask = cv2.imread(str(folder / outline), cv2.IMREAD_GRAYSCALE)
        if mask is None:
            raise DatasetError(f"{thing.where}: {folder / outline} cannot be read as a mask")
        if mask.shape != (height, width):
            raise DatasetError(
                f"{thing.where}: {outline} is {mask.shape[1]}x{mask.shape[0]}, the image {width}x{height}"
            )
        return mask > 0
    if isinstance(outline, dict):
        return _run_lengths(outline, thing.where, height, width)
    mask = np.zeros((height, width), np.uint8)
    try:
        polygons = [np.array(polygon, np.float64).reshape(-1, 2) for polygon in outline]  # type: ignore[attr-defined]
        cv2.fillPoly(mask, [np.round(polygon).astype(np.int32) for polygon in polygons], 1)
    except (TypeError, ValueError, cv2.error) as error:
        raise DatasetError(f"{thing.where}: segmentation must be polygons [[x, y, x, y, ...], ...]") from error
    return mask > 0


def _run_lengths(outline: dict, where: str, height: int, width: int) -> np.ndarray:
    """COCO's RLE: column by column, zeros first."""
    if outline.get("size") != [height, width]:
        raise DatasetError(f"{where}: run lengths are of size {outline.get('size')}, the image is {[height, width]}")
    counts = outline.get("counts")
    if isinstance(counts, str):
        try:
            from pycocotools import mask as coco
        except ModuleNotFoundError as error:
            raise DatasetError(f"{where}: compressed run lengths need: pip install pycocotools") from error
        return coco.decode({"size": [height, width], "counts": counts.encode()}).astype(bool)
    if not isinstance(counts, list) or not all(isinstance(n, int) and n >= 0 for n in counts):
        raise DatasetError(f"{where}: counts must be a list of run lengths")
    if sum(counts) != height * width:
        raise DatasetError(f"{where}: run lengths sum to {sum(counts)}, the image has {height * width} pixels")
    values = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return np.ascontiguousarray(values.reshape(width, height).T)


def _thing(annotation: dict, categories: dict, path: Path) -> tuple[object, Thing]:
    number = _field(annotation, "id", (int, str), path)
    where = f"{path}: annotation {number}"
    category_id = _field(annotation, "category_id", (int, str), path)
    if category_id not in categories:
        raise DatasetError(f"{where}: category_id {category_id!r} is not among the categories")
    category = categories[category_id]
    phrases = _texts(annotation.get("phrases", [category]), f"{where}: phrases") or (category,)
    outline = annotation.get("segmentation")
    if not outline or not isinstance(outline, (list, dict, str)):
        raise DatasetError(f"{where}: segmentation is missing; it must be polygons, run lengths or the name of a PNG")
    image = _field(annotation, "image_id", (int, str), path)
    return image, Thing(category, phrases, outline, where)


def _list(content: dict, name: str, path: Path) -> list:
    if not isinstance(content.get(name), list):
        raise DatasetError(f"{path}: {name} is missing or is no list")
    return content[name]


def _field(entry: object, name: str, kind, path: Path):
    if not isinstance(entry, dict) or not isinstance(entry.get(name), kind):
        raise DatasetError(f"{path}: an entry lacks {name}, or it is of another type: {str(entry)[:80]}")
    return entry[name]


def _texts(value: object, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(text, str) and text.strip() for text in value):
        raise DatasetError(f"{where}: must be a list of texts")
    return tuple(dict.fromkeys(text.strip() for text in value))
