"""What lives from activate to deactivate: subscriptions, kept frames, what is remembered from frame to frame, the worker.

Callbacks only store: the newest image goes into a slot, the worker thread takes it out, and nothing ever queues up.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from sensor_msgs.msg import CompressedImage, Image

from esam_perception.contract import Counts, to_nanoseconds
from esam_perception.images.encodings import RefusedImage, message_to_rgb
from esam_perception.ros.health.graph_check import Wanted
from esam_perception.ros.health.statistics import Statistics
from esam_perception.ros.node.depth_input import DepthInput
from esam_perception.ros.node.parameters import Settings
from esam_perception.ros.wire import qos
from esam_perception.ros.wire.outputs import Outputs
from esam_perception.stream.session import Session
from esam_perception.stream.slots import FrameBuffer, LatestFrameSlot
from esam_perception.stream.stream import Stream
from esam_perception.stream.turns import NotActive
from esam_perception.types import Frame, FrameResult, Located, Query

ImageMessage: TypeAlias = "Image | CompressedImage"


@dataclass(frozen=True)
class Surroundings:
    """What an activation uses of its node. session: the one that holds at the moment; refuse: see EsamNode.refuse."""

    node: Any
    session: Callable[[], Session]
    refuse: Callable[[str, str, str], None]
    statistics: Statistics
    outputs: Outputs


class Activation:
    """One from activate to deactivate. wanted: its subscriptions (see graph_check); image_topic: with its namespace, and
    what it is remapped to."""

    def __init__(self, around: Surroundings, settings: Settings, image_topic: str, depth: DepthInput) -> None:
        self._around, self._depth = around, depth
        self.image_topic = image_topic
        self.frames = FrameBuffer(settings.frame_buffer)
        self._slot, self._stream = LatestFrameSlot(), Stream()
        image_qos = qos.image(settings.reliability)
        kind, name = (
            (CompressedImage, "CompressedImage") if settings.image_transport == "compressed" else (Image, "Image")
        )
        self._subscription = around.node.create_subscription(kind, image_topic, self._on_image, image_qos)
        try:
            self._depth.activate(settings)
        except BaseException:
            self._depth.deactivate()
            around.node.destroy_subscription(self._subscription)
            raise
        self._wanted = Wanted(image_topic, f"sensor_msgs/msg/{name}", image_qos, "image", must=True)
        around.statistics.listen()
        self._worker = threading.Thread(target=self._work, name="inference", daemon=True)
        self._worker.start()

    @property
    def wanted(self) -> list[Wanted]:
        return [self._wanted, *self._depth.wanted]

    def counts(self, finished: int = 0) -> Counts:
        """Of the node's frames so far. finished: those that are about to be counted."""
        return self._around.statistics.counts(self.image_topic, finished)

    @property
    def degradation(self) -> str:
        """What the machine is spared; "none" where it is asked everything."""
        return self._stream.degradation

    def take_no_more(self) -> None:
        """Let the worker end after the frame that it is at, without waiting for that."""
        self._slot.close()

    def stop(self, patience: float | None = None) -> None:
        """Unsubscribe, and end the worker after the frame that it is at. patience: seconds to wait for that; None: for as long
        as it takes."""
        self._around.node.destroy_subscription(self._subscription)
        self.take_no_more()
        # an inference that hangs must not keep the node from ending; the thread is a daemon
        self._worker.join(patience)
        self._depth.deactivate()

    def _on_image(self, message: ImageMessage) -> None:
        self._around.statistics.frame_in()
        self.frames.put(to_nanoseconds(message.header.stamp), message)
        self._depth.image_came(message.header)
        if self._slot.put(message):
            self._around.statistics.replaced()

    # the worker's thread ---------------------------------------------------------------------------------------

    def _work(self) -> None:
        while (message := self._slot.take()) is not None:
            with self._around.node.under_way:
                if not self._try(message):
                    return

    def _try(self, message: ImageMessage) -> bool:
        """Work on a frame; whatever is wrong with it is said. Returns whether to go on with the next one."""
        try:
            self._process(message, self._around.session())
        except NotActive:
            return False
        except RefusedImage as error:
            self._around.refuse(self.image_topic, error.reason, str(error))
        except Exception as error:
            if not self._around.node.context.ok():
                return False  # ROS went away under this thread: that is no fault of the frame
            from esam_perception.computing import free_memory, is_out_of_memory  # torch, which is loaded by now

            reason = "processing_failed"
            if is_out_of_memory(error):
                # the next frame may fit, once what this one held is given back
                error.__traceback__ = None
                free_memory()
                reason = "out_of_memory"
            self._around.refuse(self.image_topic, reason, f"{type(error).__name__}: {error}")
        return True

    def _process(self, message: ImageMessage, session: Session) -> None:
        statistics, options = self._around.statistics, session.options
        now = self._around.node.get_clock().now().nanoseconds
        age = (now - to_nanoseconds(message.header.stamp)) / 1e6
        if options.max_age > 0 and age > 1000 * options.max_age:
            statistics.stale()
            return
        asked = self._stream.questions(session.asked, options.frame_budget, options.hysteresis)
        result = self.answer(message, asked, session, age, self._in_stream)
        self._stream.note(result.timing, len(asked), len(session.queries), options.frame_budget)
        # matches come last: whoever waits for them finds the rest there
        self._depth.publish(result, message.header, options)
        timing = self._around.outputs.publish(
            result, message.header, options, session.model.alpha, self.counts(finished=1)
        )
        statistics.done(timing)

    def _in_stream(self, located: Located, session: Session) -> Located:
        return self._stream.answers(located, session.queries, session.options.stable_labels)

    # a frame, the worker's or the service's --------------------------------------------------------------------

    def answer(
        self,
        message: ImageMessage,
        asked: tuple[Query, ...],
        session: Session,
        age: float = 0.0,
        track: Callable[[Located, Session], Located] = lambda located, session: located,
        measure: bool = True,
    ) -> FrameResult:
        """What the session says of an image.

        asked: with their thresholds. age: milliseconds of the image at the start. track: what the stream makes of what was
        found. measure: whether the camera's depth is the image's.

        Raises RefusedImage, NotActive, and what Pipeline.locate_timed raises."""
        began = time.perf_counter()
        if measure:
            self._depth.want(threading.current_thread().name, message.header)
        frame = frame_of(message)
        decoded = time.perf_counter()
        located = session.model.turns.locate(
            frame.image, asked, session.options.segment_always, session.options.region_scores
        )
        tracked = time.perf_counter()
        matches = track(located, session).matches
        if measure:
            frame, matches = self._depth.measure(frame, matches, session.options)
        timing = located.timing.plus(
            age_at_start=age,
            preprocess=1000 * (decoded - began),
            fuse=1000 * (time.perf_counter() - tracked),
        )
        return FrameResult(frame, matches, timing, session.model.provenance)


def frame_of(message: ImageMessage) -> Frame:
    """The image of a message, its stamp and its frame. Raises RefusedImage."""
    return Frame(message_to_rgb(message), to_nanoseconds(message.header.stamp), message.header.frame_id)
