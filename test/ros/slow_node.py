"""The real node, whose model is loaded as slowly as a test wants: it first reads a named pipe, outside of Python, to its end."""

import os
from pathlib import Path

from esam_perception.pipeline.pipeline import Pipeline
from esam_perception.ros import node

PIPE = "ESAM_TEST_PIPE"  # the environment variable that names it
from_profile = Pipeline.from_profile


def from_slow_profile(*args, **kwargs):
    Path(os.environ[PIPE]).read_bytes()
    return from_profile(*args, **kwargs)


def main() -> int:
    Pipeline.from_profile = from_slow_profile
    return node.main()
