"""BLIP-ITM base under the goldens' weights, with a tokenizer whose vocabulary has the goldens' words at their ids."""

import dataclasses
import json
from pathlib import Path

import torch

from esam_perception.matching.checkpoint import load_blip_state
from esam_perception.matching.configuration import BlipArchitecture, build_blip
from esam_perception.matching.matcher import BlipMatcher
from esam_perception.matching.tokenizer import BlipTokenizer, normalise_text

# The pieces of words that are more than one token; every other word of the goldens' texts is one.
PIECES = {"merlion": ["mer", "##lion"], "statue,": ["statue", ","]}
SPECIAL = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]"}
BERT_VOCAB_SIZE = 30522


def golden_vocabulary(content: dict) -> list[str]:
    """bert-base-uncased's entries as far as the goldens' texts need them, each at its own id."""
    entries = [f"[unused{i}]" for i in range(BERT_VOCAB_SIZE)]
    for index, name in SPECIAL.items():
        entries[index] = name
    texts = {f"t{j}": text for j, text in enumerate(content["texts"])} | {"long": content["long_text"]}
    for key, text in texts.items():
        pieces = [piece for word in normalise_text(text).split() for piece in PIECES.get(word, [word])]
        for index, piece in zip(content["lavis_input_ids"][key][1:-1], pieces):
            entries[index] = piece
    return entries


def load_golden(folder: Path, names: str, golden_weights, work_dir: Path) -> tuple[BlipMatcher, dict]:
    """The matcher with the weights of one naming (`lavis_names`, `hf_names`), and the goldens' description."""
    content = json.loads((folder / f"golden_{names}.json").read_text())
    vocab = work_dir / "vocab.txt"
    vocab.write_text("\n".join(golden_vocabulary(content)) + "\n")
    architecture = BlipArchitecture()
    with torch.device("meta"):
        model = build_blip(architecture)
    model = model.to_empty(device="cpu").eval().requires_grad_(False)
    model.text_encoder.embeddings.position_ids = torch.arange(512).expand((1, -1))
    state = golden_weights(folder / f"manifest_{names}.json")
    if names == "lavis_names":
        # what a LAVIS retrieval checkpoint also holds, and must be passed over by name
        state |= {"temp": torch.tensor(0.07), "queue_ptr": torch.zeros(1), "image_queue": torch.zeros(2, 2)}
        state |= {f"{tower}_m.weight": torch.zeros(1) for tower in ("text_proj", "vision_proj", "text_encoder")}
    load_blip_state(model, state)
    return BlipMatcher(model, BlipTokenizer(vocab), architecture, torch.device("cpu")), content


def at_layer(matcher: BlipMatcher, layer: int) -> BlipMatcher:
    """The same weights, Grad-CAM read from another layer."""
    architecture = dataclasses.replace(matcher.architecture, gradcam_layer=layer)
    return BlipMatcher(matcher.model, matcher.tokenizer, architecture, matcher.device)
