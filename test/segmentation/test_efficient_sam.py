import json

import numpy as np
import pytest
import torch
from PIL import Image

from esam_perception.segmentation import EfficientSam, EfficientSamConfig, check_prompt, upsample_mask
from test.tiny import SAM


@pytest.fixture(scope="module")
def official(goldens, golden_weights):
    """EfficientSAM-Ti with the goldens' weights, and the goldens."""
    folder = goldens / "efficient_sam"
    model = EfficientSam(EfficientSamConfig()).eval()
    model.load_state_dict(golden_weights(folder / "manifest_vitt.json"))  # strict: the official 278 names
    return (
        model,
        folder,
        json.loads((folder / "golden_vitt.json").read_text())["prompts"],
        np.load(folder / "golden_vitt.npz"),
    )


def test_equals_the_official_model(official):
    model, folder, prompts, golden = official
    image = "dogs_389x251"
    pixels = np.array(Image.open(folder / f"{image}.png").convert("RGB"))
    size = pixels.shape[:2]
    checked = 0
    with torch.inference_mode():
        embeddings = model.encode_image(torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255)
        np.testing.assert_allclose(embeddings[0, ::4, ::4, ::4], golden[f"{image}/embedding"], atol=1e-4)
        for name, prompt in prompts[image].items():
            points, labels = (torch.tensor(prompt[key], dtype=torch.float32) for key in ("points", "labels"))
            points, labels = points[None, :, :6], labels[None, :, :6]  # the official model cuts in silence
            logits, iou = model.decode(embeddings, points, labels, size)
            np.testing.assert_allclose(iou[0], golden[f"{image}/{name}/iou"], atol=1e-5)
            np.testing.assert_allclose(logits[0, :, :, ::4, ::4], golden[f"{image}/{name}/low"], atol=1e-4)
            full = upsample_mask(logits, size)[0, :, :, ::8, ::8]
            np.testing.assert_allclose(full, golden[f"{image}/{name}/full"], atol=1e-4)
            checked += 1
    assert checked >= 1


def test_small_names_equal_efficient_sam_s(goldens):
    manifest = json.loads((goldens / "efficient_sam" / "manifest_vits.json").read_text())["state_dict"]
    with torch.device("meta"):
        model = EfficientSam(EfficientSamConfig(embed_dim=384, num_heads=6))
    assert {k: list(v.shape) for k, v in model.state_dict().items()} == {k: v["shape"] for k, v in manifest.items()}


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


def test_more_than_six_points_are_an_error_not_a_cut():
    model = EfficientSam(SAM)
    with pytest.raises(ValueError, match="at most 6"):
        model.decode(torch.zeros(1, 32, 8, 8), torch.zeros(1, 1, 7, 2), torch.ones(1, 1, 7), (64, 64))
