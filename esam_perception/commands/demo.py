"""`esam demo`: camera and node as separate processes, queries on /esam/query, and a consumer that shows what came."""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import time
from pathlib import Path

import cv2

from esam_perception.environment.domains import NoFreeDomain, claimed_domain
from esam_perception.environment.processes import Child, ros_environment
from esam_perception.errors import EsamError
from esam_perception.images.drawing import contact_sheet
from esam_perception.images.files import ImageFileError, read_rgb
from esam_perception.stream.query_sets import RefusedQuery, parse_query_text
from esam_perception.tabletop.needs import CANNOT_RENDER_EXIT_CODE

START_SECONDS = 90.0
TRUE_QUERIES, FALSE_QUERIES = 4, 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--seconds", type=float, default=12.0, help="how long to listen once results come (default: %(default)s)"
    )
    parser.add_argument("--query", action="append", metavar="TEXT",
                        help="what to look for; several separated by ; or by giving it again (default: things that are on the table and things that are not)")  # fmt: skip
    parser.add_argument(
        "--model",
        default="auto",
        help="profile: auto, tabletop, blip_base, blip_large or a directory (default: %(default)s)",
    )
    parser.add_argument(
        "--image", type=Path, metavar="FILE", help="show this image to the node instead of the simulated tabletop"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=900_000, help="which scene of the simulated tabletop (default: %(default)s)"
    )
    parser.add_argument("--rate", type=float, default=2.0, help="images a second of the camera (default: %(default)s)")
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("esam_demo"),
        metavar="DIR",
        help="where pictures and logs go (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    if args.image is not None:
        try:
            read_rgb(args.image)
        except ImageFileError as error:
            print(f"esam demo: {error}", file=sys.stderr)
            return 2
    try:
        asked = [query.text for query in parse_query_text("\n".join(args.query or ()))]
    except RefusedQuery as error:
        print(f"esam demo: {error}", file=sys.stderr)
        return 2
    args.output.mkdir(parents=True, exist_ok=True)
    try:
        with claimed_domain() as domain:
            return _show(args, asked, ros_environment(domain))
    except (DemoError, NoFreeDomain) as error:
        print(f"esam demo: {error}", file=sys.stderr)
        return 1


def _show(args: argparse.Namespace, asked: list[str], environment: dict[str, str]) -> int:
    os.environ.update(environment)  # DDS reads these when this process joins the domain
    model = args.model
    if model == "auto" and args.image is None:
        model = "tabletop"  # the simulated tabletop is what this profile was trained for
    children: list[Child] = []
    try:
        domain = environment["ROS_DOMAIN_ID"]
        say(f"starting the node (model '{model}') and the camera, each in its own process (ROS_DOMAIN_ID={domain})")
        node_parameters = {"model": model, "device": args.device, "image": "camera/image_raw"}
        if args.image is None:
            node_parameters["depth"] = "camera/depth/image_raw"
        children.append(Child("esam_perception.ros.node.node", node_parameters, args.output / "node.log", environment))
        children.append(_start_camera(args, environment))
        from esam_perception.ros.viewer.demo_listener import Listener

        listener = Listener()
        try:
            return _listen(args, asked, listener, children)
        finally:
            listener.close()
    finally:
        for child in children:
            child.stop()


class DemoError(EsamError):
    """The demo cannot go on; the text says why."""


def say(text: str) -> None:
    """Progress, apart from the result."""
    print(f"[demo] {text}", file=sys.stderr, flush=True)


def _start_camera(args: argparse.Namespace, environment: dict[str, str]) -> Child:
    log = args.output / "camera.log"
    if args.image is not None:
        source = {"source": str(args.image.resolve()), "rate": args.rate}
        return Child("esam_perception.ros.cameras.file_camera", source, log, environment)
    camera = Child(
        "esam_perception.ros.cameras.simulated_camera", {"seed": args.seed, "rate": args.rate}, log, environment
    )
    # it fails within its first seconds, if at all: when it imports its packages and makes its GL context
    deadline = time.monotonic() + 20
    while camera.exit_code is None and "rendering scene" not in camera.log_tail() and time.monotonic() < deadline:
        time.sleep(0.1)
    if camera.exit_code == CANNOT_RENDER_EXIT_CODE:
        say(f"{camera.log_tail(1)}; replaying the recorded clip instead")
        return Child("esam_perception.ros.cameras.file_camera", {"source": "clip", "rate": args.rate}, log, environment)
    return camera


def _check(children: list[Child]) -> None:
    for child in children:
        if child.exit_code is not None:
            raise DemoError(f"{child.name} ended with exit code {child.exit_code}:\n{child.log_tail()}")


def _listen(args: argparse.Namespace, asked: list[str], listener, children: list[Child]) -> int:
    began = time.monotonic()

    def wait_for(condition, what: str) -> None:
        told = time.monotonic()
        while not condition():
            listener.spin(0.1)
            _check(children)
            if listener.fatal:
                raise DemoError(listener.fatal)
            if time.monotonic() - began > START_SECONDS:
                raise DemoError(f"waited {START_SECONDS:.0f} s for {what}; see the logs in {args.output}")
            if time.monotonic() - told > 5:
                say(f"waiting for {what} ... ({time.monotonic() - began:.0f} s)")
                told = time.monotonic()

    has_truth = args.image is None
    wait_for(lambda: listener.image_count > 0 and (listener.scene is not None or not has_truth), "the camera")
    # the camera moves, and with it the phrases that come with every frame: one scene's phrases are the truth
    scene = listener.scene
    queries = asked or _queries_of(scene, args.seed)
    wait_for(listener.node_is_there, "the node")
    listener.ask(queries)
    wait_for(lambda: listener.results_for(queries) > 0, "the first result")
    say(f"first result after {time.monotonic() - began:.1f} s; listening for {args.seconds:g} s")
    end = time.monotonic() + args.seconds
    while time.monotonic() < end or listener.results_for(queries) == 0:
        listener.spin(0.1)
        _check(children)
    _report(args, listener, scene, queries)
    return 0


def _queries_of(scene: dict | None, seed: int) -> list[str]:
    """Things that are on the table and things that are not, out of the scene's own phrases."""
    if scene is None:
        return ["something red", "the green mug", "the blue elephant"]
    rng = random.Random(seed)
    true = [p["text"] for p in scene["phrases"] if p["true"] and p["kind"] == "colour_category"]
    false = [
        p["text"]
        for p in scene["phrases"]
        if not p["true"] and p["kind"] in ("wrong_colour", "wrong_category", "unknown_word")
    ]
    rng.shuffle(true)
    rng.shuffle(false)
    return [*true[:TRUE_QUERIES], *false[:FALSE_QUERIES]]


def _truth_of(scene: dict | None, text: str) -> dict | None:
    return next((p for p in scene["phrases"] if p["text"] == text), None) if scene else None


def _report(args: argparse.Namespace, listener, scene: dict | None, queries: list[str]) -> None:
    frames = listener.complete_frames(queries)
    latency = [frame.latency_ms for frame in frames]
    rows = []
    for i, text in enumerate(queries):
        truth = _truth_of(scene, text)
        matches = [frame.array.matches[i] for frame in frames]
        ious = [frame.true_iou(i, truth["labels"]) for frame in frames] if truth and truth["true"] else []
        verdicts = [listener.verdict_name(match) for match in matches]
        predicted = [match.segments[0].predicted_iou for match in matches if match.segments]
        targets = [match.segments[0] for match in matches if match.segments and match.segments[0].has_target]
        rows.append(
            (
                text,
                "?" if truth is None else ("there" if truth["true"] else "absent"),
                statistics.mode(verdicts),
                f"{statistics.median(match.itm_score for match in matches):.2f}",
                f"{statistics.median(predicted):.2f}" if predicted else "-",
                f"{statistics.median(ious):.2f}" if ious else "-",
                _place(targets[-1]) if targets else "-",
                f"{statistics.median(latency):.0f} ms",
            )
        )
    last = frames[-1].array
    titles = ("query", "truth", "verdict", "score", "predicted IoU", "true IoU", "3D target x, y, z", "latency")
    print_table(titles, rows)
    print(
        f"\n{len(frames)} frames; latency (of all queries together, from the image's stamp to the result here): "
        f"median {statistics.median(latency):.0f} ms, worst {max(latency):.0f} ms; model '{last.profile}'; the node dropped {last.frames_dropped} frames for newer ones "
        f"and refused {last.frames_refused}"
    )
    sheet = contact_sheet(frames[-1].image, frames[-1].core_matches())
    path = args.output / "contact_sheet.png"
    cv2.imwrite(str(path), sheet[..., ::-1])
    with open(args.output / "results.json", "w", encoding="utf-8") as file:
        names = ("query", "truth", "verdict", "score", "predicted_iou", "true_iou", "target", "latency")
        json.dump(
            {"rows": [dict(zip(names, row)) for row in rows], "latency_ms": latency, "profile": last.profile},
            file,
            indent=1,
        )
    print(f"contact sheet: {path}")


def _place(segment) -> str:
    """Where the target of an esam_perception/Segment is, in the camera's frame, and how sure that is."""
    at, covariance = segment.target.pose.position, segment.target.covariance
    sigma = sum(covariance[i * 7] for i in range(3)) ** 0.5
    return f"{at.x:.2f}, {at.y:.2f}, {at.z:.2f} m +- {100 * sigma:.1f} cm"


def print_table(titles: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """A plain table, its columns as wide as their contents."""
    widths = [max(len(row[i]) for row in [titles, *rows]) for i in range(len(titles))]
    for row in (titles, tuple("-" * width for width in widths), *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
