import json

import numpy as np
import pytest
import torch
from PIL import Image

from esam_perception.segmentation import EfficientSam, EfficientSamConfig, check_prompt, upsample_mask
from test.tiny import SAM


SIZES = {"vitt": EfficientSamConfig(), "vits": EfficientSamConfig(embed_dim=384, num_heads=6)}
IMAGES = ("dogs_512x384", "dogs_389x251")
# More points than slots, and labels that are scores: the official code cuts the one and ignores the other in silence.
ILLEGAL = {"p8": "1 to 6 points", "frac": "labels"}


@pytest.fixture(scope="module", params=SIZES)
def official(request, goldens, golden_weights):
    """EfficientSAM of one size with the goldens' weights, the prompts, the arrays, and each image's embedding."""
    folder, name = goldens / "efficient_sam", request.param
    model = EfficientSam(SIZES[name]).eval().requires_grad_(False)
    model.load_state_dict(golden_weights(folder / f"manifest_{name}.json"))  # strict: the official 278 names
    golden = np.load(folder / f"golden_{name}.npz")
    encoded = {}
    for image in IMAGES:
        pixels = np.array(Image.open(folder / f"{image}.png").convert("RGB"))
        embeddings = model.encode_image(torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255)
        encoded[image] = (embeddings, pixels.shape[:2])
    return model, json.loads((folder / f"golden_{name}.json").read_text())["prompts"], golden, encoded


def tensors(prompt: dict) -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(torch.tensor(prompt[key], dtype=torch.float32)[None] for key in ("points", "labels"))


@pytest.mark.parametrize("image", IMAGES)
def test_equals_the_official_model(official, image):
    model, prompts, golden, encoded = official
    embeddings, size = encoded[image]
    np.testing.assert_allclose(embeddings[0, ::4, ::4, ::4], golden[f"{image}/embedding"], atol=1e-4)
    legal = [name for name in prompts[image] if name not in ILLEGAL]
    assert len(legal) >= 6
    for name in legal:
        key = f"{image}/{name}"
        logits, iou = model.decode(embeddings, *tensors(prompts[image][name]), size)
        np.testing.assert_allclose(iou[0], golden[f"{key}/iou"], atol=1e-5)
        np.testing.assert_allclose(logits[0, :, :, ::4, ::4], golden[f"{key}/low"], atol=1e-4)
        full = upsample_mask(logits, size)[0]
        np.testing.assert_allclose(full[:, :, ::8, ::8], golden[f"{key}/full"], atol=1e-4)
        area = (full > 0).sum((-2, -1))
        assert (area - torch.from_numpy(golden[f"{key}/full_area"])).abs().max() <= 2
        if f"{key}/low_all" in golden:
            np.testing.assert_allclose(logits[0].squeeze(), golden[f"{key}/low_all"].squeeze(), atol=1e-4)
            np.testing.assert_allclose(full[0, 1], golden[f"{key}/full_mask1"].squeeze(), atol=1e-4)


@pytest.mark.parametrize("name", ILLEGAL)
def test_what_the_official_model_would_cut_or_ignore_is_an_error(official, name):
    model, prompts, _, encoded = official
    embeddings, size = encoded[IMAGES[0]]
    with pytest.raises(ValueError, match=ILLEGAL[name]):
        model.decode(embeddings, *tensors(prompts[IMAGES[0]][name]), size)


def test_any_size_and_several_queries_in_one_pass():
    torch.manual_seed(0)
    model = EfficientSam(SAM).eval()
    with torch.inference_mode():
        embeddings = model.encode_image(torch.rand(1, 3, 30, 50))
        points = torch.rand(1, 3, 2, 2) * torch.tensor([50.0, 30.0])
        labels = torch.ones(1, 3, 2)
        logits, iou = model.decode(embeddings, points, labels, (30, 50))
        assert logits.shape == (1, 3, 3, 32, 32) and iou.shape == (1, 3, 3)
        for i in range(3):
            alone, alone_iou = model.decode(embeddings, points[:, i : i + 1], labels[:, i : i + 1], (30, 50))
            torch.testing.assert_close(alone[:, 0], logits[:, i], atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(alone_iou[:, 0], iou[:, i], atol=1e-5, rtol=1e-4)
        # padding that is given equals padding that is added
        padded = torch.cat([points, torch.full((1, 3, 4, 2), -1.0)], 2)
        padded_labels = torch.cat([labels, torch.full((1, 3, 4), -1.0)], 2)
        torch.testing.assert_close(model.decode(embeddings, padded, padded_labels, (30, 50))[0], logits)


@pytest.mark.parametrize(
    "points, labels",
    [
        (torch.zeros(7, 2), torch.ones(7)),
        (torch.zeros(0, 2), torch.ones(0)),
        (torch.zeros(2, 2), torch.tensor([1.0, 0.5])),
        (torch.zeros(2, 2), torch.tensor([-1, 0])),
        (torch.zeros(2, 2), torch.ones(3)),
        (torch.full((1, 2), float("nan")), torch.ones(1)),
    ],
)
def test_prompts_that_would_be_misunderstood_are_errors(points, labels):
    with pytest.raises(ValueError):
        check_prompt(points, labels)


def test_decode_refuses_what_check_prompt_refuses():
    model = EfficientSam(SAM)
    for points, labels in (
        (torch.zeros(1, 1, 7, 2), torch.ones(1, 1, 7)),
        (torch.zeros(1, 1, 1, 2), torch.full((1, 1, 1), 0.5)),
    ):
        with pytest.raises(ValueError):
            model.decode(torch.zeros(1, 32, 8, 8), points, labels, (64, 64))
