"""`/esam/locate`: any texts about any image, without touching the active queries, while the stream is running."""

from __future__ import annotations

import threading

from esam_perception import srv
from esam_perception.contract import to_nanoseconds
from esam_perception.images.encodings import RefusedImage
from esam_perception.ros.wire.messages import ROS
from esam_perception.stream.query_sets import MAX_QUERIES, parse_query_text

TOPIC = "esam/locate"


class LocateService:
    """The service of a node. Calls wait for the pipeline in the order in which they came, `bound` of them at most; what
    comes beyond is refused at once. Its callbacks block: they must run in a group that lets several run."""

    def __init__(self, node, bound: int, callback_group) -> None:
        self._node, self._bound = node, bound
        self._lock = threading.Lock()
        self._calls = 0
        node.create_service(srv.Locate, TOPIC, self.answer, callback_group=callback_group)

    def answer(self, request: srv.Locate.Request, response: srv.Locate.Response) -> srv.Locate.Response:
        """Fill the response; whatever is wrong becomes its message and a counter."""
        with self._lock:
            self._calls += 1
            busy = self._calls > self._bound
        try:
            if busy:
                raise ValueError(f"{self._bound} calls are waiting already (parameter locate_queue); ask again later")
            self._answer(request, response)
        except RefusedImage as error:
            response.message = f"{error.reason}: {error}"
        except KeyError as error:  # of the frame buffer
            response.message = str(error.args[0])
        except ValueError as error:  # of the queries
            response.message = str(error)
        except (RuntimeError, MemoryError) as error:  # of the device
            response.message = f"processing failed: {type(error).__name__}: {error}"
        finally:
            with self._lock:
                self._calls -= 1
        if response.message:
            self._node.refuse(TOPIC, "busy" if busy else "refused", response.message)
        return response

    def _answer(self, request: srv.Locate.Request, response: srv.Locate.Response) -> None:
        node = self._node
        if len(request.texts) > MAX_QUERIES:
            raise ValueError(f"the request has {len(request.texts)} texts, at most {MAX_QUERIES} are taken")
        queries = parse_query_text("\n".join(request.texts))
        if not queries:
            raise ValueError("the request has no texts")
        message = request.image
        if not message.data and not message.height:
            asked = to_nanoseconds(request.stamp)
            message = node.frames.at(asked) if asked else node.frames.newest()
            if message is None:
                raise ValueError("there is no image in the request, and none arrived from the camera yet")
        image = node.decode(message)
        located = node.locate(image, queries)
        if message is not request.image:  # an image of the request has no depth
            located = node.with_targets(located, message, image.shape[:2])
        response.result = ROS.match_array(located.matches, located.timing, message.header, node.about())
        response.success = True
