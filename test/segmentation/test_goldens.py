"""EfficientSAM against the goldens (the official code); and that faults are found."""

from itertools import chain

import pytest
import torch
from torch import nn

from test.numerics.bounds import check
from test.numerics.faults import long, pairs, put
from test.segmentation import goldens as g
from test.segmentation.mutations import DOGS, ENCODER, EPS, LAST_BLOCK, MASKS, PORTRAIT, WIDE

CASES = [DOGS, PORTRAIT, EPS, WIDE, long("vitt/dogs_389x251"), long("vits/dogs_389x251")]


@pytest.fixture(scope="module", params=CASES)
def official(request, goldens, golden_weights):
    """(golden, name of an image, its embedding, what the encoder's last block was given)"""
    name, image = request.param.split("/")
    golden = g.load_golden(goldens / "efficient_sam", name, golden_weights)
    seen: list[torch.Tensor] = []
    hook = golden.model.image_encoder.blocks[-1].register_forward_pre_hook(lambda block, given: seen.append(given[0]))
    with torch.inference_mode():
        embedding = golden.encode(image)
    hook.remove()
    return golden, image, embedding, seen[0]


def remember(monkeypatch, golden, before):
    """Let the encoder run its last block alone, on what it was given: a fault there costs no whole run."""
    blocks = nn.ModuleList([Remembered(before), golden.model.image_encoder.blocks[-1]])
    put(monkeypatch, golden.model.image_encoder, "blocks", blocks)


class Remembered(nn.Module):
    """Stands for blocks that were run already."""

    def __init__(self, output):
        super().__init__()
        self.output = output

    def forward(self, x):
        return self.output


@pytest.mark.numeric
def test_the_embedding_equals_the_official_models(official):
    golden, image, embedding, _ = official
    assert check(g.embedding_beside(golden, image, embedding)) == 1


@pytest.mark.numeric
def test_masks_equal_the_official_models(official):
    golden, image, embedding, _ = official
    assert check(g.masks_beside(golden, image, embedding)) >= 4 * len(golden.prompts(image)) >= 8


@pytest.mark.parametrize("official", [DOGS, WIDE], indirect=True)
@pytest.mark.parametrize("name", g.ILLEGAL)
def test_what_the_official_model_would_cut_or_ignore_is_an_error(official, name):
    golden, image, embedding, _ = official
    with pytest.raises(ValueError, match=g.ILLEGAL[name]):
        golden.model.decode(embedding, *golden.prompt(image, name), golden.size(image))


@pytest.mark.parametrize("official, fault", pairs(ENCODER), indirect=["official"])
def test_a_fault_in_the_encoder_is_found(official, fault, monkeypatch):
    golden, image, *_ = official
    fault(monkeypatch, golden)
    with torch.inference_mode(), pytest.raises(AssertionError):
        check(g.embedding_beside(golden, image, golden.encode(image)))


@pytest.mark.parametrize("official, fault", pairs(LAST_BLOCK), indirect=["official"])
def test_a_fault_in_the_encoders_last_block_is_found(official, fault, monkeypatch):
    golden, image, _, before = official
    remember(monkeypatch, golden, before)
    fault(monkeypatch, golden)
    with torch.inference_mode(), pytest.raises(AssertionError):
        check(g.embedding_beside(golden, image, golden.encode(image)))


@pytest.mark.parametrize("official", [DOGS], indirect=True)
def test_the_last_block_alone_gives_the_same_embedding(official, monkeypatch):
    golden, image, embedding, before = official
    remember(monkeypatch, golden, before)
    with torch.inference_mode():
        assert torch.equal(golden.encode(image), embedding)


@pytest.mark.parametrize("official, fault", pairs(MASKS), indirect=["official"])
def test_a_fault_in_prompts_decoder_or_upsampling_is_found(official, fault, monkeypatch):
    golden, image, embedding, _ = official
    fault(monkeypatch, golden)
    # prompts of one query first: each costs as much as another
    names = sorted(golden.prompts(image), key=lambda name: golden.prompt(image, name)[0].shape[1])
    with torch.inference_mode(), pytest.raises(AssertionError):
        check(chain.from_iterable(g.masks_beside(golden, image, embedding, [name]) for name in names))
