import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from esam_perception.blip_esam_itm import BlipEsamItm, BlipEsamItmConfig
from esam_perception.matching.configuration import build_blip
from esam_perception.matching.matcher import BlipMatcher
from esam_perception.pipeline.fusion import fuse, min_max
from esam_perception.pipeline.mask_head import MaskDecoderSize
from esam_perception.training.data.vocabulary import tabletop_vocabulary
from test.numerics.bounds import TINY, TINY_MAP, UNIT
from test.tiny import BLIP

TEXTS = ["the red mug", "a blue ball", "something that is a purple duck", "cone"]
DECODER = MaskDecoderSize(heads=4, mlp_dim=32, upscaling_dims=(16, 8), iou_head_dim=16)


@pytest.fixture(scope="module")
def vocab(tmp_path_factory):
    path = tmp_path_factory.mktemp("vocab") / "vocab.txt"
    path.write_text("\n".join(tabletop_vocabulary()) + "\n")
    return str(path)


@pytest.fixture
def model(vocab):
    torch.manual_seed(2)
    model = BlipEsamItm.from_config(
        BlipEsamItmConfig(vocab, BLIP, DECODER, sam_prompt_dim=32, sam_embed_dim=32, alpha=0.25)
    )
    for parameter in model.parameters():
        if parameter.ndim > 1:  # the usual 0.02 makes every answer the same
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    return model.eval()


@pytest.fixture
def samples():
    generator = torch.Generator().manual_seed(0)
    mask = torch.zeros(4, 32, 48)
    mask[0, :16, :24], mask[2, 8:30, 5:40], mask[3, 3:9, 30:44] = 1, 1, 1
    image = torch.rand(4, 3, 64, 64, generator=generator)
    return {"image": image, "text_input": TEXTS, "mask": mask, "match": torch.tensor([1, 0, 1, 1])}


def test_shapes_and_keys(model, samples):
    wanted = {"pred_masks", "itm_scores", "iou_predictions"}
    outputs = model({key: samples[key] for key in ("image", "text_input")})
    assert set(outputs) == wanted
    assert outputs["pred_masks"].shape == (4, 16, 16) and outputs["itm_scores"].shape == (4, 2)
    assert outputs["iou_predictions"].shape == (4, 3)
    mask_losses = {"loss_dice", "loss_bce", "loss_focal", "loss_iou"}
    assert set(model(samples)) == wanted | mask_losses | {"loss_itm", "loss"}
    assert set(model(samples, itm_train=False)) == wanted | mask_losses | {"loss"}
    no_masks = {key: value for key, value in samples.items() if key != "mask"}
    assert set(model(no_masks)) == wanted | {"loss_itm", "loss"}


def test_losses_by_hand(model):
    """Two samples, 2x2 masks, three candidates each: every number from the formulas, in numpy."""
    generator = np.random.default_rng(3)
    logits = generator.normal(0, 2, (2, 3, 2, 2))
    target = np.array([[[1.0, 0.0], [1.0, 1.0]], [[0.0, 0.0], [0.0, 1.0]]])
    predicted = generator.random((2, 3))
    p = 1 / (1 + np.exp(-logits))
    t = np.broadcast_to(target[:, None], p.shape)
    p_t = p * t + (1 - p) * (1 - t)
    each = {
        "loss_dice": 1 - (2 * (p * t).sum((2, 3)) + 1) / (p.sum((2, 3)) + t.sum((2, 3)) + 1),
        "loss_bce": -np.log(p_t).mean((2, 3)),
        "loss_focal": ((0.25 * t + 0.75 * (1 - t)) * (1 - p_t) ** 2 * -np.log(p_t)).mean((2, 3)),
    }
    best = (each["loss_dice"] + each["loss_bce"] + 20 * each["loss_focal"]).argmin(1)
    found, wanted = logits > 0, t > 0.5
    iou = (found & wanted).sum((2, 3)) / np.maximum((found | wanted).sum((2, 3)), 1)
    expected = {name: 0.95 * values[[0, 1], best].mean() + 0.05 * values.mean() for name, values in each.items()}
    expected["loss_iou"] = ((predicted - iou) ** 2).mean()
    # targets of twice the resolution: the area average brings them back
    fine = torch.from_numpy(target).repeat_interleave(2, 1).repeat_interleave(2, 2)
    losses = model.mask_loss(torch.from_numpy(logits).float(), torch.from_numpy(predicted).float(), fine)
    assert set(losses) == set(expected)
    for name, value in expected.items():
        # logarithms of four values, times 20: two dozen roundings of numbers up to 4
        assert losses[name].item() == pytest.approx(value, abs=24 * 4 * UNIT), name


@pytest.mark.parametrize("with_bce", [True, False])
def test_the_total_is_the_stated_sum(model, samples, with_bce):
    model.with_bce = with_bce
    out = model(samples)
    itm = F.cross_entropy(out["itm_scores"], samples["match"])
    torch.testing.assert_close(out["loss_itm"], itm)
    total = itm + out["loss_dice"] + 20 * out["loss_focal"] + out["loss_iou"] + with_bce * out["loss_bce"]
    torch.testing.assert_close(out["loss"], total)
    torch.testing.assert_close(model(samples, itm_train=False)["loss"], total - itm)


def test_the_mask_of_each_sample_is_the_candidate_it_trusts_most(model, samples):
    embeds = model.encode_image(samples)
    masks, iou = model.prepare_mask_outputs(*model.prepare_mask_features(embeds, model.encode_text(TEXTS, embeds)))
    best = iou.argmax(1)
    for i in range(4):
        torch.testing.assert_close(model.get_pred_masks(masks, iou)[i], masks[i, best[i]])
    given = torch.tensor([[0.1, 0.9, 0.2], [0.3, 0.2, 0.1]])
    stack = torch.arange(6.0).view(2, 3, 1, 1)
    assert model.get_pred_masks(stack, given).flatten().tolist() == [1.0, 3.0]


def test_several_texts_an_image_equal_the_image_repeated(model, samples):
    image = samples["image"][:2]
    together = model({"image": image, "text_input": TEXTS})
    apart = model({"image": image.repeat_interleave(2, 0), "text_input": TEXTS})
    for name, value in together.items():
        torch.testing.assert_close(value, apart[name], rtol=0, atol=TINY * value.abs().max().item())


def test_it_scores_as_the_pipelines_matcher_does(model, samples):
    """The weights that it learns are the ones the pipeline runs."""
    blip = build_blip(BLIP)
    blip.load_state_dict(model.blip_state())
    matcher = BlipMatcher(blip, model.tokenizer, BLIP, torch.device("cpu"))
    image = (samples["image"][:1] * 255).round()
    encoding = matcher.encode_image(matcher.preprocess(image[0].permute(1, 2, 0).numpy().astype(np.uint8)))
    scores = matcher.match(encoding, TEXTS, matcher.text_features(TEXTS))
    asked = {"image": image / 255, "text_input": TEXTS}
    limit = TINY * np.abs(scores.itm_logits).max()
    np.testing.assert_allclose(model(asked)["itm_scores"].detach(), scores.itm_logits, rtol=0, atol=limit)
    fused = model.gradcams(asked)
    assert fused is asked["gradcams"] and fused.shape == (4, 16) and not fused.requires_grad
    masks = model(asked)["pred_masks"].sigmoid().detach().numpy()
    for row, gradcam, mask in zip(fused.numpy(), scores.gradcam, masks):
        np.testing.assert_allclose(row.reshape(4, 4), fuse(min_max(gradcam), mask, 0.25), rtol=0, atol=TINY_MAP)


def test_weights_go_out_and_come_back(model, samples, vocab):
    other = BlipEsamItm.from_config(BlipEsamItmConfig(vocab, BLIP, DECODER, sam_prompt_dim=32, sam_embed_dim=32))
    other.load_blip_state(model.blip_state())
    assert torch.equal(other.eval()(samples)["itm_scores"], model(samples)["itm_scores"])


def test_normalised_images_are_taken_as_they_are(model, samples):
    from esam_perception.matching.image_encoder import normalise

    raw = model(samples)["itm_scores"]
    model.normalize_input = False
    torch.testing.assert_close(model({**samples, "image": normalise(samples["image"] * 255)})["itm_scores"], raw)


def test_gradients_reach_what_should_learn_and_nothing_else(model, samples):
    model.train()(samples)["loss"].backward()
    without = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0}
    # ITC is not part of this loss; the single-mask kernel is never asked for
    allowed = ("vision_proj.", "text_proj.", "mask_head.decoder.output_hypernetworks_mlps.0.")
    assert {name for name in without if not name.startswith(allowed)} == set()
    assert all(name in without for name, _ in model.named_parameters() if name.startswith(allowed))
    model.zero_grad(set_to_none=True)
    model.gradcams(samples)
    assert all(p.grad is None for p in model.parameters())


def test_from_config_takes_a_mapping_and_names_what_is_wrong(vocab):
    cfg = {
        "vocab": vocab, "blip": dataclasses.asdict(BLIP), "mask_decoder": dataclasses.asdict(DECODER), "embed_dim": 24,
        "sam_prompt_dim": 32, "sam_embed_dim": 32, "with_bce": False, "focal_alpha": 0.5, "focal_gamma": 1.0,
        "normalize_input": False,
    }  # fmt: skip
    model = BlipEsamItm.from_config(cfg)
    assert model.text_proj.out_features == 24 and not model.with_bce and model.focal_gamma == 1.0
    for wrong, said in (
        ({"colour": 1}, "colour"),
        ({"sam_prompt_dim": 16}, "sam_prompt_dim"),
        ({"alpha": "half"}, "alpha"),
    ):
        with pytest.raises(ValueError, match=said):
            BlipEsamItm.from_config({**cfg, **wrong})


@pytest.mark.parametrize(
    "change, said",
    [
        ({"image": torch.zeros(4, 3, 60, 64)}, "whole 16 px patches"),
        ({"image": torch.zeros(3, 3, 64, 64)}, "cannot be shared"),
        ({"text_input": []}, "cannot be shared"),
        ({"text_input": ["a mug", "...", "x", "y"]}, "no words"),
        ({"mask": torch.zeros(3, 64, 64)}, "3 masks for 4 texts"),
    ],
)
def test_samples_that_do_not_fit_are_errors(model, samples, change, said):
    with pytest.raises(ValueError, match=said):
        model({**samples, **change})


@pytest.mark.long
def test_fifty_steps_on_rendered_scenes_halve_the_loss(tabletop, vocab):
    import cv2

    torch.manual_seed(0)
    config = BlipEsamItmConfig(vocab, BLIP, DECODER, sam_prompt_dim=32, sam_embed_dim=32)
    model = BlipEsamItm.from_config(config).train()
    images, texts, masks, match = [], [], [], []
    for seed in range(8):
        seen = tabletop.render(tabletop.sample(seed))
        true, false = ([p for p in seen.phrases if p.true is wanted] for wanted in (True, False))
        if min(len(true), len(false)) < 2:
            continue
        phrases = [*true[:2], *false[:2]]
        images.append(torch.from_numpy(cv2.resize(seen.image, (64, 64))).permute(2, 0, 1) / 255)
        texts += [p.text for p in phrases]
        masks += [torch.from_numpy(np.isin(seen.instances, p.labels if p.true else ())) for p in phrases]
        match += [int(p.true) for p in phrases]
    assert len(images) >= 5 and 0 < sum(match) < len(match)
    samples = {
        "image": torch.stack(images),
        "text_input": texts,
        "mask": torch.stack(masks),
        "match": torch.tensor(match),
    }
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    first = last = None
    for _ in range(50):
        last = model(samples)
        first = first or last
        optimizer.zero_grad()
        last["loss"].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    assert last["loss"] < first["loss"] / 2
    for name in ("loss_itm", "loss_dice", "loss_bce", "loss_focal"):
        assert last[name] < first[name], name
