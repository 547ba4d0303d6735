"""`esam locate IMAGE TEXT...`: the pipeline on image files, without ROS."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np

from esam_perception.images.files import ImageFileError, read_rgb
from esam_perception.types import Located, Match, Verdict


class UsageError(ValueError):
    """Input that the user must mend; one line, exit code 2."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image", nargs="?", help="image file")
    parser.add_argument("texts", nargs="*", metavar="TEXT", help="what to look for")
    parser.add_argument(
        "--batch", metavar="FILE", help='lines of {"image": path, "texts": [...]} instead of IMAGE TEXT...'
    )
    parser.add_argument(
        "--model", default="auto", help="auto, tabletop, blip_base, blip_large or a directory (default: %(default)s)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=Path("esam_located"), metavar="DIR",
                        help="masks, pictures and results.jsonl go there (default: %(default)s)")  # fmt: skip
    parser.add_argument("--segment-always", action="store_true", help="segments whatever the verdict")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    try:
        jobs = list(_jobs(args))
        # before the model is loaded: a wrong path should not cost seconds
        for path, texts in jobs:
            _check_texts(path, texts)
        if len(jobs) == 1:
            read_rgb(jobs[0][0])
        return _locate_all(args, jobs)
    except (UsageError, ImageFileError) as error:
        print(f"esam locate: {error}", file=sys.stderr)
        return 2


def _locate_all(args: argparse.Namespace, jobs: list[tuple[Path, list[str]]]) -> int:
    import torch
    from tqdm import tqdm

    from esam_perception.pipeline.pipeline import Pipeline
    from esam_perception.profiles.schema import ProfileError

    torch.set_num_threads(args.threads)
    try:
        pipeline = Pipeline.from_profile(args.model, args.device)
    except (ProfileError, ValueError) as error:
        raise UsageError(str(error)) from error
    for warning in pipeline.warnings:
        print(f"esam locate: {warning}", file=sys.stderr)
    args.output.mkdir(parents=True, exist_ok=True)
    with open(args.output / "results.jsonl", "w", encoding="utf-8") as results:
        for number, (path, texts) in enumerate(tqdm(jobs, unit="image", disable=len(jobs) == 1)):
            image = read_rgb(path)
            try:
                located = pipeline.locate_timed(image, texts, segment_always=args.segment_always)
            except ValueError as error:
                raise UsageError(f"{path}: {error}") from error
            prefix = f"{number:05d}_{_file_name(path.stem)}" if args.batch else _file_name(path.stem)
            line = write_result(args.output, prefix, str(path), image, located)
            results.write(json.dumps(line, ensure_ascii=False) + "\n")
            results.flush()
            if not args.batch:
                print_matches(located)
    print(f"{args.output / 'results.jsonl'}: {len(jobs)} image{'s' if len(jobs) != 1 else ''}")
    return 0


def _jobs(args: argparse.Namespace) -> Iterator[tuple[Path, list[str]]]:
    """(image, texts) of the command line or of the batch file."""
    if args.batch is None:
        if args.image is None:
            raise UsageError("give an IMAGE and at least one TEXT, or --batch FILE")
        yield Path(args.image), args.texts
        return
    if args.image is not None:
        raise UsageError("give either IMAGE TEXT... or --batch FILE")
    try:
        lines = Path(args.batch).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{args.batch}: cannot be read ({error})") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            content = json.loads(line)
            path, texts = Path(content["image"]), content["texts"]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise UsageError(f'{args.batch}:{number}: must be {{"image": path, "texts": [...]}} ({error})') from error
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise UsageError(f"{args.batch}:{number}: texts must be a list of strings")
        if not path.is_absolute() and not path.exists():
            path = Path(args.batch).parent / path
        yield path, texts


def _check_texts(path: Path, texts: list[str]) -> None:
    if not texts:
        raise UsageError(f"{path}: no text to look for")
    for text in texts:
        if not any(character.isalnum() for character in text):
            raise UsageError(f"the text {text!r} has no words to look for")


def _file_name(text: str) -> str:
    return re.sub(r"[^a-zA-Z0-9]+", "_", text).strip("_")[:48] or "image"


def write_result(folder: Path, prefix: str, image_name: str, image: np.ndarray, located: Located) -> dict:
    """Write the masks and the picture of one image; returns its line of results.jsonl."""
    from esam_perception.images.drawing import contact_sheet

    matches = []
    for i, match in enumerate(located.matches):
        segments = []
        for j, segment in enumerate(match.segments):
            name = f"{prefix}_{i:02d}_{_file_name(match.query.text)}_{j}.png"
            cv2.imwrite(str(folder / name), segment.mask.astype(np.uint8) * 255)
            segments.append(
                {"mask": name, "predicted_iou": segment.predicted_iou, "box": list(segment.box),
                 "prompt_points": segment.prompt_points.tolist()}
            )  # fmt: skip
        matches.append(_match_line(match, segments))
    cv2.imwrite(str(folder / f"{prefix}.png"), contact_sheet(image, located.matches)[..., ::-1])
    return {"image": image_name, "matches": matches, "timing": asdict(located.timing)}


def _match_line(match: Match, segments: list[dict]) -> dict:
    return {
        "text": match.query.text,
        "verdict": Verdict(match.verdict).name,
        "itm_score": match.itm_score,
        "itc_similarity": match.itc_similarity,
        "heatmap_peak": list(match.peak),
        "segments": segments,
    }


def print_matches(located: Located) -> None:
    """A table for people."""
    width = max(len(match.query.text) for match in located.matches)
    print(f"{'text'.ljust(width)}  verdict   score  predicted IoU  peak (x, y)")
    for match in located.matches:
        iou = f"{match.segments[0].predicted_iou:.2f}" if match.segments else "-"
        peak = f"({match.peak[0]:.0f}, {match.peak[1]:.0f})"
        print(f"{match.query.text.ljust(width)}  {match.verdict.name:<8}  {match.itm_score:.2f}   {iou:<13}  {peak}")
    print(f"{located.timing.total:.0f} ms")
