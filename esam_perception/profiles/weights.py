"""Weights on disk: safetensors with checksums, and the published checkpoints' way into them. Nothing is unpickled."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import tempfile
import zipfile
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from esam_perception.matching.checkpoint import CheckpointError, blip_names, check_state
from esam_perception.matching.configuration import BlipArchitecture, build_blip
from esam_perception.profiles.registry import FETCHED_FILE, Profile, ProfileError, WeightsFile, build_config
from esam_perception.segmentation import EfficientSam, EfficientSamConfig

CHUNK = 1 << 20


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, as hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def load_weights(profile: Profile, weights: WeightsFile) -> tuple[dict[str, Tensor], str]:
    """The tensors of a safetensors file of the profile (by name, float32, on the CPU) and its SHA-256.

    Raises ProfileError, which names the file, where it is missing, is not what the profile promises (or what `esam
    fetch` noted when it wrote it), or cannot be read.
    """
    path = profile.find(weights.file)
    known = profile.fetched().get(weights.file, {})
    fix = f"run: esam fetch {profile.name} --force" if profile.sources else "restore the file"
    size = path.stat().st_size
    if "size" in known and size != known["size"]:
        raise ProfileError(f"{path}: has {size} bytes instead of {known['size']}: it is truncated or altered; {fix}")
    digest = file_sha256(path)
    for expected, by in ((weights.sha256, "the profile"), (known.get("sha256"), FETCHED_FILE)):
        if expected and digest != expected:
            raise ProfileError(f"{path}: SHA-256 is {digest}, {by} says {expected}: the file was altered; {fix}")
    try:
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ProfileError(f"{path}: cannot be read as safetensors ({error}); {fix}") from error
    return {name: value.float() if value.is_floating_point() else value for name, value in state.items()}, digest


def convert_checkpoint(path: Path, profile: Profile, target: str, output: Path) -> None:
    """A published checkpoint as the safetensors file that the profile calls `target`, written whole or not at all.

    BLIP with transformers' or LAVIS' names, EfficientSAM with its own; as safetensors, or as a PyTorch file that holds
    tensors alone (a state dict, or {"model": state dict}; in a zip too). Raises CheckpointError, which names the file,
    for one that cannot be read safely or does not fit the profile.
    """
    try:
        state = _read_tensors(path)
        where = f"profile '{profile.name}'"
        with torch.device("meta"):
            if target == profile.blip_weights.file:
                state = blip_names(state)
                model = build_blip(build_config(BlipArchitecture, profile.blip, where))
            else:
                model = EfficientSam(build_config(EfficientSamConfig, profile.efficient_sam, where))
        check_state(model, state, "the")
    except (CheckpointError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{path}: {error}") from error
    with tempfile.TemporaryDirectory(dir=output.parent) as scratch:
        unfinished = Path(scratch) / output.name
        save_file({name: value.contiguous() for name, value in state.items()}, unfinished)
        os.replace(unfinished, output)


def _read_tensors(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory(dir=path.parent) as scratch:
            members = [name for name in archive.namelist() if name.endswith((".pt", ".pth")) and "__MACOSX" not in name]
            if len(members) != 1:
                raise CheckpointError(f"holds {len(members)} checkpoints instead of one")
            return _read_tensors(Path(archive.extract(members[0], scratch)))
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, SafetensorError, ValueError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"cannot be loaded safely: truncated, or not tensors alone ({reason})") from error
    if isinstance(content, dict) and isinstance(content.get("model"), dict):
        content = content["model"]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise CheckpointError("holds no state dict")
    return content


def note_fetched(folder: Path, target: str, source: str) -> None:
    """Note size and SHA-256 of `folder`/`target` in the folder's fetched.json, against which it is loaded."""
    path = folder / FETCHED_FILE
    notes = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    file = folder / target
    notes[target] = {"size": file.stat().st_size, "sha256": file_sha256(file), "source": source}
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(notes, indent=1), encoding="utf-8")
    os.replace(unfinished, path)
