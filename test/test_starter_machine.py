"""A machine that lacks something: one line of the real `./esam` that names what mends it."""

import os
import sys

import pytest

from test.starters import copy_starter, load_starter, run_starter

ARM = "platform.machine = lambda: 'aarch64'"
OLD_GLIBC = "platform.libc_ver = lambda: ('glibc', '2.17')"
MUSL = "platform.libc_ver = lambda: ('', '')"


@pytest.fixture
def checkout(tmp_path):
    (tmp_path / "checkout").mkdir()
    return copy_starter(tmp_path / "checkout")


@pytest.fixture
def compilers(tmp_path):
    """A PATH on which there are compilers and nothing else."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("cc", "c++"):
        (folder / name).touch(0o755)
    return folder


def stub_python(folder, answer: str):
    """A Python that answers the starter's question about itself with that."""
    python = folder / "python3"
    python.write_text(f"#!/bin/sh\necho '{answer}'\n")
    python.chmod(0o755)
    return python


@pytest.mark.parametrize("change, here", [(ARM, "aarch64"), (OLD_GLIBC, "glibc 2.17"), (MUSL, "Linux x86_64")])
@pytest.mark.parametrize("ros", ["", "kilted"])
def test_no_wheels_and_no_ros(checkout, change, here, ros):
    (told,) = run_starter(checkout, "setup", change=change, ESAM_ROS=ros)
    assert "x86-64 Linux with glibc >= 2.28 alone" in told and here in told
    assert "source /opt/ros/" in told or "docker/" in told
    assert "without ROS: pip install ." in told and not (checkout / ".venv").exists()


def test_no_compiler(checkout, tmp_path):
    (told,) = run_starter(checkout, "setup", PATH=str(tmp_path), CC="", CXX="")
    assert told == "esam: a C++ compiler is missing: sudo apt-get install -y g++"


@pytest.mark.parametrize(
    "answer, told",
    [
        ('{"version": [3, 8], "headers": true, "venv": true}', "Python 3.10 to 3.14 is needed"),
        ('{"version": [3, 15], "headers": true, "venv": true}', "Python 3.10 to 3.14 is needed"),
        ('{"version": [3, 12], "headers": true, "venv": false}', "sudo apt-get install -y python3.12-venv"),
        ('{"version": [3, 12], "headers": false, "venv": true}', "sudo apt-get install -y python3.12-dev"),
        ("nonsense", "does not run"),
    ],
)
def test_no_python_that_can_carry_it(checkout, compilers, answer, told):
    python = stub_python(compilers, answer)
    lines = run_starter(checkout, "setup", change=f"sys.executable = {str(python)!r}", PATH=str(compilers))
    assert len(lines) == 1 and told in lines[0]


@pytest.mark.parametrize("minor", [10, 14])
def test_a_python_that_can_carry_it(tmp_path, minor):
    python = stub_python(tmp_path, f'{{"version": [3, {minor}], "headers": true, "venv": true}}')
    assert load_starter(tmp_path).what_python_lacks(str(python)) == ""


def test_too_little_disk(checkout, compilers):
    change = "shutil.disk_usage = lambda path: shutil._ntuple_diskusage(9e9, 7.5e9, 1.5e9)"
    (told,) = run_starter(checkout, "setup", change=change, PATH=str(compilers))
    assert told == f"esam: 1.5 GB are free in {checkout}, 4 are needed: free some, or clone onto another disk"


def test_a_folder_that_cannot_be_written_to(checkout, compilers):
    change = "os.access = lambda path, mode: mode != os.W_OK"
    (told,) = run_starter(checkout, "setup", change=change, PATH=str(compilers))
    assert f"{checkout} cannot be written to: clone into a folder of your own" in told


@pytest.mark.parametrize(
    "number, told",
    [(28, "is full, 4 GB are needed: free some"), (122, "is full"), (30, "clone into a folder of your own")],
)
def test_a_disk_that_gets_full_or_read_only_under_the_starter(checkout, number, told):
    change = f"os.mkdir = lambda *_, **__: (_ for _ in ()).throw(OSError({number}, 'broken', '/there'))"
    *_, last = lines = run_starter(checkout, "setup", change=change)
    assert "/there" in last and told in last and not any("Traceback" in line for line in lines)


@pytest.fixture
def setup(tmp_path):
    made = load_starter(tmp_path).WheelsSetup("jazzy")
    made.stamps.mkdir(parents=True)
    made.python = sys.executable
    return made


def last_words(setup, capsys, command) -> str:
    with pytest.raises(SystemExit) as end:
        setup.call(command, "installing torch")
    assert end.value.code == 1
    (told,) = capsys.readouterr().err.splitlines()
    return told


def test_a_disk_that_gets_full_under_pip_or_the_compiler(setup, capsys):
    # the kernel's own error, as a child meets it
    told = last_words(setup, capsys, [sys.executable, "-c", "open('/dev/full', 'w').write('x' * 99999)"])
    assert "installing torch failed: the disk of " in told and "ran full" in told and "are needed): free some" in told


def test_a_disk_so_full_that_the_log_lacks_its_end(setup, capsys, monkeypatch):
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(9e9, 9e9, 1e6))
    told = last_words(setup, capsys, [sys.executable, "-c", "raise SystemExit(2)"])
    assert f"the disk of {setup.venv.parent} ran full (0.0 GB are free now, 4 are needed)" in told


@pytest.mark.parametrize(
    "retries, reason", [("1", "Connection refused"), ("0", "it finds nothing by the name a-package")]
)
def test_no_network(setup, capsys, monkeypatch, retries, reason):
    pytest.importorskip("pip", reason="pip is not installed")
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_RETRIES", retries)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # the port that discards: nobody listens
    told = last_words(setup, capsys, setup.pip("download", "--no-deps", "-d", str(setup.stamps), "a-package"))
    assert f"pip cannot reach its package index ({reason}): mend the network" in told and "https_proxy" in told


def test_any_other_failure_shows_its_last_lines(setup, capsys):
    with pytest.raises(SystemExit):
        setup.call([sys.executable, "-c", "print('Connection reset by peer, once'); raise SystemExit(3)"], "trying")
    assert "trying failed (exit code 3); the whole log: " in capsys.readouterr().err
