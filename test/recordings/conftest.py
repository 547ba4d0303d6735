"""A small recording and its queries."""

import numpy as np
import pytest

from test.recordings.replaying import QUERY_FILE


@pytest.fixture(scope="module")
def frames(clip):
    """Four frames of the clip, made small: what is tested is not the networks."""
    return [np.ascontiguousarray(seen.image[::4, ::4]) for seen in clip[:4]]


@pytest.fixture(scope="module")
def queries(tmp_path_factory):
    path = tmp_path_factory.mktemp("queries") / "queries.yaml"
    path.write_text(QUERY_FILE)
    return path


@pytest.fixture(scope="module")
def bag(tmp_path_factory, frames):
    from test.recordings.bag_maker import START, STEP, image, write_bag  # it needs rosbags

    messages = [image(pixels, stamp=START + i * STEP, padding=5 * (i % 2)) for i, pixels in enumerate(frames)]
    return write_bag(tmp_path_factory.mktemp("bags") / "drive", {"/camera/image_raw": messages})
