"""The text-prompted mask head in the pipeline: what BlipEsamItm learned is what is run."""

import dataclasses
from collections import Counter

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from esam_perception.blip_esam_itm import BlipEsamItm, BlipEsamItmConfig
from esam_perception.matching.image_encoder import preprocess
from esam_perception.pipeline.mask_head import read_masks
from esam_perception.pipeline.pipeline import Pipeline
from esam_perception.pipeline.prompting import choose_heat
from esam_perception.profiles.schema import ProfileError, read_profile, write_profile
from test.numerics.bounds import TINY, TINY_MAP
from test.tiny import BLIP, MASK_HEAD, write_tiny_profile

TEXTS = ["the red mug", "a blue ball", "cone"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_profile(tmp_path_factory.mktemp("with_mask_head"), with_mask_head=True)


@pytest.fixture(scope="module")
def pipeline(folder):
    return Pipeline.from_profile(str(folder), "cpu")


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(1).integers(0, 255, (48, 80, 3), dtype=np.uint8)


def asked_of(pipeline, source):
    return pipeline.with_options(prompting=dataclasses.replace(pipeline.profile.prompting, source=source))


def test_it_says_what_the_trained_module_says(pipeline, folder, image):
    model = BlipEsamItm.from_config(
        BlipEsamItmConfig(str(folder / "vocab.txt"), BLIP, MASK_HEAD.decoder, sam_prompt_dim=32, sam_embed_dim=32)
    ).eval()
    model.load_blip_state(load_file(folder / "blip.safetensors"))
    model.mask_head.load_state_dict(load_file(folder / "mask_head.safetensors"))
    model.normalize_input = False
    with torch.no_grad():
        pixels = preprocess(torch.from_numpy(image)[None], BLIP.image_size)
        masks = model({"image": pixels, "text_input": TEXTS})["pred_masks"].sigmoid().numpy()
    for match, mask in zip(pipeline.locate(image, TEXTS, segment_always=True), masks):
        assert match.mask_head.shape == (16, 16) and match.mask_head.dtype == np.float32
        # a sigmoid is at most a quarter as steep as its logit, of at most 8 or so
        np.testing.assert_allclose(match.mask_head, mask, rtol=0, atol=TINY * 8 / 4)


def test_scores_and_gradcam_are_those_without_it(pipeline, tmp_path, image):
    plain = Pipeline.from_profile(str(write_tiny_profile(tmp_path)), "cpu").locate(image, TEXTS)
    for match, other in zip(pipeline.locate(image, TEXTS), plain):
        assert other.mask_head is None and match.itm_score == pytest.approx(other.itm_score, abs=TINY)
        np.testing.assert_allclose(match.gradcam, other.gradcam, rtol=0, atol=TINY_MAP)


def test_prompts_are_drawn_from_the_source_that_is_named(pipeline, image):
    for source in ("gradcam", "mask_head", "both"):
        for match in asked_of(pipeline, source).locate(image, TEXTS, segment_always=True):
            heat = choose_heat(match.gradcam, match.mask_head, source)
            # without smoothing and with one point, the prompt is the maximum of the heat
            options = dataclasses.replace(pipeline.profile.prompting, source=source, sigma=0.0, max_points=1)
            (again,) = pipeline.with_options(prompting=options).locate(image, [match.query], segment_always=True)
            row, column = np.unravel_index(heat.argmax(), heat.shape)
            if again.segments:
                x, y = again.segments[0].prompt_points[0]
                assert (x, y) == pytest.approx(((column + 0.5) * 80 / heat.shape[1], (row + 0.5) * 48 / heat.shape[0]))


def test_heat_of_each_source():
    gradcam = np.array([[0.0, 1.0], [0.5, 0.25]], np.float32)
    mask = np.full((4, 4), 0.2, np.float32)
    mask[:2, :2] = 0.6
    assert choose_heat(gradcam, mask, "gradcam") is gradcam
    heat = choose_heat(gradcam, mask, "mask_head")
    assert heat[0, 0] == 1 and heat[3, 3] == 0
    both = choose_heat(gradcam, mask, "both")
    assert both.shape == (4, 4) and both.min() == 0 and both.max() == 1
    # Grad-CAM has its peak in the upper right cell, the mask in the upper left one: between them both are warm
    assert both[0, 1] > both[0, 0]


def test_its_weights_count_in_the_checksum_and_are_checked(pipeline, tmp_path, image):
    folder = write_tiny_profile(tmp_path, with_mask_head=True)
    plain = tmp_path / "plain"
    plain.mkdir()
    other = Pipeline.from_profile(str(write_tiny_profile(plain)), "cpu").provenance
    assert other.weights_sha256 != pipeline.provenance.weights_sha256
    profile = read_profile(folder)
    (folder / "mask_head.safetensors").rename(folder / "elsewhere")
    with pytest.raises(ProfileError, match="mask_head.safetensors is missing"):
        Pipeline.from_profile(str(folder), "cpu")
    (folder / "elsewhere").rename(folder / "mask_head.safetensors")
    write_profile(dataclasses.replace(profile, mask_head={**profile.mask_head, "width": 64}))
    with pytest.raises(ProfileError, match="the mask head's weights do not fit"):
        Pipeline.from_profile(str(folder), "cpu")


@pytest.mark.parametrize("change", [{"mask_head": None}, {"mask_head_weights": None}])
def test_half_a_mask_head_is_an_error(folder, change):
    with pytest.raises(ProfileError, match="both or neither"):
        dataclasses.replace(read_profile(folder), **change)


def test_a_source_that_the_profile_lacks_is_an_error(tiny_profile):
    profile = read_profile(tiny_profile)
    with pytest.raises(ProfileError, match="needs a mask_head"):
        dataclasses.replace(profile, prompting=dataclasses.replace(profile.prompting, source="both"))


def test_it_costs_no_second_encoding_and_no_second_gradcam(pipeline, image, monkeypatch):
    """The head works on what the matcher hands out: each network's layers run once, and one gradient is taken."""
    calls = Counter()
    model, gradient = pipeline._matcher.model, torch.autograd.grad
    pipeline.locate(image, TEXTS)  # the texts' ITC features are cached from here on

    def counted(*args, **kwargs):
        calls["gradient"] += 1
        return gradient(*args, **kwargs)

    monkeypatch.setattr(torch.autograd, "grad", counted)
    parts = {"vision": model.vision_model.encoder.layers[0].mlp, "text": model.text_encoder.encoder.layer[0].output}
    hooks = [part.register_forward_hook(lambda *_, name=name: calls.update([name])) for name, part in parts.items()]
    try:
        matches = pipeline.locate(image, TEXTS)
    finally:
        for hook in hooks:
            hook.remove()
    assert all(match.mask_head is not None for match in matches)
    assert calls == {"vision": 1, "text": 1, "gradient": 1}


def test_a_matcher_that_keeps_nothing_for_it_is_an_error(pipeline, tiny_profile, image):
    plain = Pipeline.from_profile(str(tiny_profile), "cpu")._matcher
    encoding = plain.encode_image(plain.preprocess(image))
    scores = plain.match(encoding, TEXTS, plain.text_features(TEXTS))
    assert encoding.embeds is None and scores.hidden is None
    with pytest.raises(ValueError, match="keep_hidden"):
        read_masks(pipeline._mask_head, encoding, scores)
