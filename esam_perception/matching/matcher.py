"""BLIP-ITM at work: encode an image once, then ask about many phrases (Li et al. 2022; Grad-CAM as in LAVIS)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esam_perception.computing import upload
from esam_perception.errors import InvalidOptions
from esam_perception.matching.configuration import BlipArchitecture
from esam_perception.matching.cross_encoder import CrossEncoding, KeysValues, cross_encode, project_keys_values
from esam_perception.matching.image_encoder import encode_image, preprocess
from esam_perception.matching.tokenizer import BlipTokenizer
from esam_perception.pipeline.mask_head import TextMaskHead, best_candidate

TEXT_CACHE_SIZE = 1024


@dataclass(frozen=True, eq=False)
class ImageEncoding:
    """What is kept of one image: keys and values for every cross-attention, the ITC feature [1, P] (unit length), and
    for a mask head the patches [1, 1 + N, D]."""

    keys_values: KeysValues
    itc_feature: Tensor
    embeds: Tensor | None = None


@dataclass(frozen=True, eq=False)
class TextScores:
    """Of P phrases against one image. itm_logits: float32 [P, 2] (not match, match). itc_similarity: float32 [P],
    cosine. gradcam: float32 [P, G, G], not normalised. mask_head: float32 [P, m, m] in 0..1, the candidate that the mask
    head trusts most, or None without one."""

    itm_logits: np.ndarray
    itc_similarity: np.ndarray
    gradcam: np.ndarray
    mask_head: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class WordMap:
    """What one word of a phrase looks at: gradcam float32 [G, G], not normalised."""

    word: str
    gradcam: np.ndarray


class BlipMatcher:
    """Not thread-safe: one caller at a time. mask_head: one that was trained with these weights, if there is one."""

    def __init__(
        self,
        model: nn.Module,
        tokenizer: BlipTokenizer,
        architecture: BlipArchitecture,
        device: torch.device,
        mask_head: TextMaskHead | None = None,
    ) -> None:
        if tokenizer.vocab_size != architecture.vocab_size:
            raise InvalidOptions(
                f"vocab.txt has {tokenizer.vocab_size} entries, the profile says {architecture.vocab_size}"
            )
        self.model = model.to(device).eval().requires_grad_(False)
        self.mask_head = mask_head.to(device).eval().requires_grad_(False) if mask_head is not None else None
        self.tokenizer, self.architecture, self.device = tokenizer, architecture, device
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
        kept = embeds if self.mask_head is not None else None
        return ImageEncoding(project_keys_values(self.model.text_encoder, embeds), feature, kept)

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
        """Score P texts against an image, all in one batch.

        Grad-CAM: A, the cross-attention probabilities of the architecture's Grad-CAM layer; G, the gradient of the
        match logit by A; the map is A * max(G, 0) over the patches, mean over heads, mean over the text's own tokens
        (without the first and [SEP]). Only the layers above are differentiated.
        """
        logits, encoded, gradient, mask = self._differentiate(encoding, texts)
        grid = self.architecture.grid
        itc = text_features @ encoding.itc_feature[0]
        return TextScores(
            itm_logits=logits.float().cpu().numpy(),
            itc_similarity=itc.float().cpu().numpy(),
            gradcam=phrase_maps(encoded, gradient, mask).view(len(texts), grid, grid).float().cpu().numpy(),
            mask_head=self._masks(encoding, encoded, mask),
        )

    @torch.no_grad()
    def _masks(self, encoding: ImageEncoding, encoded: CrossEncoding, mask: Tensor) -> np.ndarray | None:
        if self.mask_head is None or encoding.embeds is None:
            return None
        own = own_token_mask(mask)[None]
        with torch.autocast(self.device.type, enabled=False):  # a decoder of masks: see Pipeline
            candidates, predicted_iou = self.mask_head(encoding.embeds.float(), encoded.hidden.float(), own)
        return best_candidate(candidates[0], predicted_iou[0]).sigmoid().float().cpu().numpy()

    @torch.no_grad()
    def match_pairs(self, pixels: Tensor, texts: Sequence[str]) -> list[float]:
        """ITM scores in 0..1 of N images, float32 [N, 3, S, S] preprocessed, each against its own text."""
        ids, mask = (tensor.to(self.device)[:, None] for tensor in self.tokenizer.encode_for_itm(texts))
        embeds = encode_image(self.model.vision_model, pixels)
        encoded = cross_encode(self.model.text_encoder, ids, mask, embeds, first_row_only=True)
        return self.model.itm_head(encoded.hidden[:, 0, 0]).float().softmax(-1)[:, 1].tolist()

    def match_words(self, encoding: ImageEncoding, text: str) -> list[WordMap]:
        """Grad-CAM of every word of one text, the mean over the tokens that spell it (see `match`)."""
        words = self.tokenizer.words(text)
        _, encoded, gradient, mask = self._differentiate(encoding, [text])
        maps = token_maps(encoded, gradient, mask)[0].view(-1, self.architecture.grid, self.architecture.grid)
        return [WordMap(word.text, maps[word.first : word.stop].mean(0).float().cpu().numpy()) for word in words]

    def _differentiate(
        self, encoding: ImageEncoding, texts: Sequence[str]
    ) -> tuple[Tensor, CrossEncoding, Tensor, Tensor]:
        """ITM logits [P, 2], the encoding with its attention A, G = d(sum of match logits) / dA, and the mask [P, L]."""
        ids, mask = (tensor.to(self.device) for tensor in self.tokenizer.encode_for_itm(texts))
        with torch.enable_grad():
            encoded = cross_encode(
                self.model.text_encoder, ids[None], mask[None], encoding.keys_values, self.architecture.gradcam_layer,
                detach_attention=True, first_row_only=self.mask_head is None,
            )  # fmt: skip
            logits = self.model.itm_head(encoded.hidden[0, :, 0])
            (gradient,) = torch.autograd.grad(logits[:, 1].sum(), encoded.attention)
        return logits.detach(), encoded, gradient, mask


@torch.no_grad()
def token_maps(encoded: CrossEncoding, gradient: Tensor, mask: Tensor) -> Tensor:
    """Grad-CAM of every token: [P, L, N - 1] from attention and gradient [1, P, heads, L, N], mask [P, L]."""
    attention = encoded.attention[0, ..., 1:]
    cam = attention * gradient[0, ..., 1:].clamp_min(0) * mask[:, None, :, None]
    return cam.mean(1)


@torch.no_grad()
def phrase_maps(encoded: CrossEncoding, gradient: Tensor, mask: Tensor) -> Tensor:
    """Grad-CAM of every phrase, the mean over its own tokens: [P, N - 1]."""
    own = own_token_mask(mask)
    return (token_maps(encoded, gradient, mask) * own[..., None]).sum(1) / own.sum(1, keepdim=True)


def own_token_mask(mask: Tensor) -> Tensor:
    """Which tokens are a text's own, neither the first nor [SEP]: float32 [..., L] from an attention mask [..., L]."""
    position = torch.arange(mask.shape[-1], device=mask.device)
    return ((position >= 1) & (position <= mask.sum(-1, keepdim=True) - 2)).float()
