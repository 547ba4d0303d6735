"""Bags of both storages; damaged, empty and ambiguous ones, each said in one line."""

import sqlite3
from contextlib import closing

import numpy as np
import pytest

pytest.importorskip("rosbags", reason="rosbags is not installed")

from rosbags.rosbag2 import StoragePlugin

from esam_perception.commands.dispatcher import main
from esam_perception.recordings.bags import BagError, image_connections, open_bag, raw_messages
from test.recordings.bag_maker import header, image, write_bag
from test.recordings.replaying import files_of, replay


@pytest.mark.parametrize("storage", list(StoragePlugin), ids=lambda s: s.name)
def test_files_and_folders_of_both_storages(tiny_profile, queries, frames, tmp_path, storage):
    folder = write_bag(tmp_path / "in", {"/front": [image(frames[0])]}, storage)
    file = next(path for path in folder.iterdir() if path.suffix in (".mcap", ".db3"))
    for name, given in {"folder": folder, "file": file}.items():
        assert replay(tiny_profile, queries, tmp_path / name, given) == 0
    assert files_of(tmp_path / "folder")["summary.csv"].replace(b"in,", b"") == files_of(tmp_path / "file")[
        "summary.csv"
    ].replace(f"{file.name},".encode(), b"")


def truncated(bag, path):
    data = next(bag.glob("*.mcap")).read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return path


def bad_inputs(tmp_path, bag, frames):
    """name -> (bag, more arguments, what the line must say)"""
    text = tmp_path / "notes.mcap"
    text.write_text("hello")
    other = tmp_path / "photo.jpg"
    other.write_text("hello")
    plain = tmp_path / "plain"
    plain.mkdir()
    old = tmp_path / "old.bag"
    old.write_text("x")
    database = tmp_path / "cut.db3"
    database.write_bytes(b"SQLite format 3\0" + bytes(20))
    strings = {"/a": [image(frames[0])], "/b": [image(frames[0])]}
    return {
        "missing": (tmp_path / "nowhere", (), "no such file"),
        "text": (text, (), "cannot be read"),
        "jpeg": (other, (), "is not a bag"),
        "no metadata": (plain, (), "ros2 bag reindex"),
        "ros 1": (old, (), "rosbags-convert"),
        "truncated": (truncated(bag, tmp_path / "cut.mcap"), (), "mcap recover"),
        "truncated database": (database, (), ".recover"),
        "empty": (write_bag(tmp_path / "empty", {}), (), "holds no messages"),
        "empty topic": (write_bag(tmp_path / "silent", {"/a": [], "/h": [header(1)]}), (), "/a holds no messages"),
        "no images": (write_bag(tmp_path / "headers", {"/h": [header(1)]}), (), "no image topic"),
        "two topics": (write_bag(tmp_path / "two", strings), (), "--image-topic: /a, /b"),
        "wrong topic": (bag, ("--image-topic", "/x"), "can be: /camera/image_raw"),
        "no model": (bag, ("--model", "nothing"), "nothing"),
    }


def test_bad_bags_are_one_line_each(tiny_profile, queries, bag, frames, tmp_path, capsys):
    for name, (given, more, said) in bad_inputs(tmp_path, bag, frames).items():
        arguments = [
            "replay",
            given,
            "--queries",
            queries,
            "--model",
            tiny_profile,
            *more,
            "--output",
            tmp_path / "out",
        ]
        code = main(list(map(str, arguments)))
        error = capsys.readouterr().err.strip().splitlines()
        assert code == 2 and len(error) == 1, (name, error)
        assert error[0].startswith("esam replay: ") and said in error[0], (name, error)
        assert not (tmp_path / "out").exists(), name


@pytest.mark.parametrize("storage", list(StoragePlugin), ids=lambda s: s.name)
def test_no_damage_brings_it_down(storage, frames, tmp_path):
    """Whatever bytes are wrong, a bag is read, or refused with a BagError."""
    small = [image(np.ascontiguousarray(pixels[:8, :8])) for pixels in frames]
    folder = write_bag(tmp_path / "in", {"/front": small}, storage, compress=storage is StoragePlugin.MCAP)
    data = next(path for path in folder.iterdir() if path.suffix != ".yaml").read_bytes()
    suffix = ".mcap" if storage is StoragePlugin.MCAP else ".db3"
    damaged, rng, refused = tmp_path / f"damaged{suffix}", np.random.default_rng(3), 0
    for _ in range(150):
        wrong = bytearray(data)
        for position in rng.integers(0, len(data), rng.choice([1, 5, 40])):
            wrong[position] = rng.integers(0, 256)
        damaged.write_bytes(wrong)
        try:
            with open_bag(damaged) as reader:
                list(raw_messages(reader, image_connections(reader, damaged, None), damaged))
        except BagError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused


def test_one_of_two_topics_can_be_chosen(tiny_profile, queries, frames, tmp_path):
    bag = write_bag(tmp_path / "two", {"/a": [image(frames[0])], "/b": [image(frames[1]), image(frames[2])]})
    assert replay(tiny_profile, queries, tmp_path / "out", bag, "--image-topic", "/b") == 0
    assert "2 of 2 frames of /b" in (tmp_path / "out" / "summary.md").read_text()


def test_a_bag_that_breaks_on_the_way_fails_alone(tiny_profile, queries, bag, frames, tmp_path, capsys):
    """Its index is whole, its data are not: seen only when they are read. The other bag is replayed."""
    broken = tmp_path / "broken.db3"
    rng = np.random.default_rng(0)
    folder = write_bag(tmp_path / "in", {"/front": [image(rng.permutation(f)) for f in frames]}, StoragePlugin.SQLITE3)
    data = bytearray(next(folder.glob("*.db3")).read_bytes())
    data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    broken.write_bytes(data)
    code = replay(tiny_profile, queries, tmp_path / "out", broken, bag)
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert code == 1 and "broken.db3: FAILED" in error and ".recover" in error
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["drive_matches", "summary.csv", "summary.md"]


def test_a_time_that_no_bag_can_hold_costs_its_frame_alone(tiny_profile, queries, frames, tmp_path):
    """Out of a database anything can come."""
    folder = write_bag(tmp_path / "in", {"/front": [image(pixels) for pixels in frames]}, StoragePlugin.SQLITE3)
    file = next(folder.glob("*.db3"))
    with closing(sqlite3.connect(file)) as database:
        database.execute("UPDATE messages SET timestamp = -5 WHERE id = 2")
        database.commit()
    assert replay(tiny_profile, queries, tmp_path / "out", file) == 0
    summary = (tmp_path / "out" / "summary.md").read_text()
    assert "3 of 4 frames" in summary and "1 refused: bad_time (the first: recorded at -5 ns)" in summary
