"""What `from esam_perception import ...` gives, and what it costs."""

import ast
import dataclasses
import importlib
import os
import subprocess
import sys

import pytest

import esam_perception
from test.conftest import ROOT

NAMES = esam_perception.__all__
HEAVY = ("torch", "cv2", "rclpy", "transformers", "mujoco", "yaml", "numpy")


def fresh(code: str) -> str:
    """What a new interpreter prints."""
    return subprocess.check_output([sys.executable, "-c", code], text=True, cwd=ROOT).strip()


def test_importing_costs_nothing_and_a_name_costs_what_it_needs():
    loaded = f"print([m for m in {HEAVY} if m in sys.modules])"
    assert fresh(f"import sys, esam_perception; dir(esam_perception); {loaded}") == "[]"
    light = "Frame, Query, Match, Segment, Verdict, Intrinsics, Timing, Located, Target3D, Provenance, EsamError"
    assert fresh(f"import sys; from esam_perception import {light}; {loaded}") == "['numpy']"
    assert fresh("import sys; from esam_perception import load_profile; print('torch' in sys.modules)") == "False"
    assert (
        fresh("from esam_perception import Pipeline; print(Pipeline.__module__)") == "esam_perception.pipeline.pipeline"
    )


def test_types_that_hold_arrays_are_equal_to_themselves_alone():
    """`==` of two of them would raise, as arrays have no one answer."""
    with_arrays = set()
    for name in NAMES:
        value = getattr(esam_perception, name)
        if dataclasses.is_dataclass(value):
            arrays = any(
                "ndarray" in str(f.type) or "Tensor" in str(f.type) or "Match" in str(f.type)
                for f in dataclasses.fields(value)
            )
            assert value.__dataclass_params__.frozen and value.__dataclass_params__.eq is not arrays, name
            with_arrays |= {name} if arrays else set()
    assert with_arrays >= {"Frame", "Target3D", "Segment", "Match", "Located", "EncodedImage", "WordMap"}


LOADS = "from esam_perception import Pipeline; p = Pipeline.from_profile('auto', 'cpu'); print(p.provenance.notes)"


@pytest.mark.parametrize(
    "set_up, lines", [("", 0), ("import logging; logging.basicConfig(format='%(name)s|%(message)s'); ", 1)]
)
def test_the_library_says_nothing_unless_logging_is_set_up(tmp_path, set_up, lines):
    """Under `auto` without blip_base there is something to say; it stays in the provenance in any case."""
    environment = {**os.environ, "ESAM_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", set_up + LOADS], env=environment, cwd=ROOT, capture_output=True, text=True, check=True
    )
    said = [line for line in done.stderr.splitlines() if "blip_base" in line]
    assert len(said) == lines and "esam fetch blip_base" in done.stdout
    assert all(line.startswith("esam_perception.pipeline.pipeline|model 'auto'") for line in said)
    assert lines or not done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_there_once_and_stays_the_same_object(name):
    value = getattr(esam_perception, name)
    assert value is getattr(esam_perception, name) and name in dir(esam_perception)
    if name != "__version__":
        assert value is getattr(importlib.import_module(value.__module__), name)  # defined there, not a copy
        assert value.__doc__


def test_the_promised_names_are_there():
    promised = "Pipeline Query Match Segment Verdict Intrinsics Frame Timing Located Target3D EsamError ProfileError"
    assert set(promised.split()) < set(NAMES) and NAMES == sorted(NAMES, key=lambda name: (not name[0].isupper(), name))


def test_what_checkers_read_is_what_is_given():
    """The imports under TYPE_CHECKING and the lazy ones name the same things in the same modules."""
    tree = ast.parse((ROOT / "esam_perception" / "__init__.py").read_text(encoding="utf-8"))
    (guarded,) = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    told = {alias.name: node.module for node in guarded.body for alias in node.names}
    assert told == esam_perception._HOMES and {*told, "__version__"} == set(NAMES)


def test_another_name_is_an_attribute_error_that_names_it_and_submodules_are_still_found():
    with pytest.raises(AttributeError, match="esam_perception.*'Pipelin'"):
        esam_perception.Pipelin  # noqa: B018
    with pytest.raises(ImportError, match="Pipelin"):
        exec("from esam_perception import Pipelin")
    assert fresh("from esam_perception import types; print(types.__name__)") == "esam_perception.types"


def test_types_are_marked_as_shipped(tmp_path):
    """pip takes package_data, CMake the whole folder."""
    command = [sys.executable, "setup.py", "--quiet", "build_py", "--build-lib", str(tmp_path / "lib")]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True, timeout=120)
    assert (tmp_path / "lib" / "esam_perception" / "py.typed").is_file()
    cmake = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    assert "install(DIRECTORY ${PROJECT_NAME}/" in cmake


def test_the_readmes_example_runs(capsys):
    """As it stands there, on a picture of noise."""
    import numpy as np

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    code = text.split("## From Python", 1)[1].split("```python\n", 1)[1].split("```", 1)[0]
    assert "from esam_perception import" in code
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    given: dict = {"image": image}
    exec(code, given)
    printed = capsys.readouterr().out.splitlines()
    assert [line.startswith(text) for line, text in zip(printed, ("the red mug ", "a banana "))] == [True, True]
    assert "no words" in printed[2] and given["matches"][0].query.text == "the red mug" and len(given["words"]) == 3
