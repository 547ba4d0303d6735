"""Stage 2: image-text matching that looks where it should.

Losses: ITM on hard negatives; a little ITC; cross-entropy between the cross-attention of the Grad-CAM layer and the
patches that the phrase names (at this budget Grad-CAM does not learn to localise from ITM alone); a dense head on the
patches that says the same from the other side (thrown away in the end); names of patches (stage 1) kept up.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esam_perception.matching.cross_encoder import cross_encode
from esam_perception.matching.image_encoder import encode_image
from esam_perception.training.batches import draw_batch
from esam_perception.training.data import SceneCache
from esam_perception.training.image_tower import PatchNames, change_light, to_pixels

ITC_WEIGHT = 0.1


def attention_loss(attention: Tensor, tokens: Tensor, coverage: Tensor) -> Tensor:
    """Cross-entropy of the attention of true phrases to the patches they name.

    attention: float32 [T, heads, L, 1 + N], probabilities; tokens: float32 [T, L], 1 where a token is the phrase's
    own; coverage: float32 [T, N], share of each patch that is covered.
    """
    shared = (attention.mean(1) * tokens[..., None]).sum(1) / tokens.sum(1, keepdim=True)
    target = coverage / coverage.sum(-1, keepdim=True).clamp_min(1e-6)
    return -(target * shared[:, 1:].clamp_min(1e-6).log()).sum(-1).mean()


def dense_loss(logits: Tensor, coverage: Tensor) -> Tensor:
    """Binary cross-entropy of the dense head with the coverage, plus Dice on true phrases. Both [..., N]."""
    balance = 1 + 4 * coverage  # objects cover few patches
    loss = (F.binary_cross_entropy_with_logits(logits, coverage, reduction="none") * balance).mean()
    true = coverage.sum(-1) > 0
    probability, target = logits[true].sigmoid(), coverage[true]
    dice = 1 - (2 * (probability * target).sum(-1) + 1) / (probability.sum(-1) + target.sum(-1) + 1)
    return 4 * loss + dice.mean()


class MatchingStage(nn.Module):
    """BLIP for image-text retrieval and the auxiliary heads that teach it."""

    def __init__(self, blip: nn.Module, tokenizer, gradcam_layer: int) -> None:
        super().__init__()
        width = blip.config.vision_config.hidden_size
        self.blip, self.names = blip, PatchNames(width)
        self.dense_text = nn.Linear(blip.config.text_config.hidden_size, width)
        self.dense_image = nn.Linear(width, width)
        self.dense_bias = nn.Parameter(torch.tensor(-2.0))
        self.temperature = nn.Parameter(torch.tensor(np.log(0.07), dtype=torch.float32))
        self.tokenizer, self.gradcam_layer = tokenizer, gradcam_layer

    def loss_of_scenes(self, cache: SceneCache, step: int, batch: int, side: int) -> dict[str, Tensor]:
        """Losses of the batch of this step (see loop.train_stage); images of `side` px."""
        rng = np.random.default_rng([20, step])
        blip = self.blip
        patch = blip.vision_model.embeddings.patch_size
        drawn = draw_batch(cache, rng, batch, side, patch)
        phrases = drawn.match.shape[1]
        image = encode_image(blip.vision_model, to_pixels(change_light(drawn.images, rng)), drawn.corner)

        flat = [text for texts in drawn.texts for text in texts]
        ids, mask = self.tokenizer.encode_for_itm(flat)
        length = ids.shape[1]
        encoded = cross_encode(
            blip.text_encoder, ids.view(batch, phrases, length), mask.view(batch, phrases, length), image,
            attention_layer=self.gradcam_layer,
        )  # fmt: skip
        first = encoded.hidden[:, :, 0]
        match = torch.from_numpy(drawn.match)
        coverage = torch.from_numpy(drawn.coverage).flatten(2)
        itm_logits = blip.itm_head(first)
        itm = F.cross_entropy(itm_logits.flatten(0, 1), match.flatten())

        # the phrase's own tokens: neither the first one nor [SEP]
        own = mask.view(batch, phrases, length).float()
        own = torch.cat([own[..., 1:], torch.zeros_like(own[..., :1])], -1)
        own = torch.cat([torch.zeros_like(own[..., :1]), own[..., 1:]], -1)
        true = match.bool()
        attention = attention_loss(encoded.attention[true], own[true], coverage[true])
        dense_logits = self.dense_text(first) @ self.dense_image(image[:, 1:]).transpose(1, 2)
        dense_logits = dense_logits / image.shape[-1] ** 0.5 + self.dense_bias
        dense = dense_loss(dense_logits, coverage)
        names = self.names(
            image[:, 1:], torch.from_numpy(drawn.category).flatten(1), torch.from_numpy(drawn.colour).flatten(1)
        )
        itc = self._itc(image, flat, match)
        loss = itm + ITC_WEIGHT * itc + attention + dense + names
        with torch.no_grad():
            accuracy = (itm_logits.argmax(-1) == match).float().mean()
        return {"loss": loss, "itm": itm, "itc": itc, "attention": attention, "dense": dense, "names": names,
                "accuracy": accuracy}  # fmt: skip

    def _itc(self, image: Tensor, texts: list[str], match: Tensor) -> Tensor:
        """Which image of the batch a true phrase belongs to (text to image; a phrase may fit others: hence only a
        small weight)."""
        blip = self.blip
        true = match.flatten().nonzero()[:, 0]
        ids, mask = self.tokenizer.encode_for_itc([texts[i] for i in true.tolist()])
        hidden = blip.text_encoder(ids, attention_mask=mask, return_dict=True, is_decoder=False).last_hidden_state
        text = F.normalize(blip.text_proj(hidden[:, 0]), dim=-1)
        picture = F.normalize(blip.vision_proj(image[:, 0]), dim=-1)
        return F.cross_entropy(text @ picture.T / self.temperature.exp().clamp(0.01, 0.5), true // match.shape[1])
