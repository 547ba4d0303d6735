"""Heatmaps made by hand on a recorded frame, the bundled EfficientSAM: what comes of points, boxes and regions."""

import dataclasses

import numpy as np
import pytest

from esam_perception.images.masks import mask_iou
from esam_perception.pipeline.fusion import FusionOptions, min_max, resize_map
from esam_perception.pipeline.pipeline import Pipeline
from esam_perception.pipeline.prompting import KINDS, PromptingOptions
from esam_perception.pipeline.regions import find_regions, mask_map, native_segment


@pytest.fixture(scope="module")
def scene(clip):
    """(pipeline, its encoding of a frame, instances, the labels of the two largest objects)"""
    pipeline = Pipeline.from_profile("tabletop", "cpu")
    instances = clip[0].instances
    areas = np.bincount(instances.ravel())[1:]
    return pipeline, pipeline.encode(clip[0].image), instances, 1 + np.argsort(-areas)[:2]


def heatmap_of(instances, labels, shares):
    """What a perfect Grad-CAM would give on a 16x16 grid: each object covered, as strong as its share."""
    maps = [share * resize_map((instances == label).astype(np.float32), 16, 16) for label, share in zip(labels, shares)]
    return min_max(np.sum(maps, axis=0))


def regions_of(scene, heatmap, **options):
    pipeline, encoded, _, _ = scene
    prompting = PromptingOptions(**{"sigma": 0.0, **options})
    return find_regions(pipeline._segmenter, encoded.segmentation, heatmap, encoded.size, prompting, FusionOptions())


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_prompt_finds_the_object(scene, kind):
    _, encoded, instances, labels = scene
    (region,) = regions_of(scene, heatmap_of(instances, labels[:1], [1.0]), kind=kind)
    segment = native_segment(region, encoded.size, 7)
    assert segment.label == 7 and mask_iou(segment.mask, instances == labels[0]) > 0.6
    assert 0 < segment.predicted_iou < 1.2


def test_two_regions_give_two_segments_the_stronger_first(scene):
    _, encoded, instances, labels = scene
    heatmap = heatmap_of(instances, labels, [0.8, 1.0])
    first, second = regions_of(scene, heatmap, max_points=1, min_share=0.6, max_regions=4)
    for region, label in ((first, labels[1]), (second, labels[0])):
        assert mask_iou(native_segment(region, encoded.size, 1).mask, instances == label) > 0.6
    both = mask_map([first, second])
    assert first.prompt.salience == 1 and 0.6 < second.prompt.salience < 1
    np.testing.assert_allclose(both, np.maximum(first.probability, second.prompt.salience * second.probability))
    assert len(regions_of(scene, heatmap, max_points=1, min_share=0.6, max_regions=1)) == 1


def test_two_regions_of_one_thing_are_one_segment(scene):
    _, _, instances, labels = scene
    whole = heatmap_of(instances, labels[:1], [1.0])
    rows, columns = np.nonzero(whole > 0.9)
    split = np.zeros_like(whole)
    split[rows.min(), columns[rows.argmin()]], split[rows.max(), columns[rows.argmax()]] = 1.0, 0.9
    assert abs(rows.max() - rows.min()) > 1  # else it is one region from the start
    assert len(regions_of(scene, split, max_points=1, max_regions=4)) == 1


def test_a_segment_of_nothing_is_none(scene):
    _, encoded, instances, labels = scene
    (region,) = regions_of(scene, heatmap_of(instances, labels[:1], [1.0]))
    assert native_segment(dataclasses.replace(region, logits=region.logits * 0 - 5), encoded.size, 1) is None
