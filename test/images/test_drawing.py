"""Pictures for people."""

from types import SimpleNamespace

import numpy as np

from esam_perception.images.drawing import PALETTE, draw_labels


def match_of(*labels: int) -> SimpleNamespace:
    """A match as far as colours go: the labels of its segments."""
    return SimpleNamespace(segments=[SimpleNamespace(label=label) for label in labels])


def test_a_label_image_in_the_colours_of_its_queries():
    """Labels are of the order of 1 and black to the eye; their colours are those of the overlay and the boxes."""
    labels = np.zeros((6, 9), np.uint8)
    labels[1:4, 1:3], labels[1:4, 3:5], labels[5, 8] = 1, 12, 4
    matches = [match_of(1, 12), match_of(), match_of(4)]
    picture = draw_labels(labels, matches)
    assert picture.shape == (6, 9, 3) and picture.dtype == np.uint8
    assert (picture[labels == 0] == 0).all()
    assert tuple(picture[5, 8]) == PALETTE[2] and tuple(picture[2, 1]) == tuple(picture[2, 4]) == PALETTE[0]
    # two segments of one query touch: a dark line tells them apart
    assert (picture[1:4, 2:4].sum(axis=2) == 0).any(axis=1).all()


def test_more_queries_than_colours_and_none():
    labels = np.arange(1, 21, dtype=np.uint8).reshape(4, 5).repeat(3, 0).repeat(3, 1)
    picture = draw_labels(labels, [match_of(i) for i in range(1, 21)])
    assert tuple(picture[1, 1]) == PALETTE[0] and tuple(picture[4, 10]) == PALETTE[8 % len(PALETTE)]
    assert not draw_labels(np.zeros((2, 3), np.uint8), []).any()
