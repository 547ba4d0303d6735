"""Weights on disk: safetensors with checksums, and the published checkpoints' way into them. Nothing is unpickled.

What needs torch is imported where it is used: profiles are listed, checked and fetched without it, and whoever loads
weights has it already.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from esam_perception.profiles.schema import (
    FETCHED_FILE,
    Profile,
    ProfileError,
    WeightsFile,
    build_config,
    read_notes,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

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
    from safetensors.torch import load_file

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


def save_weights(state: Mapping[str, Tensor], path: Path) -> WeightsFile:
    """Write a state dict as fp16 safetensors."""
    from safetensors.torch import save_file

    save_file({name: value.half().contiguous() for name, value in state.items()}, path)
    return WeightsFile(path.name, file_sha256(path))


def convert_checkpoint(path: Path, profile: Profile, target: str, output: Path) -> None:
    """A published checkpoint as the safetensors file that the profile calls `target`, written whole or not at all.

    BLIP with transformers' or LAVIS' names, EfficientSAM with its own; as safetensors, or as a PyTorch file that holds
    tensors alone (a state dict, or {"model": state dict}; in a zip too). Raises CheckpointError, which names the file,
    for one that cannot be read safely or does not fit the profile.
    """
    import torch
    from safetensors.torch import save_file

    from esam_perception.matching.checkpoint import CheckpointError, blip_names, check_state

    try:
        state = _read_tensors(path)
        if target == profile.blip_weights.file:
            state = blip_names(state)
        with torch.device("meta"):
            model = _network_of(profile, target)
        check_state(model, state, "the")
    except (CheckpointError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{path}: {error}") from error
    with tempfile.TemporaryDirectory(dir=output.parent) as scratch:
        unfinished = Path(scratch) / output.name
        save_file({name: value.contiguous() for name, value in state.items()}, unfinished)
        os.replace(unfinished, output)


def _network_of(profile: Profile, target: str) -> nn.Module:
    """The network that a file of the profile is the weights of, with fresh ones. Raises ProfileError."""
    from esam_perception.matching.configuration import BlipArchitecture, build_blip
    from esam_perception.pipeline.mask_head import MaskHeadConfig
    from esam_perception.segmentation import EfficientSam, EfficientSamConfig

    where = f"profile '{profile.name}'"
    if target == profile.efficient_sam_weights.file:
        return EfficientSam(build_config(EfficientSamConfig, profile.efficient_sam, f"{where}: efficient_sam"))
    blip = build_config(BlipArchitecture, profile.blip, f"{where}: blip")
    if target == profile.blip_weights.file:
        model: nn.Module = build_blip(blip)
        return model
    head = build_config(MaskHeadConfig, profile.mask_head, f"{where}: mask_head")
    return head.build(blip.vision.hidden_size, blip.text.hidden_size)


def _read_tensors(path: Path) -> dict[str, Tensor]:
    import torch
    from safetensors.torch import load_file

    from esam_perception.matching.checkpoint import CheckpointError

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
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise CheckpointError("holds no state dict")
    return content


def note_fetched(folder: Path, target: str, source: str) -> None:
    """Note size and SHA-256 of `folder`/`target` in the folder's fetched.json, against which it is loaded."""
    path = folder / FETCHED_FILE
    try:
        notes = read_notes(path) if path.exists() else {}
    except ValueError:  # damaged: what it said of the other files can no longer be known, and they are fetched again
        notes = {}
    file = folder / target
    notes[target] = {"size": file.stat().st_size, "sha256": file_sha256(file), "source": source}
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(notes, indent=1), encoding="utf-8")
    os.replace(unfinished, path)
