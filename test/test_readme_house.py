"""The picture of the house in the README is the house: what is drawn is there, and every room is drawn."""

import re
from fnmatch import fnmatch

import pytest

from test.conftest import ROOT

PACKAGE = ROOT / "esam_perception"


def drawn(text: str) -> list[str]:
    """The paths of the picture, those of folders with a slash at their end. A line: its depth by four spaces, names, two
    spaces or more, what they are; a line without names goes on with the one before."""
    picture = next(block for block in re.findall(r"```\n(.+?)```", text, re.DOTALL) if "    matching/" in block)
    paths, parents = [], [""]
    for line in picture.splitlines():
        depth, beyond = divmod(len(line) - len(line.lstrip()), 4)
        if depth >= len(parents):
            continue
        assert not beyond, line
        names = re.split(r"\s{2,}", line.strip())[0].split()
        paths += [parents[depth] + name for name in names]
        parents = [*parents[: depth + 1], paths[-1]] if paths[-1].endswith("/") else parents[: depth + 1]
    return paths


@pytest.fixture(scope="module")
def paths() -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return drawn(text[text.index("## How it is built") :])


def test_the_reader_of_pictures():
    text = """```
esam            the command
msg/ .ci/run    both
p/
    a.py b.py   two files,
                and more of them
    matching/   a room
        in/     a smaller one
    c/          another
```"""
    assert drawn(text) == [
        "esam", "msg/", ".ci/run", "p/", "p/a.py", "p/b.py", "p/matching/", "p/matching/in/", "p/c/",
    ]  # fmt: skip


def test_what_is_drawn_is_there(paths):
    assert len(paths) == len(set(paths)) and len(paths) > 40
    # a container's copy of the repository lacks some
    left_out = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    for path in paths:
        found = ROOT / path
        if path.strip("/") in left_out and not found.exists():
            continue
        assert found.is_dir() if path.endswith("/") else found.is_file(), path


def test_every_room_and_every_file_at_the_top_of_the_package_is_drawn(paths):
    rooms = {f"{path.parent.relative_to(ROOT)}/" for path in PACKAGE.rglob("__init__.py")}
    files = {str(path.relative_to(ROOT)) for path in PACKAGE.glob("*.py") if path.name != "__init__.py"}
    assert not (rooms | files) - set(paths)


def test_every_folder_of_the_repository_is_drawn(paths):
    """But for those that tools make."""
    text = (ROOT / ".gitignore").read_text(encoding="utf-8")
    ignored = [line.strip("/") for line in text.splitlines()]
    folders = [path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")]
    kept = {f"{name}/" for name in folders if not any(fnmatch(name, pattern) for pattern in ignored)}
    assert kept <= set(paths)
