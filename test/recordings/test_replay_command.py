"""`esam replay` on the command line: what it takes, and what it never writes over."""

import pytest

pytest.importorskip("rosbags", reason="rosbags is not installed")

from esam_perception.commands.dispatcher import main
from test.recordings.bag_maker import image, write_bag
from test.recordings.replaying import files_of, replay


def test_what_is_there_is_kept_unless_forced(tiny_profile, queries, bag, frames, tmp_path, capsys):
    out = tmp_path / "out"
    assert replay(tiny_profile, queries, out, bag) == 0
    before = files_of(out)
    assert replay(tiny_profile, queries, out, bag) == 2
    assert "--force" in capsys.readouterr().err and files_of(out) == before
    assert replay(tiny_profile, queries, out, bag, "--every", 2, "--force") == 0
    assert files_of(out) != before
    # never what is no result of a replay, and never a bag that is being read
    other = write_bag(out / "x", {"/front": [image(frames[0])]})
    (out / "x_matches").mkdir()
    (out / "x_matches" / "thesis.txt").write_text("precious")
    assert replay(tiny_profile, queries, out, other, "--force") == 2
    assert (out / "x_matches" / "thesis.txt").exists()
    write_bag(out / "y_matches", {"/front": [image(frames[0])]})
    y = write_bag(out / "y", {"/front": [image(frames[0])]})
    assert replay(tiny_profile, queries, out, y, out / "y_matches", "--force") == 2
    assert "is to be read" in capsys.readouterr().err and (out / "y_matches" / "metadata.yaml").exists()


@pytest.mark.parametrize("arguments", [("--every", "0"), ("--jobs", "0"), ("--every", "x")])
def test_wrong_numbers_are_usage_errors(arguments, queries, bag, capsys):
    with pytest.raises(SystemExit) as end:
        main(["replay", str(bag), "--queries", str(queries), *arguments])
    assert end.value.code == 2
