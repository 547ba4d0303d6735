"""What the tests of fetching share: a profile that names sources, the published files, a cache of its own."""

import pytest
import torch
import yaml
from safetensors.torch import load_file


@pytest.fixture
def published(tiny_profile, tmp_path):
    """(directory of a profile without weights but with sources, directory of the files as they are published)"""
    files, profile = tmp_path / "files", tmp_path / "profile"
    files.mkdir(), profile.mkdir()
    (files / "vocab.txt").write_bytes((tiny_profile / "vocab.txt").read_bytes())
    (files / "model.safetensors").write_bytes((tiny_profile / "blip.safetensors").read_bytes())
    torch.save({"model": load_file(tiny_profile / "efficient_sam.safetensors")}, files / "sam.pt")
    content = yaml.safe_load((tiny_profile / "profile.yaml").read_text())
    content["name"] = "fetched_tiny"
    for section in ("blip_weights", "efficient_sam_weights"):
        content[section]["sha256"] = ""
    content["sources"] = [
        {"target": "vocab.txt", "repository": "some/blip", "file": "vocab.txt"},
        {"target": "blip.safetensors", "repository": "some/blip", "file": "model.safetensors", "also": ["blip.pth"]},
        {"target": "efficient_sam.safetensors", "repository": "some/sam", "file": "sam.pt"},
    ]
    (profile / "profile.yaml").write_text(yaml.safe_dump(content))
    return profile, files


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("ESAM_HOME", str(tmp_path / "home"))
    return tmp_path / "home"
