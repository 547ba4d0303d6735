"""A stand-in for Rerun that keeps what is logged; and messages to log, of rosbags' classes."""

from types import SimpleNamespace

import numpy as np

from esam_perception.contract import Counts, Messages
from esam_perception.recordings.bag_messages import bag_types
from esam_perception.types import Provenance, Timing


class StandIn:
    """The rerun module: whatever is made of it remembers its name and arguments."""

    class ViewCoordinates:
        RDF = "RDF"

    @property
    def blueprint(self):
        return self

    def __getattr__(self, name):
        def make(*arguments, **named):
            return SimpleNamespace(kind=name, arguments=arguments, **named)

        return make


class Recording:
    """A RecordingStream that keeps what is logged: (stamp, entity, what, static)."""

    def __init__(self):
        self.kept, self.stamp = [], None

    def set_time(self, timeline, *, timestamp):
        assert timeline == "stamp" and timestamp.dtype == "datetime64[ns]"
        self.stamp = int(timestamp.astype(np.int64))

    def log(self, entity, what, static=False):
        self.kept.append((self.stamp, "/".join(entity) if isinstance(entity, list) else entity, what, static))

    def of(self, entity):
        return [what for _, name, what, _ in self.kept if name == entity]


def array_of(stamp, *matches):
    messages = Messages(bag_types())
    return messages.match_array(matches, Timing(), messages.header(stamp, "cam"), Provenance("p", ""), Counts(1))
