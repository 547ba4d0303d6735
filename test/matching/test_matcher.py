"""BLIP against the goldens of LAVIS' own code, and the query path against transformers' own."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from esam_perception.matching.checkpoint import CheckpointError, load_blip_state
from esam_perception.matching.configuration import BlipArchitecture, TowerSize, build_blip
from esam_perception.matching.cross_encoder import cross_encode, project_keys_values
from esam_perception.matching.image_encoder import encode_image, preprocess
from esam_perception.matching.matcher import phrase_maps, token_maps
from test.tiny import BLIP

IMAGE = "dogs_512x384"
ENC = 30523


@pytest.fixture(scope="module")
def official(goldens, golden_weights):
    """BLIP-ITM base under LAVIS' names and the goldens' weights."""
    folder = goldens / "blip_itm"
    with torch.device("meta"):
        model = build_blip(BlipArchitecture())
    model = model.to_empty(device="cpu").eval().requires_grad_(False)
    model.text_encoder.embeddings.position_ids = torch.arange(512).expand((1, -1))
    state = golden_weights(folder / "manifest_lavis_names.json")
    # what a LAVIS retrieval checkpoint also holds, and must be passed over by name
    state |= {"temp": torch.tensor(0.07), "queue_ptr": torch.zeros(1), "text_proj_m.weight": torch.zeros(1)}
    load_blip_state(model, state)
    return (
        model,
        folder,
        np.load(folder / "golden_lavis_names.npz"),
        json.loads((folder / "golden_lavis_names.json").read_text()),
    )


@pytest.fixture(scope="module")
def encoded_image(official):
    model, folder, golden, _ = official
    image = np.array(Image.open(folder / f"{IMAGE}.png").convert("RGB"))
    # the goldens' own resize (PIL): ours differs by a grey level in 0.3 % of the values
    square = np.array(Image.fromarray(image).resize((384, 384), Image.BICUBIC))
    pixels = preprocess(torch.from_numpy(square)[None], 384)
    np.testing.assert_allclose(pixels[0, :, ::8, ::8], golden[f"{IMAGE}/pixel_values"], atol=1e-5)
    ours = preprocess(torch.from_numpy(image)[None], 384)
    assert (ours - pixels).abs().max() < 1.1 / 255 / 0.26
    assert ((ours - pixels).abs() > 1e-4).float().mean() < 0.01
    with torch.no_grad():
        embeds = encode_image(model.vision_model, pixels)
    np.testing.assert_allclose(embeds[0, ::8, ::4], golden[f"{IMAGE}/image_embeds"], atol=1e-4)
    return embeds


def lavis_ids(content, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The goldens' token ids of the first texts, padded, and their mask."""
    rows = [content["lavis_input_ids"][f"t{j}"] for j in range(count)]
    length = max(map(len, rows))
    ids = torch.tensor([row + [0] * (length - len(row)) for row in rows])
    return ids, (ids != 0).long()


def test_equals_lavis(official, encoded_image):
    model, _, golden, content = official
    ids, mask = lavis_ids(content, 3)
    with torch.no_grad():
        hidden = model.text_encoder(ids, attention_mask=mask, return_dict=True, is_decoder=False).last_hidden_state
        text = torch.nn.functional.normalize(model.text_proj(hidden[:, 0]), dim=-1)
        picture = torch.nn.functional.normalize(model.vision_proj(encoded_image[:, 0]), dim=-1)
        keys_values = project_keys_values(model.text_encoder, encoded_image)
    itm_ids = ids.clone()
    itm_ids[:, 0] = ENC
    encoded = cross_encode(
        model.text_encoder, itm_ids[None], mask[None], keys_values, 7, detach_attention=True, first_row_only=True
    )
    logits = model.itm_head(encoded.hidden[0, :, 0])
    (gradient,) = torch.autograd.grad(logits[:, 1].sum(), encoded.attention)
    tokens, phrases = token_maps(encoded, gradient, mask), phrase_maps(encoded, gradient, mask)
    for j in range(3):
        key = f"{IMAGE}/t{j}"
        np.testing.assert_allclose(logits[j].detach(), golden[f"{key}/itm_logits"], atol=1e-5)
        np.testing.assert_allclose((text[j] @ picture[0]).item(), golden[f"{key}/itc"].item(), atol=1e-5)
        reference = golden[f"{key}/block7/gradcam"]
        tolerance = 1e-5 * reference.max() + 1e-9 + 2e-9
        np.testing.assert_allclose(phrases[j].view(24, 24), reference[1], atol=tolerance)
        length = int(mask[j].sum())
        np.testing.assert_allclose(
            tokens[j, :length].view(length, 24, 24)[1:], reference[2 : length + 1], atol=tolerance
        )


def small_model(seed: int = 0):
    torch.manual_seed(seed)
    model = build_blip(BLIP).eval()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    return model


def test_cross_encoder_equals_transformers_at_other_sizes_and_under_padding():
    model = small_model()
    image = torch.randn(2, 17, 32)
    ids = torch.randint(7, BLIP.vocab_size, (2, 3, 7))
    mask = torch.ones_like(ids)
    mask[:, 1, 5:] = 0
    ours = cross_encode(model.text_encoder, ids, mask, image, attention_layer=1)
    stock = model.text_encoder(
        ids.flatten(0, 1), attention_mask=mask.flatten(0, 1), encoder_hidden_states=image.repeat_interleave(3, 0),
        encoder_attention_mask=torch.ones(6, 17), return_dict=True, is_decoder=False, output_attentions=True,
    )  # fmt: skip
    seen = mask.flatten(0, 1) > 0
    torch.testing.assert_close(ours.hidden.flatten(0, 1)[seen], stock.last_hidden_state[seen], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(ours.attention.flatten(0, 1), stock.cross_attentions[1], atol=1e-5, rtol=1e-4)
    # Grad-CAM's short way gives the whole way's gradient
    short = cross_encode(model.text_encoder, ids, mask, image, 1, detach_attention=True, first_row_only=True)
    (whole_gradient,) = torch.autograd.grad(model.itm_head(ours.hidden[:, :, 0])[..., 1].sum(), ours.attention)
    (short_gradient,) = torch.autograd.grad(model.itm_head(short.hidden[:, :, 0])[..., 1].sum(), short.attention)
    torch.testing.assert_close(short_gradient, whole_gradient, atol=1e-5, rtol=1e-4)
    assert whole_gradient.abs().max() > 1e-4


def test_image_tower_equals_transformers():
    model = small_model(1)
    pixels = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(
            encode_image(model.vision_model, pixels), model.vision_model(pixels).last_hidden_state, atol=1e-5, rtol=1e-4
        )


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
