"""`esam demo`: camera and node as separate processes, queries on /esam/query, and a consumer that shows what came."""

from __future__ import annotations

import argparse
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from esam_perception.environment.domains import NoFreeDomain, claimed_domain
from esam_perception.environment.processes import Child, ros_environment
from esam_perception.errors import EsamError
from esam_perception.images.files import ImageFileError, read_rgb
from esam_perception.stream.query_sets import RefusedQuery, parse_query_text
from esam_perception.tabletop.needs import CANNOT_RENDER_EXIT_CODE

if TYPE_CHECKING:
    from esam_perception.ros.viewer.demo_listener import Listener

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
        children.append(Child("esam_perception.ros.node", node_parameters, args.output / "node.log", environment))
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


def _listen(args: argparse.Namespace, asked: list[str], listener: Listener, children: list[Child]) -> int:
    began = time.monotonic()

    def wait_for(condition: Callable[[], bool], what: str) -> None:
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
    from esam_perception.ros.viewer import demo_report

    frames = listener.complete_frames(queries)
    rows = demo_report.rows_of(frames, queries, scene)
    print(demo_report.table(rows))
    print(f"\n{demo_report.about(frames)}")
    try:
        sheet = demo_report.write(args.output, frames, rows)
    except ImageFileError as error:
        raise DemoError(str(error)) from error
    print(f"contact sheet: {sheet}")
    return 0


def _queries_of(scene: dict[str, Any] | None, seed: int) -> list[str]:
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
