"""Every array of the BLIP-ITM goldens (LAVIS' own code) through the query path; and that faults in it are found."""

from collections import OrderedDict
from itertools import chain

import pytest
import torch

from test.matching import goldens as g
from test.matching.image_mutations import PIXELS, TOWER
from test.matching.mutations import DOGS, EPS, HF, PORTRAIT
from test.matching.text_mutations import ANSWERS
from test.numerics.bounds import Compared, check
from test.numerics.faults import long, pairs

CASES = [DOGS, PORTRAIT, EPS, HF, long("lavis_names/merlion"), long("hf_names/merlion")]


@pytest.fixture(scope="module")
def load(goldens, golden_weights, tmp_path_factory):
    """A golden by its name; the last one is held."""
    held = {}

    def load(name):
        if name not in held:
            held.clear()
            held[name] = g.load_golden(goldens / "blip_itm", name, golden_weights, tmp_path_factory.mktemp("vocab"))
        return held[name]

    return load


@pytest.fixture(scope="module", params=CASES)
def official(request, load):
    """(golden, name of an image, its embeddings, its encoding)"""
    name, image = request.param.split("/")
    golden = load(name)
    return golden, image, *g.encode(golden, image)


def answers(golden, image, encoding):
    """What the text side says, the cheap first."""
    return chain(g.scores_beside(golden, image, encoding), g.words_beside(golden, image, encoding))


def test_texts_become_lavis_tokens(official):
    golden = official[0]
    for j, text in enumerate(golden.texts):
        assert golden.matcher.tokenizer.tokens(text) == golden.content["lavis_input_ids"][f"t{j}"]
    ids = golden.matcher.tokenizer.tokens(golden.content["long_text"])
    assert ids == golden.content["lavis_input_ids"]["long"] and len(ids) == 35  # 40 words
    assert [word.text for word in golden.matcher.tokenizer.words(golden.texts[2])][4:7] == ["merlion", "statue", ","]


@pytest.mark.numeric
def test_pixels_equal_pillows(official):
    golden, image, *_ = official
    assert check(g.pixels_beside(golden, image)) == 2


@pytest.mark.numeric
def test_the_image_tower_equals_lavis(official):
    golden, image, embeds, _ = official
    assert check(g.tower_beside(golden, image, embeds)) == 1


@pytest.mark.numeric
def test_scores_and_gradcam_equal_lavis_in_one_batch(official):
    golden, image, _, encoding = official
    assert check(g.scores_beside(golden, image, encoding)) >= 3 * len(golden.texts)


def test_scores_and_gradcam_equal_lavis_one_by_one(official):
    golden, image, _, encoding = official
    assert check(g.single_beside(golden, image, encoding)) == 3 * len(golden.texts)


def test_gradcam_of_every_word_equals_lavis(official):
    golden, image, _, encoding = official
    assert check(g.words_beside(golden, image, encoding)) >= 20


@pytest.mark.numeric
def test_attention_and_gradient_equal_lavis(official):
    golden, image, _, encoding = official
    assert check(g.attention_beside(golden, image, encoding)) == 2 * len(golden.texts)


@pytest.mark.parametrize("official", [DOGS, *CASES[3:]], indirect=True)
def test_gradcam_of_other_layers_and_of_a_long_text_equal_lavis(official):
    golden, image, _, encoding = official
    for layer in (6, 8, 10):
        check(g.scores_beside(golden, image, encoding, golden.at_layer(layer)))
    if image == golden.images[0]:
        assert check(g.long_beside(golden, encoding)) == 2


@pytest.mark.parametrize("official", [DOGS], indirect=True)
@pytest.mark.parametrize("text", ["", "  ", "...!"])
def test_an_empty_text_is_refused_before_the_model(official, text):
    golden, _, _, encoding = official
    assert golden.arrays["empty/gradcam_avg_isnan"]  # what LAVIS gives
    with pytest.raises(ValueError, match="no words"):
        golden.matcher.match(encoding, [text], None)
    with pytest.raises(ValueError, match="no words"):
        golden.matcher.match_words(encoding, text)


@pytest.mark.parametrize("official, fault", pairs(PIXELS), indirect=["official"])
def test_a_fault_in_the_pixels_is_found(official, fault, monkeypatch):
    golden, image, *_ = official
    fault(monkeypatch, golden)
    with pytest.raises(AssertionError):
        check(g.pixels_beside(golden, image))


@pytest.mark.parametrize("official, fault", pairs(TOWER), indirect=["official"])
def test_a_fault_in_the_image_tower_is_found(official, fault, monkeypatch):
    golden, image, *_ = official
    fault(monkeypatch, golden)
    with torch.no_grad(), pytest.raises(AssertionError):
        check(g.tower_beside(golden, image, g.encode(golden, image)[0]))


@pytest.mark.parametrize("official, fault", pairs(ANSWERS), indirect=["official"])
def test_a_fault_on_the_text_side_is_found(official, fault, monkeypatch):
    golden, image, _, encoding = official
    monkeypatch.setattr(golden.matcher, "_text_features", OrderedDict())
    fault(monkeypatch, golden)
    with pytest.raises(AssertionError):
        check(answers(golden, image, encoding))


@pytest.mark.parametrize("official", [DOGS, PORTRAIT], indirect=True)
def test_with_cls_for_enc_the_logits_are_those_that_lavis_gives_then(official, monkeypatch):
    golden, image, _, encoding = official
    monkeypatch.setattr(golden.matcher.tokenizer, "encode_for_itm", golden.matcher.tokenizer.encode_for_itc)
    for j, text in enumerate(golden.texts):
        logits = golden.matcher.match(encoding, [text], golden.matcher.text_features([text])).itm_logits[0]
        where = f"{image}/t{j}/itm_logits_WRONG_cls"
        assert check([Compared("itm_logits", where, logits, golden.arrays[where])]) == 1
