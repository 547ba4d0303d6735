import math

import pytest
import torch

from esam_perception.losses import bce_loss, dice_loss, focal_loss, logits_iou
from test.numerics.bounds import UNIT

# sums of four values near 1, an exponential, a logarithm, a square: 16 roundings
NEAR = 16 * UNIT

# probabilities .5, .8, .2, .5 against 1, 1, 0, 0
LOGITS = torch.tensor([[0.0, math.log(4)], [-math.log(4), 0.0]])
TARGET = torch.tensor([[1.0, 1.0], [0.0, 0.0]])


def test_values_by_hand():
    # overlap 1.3, sum of p 2.0, sum of t 2
    assert dice_loss(LOGITS, TARGET).item() == pytest.approx(1 - (2 * 1.3 + 1) / (2.0 + 2 + 1), abs=NEAR)
    assert bce_loss(LOGITS, TARGET).item() == pytest.approx(-(2 * math.log(0.5) + 2 * math.log(0.8)) / 4, abs=NEAR)
    # (1 - p_t)^2 is .25 and .04; a quarter for the thing, three quarters for the background
    focal = (0.25 + 0.75) * (0.25 * -math.log(0.5) + 0.04 * -math.log(0.8)) / 4
    assert focal_loss(LOGITS, TARGET).item() == pytest.approx(focal, abs=NEAR)
    # found: the pixels with a positive logit, here one of the two wanted
    assert logits_iou(LOGITS, TARGET).item() == pytest.approx(0.5)


def test_focal_without_focus_is_weighed_bce():
    assert focal_loss(LOGITS, TARGET, alpha=0.5, gamma=0.0).item() == pytest.approx(bce_loss(LOGITS, TARGET).item() / 2)


def test_a_perfect_mask_costs_nothing_and_a_wrong_one_all():
    sure = (TARGET * 2 - 1) * 30
    for loss in (dice_loss, bce_loss, focal_loss):
        assert loss(sure, TARGET).item() == pytest.approx(0, abs=NEAR)
    assert dice_loss(-sure, TARGET).item() == pytest.approx(1 - 1 / 5, abs=NEAR)
    assert bce_loss(-sure, TARGET).item() == pytest.approx(30, rel=1e-4)
    assert dice_loss(torch.full((2, 2), -30.0), torch.zeros(2, 2)).item() == pytest.approx(0, abs=NEAR)
    assert logits_iou(-sure, TARGET).item() == 0 and logits_iou(torch.full((2, 2), -1.0), torch.zeros(2, 2)).item() == 0


def test_every_leading_dimension_is_kept():
    logits, target = torch.randn(2, 3, 4, 5), torch.rand(2, 3, 4, 5)
    for loss in (dice_loss, bce_loss, focal_loss, logits_iou):
        whole = loss(logits, target)
        assert whole.shape == (2, 3)
        torch.testing.assert_close(whole[1, 2], loss(logits[1, 2], target[1, 2]))
