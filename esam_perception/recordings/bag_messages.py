"""The messages of the contract for bags, without ROS: rosbags' classes, and their CDR bytes.

What messages.py takes as `types`. rosbags' own classes have no defaults and want numpy arrays; here a message starts
with ROS' defaults, takes what messages.py gives a ROS message, and is converted when it is written.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.interfaces import Nodetype
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from esam_perception.environment.installed import PACKAGE, candidates, installed
from esam_perception.errors import EsamError

OURS = ("Match", "MatchArray", "Query", "QueryArray", "Segment", "Timing")
_OF_ROS = {
    "Time": "builtin_interfaces/msg/Time",
    "Header": "std_msgs/msg/Header",
    "Point32": "geometry_msgs/msg/Point32",
    "Image": "sensor_msgs/msg/Image",
    "CompressedImage": "sensor_msgs/msg/CompressedImage",
}


class MissingInterfaces(EsamError):
    """The package's .msg files are not where they are installed."""


def interface_folder() -> Path:
    """The folder of the package's .msg files. Raises MissingInterfaces."""
    found = installed("msg/MatchArray.msg")
    if found is None:
        looked = ", ".join(str(path.parent) for path in candidates("msg/MatchArray.msg")[:2])
        raise MissingInterfaces(f"the package's .msg files are not installed (looked in {looked} and above): "
                                "install the package again, or use ./esam in a clone of the repository")  # fmt: skip
    return found.parent


class BagTypes:
    """The message classes by their short names (`types.Match(text="a mug")`), as attributes."""

    def __init__(self) -> None:
        # the standard messages; sensor_msgs/Image and its parts are the same in every distribution
        self.store = get_typestore(Stores.ROS2_HUMBLE)
        folder = interface_folder()
        ours = {}
        for name in OURS:
            text = (folder / f"{name}.msg").read_text(encoding="utf-8")
            ours.update(get_types_from_msg(text, f"{PACKAGE}/msg/{name}"))
        self.store.register(ours)

    def full_name(self, name: str) -> str:
        """`MatchArray` -> `esam_perception/msg/MatchArray`."""
        return f"{PACKAGE}/msg/{name}" if name in OURS else _OF_ROS[name]

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in OURS and name not in _OF_ROS:
            raise AttributeError(name)
        return functools.partial(self._make, self.full_name(name))

    def serialize(self, message: Any, name: str) -> memoryview:
        """CDR of a message: of this class' types, or any object with the same fields."""
        full_name = self.full_name(name)
        return self.store.serialize_cdr(self._converted(message, full_name), full_name)

    def _make(self, full_name: str, **given: Any) -> Any:
        fields = dict(self.store.fielddefs[full_name][1])
        if unknown := set(given) - set(fields):
            raise TypeError(f"{full_name} has no field {', '.join(sorted(unknown))}")
        values = {name: given[name] if name in given else self._default(kind) for name, kind in fields.items()}
        if full_name == "geometry_msgs/msg/Quaternion" and "w" not in given:
            values["w"] = 1.0  # the one default in the contract's messages that is not zero; rosbags keeps none
        return self.store.types[full_name](**values)

    def _default(self, kind: Any) -> Any:
        node, detail = kind
        if node == Nodetype.NAME:
            return self._make(detail)
        if node == Nodetype.BASE:
            return {"string": "", "bool": False}.get(detail[0], 0)
        (inner, what), length = detail
        if node == Nodetype.ARRAY and inner == Nodetype.NAME:
            return [self._make(what) for _ in range(length)]
        return [] if node == Nodetype.SEQUENCE else [0] * length

    def _converted(self, message: Any, full_name: str) -> Any:
        """The message in rosbags' classes, its arrays of numbers in numpy's."""
        fields = self.store.fielddefs[full_name][1]
        return self.store.types[full_name](**{name: self._value(getattr(message, name), kind) for name, kind in fields})

    def _value(self, value: Any, kind: Any) -> Any:
        node, detail = kind
        if node == Nodetype.NAME:
            return self._converted(value, detail)
        if node == Nodetype.BASE:
            return value
        (inner, what), _ = detail
        if inner == Nodetype.NAME:
            return [self._converted(item, what) for item in value]
        if what[0] == "string":
            return list(value)
        dtype = {"byte": "uint8", "char": "uint8"}.get(what[0], what[0])
        # bytes and array.array have the numbers ready; only a list must be read one by one
        return np.asarray(value, dtype) if isinstance(value, (list, tuple)) else np.frombuffer(value, dtype)


@functools.cache
def bag_types() -> BagTypes:
    """The one of this process."""
    return BagTypes()
