import shutil

import pytest
import yaml

from esam_perception.matching.configuration import BlipArchitecture
from esam_perception.profiles.registry import available_profiles, load_profile, notes_on
from esam_perception.profiles.schema import ProfileError, build_config, profile_dict, read_profile
from esam_perception.profiles.weights import load_weights
from esam_perception.segmentation import EfficientSamConfig


@pytest.fixture
def profile_dir(tiny_profile, tmp_path):
    return shutil.copytree(tiny_profile, tmp_path / "profile")


def edit(folder, change):
    path = folder / "profile.yaml"
    content = yaml.safe_load(path.read_text())
    change(content)
    path.write_text(yaml.safe_dump(content))


def test_a_profile_survives_writing_and_reading(tiny_profile):
    profile = read_profile(tiny_profile)
    assert profile.name == "tiny" and profile.is_complete
    assert yaml.safe_load((tiny_profile / "profile.yaml").read_text()) == yaml.safe_load(
        yaml.safe_dump(profile_dict(profile))
    )


def test_bundled_profiles_are_readable_and_build():
    assert available_profiles() == ["blip_base", "blip_large", "tabletop"]
    for name in available_profiles():
        profile = load_profile(name)
        assert profile.name == name and not notes_on(name, profile)
        build_config(BlipArchitecture, profile.blip, name)
        build_config(EfficientSamConfig, profile.efficient_sam, name)


def test_the_bundled_weights_are_whole_and_small(monkeypatch, tmp_path):
    profile = load_profile("tabletop")
    assert profile.is_complete
    total = 0
    for weights in (profile.blip_weights, profile.efficient_sam_weights):
        state, digest = load_weights(profile, weights)
        assert digest == weights.sha256 and state
        total += profile.find(weights.file).stat().st_size
    assert total <= 25e6


def test_auto_falls_back_with_a_warning_that_says_how_to_get_the_other(monkeypatch, tmp_path):
    monkeypatch.setenv("ESAM_HOME", str(tmp_path))
    profile = load_profile("auto")
    (note,) = notes_on("auto", profile)
    assert profile.name == "tabletop" and "esam fetch blip_base" in note
    assert not notes_on("tabletop", profile)  # who asks for it by name knows it


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda c: c.update(colour=1), "unknown key colour"),
        (lambda c: c.pop("blip"), "missing key blip"),
        (lambda c: c["fusion"].update(alpha="half"), "fusion: alpha: must be float"),
        (lambda c: c["fusion"].update(alpha=3), "alpha must be in 0..1"),
        (lambda c: c["prompting"].update(max_points=True), "max_points: must be int"),
        (lambda c: c["verdict"].update(match_threshold=0.1, reject_threshold=0.2), "thresholds"),
        (lambda c: c.update(blip_weights=[1]), "blip_weights: must hold keys and values"),
    ],
)
def test_a_wrong_profile_says_where_and_what(profile_dir, change, said):
    edit(profile_dir, change)
    with pytest.raises(ProfileError, match=said) as error:
        read_profile(profile_dir)
    assert "profile.yaml" in str(error.value)


@pytest.mark.parametrize("text", ["[1, 2", "- 1", "\x00"])
def test_a_file_that_is_no_mapping_is_a_profile_error(tmp_path, text):
    (tmp_path / "profile.yaml").write_text(text)
    with pytest.raises(ProfileError):
        read_profile(tmp_path)


def test_unknown_names_and_missing_files_name_the_fix(monkeypatch, tmp_path, profile_dir):
    monkeypatch.setenv("ESAM_HOME", str(tmp_path / "cache"))
    with pytest.raises(ProfileError, match="no profile 'nothing'"):
        load_profile("nothing")
    with pytest.raises(ProfileError, match="esam fetch blip_base"):
        load_profile("blip_base").find("blip.safetensors")
    (profile_dir / "blip.safetensors").unlink()
    assert not read_profile(profile_dir).is_complete


def test_weights_that_are_not_what_the_profile_promises_are_refused(profile_dir):
    path = profile_dir / "blip.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    profile = read_profile(profile_dir)
    with pytest.raises(ProfileError, match="SHA-256"):
        load_weights(profile, profile.blip_weights)
