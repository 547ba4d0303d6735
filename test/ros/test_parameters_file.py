"""A parameters file reaches the node in whatever namespace it is: rclpy's own reading of it."""

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

import rclpy
from rclpy.context import Context
from rclpy.node import Node

from esam_perception.environment.processes import ros_arguments
from test.conftest import ROOT


@pytest.fixture
def read(domain_id):
    """A function of a file and a namespace to the parameters that a node `esam` there is given."""

    def read(file, namespace):
        context = Context()
        rclpy.init(
            args=[*ros_arguments({}, namespace), "--params-file", str(file)], context=context, domain_id=domain_id
        )
        try:
            node = Node("esam", context=context)
            given = {name: node.declare_parameter(name, "default").value for name in ("model", "queries")}
            node.destroy_node()
            return given
        finally:
            context.shutdown()

    return read


@pytest.mark.parametrize("namespace", ["", "/robot", "/robot/front"])
def test_the_installed_file_and_copies_of_it_apply_in_any_namespace(read, tmp_path, namespace):
    text = (ROOT / "config" / "esam.yaml").read_text()
    mine = tmp_path / "mine.yaml"
    mine.write_text(text.replace("model: auto", "model: tabletop").replace('queries: ""', "queries: the red mug"))
    assert read(mine, namespace) == {"model": "tabletop", "queries": "the red mug"}


def test_a_key_of_the_nodes_name_alone_does_not(read, tmp_path):
    """Why the installed file has another."""
    mine = tmp_path / "mine.yaml"
    mine.write_text("esam:\n  ros__parameters: {model: tabletop}\n")
    assert read(mine, "")["model"] == "tabletop" and read(mine, "/robot")["model"] == "default"
