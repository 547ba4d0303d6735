"""BLIP-ITM at work: encode an image once, then ask about many phrases (Li et al. 2022; Grad-CAM as in LAVIS)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from esam_perception.computing import upload
from esam_perception.errors import InvalidOptions
from esam_perception.matching.configuration import BlipArchitecture, TransformersModule
from esam_perception.matching.cross_encoder import KeysValues, cross_encode, project_keys_values
from esam_perception.matching.gradcam import Differentiated, differentiate, own_token_mask, phrase_maps, token_maps
from esam_perception.matching.image_encoder import encode_image, preprocess
from esam_perception.matching.tokenizer import BlipTokenizer

TEXT_CACHE_SIZE = 1024


@dataclass(frozen=True, eq=False)
class ImageEncoding:
    """What is kept of one image: keys and values for every cross-attention, the ITC feature [1, P] (unit length), and
    with `keep_hidden` the patches [1, 1 + N, D], the class token first."""

    keys_values: KeysValues
    itc_feature: Tensor
    embeds: Tensor | None = None


@dataclass(frozen=True, eq=False)
class TextScores:
    """Of P phrases against one image. itm_logits: float32 [P, 2] (not match, match). itc_similarity: float32 [P],
    cosine. gradcam: float32 [P, G, G], not normalised. hidden: with `keep_hidden`, of the last text layer, float
    [1, P, L, D] on the device; own: float32 [1, P, L], 1 where a token is the phrase's own (neither the first nor
    [SEP])."""

    itm_logits: np.ndarray
    itc_similarity: np.ndarray
    gradcam: np.ndarray
    own: Tensor
    hidden: Tensor | None = None


@dataclass(frozen=True, eq=False)
class WordMap:
    """What one word of a phrase looks at: gradcam float32 [G, G], not normalised."""

    word: str
    gradcam: np.ndarray


class BlipMatcher:
    """Not thread-safe: one caller at a time. model: of configuration.build_blip. keep_hidden: hand out the hidden states of image and texts too, for another
    network that works on them (the last text layer is then computed for every token, not for the first alone)."""

    def __init__(
        self,
        model: TransformersModule,
        tokenizer: BlipTokenizer,
        architecture: BlipArchitecture,
        device: torch.device,
        keep_hidden: bool = False,
    ) -> None:
        if tokenizer.vocab_size != architecture.vocab_size:
            raise InvalidOptions(
                f"vocab.txt has {tokenizer.vocab_size} entries, the profile says {architecture.vocab_size}"
            )
        self.model = model.to(device).eval().requires_grad_(False)
        self.tokenizer, self.architecture, self.device = tokenizer, architecture, device
        self.keep_hidden = keep_hidden
        self._text_features: OrderedDict[str, Tensor] = OrderedDict()

    def preprocess(self, image: np.ndarray | Tensor) -> Tensor:
        """uint8 [H, W, 3] RGB, or [1, H, W, 3] on the device already -> float32 [1, 3, S, S] on the device."""
        pixels = upload(image, self.device) if isinstance(image, np.ndarray) else image
        return preprocess(pixels, self.architecture.image_size)

    @torch.no_grad()
    def encode_image(self, pixels: Tensor) -> ImageEncoding:
        """[1, 3, S, S], preprocessed -> everything that any phrase will ask of this image."""
        embeds = encode_image(self.model.vision_model, pixels)
        feature = F.normalize(self.model.vision_proj(embeds[:, 0]), dim=-1)
        keys_values = project_keys_values(self.model.text_encoder, embeds)
        return ImageEncoding(keys_values, feature, embeds if self.keep_hidden else None)

    @torch.no_grad()
    def text_features(self, texts: Sequence[str]) -> Tensor:
        """ITC features of the texts, float32 [P, D], unit length. The last TEXT_CACHE_SIZE texts are remembered."""
        new = list(dict.fromkeys(text for text in texts if text not in self._text_features))
        if new:
            ids, mask = (tensor.to(self.device) for tensor in self.tokenizer.encode_for_itc(new))
            hidden = self.model.text_encoder(
                ids, attention_mask=mask, return_dict=True, is_decoder=False
            ).last_hidden_state
            features = F.normalize(self.model.text_proj(hidden[:, 0]), dim=-1)
            self._text_features.update(zip(new, features))
        for text in texts:
            self._text_features.move_to_end(text)
        found = torch.stack([self._text_features[text] for text in texts])
        while len(self._text_features) > TEXT_CACHE_SIZE:
            self._text_features.popitem(last=False)
        return found

    def match(self, encoding: ImageEncoding, texts: Sequence[str], text_features: Tensor) -> TextScores:
        """Score P texts against an image, all in one batch; Grad-CAM of the architecture's layer (see gradcam)."""
        found = self.differentiate(encoding, texts)
        grid = self.architecture.grid
        itc = text_features @ encoding.itc_feature[0]
        return TextScores(
            itm_logits=found.itm_logits[0].float().cpu().numpy(),
            itc_similarity=itc.float().cpu().numpy(),
            gradcam=phrase_maps(found)[0].view(len(texts), grid, grid).float().cpu().numpy(),
            own=own_token_mask(found.mask),
            hidden=found.hidden if self.keep_hidden else None,
        )

    @torch.no_grad()
    def match_pairs(self, pixels: Tensor, texts: Sequence[str]) -> list[float]:
        """ITM scores in 0..1 of N images, float32 [N, 3, S, S] preprocessed, each against its own text."""
        ids, mask = (tensor.to(self.device)[:, None] for tensor in self.tokenizer.encode_for_itm(texts))
        embeds = encode_image(self.model.vision_model, pixels)
        encoded = cross_encode(self.model.text_encoder, ids, mask, embeds, first_row_only=True)
        scores: list[float] = self.model.itm_head(encoded.hidden[:, 0, 0]).float().softmax(-1)[:, 1].tolist()
        return scores

    def match_words(self, encoding: ImageEncoding, text: str) -> list[WordMap]:
        """Grad-CAM of every word of one text, the mean over the tokens that spell it (see `match`)."""
        words = self.tokenizer.words(text)
        maps = token_maps(self.differentiate(encoding, [text]))[0, 0].view(
            -1, self.architecture.grid, self.architecture.grid
        )
        return [WordMap(word.text, maps[word.first : word.stop].mean(0).float().cpu().numpy()) for word in words]

    def differentiate(self, encoding: ImageEncoding, texts: Sequence[str]) -> Differentiated:
        """What Grad-CAM of P texts against an image is made of, B = 1."""
        ids, mask = (tensor.to(self.device)[None] for tensor in self.tokenizer.encode_for_itm(texts))
        return differentiate(
            self.model.text_encoder, self.model.itm_head, ids, mask, encoding.keys_values,
            self.architecture.gradcam_layer, first_row_only=not self.keep_hidden,
        )  # fmt: skip
