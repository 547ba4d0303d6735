"""What reads the code: the same versions everywhere, before the tests, and no error that is waved through unnamed."""

import re

import yaml

from test.places import ROOT
from test.test_house import own_python_files


def pins() -> dict[str, str]:
    text = (ROOT / "requirements-dev.txt").read_text(encoding="utf-8")
    return dict(re.findall(r"^([\w.-]+)==([\w.]+)", text, re.MULTILINE))


def test_pre_commit_has_the_versions_that_are_pinned():
    repos = {repo["repo"]: repo for repo in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]}
    assert repos["https://github.com/astral-sh/ruff-pre-commit"]["rev"] == "v" + pins()["ruff"]
    (mypy,) = repos["local"]["hooks"]
    # of the environment that requirements-dev.txt makes: its version is the pin
    assert mypy["entry"] == './esam shell -c "python -m mypy"' and "mypy" in pins()


def test_ci_reads_the_code_before_it_runs_the_tests():
    lines = [line for line in (ROOT / ".ci/run").read_text().splitlines() if "./esam" in line and line[0] != "#"]
    for tool in ("ruff check .", "ruff format --check .", "python -m mypy"):
        assert tool in lines[0] and lines[0].split("./esam")[1].startswith(" shell -c")
    assert lines[1] == "./esam test"  # the README's


def test_what_is_ignored_is_named():
    blanket = re.compile(r"#\s*(type:\s*ignore(?!\[)|noqa(?!:))")
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in own_python_files()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if blanket.search(line)
    ]
    assert not found
