"""`~/locate`: any texts about any image, without touching the active queries, while the stream is running."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import esam_perception.srv as srv
from esam_perception.contract import to_nanoseconds
from esam_perception.errors import EsamError
from esam_perception.images.encodings import RefusedImage
from esam_perception.ros.node.activation import Activation, ImageMessage
from esam_perception.ros.wire.messages import ROS
from esam_perception.stream.query_sets import MAX_QUERIES, parse_texts
from esam_perception.stream.session import Session
from esam_perception.stream.turns import NotActive
from esam_perception.types import FrameResult

TOPIC = "~/locate"


class CannotLocate(EsamError):
    """A call that is not answered; the text says why."""


@dataclass(frozen=True)
class Serving:
    """What a call is answered with. It takes this once: what the node becomes meanwhile is none of its business."""

    session: Session
    activation: Activation


class LocateService:
    """The service of a node. Calls wait for the pipeline in the order in which they came, `bound` of them at most; what
    comes beyond is refused at once. Its callbacks block: they must run in a group that lets several run.

    serving: what holds at the moment; None while the node is not active. refuse: see EsamNode.refuse."""

    def __init__(
        self, node: Any, bound: int, callback_group: Any, serving: Callable[[], Serving | None],
        refuse: Callable[[str, str, str], None],
    ) -> None:  # fmt: skip
        self._node, self._bound, self._serving, self._refuse = node, bound, serving, refuse
        self._lock = threading.Lock()
        self._calls = 0
        self._name = node.resolve_service_name(TOPIC)
        self._service = node.create_service(srv.Locate, TOPIC, self.answer, callback_group=callback_group)

    def answer(self, request: srv.Locate.Request, response: srv.Locate.Response) -> srv.Locate.Response:
        """Fill the response; whatever is wrong becomes its message and a counter."""
        with self._node.under_way:
            return self._try(request, response)

    def _try(self, request: srv.Locate.Request, response: srv.Locate.Response) -> srv.Locate.Response:
        with self._lock:
            self._calls += 1
            busy = self._calls > self._bound
        reason = "busy" if busy else "refused"
        try:
            if busy:
                raise CannotLocate(f"{self._bound} calls are waiting already (parameter locate_queue); ask again later")
            self._answer(request, response)
        except NotActive as error:
            response.message, reason = str(error), "not_active"
        except RefusedImage as error:
            response.message = f"{error.reason}: {error}"
        except EsamError as error:  # of the texts, the kept frames
            response.message = str(error)
        except Exception as error:
            response.message, reason = f"processing failed: {type(error).__name__}: {error}", "processing_failed"
        finally:
            with self._lock:
                self._calls -= 1
        if response.message:
            self._refuse(self._name, reason, response.message)
        return response

    def _answer(self, request: srv.Locate.Request, response: srv.Locate.Response) -> None:
        serving = self._serving()
        if serving is None:
            raise NotActive
        session, activation = serving.session, serving.activation
        if len(request.texts) > MAX_QUERIES:
            raise CannotLocate(f"the request has {len(request.texts)} texts, at most {MAX_QUERIES} are taken")
        queries = parse_texts(request.texts)
        if not queries:
            raise CannotLocate("the request has no texts")
        message = request.image
        own = bool(message.data or message.height)
        if not own:
            message = self._kept(activation, to_nanoseconds(request.stamp), session.options.max_age)
        # the depth of a stream is not that of an image which somebody sends
        result = activation.answer(message, session.resolve(queries), session, measure=not own)
        response.result = self._message(result, message, activation)
        response.success = True

    def _kept(self, activation: Activation, stamp: int, max_age: float) -> ImageMessage:
        """The kept frame of that stamp, or the newest one for 0. Raises CannotLocate, FrameNotKept."""
        if stamp:
            return activation.frames.at(stamp)
        message = activation.frames.newest()
        if message is None:
            raise CannotLocate("there is no image in the request, and none arrived from the camera yet")
        age = (self._node.get_clock().now().nanoseconds - to_nanoseconds(message.header.stamp)) / 1e9
        if 0 < max_age < age:
            raise CannotLocate(
                f"there is no image in the request, and the camera's newest is {age:.1f} s old (parameter max_age is "
                f"{max_age:g} s)"
            )
        return message

    def _message(self, result: FrameResult, message: ImageMessage, activation: Activation) -> Any:
        counts = activation.counts()
        return ROS.match_array(result.matches, result.timing, message.header, result.provenance, counts)
