import pytest
import yaml

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from esam_perception.ros.node.parameters import PARAMETERS
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
        assert len(parameter.description) > 10 and parameter.descriptor().description == parameter.description
        if parameter.low is not None:
            assert parameter.low <= parameter.default <= parameter.high
        if parameter.choices:
            assert parameter.default in parameter.choices
