"""What the sources use of ROS is in docs/ros_api.md, there in every supported distribution, and in the installed one."""

import importlib
import importlib.util
import inspect

import pytest

from esam_perception.environment.distro import DISTROS
from test.conftest import ROOT
from test.ros.ros_names import foreign_private_members, used

TABLE = ROOT / "docs" / "ros_api.md"
KNOWN_BY = {"branch", "import", "rolling"}
SOURCES = [path for folder in ("esam_perception", "launch", "test") for path in sorted((ROOT / folder).rglob("*.py"))]


@pytest.fixture(scope="module")
def names():
    return used(SOURCES)


def rows() -> dict[str, tuple[set[str], dict[str, str]]]:
    """thing -> (its members and keywords, how it is known to be there by distribution)."""
    lines = [line.strip("| ").split("|") for line in TABLE.read_text().splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line] for line in lines]
    assert cells[0] == ["name", "members and (keywords)", *DISTROS] and set("".join(cells[1])) == {"-"}
    found = {cell[0]: (set(cell[1].split()), dict(zip(DISTROS, cell[2:]))) for cell in cells[2:]}
    assert len(found) == len(cells) - 2, "a name is there twice"
    return found


def test_every_name_that_is_used_is_in_the_table(names):
    table = rows()
    missing = [
        f"{path.relative_to(ROOT)}: {thing} {member}".rstrip()
        for thing, members in names.items()
        for member, path in members.items()
        if thing not in table or (member and member not in table[thing][0])
    ]
    assert not missing, (
        "used, but not in docs/ros_api.md: look each up on the branches humble, jazzy, kilted and lyrical of its "
        f"package, then add its row or member there (if one of the four lacks it, use something else): {missing}"
    )


def test_nothing_is_in_the_table_that_is_not_used(names):
    stale = [
        f"{thing} {member}".rstrip()
        for thing, (members, _) in rows().items()
        for member in members or {""}
        if member not in names.get(thing, {})
    ]
    assert not stale, f"used no more, take them out of docs/ros_api.md: {stale}"


def test_every_name_is_there_in_every_distribution():
    for thing, (_, known) in rows().items():
        assert list(known) == list(DISTROS) and set(known.values()) <= KNOWN_BY, f"{thing}: {known}"


def test_no_private_member_of_ros_is_used():
    """distro.py asks for its one by getattr, and goes on without."""
    inside = [path for path in SOURCES if path.is_relative_to(ROOT / "esam_perception" / "ros")]
    assert foreign_private_members(inside) == set()


def has_keyword(made, keyword: str) -> bool:
    """Whether a function or class takes that keyword, as far as Python tells."""
    fields = getattr(made, "get_fields_and_field_types", None)
    if fields is not None:
        return keyword in fields()
    try:
        parameters = inspect.signature(made).parameters
    except ValueError:
        return True  # of an extension module
    return keyword in parameters or any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())


def is_installed(root: str) -> bool:
    spec = importlib.util.find_spec(root)
    return spec is not None and spec.origin is not None  # without an origin: a mere folder, as our own launch/


def test_the_installed_ros_has_them():
    """All of the packages that are there: PyPI's wheels have no launch, no tf2_ros."""
    pytest.importorskip("rclpy", reason="ROS 2 is not installed")
    for thing, (members, _) in rows().items():
        module, _, name = thing.rpartition(".")
        if not is_installed(module.split(".")[0]):
            continue
        made = getattr(importlib.import_module(module), name)
        for member in members:
            path, _, keyword = member.rstrip(")").partition("(")
            found = made
            for part in filter(None, path.split(".")):
                # what __init__ sets is found in the class' own text alone
                there = hasattr(found, part) or (
                    inspect.isclass(found) and f"self.{part} =" in inspect.getsource(found)
                )
                assert there, f"{thing}.{path}"
                found = getattr(found, part, None)
            assert not keyword or has_keyword(found, keyword), f"{thing}.{member}"
