"""`esam view`: a window onto a running node, or onto a replay, for machines without RViz; on Rerun."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from esam_perception.errors import EsamError
from esam_perception.recordings.rerun_scene import RerunScene, layout, load_rerun

APPLICATION = "esam_perception"
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
        recording = open_recording(rr, args)
        scene = RerunScene(rr, recording)
        if args.replay is not None:
            count = show_replay(scene, args.replay, args.bag, args.image_topic)
        else:
            from esam_perception.ros.viewer.view_node import watch

            count = watch(scene, args.namespace, args.image + ("/compressed" if args.compressed else ""), args.seconds)
        _finish(recording)
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


def _finish(recording: Any) -> None:
    """Hand over what is still on its way. Raises ViewError where nobody takes it."""
    try:
        recording.flush()
    except RuntimeError as error:
        first_line = (str(error).splitlines() or [""])[0]
        raise ViewError(f"no Rerun viewer took it ({first_line}): use --save FILE.rrd") from error


def open_recording(rr: Any, args: argparse.Namespace) -> Any:
    """A recording that goes to a file, to a viewer elsewhere, or to a window that is opened. Raises ViewError."""
    recording = rr.RecordingStream(APPLICATION)
    try:
        if args.save:
            recording.save(args.save, default_blueprint=layout(rr))
        elif args.connect:
            recording.connect_grpc(args.connect, default_blueprint=layout(rr))
        else:
            recording.spawn(default_blueprint=layout(rr))
    except (RuntimeError, OSError, ValueError) as error:
        first_line = (str(error).splitlines() or [""])[0]
        raise ViewError(f"Rerun cannot do this: {first_line}; without a screen use --save FILE.rrd") from error
    return recording


def show_replay(scene: RerunScene, matches: Path, bag: Path | None, image_topic: str | None) -> int:
    """Log what `esam replay` wrote, and the images of its bag; returns the number of frames. Raises ViewError."""
    from rosbags.highlevel import AnyReader, AnyReaderError
    from rosbags.typesys import Stores, get_typestore

    from esam_perception.recordings.bags import BagError, image_connections, open_bag, raw_messages

    try:
        if bag is not None:
            store = get_typestore(Stores.ROS2_HUMBLE)
            with open_bag(bag) as reader:
                for connection, _, raw in raw_messages(reader, image_connections(reader, bag, image_topic), bag):
                    scene.image(store.deserialize_cdr(raw, connection.msgtype))
        with open_bag(matches):  # says what is wrong with it, if anything is
            pass
        with AnyReader([matches]) as reader:
            topics = {connection.topic for connection in reader.connections}
            if "/esam/matches" not in topics:
                raise ViewError(f"{matches}: has no /esam/matches: give the folder NAME_matches that esam replay wrote")
            count = 0
            for connection, _, raw in reader.messages():
                if connection.topic == "/esam/matches":
                    scene.matches(reader.deserialize(raw, connection.msgtype), "/esam/heatmap" not in topics)
                    count += 1
                elif connection.topic == "/esam/heatmap":
                    scene.heatmap(reader.deserialize(raw, connection.msgtype))
            return count
    except (BagError, AnyReaderError) as error:
        raise ViewError(str(error)) from error
