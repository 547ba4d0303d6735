"""timm's VisionTransformer as the oracle for EfficientSAM's image encoder. timm needs torchvision; both are optional."""

import pytest
import torch

from esam_perception.segmentation import EfficientSam, EfficientSamConfig
from test.tiny import SAM

timm = pytest.importorskip("timm.models.vision_transformer", reason="timm (which needs torchvision) is not installed")


@pytest.mark.parametrize(
    "config", [SAM, EfficientSamConfig(image_size=224, embed_dim=192, depth=12, num_heads=3)], ids=["tiny", "Ti"]
)
def test_the_image_encoder_equals_timm(config):
    torch.manual_seed(1)
    encoder = EfficientSam(config).eval().image_encoder.double()
    for parameter in encoder.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    oracle = timm.VisionTransformer(
        img_size=config.image_size, patch_size=config.patch_size, embed_dim=config.embed_dim, depth=config.depth,
        num_heads=config.num_heads, mlp_ratio=config.mlp_ratio, class_token=False, global_pool="", final_norm=False,
        num_classes=0,
    ).eval().double()  # fmt: skip
    side = config.image_size // config.patch_size
    state = {k: v for k, v in encoder.state_dict().items() if not k.startswith("neck.")}
    state["pos_embed"] = encoder.positions(side, side).flatten(2).transpose(1, 2)
    oracle.load_state_dict(state)  # strict: the names of the blocks are timm's
    images = torch.randn(2, 3, config.image_size, config.image_size, dtype=torch.float64)
    with torch.inference_mode():
        features = oracle.forward_features(images).transpose(1, 2).unflatten(2, (side, side))
        # in float64: what its rounding leaves is far below, a fault far above
        torch.testing.assert_close(encoder(images), encoder.neck(features), atol=1e-10, rtol=0)
