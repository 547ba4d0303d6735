import pytest
import yaml

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from hypothesis import given
from hypothesis import strategies as st

from esam_perception.ros.node.parameters import PARAMETERS, Applies, BadParameter, Settings
from test.conftest import ROOT


def test_the_yaml_file_and_the_declarations_agree():
    text = (ROOT / "config" / "esam.yaml").read_text()
    values = yaml.safe_load(text)["/**"]["ros__parameters"]
    assert values == {p.name: p.default for p in PARAMETERS}
    assert {name: type(value) for name, value in values.items()} == {p.name: type(p.default) for p in PARAMETERS}
    lines = text.splitlines()
    for i, line in enumerate(lines):
        if line.startswith("    ") and not line.strip().startswith("#"):
            assert lines[i - 1].strip().startswith("#"), f"no comment above: {line.strip()}"


def test_every_parameter_is_described_and_its_default_in_range():
    for parameter in PARAMETERS:
        assert len(parameter.description) > 10 and parameter.descriptor().description.startswith(parameter.description)
        if parameter.low is not None:
            assert parameter.low <= parameter.default <= parameter.high
        if parameter.choices:
            assert parameter.default in parameter.choices


def test_the_yaml_file_says_when_each_applies():
    said = {Applies.AT_ONCE: "[at once]", Applies.ACTIVATE: "[next activation]", Applies.CONFIGURE: "[next configure]", Applies.START: "[start]"}  # fmt: skip
    lines = (ROOT / "config" / "esam.yaml").read_text().splitlines()
    for parameter in PARAMETERS:
        (i,) = [i for i, line in enumerate(lines) if line.startswith(f"    {parameter.name}:")]
        assert lines[i - 1].endswith(said[parameter.applies]), parameter.name
        assert parameter.descriptor().description.endswith(parameter.applies.value)


@given(
    st.sampled_from(PARAMETERS),
    st.one_of(st.booleans(), st.integers(), st.floats(), st.text(), st.none(), st.lists(st.integers())),
)
def test_what_is_taken_is_of_the_parameters_own_type_and_range(parameter, value):
    try:
        taken = Settings().changed({parameter.name: value})
    except BadParameter as error:
        assert parameter.name in str(error)
        return
    got = getattr(taken, parameter.name)
    assert type(got) is type(parameter.default) and got == value
    assert parameter.low is None or parameter.low <= got <= parameter.high
    assert not parameter.choices or got in parameter.choices


def test_whole_numbers_are_taken_for_doubles_and_nothing_else_is():
    assert Settings().changed({"match_threshold": 1}).match_threshold == 1.0
    for name, value in (("match_threshold", True), ("jpeg_quality", 85.0), ("image", 3), ("segment_always", 1)):
        with pytest.raises(BadParameter, match="wrong type"):
            Settings().changed({name: value})
    with pytest.raises(BadParameter, match="out of range"):
        Settings().changed({"hysteresis": float("nan")})
