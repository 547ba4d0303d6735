"""`esam view`: a window onto a running node, or onto a replay, for machines without RViz; on Rerun."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from esam_perception.errors import EsamError
from esam_perception.recordings.rerun_recording import finish, load_rerun, open_recording
from esam_perception.recordings.rerun_scene import RerunScene

EPILOG = """shows image, masks, heatmap, 3D targets and points (where the node has depth), scores and verdicts over time. It needs
Rerun, which is large and therefore not installed by itself: pip install rerun-sdk

examples:
  ./esam view                                          a window onto the node /esam/...
  ./esam view --namespace robot1 --image /robot1/camera/image_raw
  ./esam view --save run.rrd --seconds 60              no window: record; later: rerun run.rrd
  ./esam view --connect rerun+http://laptop:9876/proxy show it in a viewer that runs elsewhere
  ./esam view --replay esam_replay/drive_matches --bag drive.mcap     what `esam replay` found, over its recording
"""


class ViewError(EsamError):
    """Input that the user must mend; one line, exit code 2."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("--namespace", default="", metavar="NAME", help="of the node: /NAME/esam/... (default: none)")
    parser.add_argument("--image", default="/camera/image_raw", metavar="TOPIC",
                        help="the camera's images, as the node takes them (default: %(default)s)")  # fmt: skip
    parser.add_argument("--compressed", action="store_true", help="take TOPIC/compressed instead")
    parser.add_argument("--seconds", type=float, metavar="S", help="stop after so long (default: at Ctrl-C)")
    parser.add_argument("--save", type=Path, metavar="FILE.rrd", help="record into a file, without a window")
    parser.add_argument("--connect", metavar="URL", help="show it in a Rerun viewer that runs already")
    parser.add_argument(
        "--replay", type=Path, metavar="MATCHES", help="show what `esam replay` wrote, no node is needed"
    )
    parser.add_argument("--bag", type=Path, help="with --replay: the recording, for its images")
    parser.add_argument("--image-topic", metavar="TOPIC", help="with --bag: default: its only image topic")


def run(args: argparse.Namespace) -> int:
    try:
        _check(args)
        rr = load_rerun()
        recording = open_recording(rr, args.save, args.connect)
        scene = RerunScene(rr, recording)
        if args.replay is not None:
            from esam_perception.recordings.show import show_replay

            count = show_replay(scene, args.replay, args.bag, args.image_topic)
        else:
            from esam_perception.ros.viewer.view_node import watch

            count = watch(scene, args.namespace, args.image + ("/compressed" if args.compressed else ""), args.seconds)
        finish(recording)
    except EsamError as error:
        print(f"esam view: {error}", file=sys.stderr)
        return 2
    print(f"{count} frames with matches" + (f" in {args.save}; show them with: rerun {args.save}" if args.save else ""))
    return 0


def _check(args: argparse.Namespace) -> None:
    """What can be wrong without looking at anything. Raises ViewError."""
    if args.save and args.connect:
        raise ViewError("give either --save or --connect")
    if args.bag and not args.replay:
        raise ViewError("--bag goes with --replay: first run: esam replay BAG --queries FILE")
    if args.save and not args.save.resolve().parent.is_dir():
        raise ViewError(f"{args.save.parent}: there is no such folder to save in")
    if not (args.save or args.connect) and not has_screen():
        raise ViewError("there is no screen here (DISPLAY is not set): use --save FILE.rrd, or --connect URL")
    if args.seconds is not None and not args.seconds > 0:
        raise ViewError("--seconds must be more than 0")


def has_screen() -> bool:
    """Whether a window can be opened: on Linux, that X11 or Wayland is there."""
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
