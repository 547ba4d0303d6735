"""The naive way and ours say the same (small networks; at full size bench.pipeline checks it), and so does one decode for
many heatmaps."""

import argparse

import numpy as np
import pytest
import torch

from bench import pipeline as bench_pipeline
from bench import report
from bench.models import queries
from bench.naive import Naive
from esam_perception.pipeline.fusion import FusionOptions
from esam_perception.pipeline.pipeline import Pipeline
from esam_perception.pipeline.prompting import PromptingOptions
from esam_perception.pipeline.regions import find_all_regions, find_regions
from test.numerics.bounds import TINY

TEXTS = ["the red mug", "a banana", "something blue", "the zebra crossing", "box"]


@pytest.fixture(scope="module")
def pipeline(tiny_profile):
    return Pipeline.from_profile(str(tiny_profile), "cpu")


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(3).integers(0, 256, (60, 90, 3), np.uint8)


def test_the_naive_way_says_the_same(pipeline, image):
    naive = Naive(pipeline)
    worst = bench_pipeline.differences(pipeline.locate(image, TEXTS, segment_always=True), naive.locate(image, TEXTS))
    assert bench_pipeline.equal(worst), worst
    assert set(bench_pipeline.STAGES) <= set(naive.stages)
    assert not any(p.requires_grad or p.grad is not None for p in pipeline._matcher.model.parameters())


def test_a_wrong_answer_is_not_equal(pipeline, image):
    naive = Naive(pipeline).locate(image, TEXTS)
    other = pipeline.locate(255 - image, TEXTS, segment_always=True)
    assert not bench_pipeline.equal(bench_pipeline.differences(other, naive))


def test_one_decode_for_many_heatmaps_equals_one_for_each(pipeline, image):
    encoded = pipeline.encode(image)
    heats = list(np.random.default_rng(4).random((7, 4, 4), np.float32))
    for prompting in (
        PromptingOptions(max_points=1, sigma=0.0, suppression=0, min_share=0.6, max_regions=4),
        PromptingOptions(kind="box_and_points", sigma=0.0),
    ):
        given = (encoded.size, prompting, FusionOptions(candidate_choice="agreement"))
        together = find_all_regions(pipeline._segmenter, encoded.segmentation, heats, *given)
        assert len(together) == len(heats)
        for heat, regions in zip(heats, together):
            alone = find_regions(pipeline._segmenter, encoded.segmentation, heat, *given)
            assert len(alone) == len(regions) >= 1
            for a, b in zip(alone, regions):
                np.testing.assert_allclose(a.probability, b.probability, rtol=0, atol=TINY)
                np.testing.assert_array_equal(a.prompt.points, b.prompt.points)
    assert find_all_regions(pipeline._segmenter, encoded.segmentation, [], *given) == []


def test_held_tables_are_those_that_would_be_computed(pipeline):
    segmenter = pipeline._segmenter
    side = segmenter.config.image_size // segmenter.config.patch_size
    held = segmenter.image_encoder.positions(side, side), segmenter.prompt_encoder.grid(side, side)
    assert segmenter.image_encoder.held_positions is held[0]
    assert not any("held" in name for name in segmenter.state_dict())
    fresh = Naive(pipeline)._segmenter
    assert torch.equal(fresh.image_encoder.positions(side, side), held[0])
    assert torch.equal(fresh.prompt_encoder.grid(side, side), held[1])


def test_the_bench_writes_its_tables(pipeline, image, tmp_path, monkeypatch):
    monkeypatch.setattr(bench_pipeline, "full_size_pipeline", lambda device, precision=None: pipeline)
    monkeypatch.setattr(bench_pipeline.machine, "gemm_peak", lambda *args: 1e11)
    monkeypatch.setattr(bench_pipeline.machine, "copy_bandwidth", lambda *args: 1e10)
    args = argparse.Namespace(queries=[1, 3], rounds=2, naive_runs=2, naive_most=1, bfloat16=False)
    result = bench_pipeline.measure(torch.device("cpu"), args, image)
    report.write(tmp_path, {"cpu": result}, "command", "2026-11-23", (90, 60))
    text = (tmp_path / "pipeline.md").read_text()
    assert "extrapolated from 1 queries" in text and "GEMM floor" in text
    assert (tmp_path / "pipeline.json").stat().st_size and (tmp_path / "pipeline.png").stat().st_size
    work = result["works"]
    assert work[3]["sam_decode"].flops > work[1]["sam_decode"].flops > 0 and work[1]["blip_image"].bytes > 0


def test_the_queries_of_the_bench_are_all_different():
    assert len(set(queries(64))) == 64
    with pytest.raises(ValueError, match="64"):
        queries(65)


def test_the_full_size_pipeline_is_of_the_bundled_blip_base(monkeypatch):
    """Its networks are not built here: they take gigabytes."""
    from bench import models

    class Built(Exception):
        pass

    def build(architecture):
        raise Built(architecture.image_size, architecture.vision.hidden_size, architecture.vocab_size)

    monkeypatch.setattr(models, "build_blip", build)
    with pytest.raises(Built) as built:
        models.full_size_pipeline(torch.device("cpu"))
    assert built.value.args == (384, 768, 30524)  # of which two are BLIP's own
