"""What all tests share."""

import os

# two threads on two contended cores are slower than one; before torch is imported
os.environ.setdefault("OMP_NUM_THREADS", "1")

import shutil
from pathlib import Path

import pytest

from esam_perception.environment.distro import transport_environment
from test.places import GOLDENS, ROOT

# Fast DDS reads its profile once per process, with the first participant, whichever test makes it; without it images get
# lost.
os.environ.update(transport_environment(ROOT / "config" / "fastdds.xml"))


def pytest_configure(config) -> None:
    from test.allowed_skips import ALLOWED
    from test.cpu_time import CpuTime
    from test.skip_guard import SkipGuard

    config.pluginmanager.register(SkipGuard(ALLOWED))
    config.pluginmanager.register(CpuTime())


@pytest.fixture(scope="session")
def goldens() -> Path:
    """The folder of the reference outputs."""
    if not GOLDENS.is_dir():
        pytest.skip(f"the goldens are not at hand ({GOLDENS}); set ESAM_GOLDENS to their folder")
    return GOLDENS


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items) -> None:
    from test.numerics.order import by_case

    by_case(items)


@pytest.fixture(scope="session")
def golden_weights(goldens, tmp_path_factory):
    """The deterministic weights of the goldens: a function of a folder and a name to a state dict. The files (1.3 GB) go
    when the session ends; the children of test_instruction_sets.py are given theirs."""
    from test.numerics.weights import GoldenWeights

    given = os.environ.get("ESAM_GOLDEN_WEIGHTS")
    files = Path(given) if given else tmp_path_factory.mktemp("golden_weights")
    yield GoldenWeights(goldens, files)
    if not given:
        shutil.rmtree(files)


@pytest.fixture(scope="session")
def tiny_profile(tmp_path_factory) -> Path:
    """The directory of a profile with tiny random networks: right in shape, meaningless in content."""
    from test.tiny import write_tiny_profile

    return write_tiny_profile(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def clip():
    """The recorded clip's frames."""
    from esam_perception.tabletop.clip import load_clip

    return load_clip()


@pytest.fixture(scope="session")
def tabletop():
    """The renderer at the usual size; skips where there is no off-screen GL."""
    from esam_perception.tabletop import OffscreenGLError, Tabletop

    try:
        table = Tabletop(320, 240)
    except OffscreenGLError as error:
        pytest.skip(str(error))
    yield table
    table.close()
