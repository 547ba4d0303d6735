"""`BlipEsamItm`: BLIP-ITM and a text-prompted mask decoder as one trainable module.

BLIP's text encoder looks at the image (Li et al. 2022); from what it then knows of the phrase come the ITM logits and
prompt tokens for EfficientSAM's mask decoder (Xiong et al. 2023), which works on BLIP's own patches. What it learns of
BLIP is what the pipeline runs: `blip_state()` gives it back under transformers' names.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from esam_perception.losses import FOCAL_ALPHA, FOCAL_GAMMA, bce_loss, dice_loss, focal_loss, logits_iou
from esam_perception.matching.configuration import BlipArchitecture, TransformersModule, build_blip
from esam_perception.matching.cross_encoder import cross_encode
from esam_perception.matching.gradcam import differentiate, own_token_mask, phrase_maps
from esam_perception.matching.image_encoder import encode_image, normalise
from esam_perception.matching.tokenizer import BlipTokenizer
from esam_perception.pipeline.fusion import fuse, min_max
from esam_perception.pipeline.mask_head import MaskDecoderSize, TextMaskHead, best_candidate
from esam_perception.profiles.schema import build_config
from esam_perception.segmentation.mask_decoder import MaskDecoder

FOCAL_WEIGHT = 20.0  # as in segment-anything: a mean over mostly easy pixels is small
OTHERS_SHARE = 0.05  # of the candidates that are not the best: else one that starts badly never learns


@dataclass(frozen=True)
class BlipEsamItmConfig:
    """What `BlipEsamItm.from_config` takes; vocab: path of a vocab.txt. The options are the constructor's."""

    vocab: str
    blip: BlipArchitecture = field(default_factory=BlipArchitecture)
    mask_decoder: MaskDecoderSize = field(default_factory=MaskDecoderSize)
    embed_dim: int | None = None
    sam_prompt_dim: int = 256
    sam_embed_dim: int = 256
    with_bce: bool = True
    focal_alpha: float = FOCAL_ALPHA
    focal_gamma: float = FOCAL_GAMMA
    normalize_input: bool = True
    alpha: float = 0.5


@dataclass(frozen=True, eq=False)
class TextEncoding:
    """Texts encoded, P an image, N = B * P of them. hidden: float [B, P, L, D]; own: float [B, P, L], 1 where a token is
    the text's own (neither the first nor [SEP]); attention: of the Grad-CAM layer, [B, P, heads, L, 1 + patches], or
    None without an image."""

    hidden: Tensor
    own: Tensor
    attention: Tensor | None


class BlipEsamItm(nn.Module):
    """Image-text matching and masks in one pass.

    visual_encoder, text_encoder: towers of transformers' BLIP (configuration.build_blip). tokenizer: BlipTokenizer.
    mask_decoder: MaskDecoder of width sam_prompt_dim = sam_embed_dim. embed_dim: width of the ITC features. with_bce:
    whether the BCE loss counts in the total. normalize_input: whether images come in 0..1 and are normalised here, or
    come normalised. gradcam_layer: the text layer that Grad-CAM reads, from 0. alpha: weight of Grad-CAM against the
    mask in the fused maps of `gradcams`.

    Samples are dictionaries: image, float [B, 3, S, S] (or a window of whole patches, its place in patches under
    `corner`); text_input, N texts, N a multiple of B: N / B texts in a row belong to an image; for training, mask,
    float or bool [N, h, w] of any resolution, and match, [N] of 0 or 1.
    """

    def __init__(
        self,
        visual_encoder: TransformersModule,
        text_encoder: TransformersModule,
        tokenizer: BlipTokenizer,
        mask_decoder: MaskDecoder,
        embed_dim: int = 256,
        sam_prompt_dim: int = 256,
        sam_embed_dim: int = 256,
        with_bce: bool = True,
        focal_alpha: float = FOCAL_ALPHA,
        focal_gamma: float = FOCAL_GAMMA,
        normalize_input: bool = True,
        gradcam_layer: int = 7,
        alpha: float = 0.5,
    ) -> None:
        super().__init__()
        width = mask_decoder.mask_tokens.weight.shape[1]
        if not sam_prompt_dim == sam_embed_dim == width:
            raise ValueError(f"sam_prompt_dim {sam_prompt_dim}, sam_embed_dim {sam_embed_dim} and the mask decoder's width {width} must be equal")  # fmt: skip
        self.visual_encoder: TransformersModule = visual_encoder
        self.text_encoder: TransformersModule = text_encoder
        self.tokenizer, self.gradcam_layer, self.alpha = tokenizer, gradcam_layer, alpha
        vision_width, text_width = visual_encoder.config.hidden_size, text_encoder.config.hidden_size
        self.vision_proj = nn.Linear(vision_width, embed_dim)
        self.text_proj = nn.Linear(text_width, embed_dim)
        self.itm_head = nn.Linear(text_width, 2)
        self.mask_head = TextMaskHead(vision_width, text_width, mask_decoder)
        self.with_bce, self.focal_alpha, self.focal_gamma = with_bce, focal_alpha, focal_gamma
        self.normalize_input = normalize_input

    @classmethod
    def from_config(cls, cfg: Mapping[str, Any] | BlipEsamItmConfig) -> BlipEsamItm:
        """A module with fresh weights. cfg: a BlipEsamItmConfig, or a mapping of its fields (nested ones too). Raises
        ValueError, which names the key, for what is unknown, missing, or of another type."""
        config = (
            cfg if isinstance(cfg, BlipEsamItmConfig) else build_config(BlipEsamItmConfig, _plain(cfg), "BlipEsamItm")
        )
        blip = config.blip
        if config.embed_dim is not None:
            blip = dataclasses.replace(blip, projection_dim=config.embed_dim)
        towers = build_blip(blip)
        model = cls(
            towers.vision_model, towers.text_encoder, BlipTokenizer(config.vocab, blip.max_length),
            config.mask_decoder.build(config.sam_embed_dim),
            blip.projection_dim, config.sam_prompt_dim, config.sam_embed_dim, config.with_bce, config.focal_alpha,
            config.focal_gamma, config.normalize_input, blip.gradcam_layer, config.alpha,
        )  # fmt: skip
        for name in ("vision_proj", "text_proj", "itm_head"):
            getattr(model, name).load_state_dict(getattr(towers, name).state_dict())
        return model

    def blip_state(self) -> dict[str, Tensor]:
        """The weights of BLIP under the names of transformers' BlipForImageTextRetrieval: what the pipeline loads."""
        parts = ("visual_encoder.", "text_encoder.", "vision_proj.", "text_proj.", "itm_head.")
        return {
            name.replace("visual_encoder.", "vision_model.", 1): value
            for name, value in self.state_dict().items()
            if name.startswith(parts)
        }

    def load_blip_state(self, state: Mapping[str, Tensor]) -> None:
        """Load what `blip_state` gives. The rest of the module keeps its weights."""
        own = self.state_dict()
        own.update({name.replace("vision_model.", "visual_encoder.", 1): value for name, value in state.items()})
        self.load_state_dict(own)

    def forward(self, samples: Mapping[str, Any], itm_train: bool = True) -> dict[str, Tensor]:
        """Scores and masks of N texts, and their losses as far as the samples hold targets.

        Returns pred_masks, logits [N, m, m] of the candidate with the highest predicted IoU; itm_scores, logits [N, 2]
        (not match, match); iou_predictions [N, 3], of all candidates. With `mask`: loss_dice, loss_bce, loss_focal,
        loss_iou (see `mask_loss`). With `match`, unless itm_train is false: loss_itm, cross-entropy. With either: loss,
        `loss_itm + loss_dice + loss_bce (if with_bce) + 20 loss_focal + loss_iou`.
        """
        image_embeds = self.encode_image(samples)
        return self.predict(samples, image_embeds, self.encode_text(samples["text_input"], image_embeds), itm_train)

    def predict(
        self, samples: Mapping[str, Any], image_embeds: Tensor, text: TextEncoding, itm_train: bool = True
    ) -> dict[str, Tensor]:
        """What `forward` returns, from encodings at hand (training reads more out of them)."""
        prompts, image_tokens = self.prepare_mask_features(image_embeds, text)
        masks, iou_predictions = self.prepare_mask_outputs(prompts, image_tokens)
        itm_scores = self.itm_head(text.hidden[:, :, 0]).flatten(0, 1)
        outputs = {
            "pred_masks": self.get_pred_masks(masks, iou_predictions),
            "itm_scores": itm_scores,
            "iou_predictions": iou_predictions,
        }
        parts: list[Tensor] = []
        if "mask" in samples:
            losses = self.mask_loss(masks, iou_predictions, samples["mask"])
            outputs |= losses
            parts += [losses["loss_dice"], FOCAL_WEIGHT * losses["loss_focal"], losses["loss_iou"]]
            if self.with_bce:
                parts.append(losses["loss_bce"])
        if "match" in samples and itm_train:
            match = torch.as_tensor(samples["match"], device=itm_scores.device).long().flatten()
            outputs["loss_itm"] = F.cross_entropy(itm_scores, match)
            parts.append(outputs["loss_itm"])
        if parts:
            outputs["loss"] = torch.stack(parts).sum()
        return outputs

    def encode_image(self, samples: Mapping[str, Any]) -> Tensor:
        """[B, 1 + patches, D], the class token first."""
        image = samples["image"]
        patch = self.visual_encoder.embeddings.patch_size
        side, shape = self.visual_encoder.embeddings.image_size, tuple(image.shape)
        if len(shape) != 4 or shape[1] != 3 or any(n % patch or not 0 < n <= side for n in shape[2:]):
            raise ValueError(f"image must be [B, 3, h, w] of whole {patch} px patches, at most {side} px, got {shape}")
        if self.normalize_input:
            image = normalise(image * 255)
        return encode_image(self.visual_encoder, image, samples.get("corner", (0, 0)))

    def encode_text(self, text_input: Sequence[str], image_embeds: Tensor | None = None) -> TextEncoding:
        """Texts as BLIP reads them: looking at the images (first token [ENC], N / B texts an image), or alone (B = 1,
        first token [CLS]: what ITC compares). Raises ValueError for a text with no words."""
        if image_embeds is None:
            ids, mask = (tensor.to(self.itm_head.weight.device) for tensor in self.tokenizer.encode_for_itc(text_input))
            hidden = self.text_encoder(ids, attention_mask=mask, return_dict=True, is_decoder=False).last_hidden_state
            return TextEncoding(hidden[None], own_token_mask(mask)[None], None)
        batch = len(image_embeds)
        if not text_input or len(text_input) % batch:
            raise ValueError(f"{len(text_input)} texts cannot be shared evenly by {batch} images")
        ids, mask = self._grouped_ids(text_input, batch)
        encoded = cross_encode(self.text_encoder, ids, mask, image_embeds, attention_layer=self.gradcam_layer)
        return TextEncoding(encoded.hidden, own_token_mask(mask), encoded.attention)

    def prepare_mask_features(self, image_embeds: Tensor, text: TextEncoding) -> tuple[Tensor, Tensor]:
        """(prompt tokens [B, P, 2, sam_prompt_dim], image tokens [B, sam_embed_dim, h, w]) for the mask decoder.

        The prompt is the phrase as the text encoder knows it after looking: its first token, and the mean of its own.
        """
        return self.mask_head.features(image_embeds, text.hidden, text.own)

    def prepare_mask_outputs(self, prompts: Tensor, image_tokens: Tensor) -> tuple[Tensor, Tensor]:
        """(candidate mask logits [N, 3, m, m], predicted IoU [N, 3]); m = 4 sides of the patch grid."""
        masks, iou = self.mask_head.outputs(prompts, image_tokens)
        return masks.flatten(0, 1), iou.flatten(0, 1)

    @staticmethod
    def get_pred_masks(masks: Tensor, iou_predictions: Tensor) -> Tensor:
        """Of each sample the candidate with the highest predicted IoU: [N, 3, m, m], [N, 3] -> [N, m, m]."""
        return best_candidate(masks, iou_predictions)

    def mask_loss(self, masks: Tensor, iou_predictions: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Losses of candidate masks [N, 3, m, m] and predicted IoU [N, 3] against targets [N, h, w] (or [N, 1, h, w]),
        which are brought to m x m by area average.

        loss_dice, loss_bce, loss_focal: means over the samples of 0.95 times the best candidate's (the one with the
        lowest sum of the weighted three) and 0.05 times the mean of all candidates; loss_iou: mean squared error of all
        predicted IoUs.
        """
        target = target.flatten(0, -3).float().to(masks.device)
        if len(target) != len(masks):
            raise ValueError(f"{len(target)} masks for {len(masks)} texts")
        # sums over many pixels: in float32 whatever the network computes in
        masks, iou_predictions = masks.float(), iou_predictions.float()
        wanted = F.interpolate(target[:, None], masks.shape[-2:], mode="area").expand_as(masks)
        each = {
            "loss_dice": dice_loss(masks, wanted),
            "loss_bce": bce_loss(masks, wanted),
            "loss_focal": focal_loss(masks, wanted, self.focal_alpha, self.focal_gamma),
        }
        total = each["loss_dice"] + FOCAL_WEIGHT * each["loss_focal"] + (each["loss_bce"] if self.with_bce else 0)
        best = total.argmin(1, keepdim=True)
        losses = {
            name: (1 - OTHERS_SHARE) * values.gather(1, best).mean() + OTHERS_SHARE * values.mean()
            for name, values in each.items()
        }
        losses["loss_iou"] = F.mse_loss(iou_predictions, logits_iou(masks, wanted))
        return losses

    def gradcams(self, samples: dict[str, Any]) -> Tensor:
        """The fused maps of N texts: float32 [N, grid * grid] in 0..1; also put under samples["gradcams"].

        `alpha * Grad-CAM (min-max) + (1 - alpha) * mask (sigmoid, area average)`, as PnP-VQA samples patches from
        (Tiong et al. 2022). PnP-VQA takes the "?" off its questions before it asks; here a text is read as BLIP's other
        texts are, and a "?" is a word of its own: take it off to get PnP-VQA's maps. No gradients are left behind.
        """
        with torch.no_grad():
            image_embeds = self.encode_image(samples)
            text = self.encode_text(samples["text_input"], image_embeds)
            prompts, image_tokens = self.prepare_mask_features(image_embeds, text)
            masks = self.get_pred_masks(*self.prepare_mask_outputs(prompts, image_tokens)).sigmoid()
        maps = self._phrase_gradcams(samples["text_input"], image_embeds).cpu().numpy()
        side = image_tokens.shape[-1]
        fused = [
            fuse(min_max(one.reshape(side, side)), mask, self.alpha).ravel()
            for one, mask in zip(maps, masks.float().cpu().numpy())
        ]
        samples["gradcams"] = found = torch.from_numpy(np.stack(fused)).to(image_embeds.device)
        return found

    def _phrase_gradcams(self, texts: Sequence[str], image_embeds: Tensor) -> Tensor:
        """Grad-CAM of the match logit, the mean over each text's own tokens: [N, patches] (see matching.gradcam)."""
        ids, mask = self._grouped_ids(texts, len(image_embeds))
        found = differentiate(self.text_encoder, self.itm_head, ids, mask, image_embeds, self.gradcam_layer)
        return phrase_maps(found).flatten(0, 1)

    def _grouped_ids(self, texts: Sequence[str], batch: int) -> tuple[Tensor, Tensor]:
        device = self.itm_head.weight.device
        ids, mask = (tensor.to(device) for tensor in self.tokenizer.encode_for_itm(texts))
        return ids.view(batch, -1, ids.shape[1]), mask.view(batch, -1, mask.shape[1])


def _plain(cfg: Mapping[str, Any]) -> dict[str, Any]:
    return {str(key): _plain(value) if isinstance(value, Mapping) else value for key, value in cfg.items()}
