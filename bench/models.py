"""`blip_base` at full size under deterministic weights, in memory: speed does not ask what was learned."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from esam_perception.matching.configuration import BlipArchitecture, build_blip
from esam_perception.matching.matcher import BlipMatcher
from esam_perception.matching.tokenizer import BlipTokenizer
from esam_perception.pipeline.pipeline import Pipeline
from esam_perception.profiles.registry import load_profile
from esam_perception.profiles.schema import build_config
from esam_perception.segmentation import EfficientSam, EfficientSamConfig

BERT_VOCAB_SIZE = 30522
SPECIAL = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]"}
COLOURS = ("red", "blue", "green", "yellow", "black", "white", "orange", "grey")
THINGS = ("mug", "banana", "plate", "screwdriver", "box", "toy car", "pair of scissors", "tin")


def queries(count: int) -> list[str]:
    """Phrases of 3 to 5 words, `count` <= 64 different ones."""
    phrases = [f"the {COLOURS[(i + i // 8) % 8]} {THINGS[i % 8]}" for i in range(64)]
    if not 1 <= count <= len(phrases):
        raise ValueError(f"1 to {len(phrases)} queries, got {count}")
    return phrases[:count]


def deterministic_state(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Weights from a fixed seed, of the sizes that keep activations in range, under the model's names."""
    generator = torch.Generator().manual_seed(7)
    state = {}
    for name, value in sorted(model.state_dict().items()):
        drawn = torch.randn(value.shape, generator=generator)
        fan_in = value[0].numel() if value.ndim > 1 else 1
        gain = 1.0 if value.ndim == 1 and name.endswith("weight") else 0.0
        state[name] = gain + drawn * (0.1 if value.ndim == 1 else fan_in**-0.5)
    return state


def vocabulary() -> list[str]:
    """As many entries as bert-base-uncased's; of its words those of the queries alone, one token each."""
    entries = [f"[unused{i}]" for i in range(BERT_VOCAB_SIZE)]
    for index, name in SPECIAL.items():
        entries[index] = name
    words = sorted({word for phrase in queries(64) for word in phrase.split()})
    entries[2000 : 2000 + len(words)] = words
    return entries


def full_size_pipeline(device: torch.device, precision: torch.dtype = torch.float32) -> Pipeline:
    """The pipeline of profile `blip_base` with its own options and deterministic weights."""
    profile = load_profile("blip_base")
    architecture = build_config(BlipArchitecture, profile.blip, "blip")
    config = build_config(EfficientSamConfig, profile.efficient_sam, "efficient_sam")
    blip, segmenter = build_blip(architecture), EfficientSam(config)
    blip.load_state_dict(deterministic_state(blip))
    segmenter.load_state_dict(deterministic_state(segmenter))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vocab.txt"
        path.write_text("\n".join(vocabulary()) + "\n")
        tokenizer = BlipTokenizer(path, architecture.max_length)
    matcher = BlipMatcher(blip, tokenizer, architecture, device)
    return Pipeline(profile, matcher, segmenter, device, precision=precision)
