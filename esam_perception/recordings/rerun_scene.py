"""What esam says, as entities of a Rerun recording. Takes messages by their fields: those of ROS and those of bags.

| entity | what |
|---|---|
| camera/image | the camera's image (JPEG) |
| camera/mask | label image of the segments: Segment.label, coloured and named by the query |
| camera/segments | their boxes with text and score |
| heatmap | 0..1 |
| scores/QUERY | ITM score over time |
| verdicts | a line of text whenever a query's verdict changes |
| camera | the intrinsics, where camera_info is there |
| targets, points | 3D, in the camera's optical frame, where they are there |

All under the timeline `stamp`: the time of the image they belong to.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from esam_perception.contract import to_nanoseconds
from esam_perception.images.compressed import CodecError, encode_jpeg
from esam_perception.images.drawing import PALETTE, VERDICT_COLOURS
from esam_perception.images.encodings import CompressedImageMessage, ImageMessage, RefusedImage, message_to_rgb, plane
from esam_perception.types import Verdict

TIMELINE = "stamp"
JPEG_QUALITY = 90
POINT_RADIUS = 0.002  # metres


class RerunScene:
    """Logs messages to one recording. rr: the rerun module; recording: its RecordingStream."""

    def __init__(self, rr: Any, recording: Any) -> None:
        self._rr, self._recording = rr, recording
        self._verdicts: dict[str, int] = {}
        self._classes: dict[int, tuple[str, tuple[int, int, int]]] = {}
        self._refused: set[str] = set()
        self._intrinsics: tuple[float, ...] = ()
        recording.log("targets", rr.ViewCoordinates.RDF, static=True)

    def image(self, message: ImageMessage | CompressedImageMessage) -> None:
        """A sensor_msgs/Image or CompressedImage. One that cannot be shown is said once per reason, in `verdicts`."""
        self._at(message.header)
        try:
            # bare pixels would be a megabyte a frame
            data = encode_jpeg(message_to_rgb(message), JPEG_QUALITY)
        except RefusedImage as error:
            self.refuse(error.reason, str(error))
        except CodecError as error:
            self.refuse("too_large", str(error))
        else:
            self._log("camera/image", self._rr.EncodedImage(contents=data, media_type="image/jpeg"))

    def refuse(self, reason: str, detail: str) -> None:
        """Say an image that cannot be shown, once per reason, in `verdicts`."""
        if reason not in self._refused:
            self._refused.add(reason)
            self._log("verdicts", self._rr.TextLog(f"image refused: {reason}: {detail}", level="ERROR"))

    def camera_info(self, message: Any) -> None:
        """A sensor_msgs/CameraInfo: where the image stands in 3D. Logged when it changes."""
        k = tuple(float(value) for value in getattr(message, "k", getattr(message, "K", ())))
        if k == self._intrinsics or len(k) != 9 or not k[0] > 0:
            return
        self._intrinsics = k
        self._at(message.header)
        pinhole = self._rr.Pinhole(
            image_from_camera=np.reshape(k, (3, 3)), width=message.width, height=message.height,
            camera_xyz=self._rr.ViewCoordinates.RDF, image_plane_distance=0.3,
        )  # fmt: skip
        self._log("camera", pinhole)

    def heatmap(self, message: ImageMessage) -> None:
        """A sensor_msgs/Image 32FC1 in 0..1."""
        self._at(message.header)
        self._log_heatmap(plane(message))

    def matches(self, array: Any, with_heatmap: bool = False) -> None:
        """An esam_perception/MatchArray: scores, verdicts, masks, boxes, 3D targets. with_heatmap: log the maximum of
        the matches' own heatmaps, for where no /esam/heatmap is at hand."""
        self._at(array.header)
        for i, match in enumerate(array.matches):
            self._log_score(match, PALETTE[i % len(PALETTE)])
        self._log_segments(array)
        self._log_targets(array)
        if with_heatmap and array.matches:
            self._log_heatmap(np.max([plane(match.heatmap) for match in array.matches], axis=0))

    def points(self, message: Any) -> None:
        """A sensor_msgs/PointCloud2; points that are not finite are left out."""
        self._at(message.header)
        positions, colours = cloud(message)
        self._log("points", self._rr.Points3D(positions, colors=colours, radii=POINT_RADIUS))

    def _at(self, header: Any) -> None:
        stamp = np.datetime64(to_nanoseconds(header.stamp), "ns")
        self._recording.set_time(TIMELINE, timestamp=stamp)

    def _log(self, entity: str | list[str], what: Any, static: bool = False) -> None:
        self._recording.log(entity, what, static=static)

    def _log_heatmap(self, values: np.ndarray) -> None:
        # a depth image is Rerun's one image of numbers with a colour map of its own
        self._log("heatmap", self._rr.DepthImage(values, meter=1.0, colormap="turbo", depth_range=[0.0, 1.0]))

    def _log_score(self, match: Any, colour: tuple[int, int, int]) -> None:
        key, verdict = match.query_id, int(match.verdict)
        # a list: each part is escaped by Rerun, whatever the query says
        entity = ["scores", key]
        if key not in self._verdicts:
            self._log(entity, self._rr.SeriesLines(colors=[colour], names=[match.text]), static=True)
        self._log(entity, self._rr.Scalars(float(match.itm_score)))
        if self._verdicts.get(key) != verdict:
            self._verdicts[key] = verdict
            text = f"{match.text}: {Verdict(verdict).name} {match.itm_score:.2f}"
            self._log("verdicts", self._rr.TextLog(text, level="INFO", color=VERDICT_COLOURS[Verdict(verdict)]))

    def _log_segments(self, array: Any) -> None:
        rr = self._rr
        found = [(i, match, segment) for i, match in enumerate(array.matches) for segment in match.segments]
        if not found:
            # what was seen before must go away
            for entity in ("camera/mask", "camera/segments"):
                self._log(entity, rr.Clear(recursive=False))
            return
        classes = {segment.label: (match.text, PALETTE[i % len(PALETTE)]) for i, match, segment in found}
        if not classes.items() <= self._classes.items():
            self._classes |= classes
            context = [rr.AnnotationInfo(id=label, label=text, color=c) for label, (text, c) in self._classes.items()]
            self._log("camera", rr.AnnotationContext(context))
        labels = np.zeros((found[0][2].mask.height, found[0][2].mask.width), np.uint8)
        for _, _, segment in reversed(found):  # the best of a query last: it stays on top
            labels[plane(segment.mask) > 0] = segment.label
        self._log("camera/mask", rr.SegmentationImage(labels, opacity=0.5))
        boxes = [segment.box for _, _, segment in found]
        self._log(
            "camera/segments",
            rr.Boxes2D(
                mins=[(box.x_offset, box.y_offset) for box in boxes],
                sizes=[(box.width, box.height) for box in boxes],
                labels=[f"{match.text} {match.itm_score:.2f}" for _, match, _ in found],
                class_ids=[segment.label for _, _, segment in found],
            ),
        )

    def _log_targets(self, array: Any) -> None:
        rr = self._rr
        found = [
            (i, match, segment)
            for i, match in enumerate(array.matches)
            for segment in match.segments
            if segment.has_target
        ]
        if not found:
            self._log("targets", rr.Clear(recursive=False))
            return
        poses = [segment.target.pose for _, _, segment in found]
        self._log(
            "targets",
            rr.Boxes3D(
                centers=[(p.position.x, p.position.y, p.position.z) for p in poses],
                sizes=[list(map(float, segment.extent)) for _, _, segment in found],
                quaternions=[rr.Quaternion(xyzw=[getattr(p.orientation, axis) for axis in "xyzw"]) for p in poses],
                colors=[PALETTE[i % len(PALETTE)] for i, _, _ in found],
                labels=[match.text for _, match, _ in found],
            ),
        )


def cloud(message: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """(float32 [N, 3] metres, uint8 [N, 3] RGB or None where it has no colours) of a PointCloud2's finite points."""
    kinds = {field.name: (field.offset, field.datatype) for field in message.fields}
    order = ">" if message.is_bigendian else "<"
    names = [name for name in ("x", "y", "z", "rgb") if name in kinds]
    # colours are packed into 32 bits, whatever their declared type
    layout_of_a_point = np.dtype(
        {"names": names, "formats": [f"{order}u4" if n == "rgb" else f"{order}f4" for n in names],
         "offsets": [kinds[name][0] for name in names], "itemsize": message.point_step}
    )  # fmt: skip
    # rows may be padded
    rows = np.frombuffer(message.data, np.uint8).reshape(message.height, message.row_step)
    rows = np.ascontiguousarray(rows[:, : message.width * message.point_step])
    points = rows.view(layout_of_a_point).ravel()
    positions = np.stack([points[axis] for axis in "xyz"], axis=1).astype(np.float32)
    finite = np.isfinite(positions).all(axis=1)
    if "rgb" not in names:
        return positions[finite], None
    packed = points["rgb"][finite].astype(np.uint32)
    return positions[finite], np.stack([packed >> 16 & 255, packed >> 8 & 255, packed & 255], axis=1).astype(np.uint8)
