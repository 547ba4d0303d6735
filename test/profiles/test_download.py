"""Files from a URL: what was interrupted goes on if it is still the same file, and begins anew if it is not."""

import hashlib
import zipfile

import numpy as np
import pytest
import yaml

from esam_perception.commands.dispatcher import main
from test.profiles.hub import LAST_MODIFIED, serving
from test.profiles.test_fetch import scores

ZIP = "sam.pt.zip"


@pytest.fixture
def hub(published):
    """The published files on loopback, EfficientSAM's as a zip."""
    _, files = published
    with zipfile.ZipFile(files / ZIP, "w") as archive:
        archive.write(files / "sam.pt", "sam.pt")
        archive.writestr("__MACOSX/._sam.pt", b"what Finder leaves in a zip")
    with serving(files) as served:
        yield served


@pytest.fixture
def profile(published, hub, home):
    """The profile with URLs for sources."""
    folder, _ = published
    content = yaml.safe_load((folder / "profile.yaml").read_text())
    files = {"vocab.txt": "vocab.txt", "blip.safetensors": "model.safetensors", "efficient_sam.safetensors": ZIP}
    content["sources"] = [{"target": target, "url": f"{hub.address}/{name}"} for target, name in files.items()]
    (folder / "profile.yaml").write_text(yaml.safe_dump(content))
    return folder


@pytest.fixture
def interrupted(profile, hub, home, capsys):
    """The profile after a first try that broke off in the middle of the zip."""
    hub.cut = {ZIP}
    assert main(["fetch", str(profile)]) == 1
    error = capsys.readouterr().err
    assert ZIP in error and "run the command again" in error
    assert not (home / "fetched_tiny" / "efficient_sam.safetensors").exists()
    return profile


@pytest.fixture
def part(interrupted, home):
    """What the first try left."""
    return home / "fetched_tiny" / "download" / f"{ZIP}.part"


def promise(profile, **fields):
    """State size or checksum of the zip."""
    content = yaml.safe_load((profile / "profile.yaml").read_text())
    content["sources"][2].update(fields)
    (profile / "profile.yaml").write_text(yaml.safe_dump(content))


@pytest.mark.parametrize("validator", ["ETag", "Last-Modified"])
def test_it_goes_on_where_it_stopped(profile, hub, home, published, tiny_profile, validator):
    hub.validator, hub.cut = validator, {ZIP}
    assert main(["fetch", str(profile)]) == 1
    assert main(["fetch", str(profile)]) == 0
    half = (published[1] / ZIP).stat().st_size // 2
    first, second = [(span, condition) for name, span, condition in hub.asked if name == ZIP]
    digest = hashlib.sha256((published[1] / ZIP).read_bytes()).hexdigest()
    wanted = {"ETag": f'"{digest}"', "Last-Modified": LAST_MODIFIED}[validator]
    assert first == (None, None) and second == (f"bytes={half}-", wanted)
    np.testing.assert_array_equal(scores(profile), scores(tiny_profile))
    assert not list((home / "fetched_tiny" / "download").iterdir())  # nothing is left lying about


def test_a_file_that_changed_meanwhile_is_fetched_anew(interrupted, hub, published, tiny_profile):
    """The two halves would be of different files."""
    with zipfile.ZipFile(published[1] / ZIP, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(published[1] / "sam.pt", "weights/sam.pt")
        archive.writestr("__MACOSX/more", b"x" * 100_000)
    assert main(["fetch", str(interrupted)]) == 0
    np.testing.assert_array_equal(scores(interrupted), scores(tiny_profile))


def test_without_a_validator_it_begins_anew(profile, hub, tiny_profile):
    hub.validator, hub.cut = "", {ZIP}
    assert main(["fetch", str(profile)]) == 1
    assert main(["fetch", str(profile)]) == 0
    assert hub.spans(ZIP) == [None, None]
    np.testing.assert_array_equal(scores(profile), scores(tiny_profile))


@pytest.mark.parametrize("promised", [{}, {"size": True}, {"sha256": True}])
def test_a_part_that_is_whole_already_is_taken(interrupted, part, hub, published, promised, tiny_profile):
    """The process ended between the last byte and the new name."""
    whole = (published[1] / ZIP).read_bytes()
    part.write_bytes(whole)
    facts = {"size": len(whole), "sha256": hashlib.sha256(whole).hexdigest()}
    promise(interrupted, **{name: facts[name] for name in promised})
    assert main(["fetch", str(interrupted)]) == 0
    assert hub.spans(ZIP) == [None, f"bytes={len(whole)}-"]
    np.testing.assert_array_equal(scores(interrupted), scores(tiny_profile))


@pytest.mark.parametrize("surplus, promised", [(b"", True), (b"more than there is", False)])
def test_a_part_that_is_not_the_file_is_fetched_anew_at_once(interrupted, part, hub, published, surplus, promised):
    """As long, or longer, but not it: by its checksum, or by its size."""
    whole = (published[1] / ZIP).read_bytes()
    part.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]) + surplus)
    if promised:
        promise(interrupted, sha256=hashlib.sha256(whole).hexdigest())
    assert main(["fetch", str(interrupted)]) == 0
    assert hub.spans(ZIP)[-1] is None


def test_a_damaged_note_beside_the_part_costs_a_new_beginning_alone(interrupted, part, hub):
    (note,) = [path for path in part.parent.iterdir() if path != part]
    note.write_text("{")
    assert main(["fetch", str(interrupted)]) == 0
    assert hub.spans(ZIP) == [None, None]


def test_an_answer_in_chunks_that_breaks_off_is_an_error_of_one_line(profile, hub, published, capsys):
    hub.chunked, hub.cut = {ZIP}, {ZIP}
    assert main(["fetch", str(profile)]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("esam fetch: ")]
    assert ZIP in line and "run the command again" in line
    assert main(["fetch", str(profile)]) == 0
    assert hub.spans(ZIP) == [None, f"bytes={(published[1] / ZIP).stat().st_size // 2}-"]


@pytest.mark.parametrize("place", ["ftp://127.0.0.1/weights.zip", "http://mirror.invalid/weights.zip"])
def test_no_redirect_leads_away_from_encryption(profile, hub, capsys, place):
    hub.moved = {ZIP: place}
    assert main(["fetch", str(profile)]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("esam fetch: ")]
    assert place in line and "https" in line


def test_what_cannot_be_written_is_not_blamed_on_the_network(interrupted, part, capsys):
    part.unlink()
    part.mkdir()
    assert main(["fetch", str(interrupted)]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("esam fetch: ")]
    assert str(part) in line and "network" not in line
