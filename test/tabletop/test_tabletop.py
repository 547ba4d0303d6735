import json

import numpy as np
import pytest

from esam_perception.tabletop.language import (
    FALSE_KINDS,
    TabletopObject,
    contradiction,
    draw_false,
    holds,
    named,
    scene_phrases,
)
from esam_perception.tabletop.objects import MAKERS, make_object
from esam_perception.tabletop.scene import SCENES_PER_WORLD, make_world, sample_scene
from esam_perception.tabletop.words import ABSENT_NOUNS, CATEGORIES, COLOURS, RELATIONS
from esam_perception.training.data.seeds import TEST_SEED, TRAIN_SEED, VALIDATION_SEED
from esam_perception.training.data.vocabulary import tabletop_vocabulary


def test_the_words():
    assert len(CATEGORIES) == 32 and len(COLOURS) == 12 and set(MAKERS) == set(CATEGORIES)
    assert not set(ABSENT_NOUNS) & (set(CATEGORIES) | set(COLOURS))


@pytest.mark.parametrize("category", CATEGORIES)
def test_every_object_stands_on_the_table_and_is_of_unit_size(category):
    for seed in range(4):
        parts = make_object(category, np.random.default_rng(seed))
        points = np.concatenate([mesh.vertices for mesh in (parts.body, parts.trim) if mesh is not None])
        assert np.isfinite(points).all()
        assert points[:, 2].min() == pytest.approx(0, abs=1e-6)
        assert np.ptp(points, axis=0).max() == pytest.approx(1)
        np.testing.assert_allclose((points.min(0) + points.max(0))[:2], 0, atol=1e-6)


def test_worlds_and_scenes_come_from_their_seeds_alone():
    seed = TEST_SEED + 7
    first, second = (sample_scene(seed, make_world(seed // SCENES_PER_WORLD)) for _ in range(2))
    assert first == second and first != sample_scene(seed + 1, make_world(seed // SCENES_PER_WORLD))
    with pytest.raises(ValueError, match="belongs to world"):
        sample_scene(seed, make_world(0))


def test_training_validation_and_test_share_no_world():
    largest_training_set = 100_000
    worlds = [
        set(range(first // SCENES_PER_WORLD, (first + count) // SCENES_PER_WORLD))
        for first, count in ((TRAIN_SEED, largest_training_set), (VALIDATION_SEED, 10_000), (TEST_SEED, 10_000))
    ]
    assert not (worlds[0] & worlds[1] or worlds[0] & worlds[2] or worlds[1] & worlds[2])


def test_objects_do_not_stand_in_each_other_and_hard_scenes_are_common():
    world = make_world(TEST_SEED // SCENES_PER_WORLD)
    counts, shared = [], 0
    for seed in range(TEST_SEED, TEST_SEED + SCENES_PER_WORLD):
        placed = sample_scene(seed, world).placed
        counts.append(len(placed))
        names = [(world.pool[p.pool_index].category, p.colour) for p in placed]
        assert len(set(names)) == len(names)
        shared += len({c for c, _ in names}) < len(names) or len({c for _, c in names}) < len(names)
        for i, a in enumerate(placed):
            for b in placed[:i]:
                apart = np.hypot(a.xy[0] - b.xy[0], a.xy[1] - b.xy[1])
                assert apart >= 0.85 * (world.pool[a.pool_index].radius + world.pool[b.pool_index].radius)
    assert 1 <= min(counts) and 6 <= max(counts) <= 8
    assert shared > 0.6 * len(counts)  # a word alone does not tell the object


# every word that a phrase may have and still be true
KNOWN_WORDS = {w for w in tabletop_vocabulary() if len(w) > 1 or w == "a"}


def make_objects():
    return (
        TabletopObject(1, "mug", "red", (-0.2, 0, 0.8), 900, True),
        TabletopObject(2, "mug", "blue", (0.2, 0, 0.8), 900, True),
        TabletopObject(3, "key", "red", (0.0, 0, 1.1), 900, True),
        TabletopObject(4, "hat", "green", (0.1, 0, 0.6), 3, False),
    )


def is_true(phrase: str, objects) -> set[int]:
    """The objects a phrase names, read from its text by another way than the one that made it."""
    words = phrase.split()
    for relation in RELATIONS:
        if relation in phrase:
            left, right = phrase.split(relation)
            subjects, anchors = is_true(left, objects), is_true(right, objects)
            by_label = {o.label: o for o in objects}
            return {s for s in subjects if any(s != a and holds(relation, by_label[s], by_label[a]) for a in anchors)}
    colours = [w for w in words if w in COLOURS]
    categories = [w for w in words if w in CATEGORIES]
    if set(words) - KNOWN_WORDS or not (colours or categories):
        return set()
    return {o.label for o in named(objects, colours[0] if colours else None, categories[0] if categories else None)}


def test_phrases_are_what_they_claim():
    objects = make_objects()
    kinds = set()
    for seed in range(60):
        for phrase in scene_phrases(objects, np.random.default_rng(seed)):
            kinds.add(phrase.kind)
            assert is_true(phrase.text, objects) == set(phrase.labels), phrase
            assert phrase.true == bool(phrase.labels)
            assert 4 not in phrase.labels, "an object that can hardly be seen is not named"
    assert kinds == {"colour_category", "category", "colour", "relation", *FALSE_KINDS}


def test_the_contradiction_of_a_relation_is_false():
    objects, found = make_objects(), 0
    for seed in range(60):
        for phrase in scene_phrases(objects, np.random.default_rng(seed)):
            opposite = contradiction(objects, phrase) if phrase.true else None
            if opposite is not None:
                found += 1
                assert phrase.kind == "relation" and opposite.text != phrase.text and not opposite.true
                assert set(opposite.text.split()) - {"of", "in"} != set(phrase.text.split()) - {"of", "in"}
                assert not is_true(opposite.text, objects), (phrase, opposite)
    assert found > 20


def test_false_phrases_come_in_their_shares():
    rng = np.random.default_rng(0)
    kinds = [draw_false(make_objects(), rng).kind for _ in range(600)]
    hard = sum(kind in ("wrong_colour", "wrong_category", "false_relation") for kind in kinds)
    assert hard > 0.6 * len(kinds)


def test_a_render_agrees_with_its_truth(tabletop):
    seed = TEST_SEED + 3
    seen = tabletop.render(tabletop.sample(seed))
    again = tabletop.render(tabletop.sample(seed))
    np.testing.assert_array_equal(seen.image, again.image)
    assert seen.image.shape == (240, 320, 3) and seen.depth.shape == seen.instances.shape == (240, 320)
    fx, cx, cy = seen.camera_matrix[0, 0], seen.camera_matrix[0, 2], seen.camera_matrix[1, 2]
    for o in seen.objects:
        rows, columns = np.nonzero(seen.instances == o.label)
        assert len(rows) == o.pixels
        x, y, z = o.position
        if o.pixels > 200 and 20 < rows.min() and rows.max() < 220 and 20 < columns.min() and columns.max() < 300:
            # the centre projects into the object's bounding box, and its depth is near the surface's
            assert columns.min() - 6 <= fx * x / z + cx <= columns.max() + 6
            assert rows.min() - 6 <= fx * y / z + cy <= rows.max() + 6
            assert abs(np.median(seen.depth[rows, columns]) - z) < 0.15
    truth = json.loads(seen.truth_json())
    assert truth["seed"] == seed and [o["label"] for o in truth["objects"]] == [o.label for o in seen.objects]


def test_the_table_is_a_plane_in_depth(tabletop):
    seen = tabletop.render(tabletop.sample(TEST_SEED + 5))
    rows, columns = np.nonzero((seen.instances == 0) & (seen.depth > 0))
    z = seen.depth[rows, columns]
    points = (
        np.stack([(columns - seen.camera_matrix[0, 2]) * z, (rows - seen.camera_matrix[1, 2]) * z], 1)
        / seen.camera_matrix[0, 0]
    )
    points = np.concatenate([points, z[:, None]], 1)
    middle = points[np.argsort(np.hypot(rows - 120, columns - 160))[:3000]]
    centred = middle - middle.mean(0)
    thickness = np.linalg.svd(centred, full_matrices=False)[1][-1] / np.sqrt(len(middle))
    assert thickness < 0.002


def test_the_orbiting_camera_sees_the_same_objects(tabletop):
    scene = tabletop.sample(TEST_SEED + 3)
    first, turned = tabletop.render(scene), tabletop.render(scene, orbit=0.3)
    assert (first.image != turned.image).any()
    assert [(o.label, o.category, o.colour) for o in first.objects] == [
        (o.label, o.category, o.colour) for o in turned.objects
    ]


def test_the_clip_is_small_whole_and_true(clip):
    from esam_perception.tabletop.clip import FOLDER

    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 3e6
    assert len(clip) >= 8
    for frame in clip:
        assert frame.image.shape == (480, 640, 3) and frame.image.dtype == np.uint8
        assert frame.depth.dtype == np.float32 and 0.2 < np.median(frame.depth) < 3
        for o in frame.objects:
            assert int((frame.instances == o.label).sum()) == o.pixels
        assert any(p.true for p in frame.phrases) and any(not p.true for p in frame.phrases)
