"""The lifecycle node `esam`: images and queries in, matches, masks and heatmaps out.

Callbacks only store: the newest image goes into a slot, a worker thread takes it out, and nothing ever queues up.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import rclpy
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.exceptions import InvalidTopicNameException
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String

from esam_perception import msg
from esam_perception.contract import to_nanoseconds
from esam_perception.environment.distro import profile_in_use
from esam_perception.environment.shared_memory import shortage
from esam_perception.images.encodings import RefusedImage, message_to_rgb
from esam_perception.profiles.schema import ProfileError
from esam_perception.ros.health.graph_check import Wanted
from esam_perception.ros.health.health import Health, NodeState
from esam_perception.ros.health.statistics import Statistics
from esam_perception.ros.node import parameters
from esam_perception.ros.node.locate_service import LocateService
from esam_perception.ros.node.outputs import Outputs
from esam_perception.ros.node.spinning import spin
from esam_perception.ros.node.targets import Targets
from esam_perception.ros.node.transitions import RefusesTransitions, destroy_state_machine
from esam_perception.ros.wire.messages import ROS
from esam_perception.stream.query_sets import RefusedQuery, parse_query_text, queries_of_message
from esam_perception.stream.slots import FairLock, FrameBuffer, LatestFrameSlot
from esam_perception.stream.stream import Stream
from esam_perception.types import Located, Query

QUERY_TOPIC, QUERIES_TOPIC = "esam/query", "esam/queries"
QUERY_QOS = QoSProfile(depth=10)
# The longest that an end of the node waits for an inference that is under way.
LAST_INFERENCE_SECONDS = 2.0


class EsamNode(RefusesTransitions, LifecycleNode):
    """See docs in README.md; topics, messages and parameters are the package's public contract."""

    def __init__(self) -> None:
        # before this process takes its own part of it, which it does with its first node
        transport_problem = shortage(profile_in_use())
        super().__init__("esam")
        # what destroy_node() needs first: ROS calls it also where what follows fails
        self._slot: LatestFrameSlot | None = None
        self._worker: threading.Thread | None = None
        self._ending = False
        self._image_subscription = None
        self._targets: Targets | None = None
        parameters.declare(self)
        self._statistics = Statistics()
        self._dropped_before = 0
        self._pipeline = None
        self._pipeline_lock = FairLock()
        self.frames = FrameBuffer(parameters.value(self, "frame_buffer"))
        self._stream = Stream()
        self._image_qos = QoSProfile(depth=1)
        self._queries: tuple[Query, ...] = ()
        self._fatal = ""
        self._outputs = Outputs(self)
        self._targets = Targets(self, self._statistics)
        self._health = Health(self, self._statistics)
        self._transport_problems = (transport_problem,) if transport_problem else ()
        for problem in self._transport_problems:
            self.get_logger().warning(problem)
        self.create_subscription(String, QUERY_TOPIC, self._on_query, QUERY_QOS)
        self.create_subscription(msg.QueryArray, QUERIES_TOPIC, self._on_queries, QUERY_QOS)
        # several calls may wait at once, beside everything else
        self._locate_service = LocateService(self, parameters.value(self, "locate_queue"), ReentrantCallbackGroup())
        # the machine's clock: under use_sim_time the node's own stands still until somebody publishes /clock
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(1.0, self._publish_diagnostics, clock=steady)
        self._take_queries("parameter queries", lambda: parse_query_text(parameters.value(self, "queries")))
        if parameters.value(self, "autostart"):
            self._starter = self.create_timer(0.0, self._start, clock=steady)

    # lifecycle -------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        """Autostart, once: configure and activate."""
        self._starter.cancel()
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model."""
        # torch takes seconds to import: not before it is needed
        import torch

        from esam_perception.computing import choose_threads
        from esam_perception.pipeline.pipeline import Pipeline

        began = time.monotonic()
        model, device = parameters.value(self, "model"), parameters.value(self, "device")
        self.get_logger().info(f"loading model '{model}' on device '{device}' ...")
        torch.set_num_threads(parameters.value(self, "threads") or choose_threads())
        try:
            parameters.value(self, "image_transport"), parameters.value(self, "reliability")
            self._targets.configure()
            pipeline = Pipeline.from_profile(model, device, parameters.value(self, "precision"))
            # the first inference allocates and chooses kernels: not on the robot's first frame
            pipeline.warm_up()
        except (ProfileError, ValueError, RuntimeError, OSError) as error:
            self._fail(f"configure failed: {error}")
            return TransitionCallbackReturn.FAILURE
        self._fatal = ""
        for warning in pipeline.warnings:
            self.get_logger().warning(warning)
        self._pipeline = pipeline
        self._take_queries(QUERY_TOPIC, lambda: self._queries)
        self.get_logger().info(
            f"model '{pipeline.profile.name}' on {pipeline.device} ({pipeline.precision}, {torch.get_num_threads()} CPU "
            f"threads) in {time.monotonic() - began:.1f} s"
        )
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe to the camera and start the worker."""
        reliable = parameters.value(self, "reliability") == "reliable"
        policy = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
        self._image_qos = QoSProfile(depth=1, reliability=policy)
        kind = CompressedImage if self._compressed else Image
        try:
            self._image_subscription = self.create_subscription(kind, self.image_topic, self._on_image, self._image_qos)
            self._targets.activate(policy)
        except InvalidTopicNameException as error:
            self._stop()
            self._fail(f"activate failed: {' '.join(str(error).split())}")
            return TransitionCallbackReturn.FAILURE
        super().on_activate(state)
        self._fatal = ""
        self.frames = FrameBuffer(parameters.value(self, "frame_buffer"))
        self._stream = Stream()
        self._statistics.last_frame_in = time.monotonic()
        self._slot = LatestFrameSlot()
        self._worker = threading.Thread(target=self._work, args=(self._slot,), name="inference", daemon=True)
        self._worker.start()
        self.get_logger().info(
            f"active: images from {self._image_subscription.topic_name}, {len(self._queries)} queries"
        )
        return TransitionCallbackReturn.SUCCESS

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop inference; the models stay loaded."""
        self._stop()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the models."""
        self._free()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """From any state."""
        self._stop()
        self._free()
        return TransitionCallbackReturn.SUCCESS

    def _fail(self, text: str) -> None:
        """A transition that cannot be made: say so in the log and on /diagnostics."""
        self._fatal = text
        self.get_logger().error(text)
        self._statistics.problem(text)
        self._publish_diagnostics()

    def _stop(self) -> None:
        if self._image_subscription is not None:
            self.destroy_subscription(self._image_subscription)
            self._image_subscription = None
        if self._slot is not None:
            self._slot.close()
            self._dropped_before += self._slot.dropped
            self._slot = None
        if self._worker is not None:
            # an inference that hangs must not keep the node from ending; the thread is a daemon
            self._worker.join(LAST_INFERENCE_SECONDS if self._ending else None)
            self._worker = None
        if self._targets is not None:
            self._targets.deactivate()

    def _free(self) -> None:
        with self._pipeline_lock:
            self._pipeline = None
        self.frames.clear()
        self._targets.cleanup()
        free_memory()

    def destroy_node(self) -> None:
        """Stop the worker before ROS goes away under it."""
        self._ending = True
        self._stop()
        super().destroy_node()
        destroy_state_machine(self)

    @property
    def is_inferring(self) -> bool:
        """Whether a thread is still at work in the pipeline."""
        return self._pipeline_lock.held

    @property
    def _compressed(self) -> bool:
        return parameters.value(self, "image_transport") == "compressed"

    @property
    def image_topic(self) -> str:
        """The topic that is subscribed to."""
        return parameters.value(self, "image") + ("/compressed" if self._compressed else "")

    # inputs ----------------------------------------------------------------------------------------------------

    def _on_image(self, message: Image | CompressedImage) -> None:
        self._statistics.frame_in()
        self.frames.put(to_nanoseconds(message.header.stamp), message)
        self._targets.image_came(message.header)
        if self._slot is not None:
            self._slot.put(message)

    def _on_query(self, message: String) -> None:
        self._take_queries(QUERY_TOPIC, lambda: parse_query_text(message.data))

    def _on_queries(self, message: msg.QueryArray) -> None:
        self._take_queries(QUERIES_TOPIC, lambda: queries_of_message(message))

    def _take_queries(self, topic: str, parse) -> None:
        """Replace the active queries by what `parse` returns; what it refuses leaves them as they are."""
        try:
            queries = parse()
            for query in queries if self._pipeline else ():
                self._pipeline.check_text(query.text)
        except RefusedQuery as error:
            self.refuse(topic, error.reason, str(error))
            return
        except ValueError as error:
            self.refuse(topic, "no_words", str(error))
            return
        self._queries = queries
        now = self.get_clock().now().nanoseconds
        regions = self._pipeline.profile.prompting.max_regions if self._pipeline else 1
        self._outputs.publish_queries(queries, regions, ROS.header(now, ""))
        self.get_logger().info(f"{len(queries)} active queries: {'; '.join(query.text for query in queries)[:200]}")

    def refuse(self, topic: str, reason: str, detail: str) -> None:
        """Count it, say it on /diagnostics at once, and in the log once a second at most."""
        self._statistics.refuse(topic, reason, detail)
        self.get_logger().warning(f"refused: {topic}: {reason}: {detail}", throttle_duration_sec=1.0)
        self._publish_diagnostics()

    # work ------------------------------------------------------------------------------------------------------

    def _work(self, slot: LatestFrameSlot) -> None:
        while (message := slot.take()) is not None:
            try:
                self._process(message)
            except RefusedImage as error:
                self.refuse(self.image_topic, error.reason, str(error))
            except Exception as error:
                reason = "processing_failed"
                if is_out_of_memory(error):
                    # the next frame may fit, once what this one held is given back
                    error.__traceback__ = None
                    free_memory()
                    reason = "out_of_memory"
                self.refuse(self.image_topic, reason, f"{type(error).__name__}: {error}")

    def _process(self, message: Image | CompressedImage) -> None:
        stamp = to_nanoseconds(message.header.stamp)
        age = (self.get_clock().now().nanoseconds - stamp) / 1e6
        max_age = parameters.value(self, "max_age")
        if max_age > 0 and age > 1000 * max_age:
            self._statistics.stale()
            return
        self._targets.want("work", message.header)
        began = time.perf_counter()
        image = self.decode(message)
        converted = 1000 * (time.perf_counter() - began)
        active, budget = self._queries, parameters.value(self, "frame_budget")
        asked = self._stream.questions(active, budget, parameters.value(self, "hysteresis"), self._thresholds)
        located = self._stream.answers(self.locate(image, asked), active, parameters.value(self, "stable_labels"))
        measured = self._targets.measure(located, message.header, image.shape[:2])
        located = measured.located
        timing = replace(
            located.timing,
            age_at_start=age,
            preprocess=located.timing.preprocess + converted,
            total=located.timing.total + converted,
        )
        self._stream.note(timing, len(asked), len(active), budget)
        quality, alpha = parameters.value(self, "jpeg_quality"), self._pipeline.profile.fusion.alpha
        header = message.header
        self._targets.publish(measured, header, image.shape[:2])
        timing = self._outputs.publish(
            image, replace(located, timing=timing), header, alpha, quality, self.about(processed=1)
        )
        self._statistics.done(timing)

    def _thresholds(self, query: Query) -> tuple[float, float]:
        defaults = (parameters.value(self, "match_threshold"), parameters.value(self, "reject_threshold"))
        return self._pipeline.thresholds(query, *defaults)

    def locate(self, image: np.ndarray, queries: tuple[Query, ...]) -> Located:
        """Ask the pipeline, when it is this caller's turn. image: uint8 [H, W, 3] RGB. Raises ValueError where no model is
        loaded, and as Pipeline.locate_timed."""
        with self._pipeline_lock:
            if self._pipeline is None:
                raise ValueError("the node is not configured: no model is loaded")
            return self._pipeline.locate_timed(
                image,
                queries,
                segment_always=parameters.value(self, "segment_always"),
                match_threshold=parameters.value(self, "match_threshold"),
                reject_threshold=parameters.value(self, "reject_threshold"),
                region_scores=parameters.value(self, "region_scores"),
            )

    def about(self, processed: int = 0) -> dict:
        """The fields of MatchArray that describe the node. processed: frames about to be counted."""
        return {
            "profile": self._pipeline.profile.name,
            "weights_sha256": self._pipeline.weights_sha256,
            "frames_processed": self._statistics.processed + processed,
            "frames_dropped": self.frames_dropped,
            "frames_refused": self._statistics.refused_of(self.image_topic),
        }

    @property
    def frames_dropped(self) -> int:
        """Frames that a newer one replaced, and frames that were too old."""
        waiting = self._slot.dropped if self._slot is not None else 0
        return self._dropped_before + waiting + self._statistics.dropped_stale

    def with_targets(self, located: Located, message: Image | CompressedImage, size: tuple[int, int]) -> Located:
        """The same with 3D targets from the depth of that frame's stamp. size: (height, width) of its image."""
        return self._targets.measure(located, message.header, size).located

    def decode(self, message: Image | CompressedImage) -> np.ndarray:
        """uint8 [H, W, 3] RGB of either kind of image message. Raises RefusedImage."""
        return message_to_rgb(message)

    # diagnostics -----------------------------------------------------------------------------------------------

    def _publish_diagnostics(self) -> None:
        pipeline = self._pipeline
        self._health.publish(
            NodeState(
                fatal=self._fatal,
                active=self._slot is not None,
                image_topic=self.image_topic,
                model=pipeline.profile.name if pipeline else "none",
                device=str(pipeline.device) if pipeline else "none",
                warnings=(*self._transport_problems, *(pipeline.warnings if pipeline else ())),
                queries=len(self._queries),
                frames_dropped=self.frames_dropped,
                degradation=self._stream.degradation,
                wanted=self._subscriptions_wanted(),
            )
        )

    def _subscriptions_wanted(self) -> list[Wanted]:
        wanted = [
            Wanted(self.resolve_topic_name(QUERY_TOPIC), "std_msgs/msg/String", QUERY_QOS),
            Wanted(self.resolve_topic_name(QUERIES_TOPIC), "esam_perception/msg/QueryArray", QUERY_QOS),
        ]
        if self._image_subscription is not None:
            kind = "sensor_msgs/msg/CompressedImage" if self._compressed else "sensor_msgs/msg/Image"
            topic = self._image_subscription.topic_name
            wanted.append(Wanted(topic, kind, self._image_qos, "image", must=True))
        return [*wanted, *self._targets.wanted]


def is_out_of_memory(error: Exception) -> bool:
    """Whether the host's or the GPU's memory ran out."""
    import torch

    return isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError))


def free_memory() -> None:
    """Give back what nobody refers to any more, on the GPU too."""
    gc.collect()
    import torch

    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def main(args: list[str] | None = None) -> int:
    """Run the node until it is interrupted."""
    rclpy.init(args=args)
    node = EsamNode()
    # one thread for everything that must stay in order, one for each call of /esam/locate that may wait
    executor = MultiThreadedExecutor(num_threads=2 + parameters.value(node, "locate_queue"))
    executor.add_node(node)
    try:
        spin(executor)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        # launch and a terminal may both send SIGINT: the second must not break the first one's clean end
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        node.destroy_node()
        rclpy.try_shutdown()
    if node.is_inferring:
        # Python would wait for the thread; ROS has ended cleanly, and whoever sent SIGINT does not wait
        sys.stderr.flush()
        os._exit(0)
    return 0
