"""Number formats, threads and upload; the pipeline in bfloat16 beside float32."""

import numpy as np
import pytest
import torch

from esam_perception.computing import choose_precision, choose_threads, fewest_worthwhile, upload
from esam_perception.pipeline import Pipeline

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def pipelines():
    """The bundled profile in float32 and in bfloat16."""
    return Pipeline.from_profile("tabletop", "cpu"), Pipeline.from_profile("tabletop", "cpu", "bfloat16")


@pytest.fixture(scope="module")
def pairs(pipelines, clip):
    """What both say of the clip's scenes and phrases."""
    exact, rounded = pipelines
    found = []
    for frame in clip:
        texts = list(dict.fromkeys(phrase.text for phrase in frame.phrases))[:10]
        answers = (pipeline.locate(frame.image, texts, segment_always=True) for pipeline in (exact, rounded))
        found += zip(*answers, strict=True)
    return found


def correlation(a, b):
    return np.corrcoef(a.ravel(), b.ravel())[0, 1]


def overlap_of(a, b):
    return (a & b).sum() / (a | b).sum()


def test_bfloat16_says_what_float32_says(pairs):
    assert len(pairs) > 50
    for exact, rounded in pairs:
        assert rounded.itm_score == pytest.approx(exact.itm_score, abs=0.01)
        assert correlation(exact.gradcam, rounded.gradcam) > 0.999
    # A cell of the heat at the very edge of a region may be in it for the one and not for the other, which moves a prompt
    # by a cell: rarely, and never to another thing. The same prompts give the same masks.
    segments = [(exact.segments[0], rounded.segments[0]) for exact, rounded in pairs]
    overlap = np.array([overlap_of(a.mask, b.mask) for a, b in segments])
    same = np.array([np.array_equal(a.prompt_points, b.prompt_points) for a, b in segments])
    fused = np.array([correlation(exact.heatmap, rounded.heatmap) for exact, rounded in pairs])
    assert overlap[same].min() > 0.99 and overlap.min() > 0.9 and np.mean(overlap > 0.99) > 0.95
    assert fused.min() > 0.95 and np.mean(fused > 0.999) > 0.95


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


def test_more_threads_only_where_they_are_worth_it():
    assert fewest_worthwhile({1: 1.0, 2: 0.55, 4: 0.5}) == 2
    assert fewest_worthwhile({1: 1.0, 2: 0.95, 4: 0.4}) == 4
    assert fewest_worthwhile({1: 1.0, 2: 1.3}) == 1
    before = torch.get_num_threads()
    assert 1 <= choose_threads() <= 16 and torch.get_num_threads() == before


def test_an_image_is_uploaded_as_it_is():
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)[:, ::-1]
    np.testing.assert_array_equal(upload(image, CPU)[0].numpy(), image)
