"""`esam train --data` on a folder as a user would make it: pictures, outlines of three kinds, phrases."""

import json

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from esam_perception.commands.dispatcher import main
from esam_perception.pipeline.pipeline import Pipeline
from esam_perception.profiles.schema import read_profile
from esam_perception.training.data.labelled_images import (
    DatasetError,
    Thing,
    false_phrases,
    read_labelled_images,
    read_mask,
    split,
)  # fmt: skip
from esam_perception.training.data.own_scenes import OwnScenes
from esam_perception.training.data.vocabulary import extend_vocabulary
from test.tiny import write_tiny_profile
from test.training.conftest import COLOURS, HEIGHT, WIDTH


def change(folder, edit):
    path = folder / "annotations.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def test_outlines_of_every_kind_are_the_same_pixels(folder):
    for image in read_labelled_images(folder):
        pixels = cv2.imread(str(image.path))[..., ::-1]
        for thing in image.things:
            expected = (pixels == COLOURS[thing.category]).all(-1)
            np.testing.assert_array_equal(read_mask(thing, folder, HEIGHT, WIDTH), expected)


def test_phrases_of_a_batch_are_true_and_false_of_their_images(folder):
    images = read_labelled_images(folder)
    scenes = OwnScenes(images, folder, 64)
    batch = scenes.draw_batch(np.random.default_rng(0), 6, 16)
    assert batch.images.shape == (6, 64, 64, 3) and batch.masks.shape == (48, 16, 16)
    np.testing.assert_array_equal(batch.masks.max((1, 2)) > 0, batch.match == 1)
    for text, match, mask in zip(batch.texts, batch.match, batch.masks):
        if match:
            assert 0.08 < mask.mean() < 0.2, text
    image = images[0]
    false = false_phrases(image, images)
    assert "the yellow mug" in false and not set(false) & set(image.phrases)
    pixels, instances, things = scenes[0]
    assert [(instances == thing.label).any() for thing in things] == [True, True]


@pytest.mark.long
def test_the_command_trains_a_profile_that_runs(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    base = tmp_path / "base"
    base.mkdir()
    write_tiny_profile(base)
    command = ["train", "--data", str(folder), "--from", str(base), "--matching-steps", "100", "--segmentation-steps",
               "10", "--batch", "2", "--learning-rate", "2e-3", "--validation-share", "0.2", "--device", "cpu"]  # fmt: skip
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "8 images to learn from, 2 held out" in said and "new words: gripper, pallet" in said
    work = tmp_path / "esam_train" / "warehouse"
    curves = json.loads((work / "curves.json").read_text())
    assert curves["matching"]["step"] == [50, 100]
    for name in ("loss", "loss_itm", "loss_dice"):
        assert curves["matching"][name][-1] < curves["matching"][name][0], name
    assert (work / "curves.png").read_bytes()[:4] == b"\x89PNG"

    trained = read_profile(work / "profile")
    assert "not fitted again" in trained.verdict.source and trained.training["images"] == 8
    pipeline = Pipeline.from_profile(str(work / "profile"), "cpu")
    image = read_labelled_images(folder)[0]
    pixels = cv2.imread(str(image.path))[..., ::-1].copy()
    right = [match.itm_score for match in pipeline.locate(pixels, image.phrases)]
    wrong = [match.itm_score for match in pipeline.locate(pixels, sorted(set(false_phrases(image, [image]))))]
    assert min(right) > max(wrong)
    # a second run finds nothing left to do, and says so fast; other settings are not mixed in
    assert main(command) == 0
    assert main([*command[:-2], "--batch", "4"]) == 1
    assert "other settings" in capsys.readouterr().err


def test_validation_images_are_chosen_by_name(folder):
    images = read_labelled_images(folder)
    learning, held_out = split(images, 0.3)
    assert len(held_out) == 3 and len(learning) == 7
    assert {i.path for i in split(images[::-1], 0.3)[1]} == {i.path for i in held_out}
    with pytest.raises(DatasetError, match="at least two"):
        split(images[:1], 0.3)


@pytest.mark.parametrize(
    "edit, said",
    [
        (lambda c: c.pop("images"), "images is missing"),
        (lambda c: c["annotations"][0].update(category_id=77), "annotation 0: category_id 77"),
        (lambda c: c["annotations"][0].update(image_id=77), "image_id 77"),
        (lambda c: c["annotations"][0].update(segmentation=[]), "segmentation is missing"),
        (lambda c: c["annotations"][0].update(phrases="mug"), "must be a list of texts"),
        (lambda c: c["images"][3].update(file_name="nowhere.png"), "nowhere.png is missing"),
        (lambda c: c["images"][3].pop("id"), "lacks id"),
        (lambda c: c.update(annotations=[]), "no image has an annotation"),
    ],
)
def test_a_wrong_folder_says_what_is_wrong(folder, capsys, edit, said):
    change(folder, edit)
    assert main(["train", "--data", str(folder), "--from", "tabletop"]) == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "outline, said",
    [
        ({"size": [1, 2], "counts": [2]}, "run lengths are of size"),
        ({"size": [HEIGHT, WIDTH], "counts": [3]}, "sum to 3"),
        ([["a", "b"]], "must be polygons"),
        ("nowhere.png", "cannot be read as a mask"),
    ],
)
def test_an_outline_that_does_not_fit_names_its_annotation(tmp_path, outline, said):
    with pytest.raises(DatasetError, match=said):
        read_mask(Thing("mug", ("mug",), outline, "annotation 5"), tmp_path, HEIGHT, WIDTH)


def test_an_image_of_which_nothing_is_false_is_refused(folder):
    change(folder, lambda c: [image.pop("negatives") for image in c["images"]])
    change(folder, lambda c: [a.update(category_id=0) for a in c["annotations"]])
    with pytest.raises(DatasetError, match="add phrases to its negatives"):
        OwnScenes(read_labelled_images(folder), folder, 64)


@given(st.recursive(st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
                        st.sampled_from(["images", "annotations", "categories", "id", "file_name", "segmentation"]), inner, max_size=4),
                    max_leaves=12))  # fmt: skip
def test_any_json_is_read_or_refused(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("any")
    (folder / "annotations.json").write_text(json.dumps(content))
    with pytest.raises(DatasetError):
        read_labelled_images(folder)


def test_new_words_follow_the_old_ones(tmp_path):
    bert = tmp_path / "vocab.txt"
    bert.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "mug", "grip", "##per"]) + "\n")
    path, new = extend_vocabulary(bert, ["the gripper", "the mug"], tmp_path / "same.txt")
    assert new == [] and path.read_text() == bert.read_text()
    path, new = extend_vocabulary(bert, ["a pallet"], tmp_path / "more.txt")
    assert new == ["a", "pallet"] and path.read_text().split()[-4:] == ["[DEC]", "[ENC]", "a", "pallet"]
