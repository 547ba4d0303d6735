"""A profile that somebody else wrote names nothing outside its directory and its cache, and fetches over https alone."""

import shutil
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from esam_perception.commands.dispatcher import main
from esam_perception.pipeline.pipeline import Pipeline
from esam_perception.profiles.schema import FetchSource, ProfileError, WeightsFile

OUTSIDE = ("../../escaped.txt", "/tmp/escaped.txt", "..", ".", "", "a/b", "a\\b", "line\nbreak", "nul\0")


def edit(folder, change):
    path = folder / "profile.yaml"
    content = yaml.safe_load(path.read_text())
    change(content)
    path.write_text(yaml.safe_dump(content))


def everything(folder):
    return set(folder.rglob("*"))


def refused(published, home, tmp_path, capsys, change, *said):
    """`esam fetch` says so in one line, and writes nothing."""
    profile, files = published
    edit(profile, change)
    before = everything(tmp_path)
    for options in (["--from", str(files)], []):
        assert main(["fetch", str(profile), *options]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert "profile.yaml" in line and all(word in line for word in said), line
    assert everything(tmp_path) == before


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_name_that_is_a_path_is_refused(published, home, tmp_path, capsys, name):
    refused(published, home, tmp_path, capsys, lambda c: c.update(name=name), "name")


@pytest.mark.parametrize("name", [*OUTSIDE, "other.safetensors", "profile.yaml", "fetched.json", "download"])
def test_a_target_that_is_not_a_file_of_the_profile_is_refused(published, home, tmp_path, capsys, name):
    def change(content):
        content["sources"][0].update(target=name)

    refused(published, home, tmp_path, capsys, change, "target")


@pytest.mark.parametrize("name", ["profile.yaml", "fetched.json", "download"])
def test_a_file_of_ours_is_no_file_of_weights(published, home, tmp_path, capsys, name):
    def change(content):
        content["blip_weights"]["file"] = content["sources"][1]["target"] = name

    refused(published, home, tmp_path, capsys, change, "blip_weights", name)


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd", "http://example.com/vocab.txt", "ftp://example.com/vocab.txt", "/etc/passwd", "vocab.txt",
        "https:///vocab.txt", "https://example.com/", "https://example.com/..", "https://[broken/vocab.txt",
        "http://127.0.0.1.example.com/vocab.txt", "http://127.0.0.1@example.com/vocab.txt",
    ],
)  # fmt: skip
def test_a_url_is_https_and_names_a_file(published, home, tmp_path, capsys, url):
    def change(content):
        content["sources"][0] = {"target": "vocab.txt", "url": url}

    refused(published, home, tmp_path, capsys, change, "url")


@pytest.mark.parametrize(
    "fields, said",
    [
        ({"file": "../../../escaped.txt"}, "file"),
        ({"file": "/etc/passwd"}, "file"),
        ({"repository": "../.."}, "repository"),
        ({"repository": "/etc"}, "repository"),
        ({"repository": "a/b/c"}, "repository"),
        ({"also": ["../../etc/passwd"]}, "also"),
        ({"repository": ""}, "url"),
        ({"url": "https://example.com/vocab.txt"}, "url"),
        ({"sha256": "abc"}, "sha256"),
        ({"size": -1}, "size"),
    ],
)
def test_a_source_says_where_a_file_is_in_plain_names(published, home, tmp_path, capsys, fields, said):
    refused(published, home, tmp_path, capsys, lambda c: c["sources"][0].update(fields), said)


def test_nobody_fetches_into_the_cache_of_a_bundled_profile(published, home, capsys):
    """`auto` would take what a stranger called blip_base."""
    profile, files = published
    edit(profile, lambda c: c.update(name="blip_base"))
    assert main(["fetch", str(profile), "--from", str(files)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "blip_base" in line and "another name" in line
    assert not home.exists()


@pytest.mark.parametrize("section", ["vocab", "blip_weights", "efficient_sam_weights"])
@pytest.mark.parametrize("absolute", [False, True])
def test_a_profile_that_is_read_names_no_file_outside(tiny_profile, tmp_path, section, absolute):
    profile = shutil.copytree(tiny_profile, tmp_path / "profile")
    inside = {
        "vocab": "vocab.txt",
        "blip_weights": "blip.safetensors",
        "efficient_sam_weights": "efficient_sam.safetensors",
    }
    outside = (profile / inside[section]).rename(tmp_path / "outside")
    named = str(outside) if absolute else "../outside"
    edit(profile, lambda c: c.update({section: named if section == "vocab" else {"file": named}}))
    with pytest.raises(ProfileError, match=section) as error:
        Pipeline.from_profile(str(profile), "cpu")
    assert named in str(error.value) and "profile.yaml" in str(error.value)


def escapes(name: str) -> bool:
    """Whether what is written under that name in a folder is not a file right there."""
    if "\0" in name:
        return True
    place = Path("/folder") / name
    return str(place) != f"/folder/{name}" or place.parent != Path("/folder") or place.name in ("", "..")


@given(st.text(max_size=12) | st.text(alphabet="./\\ab", max_size=8))
def test_any_name_is_a_plain_one_or_refused(name):
    for build in (WeightsFile, lambda text: FetchSource(text, url="https://example.com/a")):
        try:
            build(name)
        except ValueError:
            continue
        assert not escapes(name)


@given(st.text(max_size=30) | st.text(alphabet="htpsfile:/.@#?%ab\\", max_size=20))
def test_any_url_is_https_or_refused(url):
    try:
        source = FetchSource("vocab.txt", url=url)
    except ValueError:
        return
    assert url.lower().startswith(("https://", "http://127.0.0.1", "http://localhost", "http://[::1]"))
    assert not any(escapes(name) for name in source.names)
