"""The query path against transformers' own forward, at sizes other than the published ones."""

import pytest
import torch

from esam_perception.matching.checkpoint import CheckpointError, load_blip_state
from esam_perception.matching.configuration import BlipArchitecture, TowerSize, build_blip
from esam_perception.matching.cross_encoder import cross_encode
from esam_perception.matching.image_encoder import encode_image
from test.tiny import BLIP

# Formulas are compared in float64: what its rounding (1e-16 a step) leaves is far below, a fault far above.
EXACTLY = {"atol": 1e-10, "rtol": 0}


def small_model(seed: int = 0):
    torch.manual_seed(seed)
    model = build_blip(BLIP).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    return model


@pytest.mark.numeric
def test_cross_encoder_equals_transformers_at_other_sizes_and_under_padding():
    model = small_model().double()
    image = torch.randn(2, 17, 32, dtype=torch.float64)
    ids = torch.randint(7, BLIP.vocab_size, (2, 3, 7))
    mask = torch.ones_like(ids)
    mask[:, 1, 5:] = 0
    ours = cross_encode(model.text_encoder, ids, mask, image, attention_layer=1)
    stock = model.text_encoder(
        ids.flatten(0, 1), attention_mask=mask.flatten(0, 1), encoder_hidden_states=image.repeat_interleave(3, 0),
        encoder_attention_mask=torch.ones(6, 17), return_dict=True, is_decoder=False, output_attentions=True,
    )  # fmt: skip
    seen = mask.flatten(0, 1) > 0
    torch.testing.assert_close(ours.hidden.flatten(0, 1)[seen], stock.last_hidden_state[seen], **EXACTLY)
    torch.testing.assert_close(ours.attention.flatten(0, 1), stock.cross_attentions[1], **EXACTLY)
    # Grad-CAM's short way gives the whole way's gradient
    short = cross_encode(model.text_encoder, ids, mask, image, 1, detach_attention=True, first_row_only=True)
    (whole_gradient,) = torch.autograd.grad(model.itm_head(ours.hidden[:, :, 0])[..., 1].sum(), ours.attention)
    (short_gradient,) = torch.autograd.grad(model.itm_head(short.hidden[:, :, 0])[..., 1].sum(), short.attention)
    torch.testing.assert_close(short_gradient, whole_gradient, **EXACTLY)
    assert whole_gradient.abs().max() > 1e-4  # else the lines above say nothing


@pytest.mark.numeric
def test_image_tower_equals_transformers():
    model = small_model(1).double()
    pixels = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        stock = model.vision_model(pixels).last_hidden_state
        torch.testing.assert_close(encode_image(model.vision_model, pixels), stock, **EXACTLY)


def test_a_checkpoint_that_does_not_fit_lists_the_keys():
    model = small_model()
    state = dict(model.state_dict())
    del state["itm_head.bias"]
    state["something.else"] = torch.zeros(1)
    state["text_proj.bias"] = torch.zeros(3)
    with pytest.raises(CheckpointError) as error:
        load_blip_state(model, state)
    for expected in ("missing: itm_head.bias", "unknown: something.else", "shape of text_proj.bias"):
        assert expected in str(error.value)


def test_a_gradcam_layer_that_gives_nothing_is_refused():
    with pytest.raises(ValueError, match="gradcam_layer"):
        BlipArchitecture(text=TowerSize(num_hidden_layers=12), gradcam_layer=11)
