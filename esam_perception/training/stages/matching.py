"""Stage 2: image-text matching that looks where it should.

Losses: those of BlipEsamItm, ITM on hard negatives and masks; a little ITC; cross-entropy between the cross-attention
of the Grad-CAM layer and the patches that the phrase names (at this budget Grad-CAM does not learn to localise from ITM
alone); names of patches (stage 1) kept up.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esam_perception.blip_esam_itm import BlipEsamItm
from esam_perception.losses import logits_iou
from esam_perception.training.data.batches import PhraseBatch, PhraseMixture, draw_batch
from esam_perception.training.data.scenes import SceneCache
from esam_perception.training.stages.image_tower import PatchNames, change_light, patch_of, to_pixels, width_of

ITC_WEIGHT = 0.1


def attention_loss(attention: Tensor, tokens: Tensor, coverage: Tensor) -> Tensor:
    """Cross-entropy of the attention of true phrases to the patches they name.

    attention: float32 [T, heads, L, 1 + N], probabilities; tokens: float32 [T, L], 1 where a token is the phrase's
    own; coverage: float32 [T, N], share of each patch that is covered.
    """
    shared = (attention.mean(1) * tokens[..., None]).sum(1) / tokens.sum(1, keepdim=True)
    target = coverage / coverage.sum(-1, keepdim=True).clamp_min(1e-6)
    return -(target * shared[:, 1:].clamp_min(1e-6).log()).sum(-1).mean()


class MatchingStage(nn.Module):
    """BlipEsamItm and the auxiliary heads that teach it. with_names: whether patches have names (the tabletop's do)."""

    def __init__(self, model: BlipEsamItm, with_names: bool = True) -> None:
        super().__init__()
        self.model = model
        self.names = PatchNames(width_of(model.visual_encoder)) if with_names else None
        self.temperature = nn.Parameter(torch.tensor(np.log(0.07), dtype=torch.float32))

    @property
    def heads(self) -> tuple[nn.Module, ...]:
        """The layers whose outputs mean something each (see muon.split_weights)."""
        named = (self.names,) if self.names is not None else ()
        return (*named, self.model.itm_head, self.model.vision_proj, self.model.text_proj)

    def loss_of_scenes(
        self,
        cache: SceneCache,
        step: int,
        batch: int,
        side: int,
        mixture: PhraseMixture = PhraseMixture(),
        stream: int = 20,
    ) -> dict[str, Tensor]:
        """Losses of the batch of this step (see loop.train_stage) of a stream of random numbers; images of `side` px."""
        rng = np.random.default_rng([stream, step])
        drawn = draw_batch(cache, rng, batch, side, patch_of(self.model.visual_encoder), mixture)
        return self.loss_of_batch(drawn, rng)

    def loss_of_batch(self, drawn: PhraseBatch, rng: np.random.Generator) -> dict[str, Tensor]:
        """Losses of a batch with at least one true phrase, the total under "loss"; accuracy of ITM and mean IoU of the
        chosen masks beside them. rng: of the changes of light."""
        model = self.model
        device = self.temperature.device
        masks = torch.from_numpy(drawn.masks).to(device)
        samples: dict[str, Any] = {
            "image": to_pixels(change_light(drawn.images, rng)).to(device), "text_input": drawn.texts,
            "corner": drawn.corner, "mask": masks, "match": torch.from_numpy(drawn.match).to(device),
        }  # fmt: skip
        image = model.encode_image(samples)
        text = model.encode_text(drawn.texts, image)
        outputs = model.predict(samples, image, text)
        assert text.attention is not None  # an image was given
        true = samples["match"].bool()
        coverage = F.avg_pool2d(masks[true], 4).flatten(1)
        attention = attention_loss(text.attention.flatten(0, 1)[true], text.own.flatten(0, 1)[true], coverage)
        itc = self._itc(image, drawn.texts, true)
        losses = {name: value for name, value in outputs.items() if name.startswith("loss_")}
        losses |= {"loss_itc": itc, "loss_attention": attention}
        loss = outputs["loss"] + ITC_WEIGHT * itc + attention
        if self.names is not None and drawn.category is not None and drawn.colour is not None:
            names = (torch.from_numpy(each).to(device).flatten(1) for each in (drawn.category, drawn.colour))
            losses["loss_names"] = self.names(image[:, 1:], *names)
            loss = loss + losses["loss_names"]
        with torch.no_grad():
            accuracy = (outputs["itm_scores"].argmax(-1) == samples["match"]).float().mean()
            iou = logits_iou(outputs["pred_masks"][true], masks[true]).mean()
        return {"loss": loss, **losses, "accuracy": accuracy, "iou": iou}

    def _itc(self, image: Tensor, texts: list[str], true: Tensor) -> Tensor:
        """Which image of the batch a true phrase belongs to (text to image; a phrase may fit others: hence only a
        small weight)."""
        model = self.model
        chosen = true.nonzero()[:, 0]
        hidden = model.encode_text([texts[i] for i in chosen.tolist()]).hidden[0]
        text = F.normalize(model.text_proj(hidden[:, 0]), dim=-1)
        picture = F.normalize(model.vision_proj(image[:, 0]), dim=-1)
        place = chosen // (len(texts) // len(image))
        return F.cross_entropy(text @ picture.T / self.temperature.exp().clamp(0.01, 0.5), place)
