"""A profile's files -> its networks on a device."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from esam_perception.computing import choose_precision, slow_precision
from esam_perception.errors import InvalidDevice, InvalidOptions
from esam_perception.matching.checkpoint import CheckpointError, load_blip_state, load_state
from esam_perception.matching.configuration import BlipArchitecture, build_blip
from esam_perception.matching.matcher import BlipMatcher
from esam_perception.matching.tokenizer import BlipTokenizer
from esam_perception.pipeline.mask_head import MaskHeadConfig, TextMaskHead
from esam_perception.profiles.registry import load_profile, notes_on
from esam_perception.profiles.schema import Profile, ProfileError, build_config
from esam_perception.profiles.weights import load_weights
from esam_perception.segmentation import EfficientSam, EfficientSamConfig


@dataclass(frozen=True, eq=False)
class Loaded:
    """What a Pipeline is made of. The matcher is on the device; the Pipeline brings the others there.

    weights_sha256: one checksum for all files. notes: see types.Provenance.
    """

    profile: Profile
    matcher: BlipMatcher
    segmenter: EfficientSam
    mask_head: TextMaskHead | None
    device: torch.device
    weights_sha256: str
    precision: torch.dtype
    notes: tuple[str, ...]


def load(name_or_path: str, device: str, precision: str) -> Loaded:
    """The networks of a profile; arguments and errors as of Pipeline.from_profile."""
    profile = load_profile(name_or_path)
    chosen = choose_device(device)
    dtype = choose_precision(precision, chosen)
    architecture = build_config(BlipArchitecture, profile.blip, f"profile '{profile.name}': blip")
    sam_config = build_config(EfficientSamConfig, profile.efficient_sam, f"profile '{profile.name}': efficient_sam")
    with _sizes_of(profile):
        blip, segmenter = build_blip(architecture), EfficientSam(sam_config)
    blip_state, blip_digest = load_weights(profile, profile.blip_weights)
    sam_state, sam_digest = load_weights(profile, profile.efficient_sam_weights)
    digests = [blip_digest, sam_digest]
    try:
        load_blip_state(blip, blip_state)
        load_state(segmenter, sam_state, "EfficientSAM")
        mask_head = None
        if profile.mask_head is not None and profile.mask_head_weights is not None:
            config = build_config(MaskHeadConfig, profile.mask_head, "mask_head")
            with _sizes_of(profile):
                mask_head = config.build(architecture.vision.hidden_size, architecture.text.hidden_size)
            state, digest = load_weights(profile, profile.mask_head_weights)
            load_state(mask_head, state, "the mask head's")
            digests.append(digest)
        tokenizer = BlipTokenizer(profile.find(profile.vocab), architecture.max_length)
        matcher = BlipMatcher(blip, tokenizer, architecture, chosen, keep_hidden=mask_head is not None)
    except (CheckpointError, InvalidOptions) as error:
        raise ProfileError(f"profile '{profile.name}': {error}") from error
    # one checksum for all files: that of theirs, in hex, joined
    digest = hashlib.sha256("".join(digests).encode()).hexdigest()
    slow = slow_precision(dtype, chosen)
    notes = (*notes_on(name_or_path, profile), *([slow] if slow else []))
    return Loaded(profile, matcher, segmenter, mask_head, chosen, digest, dtype, notes)


@contextmanager
def _sizes_of(profile: Profile) -> Iterator[None]:
    """A network is built of what profile.yaml says and of nothing else: what its layers refuse is the profile's fault."""
    try:
        yield
    except (ValueError, RuntimeError, ArithmeticError) as error:
        reason = " ".join(str(error).split())
        raise ProfileError(f"profile '{profile.name}': no network has such sizes ({reason})") from error


def choose_device(name: str) -> torch.device:
    """`auto`, `cpu` or `cuda[:N]`. Raises InvalidDevice where it is not there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InvalidDevice(f"device {name!r} is unknown: use auto, cpu or cuda") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InvalidDevice(f"device {name!r}: no CUDA device is available here; use device auto or cpu")
    return device
