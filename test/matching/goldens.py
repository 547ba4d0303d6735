"""The goldens of BLIP-ITM: a matcher under their weights, and every number that they hold beside our own.

What is compared is yielded, not asserted: the tests assert it (bounds.check), under the mutations they assert that this
fails, and exact.py measures with it how far the goldens lie from the exact values.
"""

import copy
import dataclasses
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from esam_perception.matching.checkpoint import load_blip_state
from esam_perception.matching.configuration import BlipArchitecture, build_blip
from esam_perception.matching.image_encoder import normalise
from esam_perception.matching.matcher import BlipMatcher, ImageEncoding
from esam_perception.matching.tokenizer import BlipTokenizer, normalise_text
from test.numerics.bounds import Compared

# The goldens of BLIP, and the weights that each was made with.
SETS = {"lavis_names": "lavis_names", "hf_names": "hf_names", "portrait": "lavis_names", "eps": "eps"}
# Pieces of words that are more than one token; every other word of the goldens' texts is one.
PIECES = {"merlion": ["mer", "##lion"], "statue,": ["statue", ","]}
SPECIAL = {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]", 103: "[MASK]"}
BERT_VOCAB_SIZE = 30522
SIDE = 384


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


@dataclass(frozen=True)
class BlipGolden:
    """One golden: its name (of SETS), a matcher with its weights, its description and arrays, its images' folder."""

    name: str
    matcher: BlipMatcher
    content: dict
    arrays: dict
    folder: Path

    @property
    def texts(self) -> list[str]:
        return self.content["texts"]

    @property
    def images(self) -> list[str]:
        return self.content["images"]

    def image(self, name: str) -> np.ndarray:
        """uint8 [H, W, 3] RGB."""
        return np.array(Image.open(self.folder / f"{name}.png").convert("RGB"))

    def resized(self, name: str) -> np.ndarray:
        """The image as the official code gets it, uint8 [384, 384, 3]: Pillow's bicubic, width first. In two steps every
        Pillow does that; in one, 13 and later do not."""
        image = Image.fromarray(self.image(name))
        bicubic = Image.Resampling.BICUBIC
        return np.array(image.resize((SIDE, image.height), bicubic).resize((SIDE, SIDE), bicubic))

    def pixels(self, name: str) -> torch.Tensor:
        """`resized`, normalised: [1, 3, 384, 384], in the matcher's own precision."""
        pixels = normalise(torch.from_numpy(self.resized(name)).permute(2, 0, 1)[None].float())
        return pixels.to(self.matcher.model.itm_head.weight.dtype)

    def at_layer(self, layer: int) -> BlipMatcher:
        """The same weights, Grad-CAM read from another layer."""
        architecture = dataclasses.replace(self.matcher.architecture, gradcam_layer=layer)
        return BlipMatcher(self.matcher.model, self.matcher.tokenizer, architecture, self.matcher.device)

    def in_double(self) -> "BlipGolden":
        """The same in float64."""
        model = copy.deepcopy(self.matcher.model).double()
        matcher = BlipMatcher(model, self.matcher.tokenizer, self.matcher.architecture, self.matcher.device)
        return dataclasses.replace(self, matcher=matcher)


def load_golden(folder: Path, name: str, golden_weights, work_dir: Path) -> BlipGolden:
    """The golden `name` of SETS; work_dir: a folder for its vocabulary."""
    content = json.loads((folder / f"golden_{name}.json").read_text())
    vocab = work_dir / "vocab.txt"
    vocab.write_text("\n".join(golden_vocabulary(content)) + "\n")
    architecture = BlipArchitecture()
    with torch.device("meta"):
        model = build_blip(architecture)
    model = model.to_empty(device="cpu").eval().requires_grad_(False)
    model.text_encoder.embeddings.position_ids = torch.arange(512).expand((1, -1))
    state = golden_weights("blip_itm", SETS[name])
    if SETS[name] != "hf_names":
        # what a LAVIS retrieval checkpoint also holds, and must be passed over by name
        state |= {"temp": torch.tensor(0.07), "queue_ptr": torch.zeros(1), "image_queue": torch.zeros(2, 2)}
        state |= {f"{tower}_m.weight": torch.zeros(1) for tower in ("text_proj", "vision_proj", "text_encoder")}
    load_blip_state(model, state)
    matcher = BlipMatcher(model, BlipTokenizer(vocab), architecture, torch.device("cpu"))
    return BlipGolden(name, matcher, content, dict(np.load(folder / f"golden_{name}.npz")), folder)


def pixels_beside(golden: BlipGolden, image: str) -> Iterator[Compared]:
    """Our own preprocessing against Pillow's, all of it; what is normalised against what is stored."""
    found = golden.matcher.preprocess(golden.image(image))[0]
    grey = golden.resized(image).transpose(2, 0, 1)
    if f"{image}/resized_uint8" in golden.arrays:
        assert hashlib.sha256(golden.resized(image).tobytes()).hexdigest() == golden.content["resized_uint8_sha256"]
    black, white = (normalise(torch.full((1, 3, 1, 1), value))[0] for value in (0.0, 255.0))
    yield Compared("levels", image, (255 * (found - black) / (white - black)).round(), grey.astype(np.float32))
    stored = golden.arrays[f"{image}/pixel_values"]
    yield Compared("pixel_values", image, golden.pixels(image)[0, :, ::8, ::8], stored)


def encode(golden: BlipGolden, image: str) -> tuple[torch.Tensor, ImageEncoding]:
    """The image tower on the official code's own pixels: (embeddings [577, 768], what the matcher makes of them)."""
    seen: list[torch.Tensor] = []
    last = golden.matcher.model.vision_model.post_layernorm
    hook = last.register_forward_hook(lambda module, inputs, output: seen.append(output))
    try:
        encoding = golden.matcher.encode_image(golden.pixels(image))
    finally:
        hook.remove()
    return seen[0][0], encoding


def tower_beside(golden: BlipGolden, image: str, embeds: torch.Tensor) -> Iterator[Compared]:
    yield Compared("image_embeds", image, embeds[::8, ::4], golden.arrays[f"{image}/image_embeds"])


def scores_beside(golden: BlipGolden, image: str, encoding: ImageEncoding, matcher=None) -> Iterator[Compared]:
    """All texts in one batch: logits, ITC, Grad-CAM of the layer that the matcher reads (block 7 unless another one is
    given)."""
    matcher, texts = matcher or golden.matcher, golden.texts
    scores = matcher.match(encoding, texts, matcher.text_features(texts))
    layer = matcher.architecture.gradcam_layer
    kind = "gradcam" if layer == 7 else "gradcam_enc_and_avg"
    for j in range(len(texts)):
        where = f"{image}/t{j}"
        yield Compared("itm_logits", where, scores.itm_logits[j], golden.arrays[f"{where}/itm_logits"])
        yield Compared("itc", where, scores.itc_similarity[j], golden.arrays[f"{where}/itc"][0])
        yield Compared("gradcam", where, scores.gradcam[j], golden.arrays[f"{where}/block{layer}/{kind}"][1])
    if "batch6/itm_logits" in golden.arrays:
        first = len(texts) * golden.images.index(image)
        batch = golden.arrays["batch6/itm_logits"][first : first + len(texts)]
        yield Compared("itm_logits", f"{image}/batch", scores.itm_logits, batch)


def single_beside(golden: BlipGolden, image: str, encoding: ImageEncoding) -> Iterator[Compared]:
    """Each text by itself, without padding."""
    for j, text in enumerate(golden.texts):
        scores = golden.matcher.match(encoding, [text], golden.matcher.text_features([text]))
        where = f"{image}/t{j}"
        yield Compared("itm_logits", where, scores.itm_logits[0], golden.arrays[f"{where}/itm_logits"])
        yield Compared("itc", where, scores.itc_similarity[0], golden.arrays[f"{where}/itc"][0])
        yield Compared("gradcam", where, scores.gradcam[0], golden.arrays[f"{where}/block7/gradcam"][1])


def words_beside(golden: BlipGolden, image: str, encoding: ImageEncoding) -> Iterator[Compared]:
    """Grad-CAM of every word: the mean over its tokens."""
    for j, text in enumerate(golden.texts):
        reference = golden.arrays[f"{image}/t{j}/block7/gradcam"][2:]  # of tokens 1..L-1, [SEP] included
        words = golden.matcher.tokenizer.words(text)
        for word, own in zip(words, golden.matcher.match_words(encoding, text), strict=True):
            assert own.word == word.text
            yield Compared(
                "word", f"{image}/t{j}/{word.text}", own.gradcam, reference[word.first - 1 : word.stop - 1].mean(0)
            )


def attention_beside(golden: BlipGolden, image: str, encoding: ImageEncoding) -> Iterator[Compared]:
    """What Grad-CAM is made of: attention and its gradient, means over the heads."""
    found = golden.matcher.differentiate(encoding, golden.texts)
    for j in range(len(golden.texts)):
        length = int(found.mask[0, j].sum())
        for kind, ours in (("attn_headmean", found.attention), ("grad_headmean", found.gradient)):
            where = f"{image}/t{j}"
            mean = ours[0, j, :, :length].mean(0)
            yield Compared(kind, where, mean, golden.arrays[f"{where}/block7/{kind}"])


def long_beside(golden: BlipGolden, encoding: ImageEncoding) -> Iterator[Compared]:
    """40 words, cut to 35 tokens, on the first image."""
    text = golden.content["long_text"]
    scores = golden.matcher.match(encoding, [text], golden.matcher.text_features([text]))
    yield Compared("itm_logits", "long", scores.itm_logits[0], golden.arrays["long/itm_logits"])
    yield Compared("gradcam", "long", scores.gradcam[0], golden.arrays["long/gradcam_avg"])


def everything_beside(golden: BlipGolden) -> Iterator[Compared]:
    """Every number of one golden that has a rounding error."""
    for image in golden.images:
        embeds, encoding = encode(golden, image)
        yield from tower_beside(golden, image, embeds)
        yield from scores_beside(golden, image, encoding)
        yield from single_beside(golden, image, encoding)
        yield from words_beside(golden, image, encoding)
        yield from attention_beside(golden, image, encoding)
        for layer in (6, 8, 10):
            if f"{image}/t0/block{layer}/gradcam_enc_and_avg" in golden.arrays:
                yield from scores_beside(golden, image, encoding, golden.at_layer(layer))
        if "long/itm_logits" in golden.arrays and image == golden.images[0]:
            yield from long_beside(golden, encoding)
