"""BLIP for image-text retrieval of any size, built from transformers' classes with the published settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

from transformers import BlipConfig, BlipForImageTextRetrieval

from esam_perception.errors import InvalidOptions
from esam_perception.matching.stem import ConvolutionalStem

# A module of transformers, or one with the same parts. Their names are known when they are run: torch types what is asked of
# a module as "a tensor or a module", of which no weight, size or call follows.
TransformersModule: TypeAlias = Any


@dataclass(frozen=True)
class TowerSize:
    """Sizes of one transformer (the image tower or the text encoder)."""

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072


@dataclass(frozen=True)
class BlipArchitecture:
    """Everything that fixes the shapes of the weights, and the text layer that Grad-CAM reads.

    The defaults are BLIP-ITM base. gradcam_layer counts from 0; 7 of 12 is PnP-VQA's. stem: widths of the convolutions
    that take the place of the patch projection; empty is the published model.
    """

    image_size: int = 384
    patch_size: int = 16
    vision: TowerSize = field(default_factory=TowerSize)
    text: TowerSize = field(default_factory=TowerSize)
    vocab_size: int = 30524
    max_position_embeddings: int = 512
    max_length: int = 35
    projection_dim: int = 256
    gradcam_layer: int = 7
    stem: tuple[int, ...] = ()

    @property
    def grid(self) -> int:
        """Patches along a side."""
        return self.image_size // self.patch_size

    def __post_init__(self) -> None:
        if self.image_size < 1 or self.patch_size < 1:
            raise InvalidOptions(f"image_size {self.image_size} and patch_size {self.patch_size} must be 1 or more")
        if self.stem and self.patch_size != 2 ** (len(self.stem) + 1):
            raise InvalidOptions(
                f"a stem of {len(self.stem)} widths makes patches of {2 ** (len(self.stem) + 1)} px, not {self.patch_size}"
            )
        if self.image_size % self.patch_size:
            raise InvalidOptions(f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}")
        if not 0 <= self.gradcam_layer < self.text.num_hidden_layers - 1:
            # the last layer's patch attention reaches the ITM head through the first token alone: its Grad-CAM is 0
            last = self.text.num_hidden_layers - 2
            raise InvalidOptions(f"gradcam_layer must be in 0..{last}, got {self.gradcam_layer}")


def build_blip(architecture: BlipArchitecture) -> TransformersModule:
    """A BlipForImageTextRetrieval with fresh weights, in float32.

    Three defaults of transformers differ from the published model: the image tower's LayerNorm eps (1e-6), the number
    of text heads, and an initializer_range (1e-10) that cannot be trained from.
    """
    text, vision = architecture.text, architecture.vision
    config = BlipConfig(
        vision_config={
            "hidden_size": vision.hidden_size,
            "num_hidden_layers": vision.num_hidden_layers,
            "num_attention_heads": vision.num_attention_heads,
            "intermediate_size": vision.intermediate_size,
            "image_size": architecture.image_size,
            "patch_size": architecture.patch_size,
            "layer_norm_eps": 1e-6,
            "initializer_range": 0.02,
            "hidden_act": "gelu",
        },
        text_config={
            "vocab_size": architecture.vocab_size,
            "hidden_size": text.hidden_size,
            "encoder_hidden_size": vision.hidden_size,
            "num_hidden_layers": text.num_hidden_layers,
            "num_attention_heads": text.num_attention_heads,
            "intermediate_size": text.intermediate_size,
            "max_position_embeddings": architecture.max_position_embeddings,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
            "layer_norm_eps": 1e-12,
            "initializer_range": 0.02,
            "hidden_act": "gelu",
            # special ids play no part here; transformers warns where its defaults lie outside a small vocabulary
            "bos_token_id": None,
            "sep_token_id": None,
        },
        image_text_hidden_size=architecture.projection_dim,
        initializer_range=0.02,
    )
    model: TransformersModule = BlipForImageTextRetrieval(config)
    if architecture.stem:
        model.vision_model.embeddings.patch_embedding = ConvolutionalStem(architecture.stem, vision.hidden_size)
    return model
