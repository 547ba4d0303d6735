"""Number formats, threads and upload; the pipeline in bfloat16 beside float32."""

import copy
import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from esam_perception import computing
from esam_perception.computing import choose_precision, choose_threads, fewest_worthwhile, slow_precision, upload
from esam_perception.pipeline.pipeline import Pipeline
from esam_perception.pipeline.prompting import make_prompts

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def pipelines():
    """The bundled profile in float32 and in bfloat16."""
    return Pipeline.from_profile("tabletop", "cpu"), Pipeline.from_profile("tabletop", "cpu", "bfloat16")


# bfloat16 has 8 significant bits. A product rounds its two factors and its result, each by at most BIT of itself,
# evenly: by BIT / sqrt(3) rms each, together BIT rms. What comes out of `depth` products in a row is off by a random walk:
BIT = 2.0**-9


def chain(depth):
    """Relative error, rms, of what comes out of `depth` products in a row."""
    return BIT * depth**0.5


def depth_of(pipeline, text=False):
    """Products in a row. A layer of an image tower has 6 (keys and all, scores, context, output, two of the
    perceptron), one of the text encoder 10 (it attends twice), EfficientSAM's neck 2."""
    blip, sam = pipeline.profile.blip, pipeline.profile.efficient_sam
    if text:
        return 6 * blip["vision"]["num_hidden_layers"] + 10 * blip["text"]["num_hidden_layers"]
    return 6 * sam["depth"] + 2


def rms(x):
    return float(np.sqrt(np.mean(np.asarray(x, np.float64) ** 2)))


@pytest.fixture(scope="module")
def answers(pipelines, clip):
    """Of some of the clip's scenes: (encodings of both pipelines, [(match in float32, in bfloat16)])."""
    found = []
    for frame in clip[::6]:
        texts = list(dict.fromkeys(phrase.text for phrase in frame.phrases))[:8]
        encoded = [pipeline.encode(frame.image) for pipeline in pipelines]
        both = [pipeline.ask(one, texts, segment_always=True) for pipeline, one in zip(pipelines, encoded)]
        found.append((encoded, list(zip(*both, strict=True))))
    return found


def check_embedding(exact, rounded, pipeline):
    assert 0 < rms(exact - rounded) <= chain(depth_of(pipeline)) * rms(exact)


@pytest.mark.numeric
def test_bfloat16_moves_scores_and_maps_by_its_rounding_alone(pipelines, answers):
    pipeline = pipelines[0]
    model = pipeline._matcher.model
    error = chain(depth_of(pipeline, text=True))
    # a logit sums the last norm's outputs, each off by `error`, times the head's weights; 6 standard deviations
    outputs = model.text_encoder.encoder.layer[-1].output.LayerNorm.weight
    limit = 6 * error * rms(outputs) * model.itm_head.weight.norm(dim=1).max().item()
    # attention is off by what its scores are off: at most the logarithm of the patches in a peak; so is the gradient
    map_error = error * (np.log(pipeline._matcher.architecture.grid**2) + 1)
    count = 0
    for _, matches in answers:
        for exact, rounded in matches:
            count += 1
            assert np.abs(np.subtract(exact.itm_logits, rounded.itm_logits)).max() <= limit
            assert 0 < rms(exact.gradcam - rounded.gradcam) <= map_error * rms(exact.gradcam)
    assert count > 10


@pytest.mark.numeric
def test_bfloat16_gives_the_same_masks_but_where_they_are_undecided(pipelines, answers):
    """The decoder is float32 in both and hands on the error of its embedding: the same prompts give the same masks but
    for pixels whose logit is within `margin` of 0."""
    pipeline = pipelines[0]
    for (exact, rounded), matches in answers:
        check_embedding(exact.segmentation, rounded.segmentation, pipeline)
        for match, _ in matches:
            points = torch.from_numpy(match.segments[0].prompt_points)[None, None]
            labels = torch.ones(points.shape[:-1])
            labels[..., :2] = torch.tensor([2.0, 3.0])  # the profile's prompts are a box and points
            with torch.inference_mode():
                given = (points, labels, exact.size)
                one = pipelines[0]._segmenter.decode(exact.segmentation, *given)[0]
                other = pipelines[1]._segmenter.decode(rounded.segmentation, *given)[0]
            margin = 6 * chain(depth_of(pipeline)) * rms(one)
            assert one[(one > 0) != (other > 0)].abs().le(margin).all()
            # else the line above says little: most pixels are far from undecided
            assert (one.abs() > margin).float().mean() > 0.9


@pytest.mark.numeric
def test_bfloat16_moves_a_prompt_only_where_a_cell_is_at_the_edge(pipelines, answers):
    """A box is that of the cells above a share of the peak: it lies between the boxes of shares that differ by what the
    heat differs by. (A cell's own difference, those of the lowest and the highest cell that all are scaled by, and as
    much again, as smoothing lowers the peak.)"""
    options = pipelines[0].profile.prompting
    assert options.kind == "box_and_points" and pipelines[1].profile.prompting == options

    def box(match, share, size):
        one = dataclasses.replace(options, min_share=share, kind="box", max_regions=1)
        cells = match.heat.shape[0] // match.gradcam.shape[0]
        return make_prompts(match.heat, size, one, cells)[0].points

    for (encoded, _), matches in answers:
        for exact, rounded in matches:
            edge = 4 * float(np.abs(exact.heat - rounded.heat).max())
            assert 0 < edge < options.min_share / 2
            found = rounded.segments[0].prompt_points[:2]
            own = box(exact, options.min_share, encoded.size)
            np.testing.assert_array_equal(exact.segments[0].prompt_points[:2], own)
            wide, narrow = (box(exact, options.min_share + sign * edge, encoded.size) for sign in (-1, 1))
            assert (wide[0] <= found[0]).all() and (found[0] <= narrow[0]).all()
            assert (narrow[1] <= found[1]).all() and (found[1] <= wide[1]).all()


@pytest.mark.numeric
def test_four_bits_fewer_are_found(pipelines, answers, clip):
    pipeline = pipelines[0]
    coarse = copy.deepcopy(pipeline._segmenter)
    with torch.no_grad():
        for weight in coarse.image_encoder.blocks.parameters():
            mantissa, exponent = torch.frexp(weight)
            weight.copy_(torch.ldexp((mantissa * 16).round() / 16, exponent))
        image = torch.from_numpy(clip[0].image).permute(2, 0, 1)[None].float() / 255
        (exact, _), _ = answers[0]
        with pytest.raises(AssertionError):
            check_embedding(exact.segmentation, coarse.encode_image(image), pipeline)


def test_bfloat16_is_really_used(pipelines):
    exact, rounded = pipelines
    assert rounded.precision == torch.bfloat16 and exact.precision == torch.float32
    assert rounded._segmenter.image_encoder.blocks[0].attn.qkv.weight.dtype == torch.bfloat16
    for part in (rounded._segmenter.image_encoder.blocks[0].norm1, rounded._segmenter.mask_decoder.iou_token):
        assert part.weight.dtype == torch.float32
    image = np.zeros((48, 64, 3), np.uint8)
    encoded = rounded.encode(image)
    assert encoded.segmentation.dtype == torch.float32
    assert encoded.matching.keys_values[0][0].dtype == torch.bfloat16
    assert rounded.explain(encoded, "the red mug")[1].gradcam.dtype == np.float32


def test_options_keep_the_precision(pipelines):
    assert pipelines[1].with_options().precision == torch.bfloat16


def test_precisions():
    assert choose_precision("auto", CPU) == choose_precision("float32", CPU) == torch.float32
    assert choose_precision("bfloat16", CPU) == torch.bfloat16
    with pytest.raises(ValueError, match="precision"):
        choose_precision("float16", CPU)


def test_bfloat16_that_is_slower_is_warned_of_with_the_measured_factor(tiny_profile, monkeypatch, capsys):
    from esam_perception.commands.train import _machine

    def took(bfloat16):
        return lambda *given, **named: {torch.float32: 0.25, torch.bfloat16: bfloat16}

    said = "bfloat16 is 7.6 times slower than float32 on this CPU; use precision auto or float32"
    assert slow_precision(torch.bfloat16, CPU, took(1.9)) == said
    assert slow_precision(torch.bfloat16, CPU, took(0.2)) is None
    # where it is not used or not the CPU's, nothing is measured
    assert slow_precision(torch.float32, CPU) is None
    assert slow_precision(torch.bfloat16, torch.device("cuda")) is None
    args = SimpleNamespace(device="cpu", precision="bfloat16")
    monkeypatch.setattr(computing, "measure", took(1.9))
    assert said in Pipeline.from_profile(str(tiny_profile), "cpu", "bfloat16").provenance.notes
    assert not Pipeline.from_profile(str(tiny_profile), "cpu", "float32").provenance.notes
    assert _machine(args).dtype == torch.bfloat16 and said in capsys.readouterr().err
    monkeypatch.setattr(computing, "measure", took(0.2))
    assert not Pipeline.from_profile(str(tiny_profile), "cpu", "bfloat16").provenance.notes
    assert _machine(args).dtype == torch.bfloat16 and not capsys.readouterr().err


def test_a_factor_is_measured_on_this_machine():
    assert (slow_precision(torch.bfloat16, CPU) or "bfloat16 is").startswith("bfloat16 is")
    counted = []
    taken = computing.measure({"a": lambda: counted.append("a"), "b": lambda: counted.append("b")}, rounds=3)
    assert counted == ["a", "b"] * 3 and set(taken) == {"a", "b"} and min(taken.values()) >= 0


def test_more_threads_only_where_they_are_worth_it():
    assert fewest_worthwhile({1: 1.0, 2: 0.55, 4: 0.5}) == 2
    assert fewest_worthwhile({1: 1.0, 2: 0.95, 4: 0.4}) == 4
    assert fewest_worthwhile({1: 1.0, 2: 1.3}) == 1
    before = torch.get_num_threads()
    assert 1 <= choose_threads() <= 16 and torch.get_num_threads() == before


def test_an_image_is_uploaded_as_it_is():
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)[:, ::-1]
    np.testing.assert_array_equal(upload(image, CPU)[0].numpy(), image)
