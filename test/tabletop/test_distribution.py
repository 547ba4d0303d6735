"""How hard the scenes are that the figures are reported on. Fixed before training: if this test has to change, every
figure in docs/tabletop.md is void."""

from collections import Counter

import numpy as np
import pytest

from esam_perception.tabletop.words import CATEGORIES, COLOURS
from esam_perception.training.data.seeds import TEST_SEED, TRAIN_SEED, VALIDATION_SEED

SCENES = (*range(TEST_SEED, TEST_SEED + 60), *range(TEST_SEED + 12_300, TEST_SEED + 12_340))


@pytest.fixture(scope="module")
def rendered(tabletop):
    return [tabletop.render(tabletop.sample(seed)) for seed in SCENES]


@pytest.mark.long
def test_objects_per_scene_and_their_sizes(rendered):
    counts = [len(scene.objects) for scene in rendered]
    assert min(counts) == 3 and max(counts) == 8 and np.mean(counts) == pytest.approx(5.65, abs=0.1)
    visible = [o for scene in rendered for o in scene.objects if o.visible]
    assert len(visible) / len(rendered) == pytest.approx(5.49, abs=0.1)
    # rendered at 320x240: a quarter of the pixels of 640x480
    areas = 4 * np.array([o.pixels for o in visible])
    expected = [1058, 2268, 4140, 7280, 19591]
    np.testing.assert_allclose(np.percentile(areas, [5, 25, 50, 75, 95]), expected, rtol=0.1)


@pytest.mark.long
def test_distractors_share_a_word_with_most_objects(rendered):
    shared = total = 0
    for scene in rendered:
        for o in scene.objects:
            total += 1
            shared += any((p.colour == o.colour) != (p.category == o.category) for p in scene.objects if p is not o)
    assert shared / total == pytest.approx(0.754, abs=0.02)
    assert {o.category for s in rendered for o in s.objects} == set(CATEGORIES)
    assert {o.colour for s in rendered for o in s.objects} == set(COLOURS)


@pytest.mark.long
def test_most_false_phrases_are_hard(rendered):
    kinds = {True: Counter(), False: Counter()}
    for scene in rendered:
        for phrase in scene.phrases:
            kinds[phrase.true][phrase.kind] += 1
    true, false = (sum(kinds[key].values()) for key in (True, False))
    assert false / true == pytest.approx(1, abs=0.1)
    expected = {
        "wrong_colour": 0.337, "wrong_category": 0.276, "false_relation": 0.130, "absent_category": 0.119,
        "unknown_word": 0.092, "absent_colour": 0.046,
    }  # fmt: skip
    assert set(kinds[False]) == set(expected)
    for kind, share in expected.items():
        assert kinds[False][kind] / false == pytest.approx(share, abs=0.02), kind
    for kind, share in {"colour_category": 0.288, "relation": 0.288, "category": 0.226, "colour": 0.198}.items():
        assert kinds[True][kind] / true == pytest.approx(share, abs=0.02), kind


def test_training_validation_and_test_share_nothing():
    """Worlds (meshes, textures) are shared within blocks of seeds only; the ranges lie far apart."""
    from esam_perception.tabletop.scene import SCENES_PER_WORLD

    starts = (TRAIN_SEED, VALIDATION_SEED, TEST_SEED)
    assert all(start % SCENES_PER_WORLD == 0 for start in starts)
    assert TRAIN_SEED + 100_000 < VALIDATION_SEED < VALIDATION_SEED + 100_000 <= TEST_SEED
