"""The lifecycle node `esam`: images and queries in, matches, masks and heatmaps out.

Callbacks only store: the newest image goes into a slot, a worker thread takes it out, and nothing ever queues up.
"""

from __future__ import annotations

import gc
import signal
import threading
import time
from dataclasses import replace

import cv2
import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.executors import ExternalShutdownException
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String

from esam_perception import msg, srv
from esam_perception.profiles import ProfileError
from esam_perception.ros import messages, parameters
from esam_perception.ros.diagnostics import Statistics, diagnostic_message, resident_megabytes
from esam_perception.ros.encodings import RefusedImage, image_to_rgb
from esam_perception.ros.frames import LatestFrameSlot
from esam_perception.ros.outputs import Outputs
from esam_perception.ros.queries import RefusedQuery, parse_query_text, queries_of_message
from esam_perception.ros.targets import Targets
from esam_perception.types import Located, Query

QUERY_TOPIC, QUERIES_TOPIC = "esam/query", "esam/queries"
QUERY_QOS = QoSProfile(depth=10)
NO_IMAGE_SECONDS = 3.0


class EsamNode(LifecycleNode):
    """See docs in README.md; topics, messages and parameters are the package's public contract."""

    def __init__(self) -> None:
        super().__init__("esam")
        # what destroy_node() needs first: ROS calls it also where what follows fails
        self._slot: LatestFrameSlot | None = None
        self._worker: threading.Thread | None = None
        self._image_subscription = None
        self._targets: Targets | None = None
        parameters.declare(self)
        self._statistics = Statistics()
        self._dropped_before = 0
        self._pipeline = None
        self._pipeline_lock = threading.Lock()
        self._newest: Image | CompressedImage | None = None
        self._queries: tuple[Query, ...] = ()
        self._fatal = ""
        self._outputs = Outputs(self)
        self._targets = Targets(self, self._statistics)
        self._diagnostics = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self.create_subscription(String, QUERY_TOPIC, self._on_query, QUERY_QOS)
        self.create_subscription(msg.QueryArray, QUERIES_TOPIC, self._on_queries, QUERY_QOS)
        self.create_service(srv.Locate, "esam/locate", self._on_locate)
        self.create_timer(1.0, self._publish_diagnostics)
        self._take_queries("parameter queries", lambda: parse_query_text(parameters.value(self, "queries")))
        if parameters.value(self, "autostart"):
            self._starter = self.create_timer(0.0, self._start)

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

        from esam_perception.pipeline import Pipeline

        began = time.monotonic()
        model, device = parameters.value(self, "model"), parameters.value(self, "device")
        self.get_logger().info(f"loading model '{model}' on device '{device}' ...")
        torch.set_num_threads(parameters.value(self, "threads"))
        try:
            parameters.value(self, "image_transport"), parameters.value(self, "reliability")
            self._targets.configure()
            pipeline = Pipeline.from_profile(model, device)
            # the first inference allocates and chooses kernels: not on the robot's first frame
            pipeline.locate(np.zeros((480, 640, 3), np.uint8), ["warm up"])
        except (ProfileError, ValueError, RuntimeError, OSError) as error:
            self._fatal = f"configure failed: {error}"
            self.get_logger().error(self._fatal)
            self._statistics.problem(self._fatal)
            self._publish_diagnostics()
            return TransitionCallbackReturn.FAILURE
        self._fatal = ""
        for warning in pipeline.warnings:
            self.get_logger().warning(warning)
        self._pipeline = pipeline
        self._take_queries(QUERY_TOPIC, lambda: self._queries)
        self.get_logger().info(
            f"model '{pipeline.profile.name}' on {pipeline.device} in {time.monotonic() - began:.1f} s"
        )
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe to the camera and start the worker."""
        super().on_activate(state)
        self._slot = LatestFrameSlot()
        self._worker = threading.Thread(target=self._work, args=(self._slot,), name="inference", daemon=True)
        self._worker.start()
        reliable = parameters.value(self, "reliability") == "reliable"
        policy = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
        qos = QoSProfile(depth=1, reliability=policy)
        self._targets.activate(policy)
        self._statistics.last_frame_in = time.monotonic()
        kind = CompressedImage if self._compressed else Image
        self._image_subscription = self.create_subscription(kind, self.image_topic, self._on_image, qos)
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

    def _stop(self) -> None:
        if self._image_subscription is not None:
            self.destroy_subscription(self._image_subscription)
            self._image_subscription = None
        if self._slot is not None:
            self._slot.close()
            self._dropped_before += self._slot.dropped
            self._slot = None
        if self._worker is not None:
            self._worker.join()
            self._worker = None
        if self._targets is not None:
            self._targets.deactivate()

    def _free(self) -> None:
        with self._pipeline_lock:
            self._pipeline = None
            self._newest = None
        self._targets.cleanup()
        gc.collect()
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def destroy_node(self) -> None:
        """Stop the worker before ROS goes away under it."""
        self._stop()
        super().destroy_node()

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
        self._newest = message
        self._targets.want("newest", message.header)
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
            self._refuse(topic, error.reason, str(error))
            return
        except ValueError as error:
            self._refuse(topic, "no_words", str(error))
            return
        self._queries = queries
        now = self.get_clock().now().nanoseconds
        regions = self._pipeline.profile.prompting.max_regions if self._pipeline else 1
        self._outputs.publish_queries(queries, regions, messages.to_header(now, ""))
        self.get_logger().info(f"{len(queries)} active queries: {'; '.join(query.text for query in queries)[:200]}")

    def _refuse(self, topic: str, reason: str, detail: str) -> None:
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
                self._refuse(self.image_topic, error.reason, str(error))
            except Exception as error:  # noqa: BLE001 - the node must outlive any frame; what was caught is published
                self._refuse(self.image_topic, "processing_failed", f"{type(error).__name__}: {error}")

    def _process(self, message: Image | CompressedImage) -> None:
        stamp = messages.to_nanoseconds(message.header.stamp)
        age = (self.get_clock().now().nanoseconds - stamp) / 1e6
        max_age = parameters.value(self, "max_age")
        if max_age > 0 and age > 1000 * max_age:
            self._statistics.stale()
            return
        self._targets.want("work", message.header)
        began = time.perf_counter()
        image = decode(message)
        converted = 1000 * (time.perf_counter() - began)
        queries = self._queries
        measured = self._targets.measure(self._locate(image, queries), message.header, image.shape[:2])
        located = measured.located
        timing = replace(
            located.timing,
            age_at_start=age,
            preprocess=located.timing.preprocess + converted,
            total=located.timing.total + converted,
        )
        quality, alpha = parameters.value(self, "jpeg_quality"), self._pipeline.profile.fusion.alpha
        header = message.header
        self._targets.publish(measured, header, image.shape[:2])
        timing = self._outputs.publish(
            image, replace(located, timing=timing), header, alpha, quality, self._about(processed=1)
        )
        self._statistics.done(timing)

    def _locate(self, image: np.ndarray, queries: tuple[Query, ...]) -> Located:
        with self._pipeline_lock:
            return self._pipeline.locate_timed(
                image,
                queries,
                segment_always=parameters.value(self, "segment_always"),
                match_threshold=parameters.value(self, "match_threshold"),
                reject_threshold=parameters.value(self, "reject_threshold"),
            )

    def _about(self, processed: int = 0) -> dict:
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

    def _on_locate(self, request: srv.Locate.Request, response: srv.Locate.Response) -> srv.Locate.Response:
        """Answer about the image of the request, or about the newest frame."""
        try:
            self._answer(request, response)
        except RefusedImage as error:
            response.message = f"{error.reason}: {error}"
        except ValueError as error:  # of the queries
            response.message = str(error)
        except RuntimeError as error:  # of the device
            response.message = f"processing failed: {error}"
        if response.message:
            self._refuse("esam/locate", "refused", response.message)
        return response

    def _answer(self, request: srv.Locate.Request, response: srv.Locate.Response) -> None:
        if self._pipeline is None:
            raise ValueError("the node is not configured: no model is loaded")
        message = request.image
        if not message.data and not message.height:
            message = self._newest
            if message is None:
                raise ValueError("there is no image in the request, and none arrived from the camera yet")
            asked = messages.to_nanoseconds(request.stamp)
            if asked and asked != messages.to_nanoseconds(message.header.stamp):
                raise ValueError("the frame of that stamp is not kept: only the newest one is")
        queries = parse_query_text("\n".join(request.texts))
        if not queries:
            raise ValueError("the request has no texts")
        header, image = message.header, decode(message)
        located = self._locate(image, queries)
        if message is not request.image:  # an image of the request has no depth
            located = self._targets.measure(located, header, image.shape[:2]).located
        response.result = msg.MatchArray(
            header=header, matches=[messages.match_message(match, header) for match in located.matches], **self._about()
        )
        response.result.timing = messages.timing_message(located.timing)
        response.success = True

    # diagnostics -----------------------------------------------------------------------------------------------

    def _publish_diagnostics(self) -> None:
        values = self._statistics.values()
        values["frames_dropped"] = str(self.frames_dropped)
        pipeline = self._pipeline
        values["model"] = pipeline.profile.name if pipeline else "none"
        values["device"] = str(pipeline.device) if pipeline else "none"
        values["memory_mb"] = f"{resident_megabytes():.0f}"
        values["active_queries"] = str(len(self._queries))
        level, text = self._health(pipeline)
        name = f"{self.get_namespace().rstrip('/')}/{self.get_name()}".lstrip("/")
        stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(diagnostic_message(stamp, f"{name}: perception", level, text, values))

    def _health(self, pipeline) -> tuple[bytes, str]:
        if self._fatal:
            return DiagnosticStatus.ERROR, self._fatal
        if pipeline is None:
            return DiagnosticStatus.WARN, "not configured"
        if self._statistics.recently_wrong:
            return DiagnosticStatus.WARN, self._statistics.last_error
        if self._slot is None:
            return DiagnosticStatus.OK, "inactive"
        silent = time.monotonic() - self._statistics.last_frame_in
        if silent > NO_IMAGE_SECONDS:
            return DiagnosticStatus.WARN, f"no image on {self.image_topic} for {silent:.0f} s"
        if pipeline.warnings:
            return DiagnosticStatus.WARN, pipeline.warnings[0]
        return DiagnosticStatus.OK, "active"


def decode(message: Image | CompressedImage) -> np.ndarray:
    """uint8 [H, W, 3] RGB of either kind of image message. Raises RefusedImage."""
    if isinstance(message, Image):
        return image_to_rgb(message)
    data = np.frombuffer(message.data, np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if image is None:
        raise RefusedImage("bad_compression", f"{data.size} bytes of format '{message.format[:64]}' are no image")
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def main(args: list[str] | None = None) -> int:
    """Run the node until it is interrupted."""
    rclpy.init(args=args)
    node = EsamNode()
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        # launch and a terminal may both send SIGINT: the second must not break the first one's clean end
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        node.destroy_node()
        rclpy.try_shutdown()
    return 0
