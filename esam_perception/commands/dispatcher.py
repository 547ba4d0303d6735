"""The `esam` command: only dispatches. Each subcommand lives in a module with `add_arguments(parser)` and `run(args)`,
imported when it is asked for, so that help is instant."""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from esam_perception import __version__
from esam_perception.errors import EsamError

COMMANDS = {
    "demo": (
        "esam_perception.commands.demo",
        "show it all: simulated camera, node, queries, a table and a contact sheet",
    ),
    "locate": ("esam_perception.commands.locate", "look for phrases in image files, without ROS"),
    "replay": ("esam_perception.commands.replay", "look for phrases in recorded bags (MCAP, SQLite), without ROS"),
    "view": (
        "esam_perception.commands.view",
        "watch a node, or a replay, in a window: images, masks, scores, 3D (Rerun)",
    ),
    "profiles": ("esam_perception.commands.profiles", "list the models: which are at hand, how to get the others"),
    "fetch": ("esam_perception.commands.fetch", "fetch the published weights of a profile, once"),
    "train": ("esam_perception.commands.train", "train the bundled tabletop profile, or a profile on your own images"),
    "calibrate": (
        "esam_perception.commands.calibrate",
        "fit a profile's thresholds and confidence on labelled scenes",
    ),
    "evaluate": ("esam_perception.commands.evaluate", "measure a profile on held-out scenes"),
}
EXAMPLES = """examples:
  ./esam demo                                         everything, in one command
  ./esam demo --query "the red mug" --seconds 20      your own words
  ./esam locate photo.jpg "the red mug" --output out  no ROS: table, masks, picture
  ./esam replay drive.mcap --queries queries.txt      a recording: matches as a bag, and a table
  ./esam view                                         a window onto a running node
  ./esam fetch blip_base                              the published models, for photographs
  ./esam evaluate tabletop --scenes 200 --seed 900000
  ./esam COMMAND --help                               what a command takes
"""


def build_parser(command: str | None) -> argparse.ArgumentParser:
    """The parser, with the arguments of `command` alone filled in."""
    parser = argparse.ArgumentParser(
        prog="esam", description="Text-queried perception for robots.", epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"esam_perception {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (module, text) in COMMANDS.items():
        description = text[0].upper() + text[1:] + "."
        subparser = subparsers.add_parser(name, help=text, description=description)
        if name == command:
            loaded = importlib.import_module(module)
            loaded.add_arguments(subparser)
            subparser.set_defaults(run=loaded.run)
    return parser


def cure_of(module: str) -> str:
    """How to get a module that `pip install .` does not bring; empty for any other."""
    from esam_perception.tabletop.needs import PACKAGES, PACKAGES_HINT

    top = module.partition(".")[0]
    if (
        top in ("rclpy", "rcl_interfaces", "ament_index_python")
        or top.endswith("_msgs")
        or module == "esam_perception.msg"
    ):
        return "it comes with ROS 2: use ./esam in a clone of the repository, or build the package with apt's ROS 2 (README.md)"
    if top in (*PACKAGES, "matplotlib"):
        return PACKAGES_HINT
    if top in ("rosbags", "apsw"):
        return "pip install rosbags"
    if top == "rerun":
        return "pip install rerun-sdk"
    return ""


@contextmanager
def _log_shown(command: str) -> Iterator[None]:
    """What the library logs goes to stderr, a line each, as everything else that the command says besides its result."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(f"esam {command}: %(message)s"))
    logger = logging.getLogger("esam_perception")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code (2 for wrong usage). A bug is a traceback."""
    argv = list(sys.argv[1:] if argv is None else argv)
    command = next((word for word in argv if word in COMMANDS), None)
    try:
        args = build_parser(command).parse_args(argv)
        with _log_shown(args.command):
            return args.run(args)
    except ModuleNotFoundError as error:
        cure = cure_of(error.name or "")
        if not cure:
            raise
        print(f"esam {command}: {error.name} is not installed here; {cure}", file=sys.stderr)
        return 1
    except EsamError as error:
        print(f"esam {command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
