"""From camera to message: two processes over DDS.

    python -m bench.transport                     # latency beside a bare echo, frames a second of the bundled profile
    python -m bench.transport --memory 10000      # resident memory over 10,000 frames

Latency: an image is published, the answer to it (a header of the echo, MatchArray of the real node over a pipeline of no
cost) comes back to the publishing process, then the next one: blocks of both in turn. What the node adds is the difference
of the medians.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from esam_perception.environment.domains import claimed_domain
from esam_perception.environment.processes import Child, ros_environment

ROOT = Path(__file__).resolve().parents[1]
SIZES = {"640x480": ((640, 480), 4.0), "1920x1080": ((1920, 1080), 12.0)}  # the most that the node may add, ms
QUERIES = ("the red mug", "the blue plate", "a banana", "the green box")
WAYS = {"echo": "bare rclpy echo", "none": "node, 4 queries, no segments", "one": "node, 4 queries, a segment each"}
WAYS["overlay"] = "node as above, overlay heard"
BLOCK = 20


def parser() -> argparse.ArgumentParser:
    parsed = argparse.ArgumentParser(
        prog="python -m bench.transport", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parsed.add_argument("--images", type=int, default=200, help="of each size and way (default: %(default)s)")
    parsed.add_argument("--seconds", type=float, default=30, help="of the frame rate's run (default: %(default)s)")
    parsed.add_argument(
        "--memory", type=int, default=0, metavar="FRAMES", help="measure memory over so many frames, nothing else"
    )
    parsed.add_argument(
        "--output", type=Path, default=Path("bench/results"), help="folder of the tables (default: %(default)s)"
    )
    return parsed


def latency(environment: dict[str, str], logs: Path, images: int) -> dict:
    """{size: {way: Exchange}}; the children of all ways live side by side, idle but one."""
    from sensor_msgs.msg import Image
    from std_msgs.msg import Header

    from bench import echo
    from bench.peer import Exchange, Peer, noise
    from esam_perception import msg

    children, peers = {"echo": Child("bench.echo", {}, logs / "echo.log", environment)}, {}
    for way, segments in (("none", 0), ("one", 1), ("overlay", 1)):
        own = {**environment, "ESAM_BENCH_SEGMENTS": str(segments)}
        parameters = {"image": f"/{way}/image", "queries": "; ".join(QUERIES), "device": "cpu"}
        # every node in a namespace of its own
        children[way] = Child("bench.stub_node", parameters, logs / f"{way}.log", own, f"/{way}")
    results: dict = {}
    try:
        peers["echo"] = Peer(echo.IMAGE_TOPIC, echo.ANSWER_TOPIC, Header)
        for way in ("none", "one", "overlay"):
            peers[way] = Peer(f"/{way}/image", f"/{way}/esam/matches", msg.MatchArray)
        overlays: list = []
        peers["overlay"].node.create_subscription(Image, "/overlay/esam/overlay", overlays.append, 1)
        for peer in peers.values():
            peer.wait_until_connected()
        blocks = max(1, images // BLOCK)
        progress = tqdm(total=len(SIZES) * blocks * len(WAYS), unit="block", desc="latency")
        for name, (size, _) in SIZES.items():
            message = noise(*size)
            results[name] = {way: Exchange() for way in WAYS}
            for way, peer in peers.items():
                peer.measure(message, 5, children[way].pid, Exchange())  # warm
            for _ in range(blocks):
                for way, peer in peers.items():
                    peer.measure(message, BLOCK, children[way].pid, results[name][way])
                    overlays.clear()
                    progress.update()
        progress.close()
    except TimeoutError as error:
        tails = "\n".join(f"--- {name}\n{child.log_tail()}" for name, child in children.items())
        raise RuntimeError(f"{error}\n{tails}") from error
    finally:
        for peer in peers.values():
            peer.close()
        for child in children.values():
            child.stop()
    return results


def frame_rate(environment: dict[str, str], logs: Path, seconds: float) -> dict:
    """The bundled profile in the real node, 4 queries, 640x480 images of the recorded clip at 30 Hz."""
    import cv2

    from bench.peer import Peer, cpu_seconds, resident_megabytes
    from esam_perception import msg
    from esam_perception.ros.wire.messages import ROS
    from esam_perception.tabletop.clip import load_clip

    parameters = {
        "image": "/rate/image",
        "queries": "; ".join(QUERIES),
        "model": "tabletop",
        "device": "cpu",
        "segment_always": True,
    }
    child = Child("esam_perception.ros.node", parameters, logs / "rate.log", environment, "/rate")
    peer = Peer("/rate/image", "/rate/esam/matches", msg.MatchArray)
    frames = [ROS.image(cv2.resize(f.image, (640, 480)), "rgb8", ROS.header(0, "")) for f in load_clip()]
    try:
        peer.wait_until_connected()
        while peer.ask(frames[0]) is None:
            pass
        peer.answers.clear()
        published: dict[int, int] = {}
        before, began = cpu_seconds(child.pid), time.monotonic()
        for i in tqdm(range(int(seconds * 30)), unit="image", desc="frame rate"):
            stamp, at = peer.publish(frames[i % len(frames)])
            published[stamp] = at
            peer.spin(max(0.0, began + (i + 1) / 30 - time.monotonic()))
        lasted = time.monotonic() - began
        taken = [(arrived - published[s]) / 1e6 for s, (arrived, _) in peer.answers.items() if s in published]
        segments = [sum(len(m.segments) for m in a.matches) for _, a in peer.answers.values()]
        stages = [a.timing for _, a in peer.answers.values()]
        names = [name for name in stages[0].get_fields_and_field_types() if name != "age_at_start"]
        return {
            "frames_per_second": len(taken) / lasted,
            "latency_ms": sorted(taken),
            "cpu_percent": 100 * (cpu_seconds(child.pid) - before) / lasted,
            "resident_mb": resident_megabytes(child.pid),
            "segments_a_frame": statistics.mean(segments),
            "stages_ms": {name: statistics.median(getattr(t, name) for t in stages) for name in names},
            "threads": next((line for line in child.log_tail(40).splitlines() if "CPU threads" in line), "").split(
                "]: "
            )[-1],
        }
    except TimeoutError as error:
        raise RuntimeError(f"{error}\n{child.log_tail()}") from error
    finally:
        peer.close()
        child.stop()


def memory(environment: dict[str, str], logs: Path, frames: int) -> list[tuple[int, float]]:
    """(frames, resident MB of the real node): a tiny profile, 160x120 images, four new queries every 50 frames."""
    from std_msgs.msg import String

    from bench.peer import Peer, noise, resident_megabytes
    from esam_perception import msg
    from test.tiny import write_tiny_profile

    parameters = {
        "image": "/memory/image",
        "model": str(write_tiny_profile(logs)),
        "device": "cpu",
        "segment_always": True,
    }
    child = Child("esam_perception.ros.node", parameters, logs / "memory.log", environment, "/memory")
    peer = Peer("/memory/image", "/memory/esam/matches", msg.MatchArray)
    query = peer.node.create_publisher(String, "/memory/esam/query", 10)
    message, seen = noise(160, 120), []
    try:
        peer.wait_until_connected()
        for i in tqdm(range(frames + 1), unit="frame", desc="memory"):
            if i % 50 == 0:
                query.publish(String(data="; ".join(f"thing {i} {word}" for word in ("a", "b", "c", "d"))))
            if i % max(1, frames // 20) == 0:
                seen.append((i, resident_megabytes(child.pid)))
            peer.ask(message)
        return seen
    except TimeoutError as error:
        raise RuntimeError(f"{error}\n{child.log_tail()}") from error
    finally:
        peer.close()
        child.stop()


def middle(values: list[float], share: float = 0.5) -> float:
    """A quantile; NaN of nothing."""
    return float(np.quantile(values, share)) if values else float("nan")


def latency_table(results: dict) -> list[str]:
    lines = [
        "| image | what | to the callback, ms | to the answer, ms: median (p5 to p95) | child's CPU ms an image | lost | added ms (at most) |",
        "|---|---|---|---|---|---|---|",
    ]
    for size, ways in results.items():
        echo = middle(ways["echo"].answer_ms)
        for way, found in ways.items():
            callback = f"{middle(found.callback_ms):.2f}" if found.callback_ms else ""
            added = "" if way == "echo" else f"{middle(found.answer_ms) - echo:.2f}"
            added += f" ({SIZES[size][1]:.0f})" if way in ("none", "one") else ""
            low, high = middle(found.answer_ms, 0.05), middle(found.answer_ms, 0.95)
            lines.append(
                f"| {size} | {WAYS[way]} | {callback} | {middle(found.answer_ms):.2f} ({low:.2f} to {high:.2f}) | "
                f"{middle(found.cpu_ms):.1f} | {found.lost} | {added} |"
            )
    return lines


def head(title: str) -> list[str]:
    from importlib.metadata import version

    command = shlex.join(["python", "-m", "bench.transport", *sys.argv[1:]])
    versions = ", ".join(f"{name} {version(name)}" for name in ("ros-rclpy", "ros-rmw-fastrtps-cpp", "torch", "numpy"))
    cores = len(os.sched_getaffinity(0))
    return [
        f"# {title}", "", f"{datetime.date.today().isoformat()}; `{command}`; {cores} cores, load average "
        f"{os.getloadavg()[0]:.1f} at the end, Python {platform.python_version()}, {versions}; Fast DDS with config/fastdds.xml.", "",
    ]  # fmt: skip


def save(folder: Path, name: str, lines: list[str], data: dict) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text("\n".join(lines) + "\n")
    (folder / f"{name}.json").write_text(json.dumps(data, indent=1) + "\n")
    print("\n".join(lines))


def main() -> int:
    args = parser().parse_args()
    if "_ESAM_BENCH" not in os.environ:
        with claimed_domain() as domain:
            environment = {**ros_environment(domain), "_ESAM_BENCH": "1"}
            environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [environment.get("PYTHONPATH")])])
            # Fast DDS and glibc read these once, at start
            return subprocess.call([sys.executable, "-m", "bench.transport", *sys.argv[1:]], env=environment)
    import rclpy

    environment = dict(os.environ)
    rclpy.init()
    with tempfile.TemporaryDirectory() as folder:
        logs = Path(folder)
        if args.memory:
            seen = memory(environment, logs, args.memory)
            lines = head("Memory of the node") + [
                "Tiny profile, four new queries every 50 frames.",
                "",
                "| frames | resident MB |",
                "|---|---|",
            ]
            lines += [f"| {count} | {mb:.1f} |" for count, mb in seen]
            save(args.output, "memory", lines, {"frames_and_mb": seen})
        else:
            found = latency(environment, logs, args.images)
            rate = frame_rate(environment, logs, args.seconds)
            lines = head("From camera to message") + latency_table(found)
            taken = rate["latency_ms"]
            lines += [
                "", "## The bundled profile, node to node", "",
                f"640x480 at 30 Hz, 4 queries, segments always: {rate['segments_a_frame']:.1f} segments a frame; {rate['threads']}.", "",
                "| frames/s | latency ms: median (p95) | CPU % | resident MB |", "|---|---|---|---|",
                f"| {rate['frames_per_second']:.1f} | {middle(taken):.0f} ({middle(taken, 0.95):.0f}) | {rate['cpu_percent']:.0f} | {rate['resident_mb']:.0f} |",
                "", "Median ms of the stages: " + ", ".join(f"{name} {ms:.1f}" for name, ms in rate["stages_ms"].items()) + ".",
            ]  # fmt: skip
            data = {size: {way: vars(e) for way, e in ways.items()} for size, ways in found.items()}
            save(args.output, "transport", lines, {"latency": data, "rate": rate})
    rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
