import pytest
import torch

from esam_perception.segmentation import EfficientSam, check_prompt
from test.numerics.bounds import rounding
from test.tiny import SAM


@pytest.mark.numeric
def test_any_size_and_several_queries_in_one_pass():
    torch.manual_seed(0)
    model = EfficientSam(SAM).eval()
    with torch.inference_mode():
        embeddings = model.encode_image(torch.rand(1, 3, 30, 50))
        points = torch.rand(1, 3, 2, 2) * torch.tensor([50.0, 30.0])
        labels = torch.ones(1, 3, 2)
        logits, iou = model.decode(embeddings, points, labels, (30, 50))
        assert logits.shape == (1, 3, 3, 32, 32) and iou.shape == (1, 3, 3)
        for i in range(3):
            alone, alone_iou = model.decode(embeddings, points[:, i : i + 1], labels[:, i : i + 1], (30, 50))
            # another batch may be summed in another order: at most 64 terms, 20 products in a row
            for own, of_all in ((alone[:, 0], logits[:, i]), (alone_iou[:, 0], iou[:, i])):
                torch.testing.assert_close(own, of_all, atol=rounding(64, 20) * of_all.abs().max().item(), rtol=0)
        # padding that is given equals padding that is added
        padded = torch.cat([points, torch.full((1, 3, 4, 2), -1.0)], 2)
        padded_labels = torch.cat([labels, torch.full((1, 3, 4), -1.0)], 2)
        assert torch.equal(model.decode(embeddings, padded, padded_labels, (30, 50))[0], logits)


@pytest.mark.parametrize(
    "points, labels",
    [
        (torch.zeros(7, 2), torch.ones(7)),
        (torch.zeros(0, 2), torch.ones(0)),
        (torch.zeros(2, 2), torch.tensor([1.0, 0.5])),
        (torch.zeros(2, 2), torch.tensor([-1, 0])),
        (torch.zeros(2, 2), torch.ones(3)),
        (torch.full((1, 2), float("nan")), torch.ones(1)),
    ],
)
def test_prompts_that_would_be_misunderstood_are_errors(points, labels):
    with pytest.raises(ValueError):
        check_prompt(points, labels)


def test_decode_refuses_what_check_prompt_refuses():
    model = EfficientSam(SAM)
    for points, labels in (
        (torch.zeros(1, 1, 7, 2), torch.ones(1, 1, 7)),
        (torch.zeros(1, 1, 1, 2), torch.full((1, 1, 1), 0.5)),
    ):
        with pytest.raises(ValueError):
            model.decode(torch.zeros(1, 32, 8, 8), points, labels, (64, 64))
