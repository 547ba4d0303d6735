"""Makers of what stands in a kitchen: vessels, a spoon, fruit and vegetables. See `objects`."""

from __future__ import annotations

import numpy as np
from scipy.interpolate import PchipInterpolator

from esam_perception.tabletop.shapes import (
    IVORY,
    LEAF,
    WOOD,
    Parts,
    arc,
    ellipsoid,
    join,
    revolve,
    rotated,
    tube,
    vessel,
)


def mug(rng: np.random.Generator) -> Parts:
    r, h, taper = rng.uniform(0.34, 0.46), rng.uniform(0.8, 1.05), rng.uniform(-0.06, 0.06)
    wall = vessel([(r - taper, 0), (r, h * 0.5), (r + taper, h)], 0.05)
    reach = rng.uniform(0.22, 0.34)
    handle = arc(reach, h * rng.uniform(0.26, 0.34), -np.pi / 2, np.pi / 2, (r - 0.03, 0, h * 0.52))
    return Parts(join(wall, tube(handle, rng.uniform(0.045, 0.07))))


def bowl(rng: np.random.Generator) -> Parts:
    h, foot = rng.uniform(0.38, 0.55), rng.uniform(0.2, 0.35)
    outline = [(foot, 0), (foot + 0.2, h * 0.16), (0.85, h * rng.uniform(0.45, 0.6)), (1.0, h)]
    return Parts(vessel(outline, 0.06))


def plate(rng: np.random.Generator) -> Parts:
    inner, h = rng.uniform(0.55, 0.7), rng.uniform(0.1, 0.16)
    outline = [(0, 0), (inner, 0), (1, h), (0.98, h + 0.03), (inner - 0.02, 0.04), (0, 0.04)]
    return Parts(revolve(outline, sections=48))


def bottle(rng: np.random.Generator) -> Parts:
    r, neck, shoulder = rng.uniform(0.24, 0.32), rng.uniform(0.08, 0.11), rng.uniform(0.9, 1.2)
    top = shoulder + rng.uniform(0.55, 0.75)
    body = revolve(
        [(0, 0), (r, 0), (r, shoulder * 0.5), (r, shoulder), (neck, shoulder + 0.3), (neck, top)], smooth=True
    )
    cap = revolve([(0, top - 0.1), (neck * 1.35, top - 0.1), (neck * 1.35, top), (0, top)])
    return Parts(body, cap, IVORY if rng.random() < 0.5 else (0.15, 0.15, 0.15))


def can(rng: np.random.Generator) -> Parts:
    r, h = 0.36, rng.uniform(0.9, 1.25)
    rim = r * 0.88
    body = [(0, 0), (rim, 0), (r, 0.08), (r, h - 0.1), (rim, h), (rim - 0.04, h), (rim - 0.05, h - 0.05), (0, h - 0.05)]
    tab = ellipsoid((0.12, 0.07, 0.02), (0.08, 0, h - 0.03))
    return Parts(revolve(body), tab, (0.7, 0.7, 0.7))


def vase(rng: np.random.Generator) -> Parts:
    belly, neck, rim = rng.uniform(0.38, 0.5), rng.uniform(0.12, 0.18), rng.uniform(0.24, 0.36)
    at = rng.uniform(0.35, 0.55)
    return Parts(vessel([(0.22, 0), (belly, at), (belly * 0.85, at + 0.25), (neck, 1.05), (rim, 1.3)], 0.04))


def goblet(rng: np.random.Generator) -> Parts:
    cup, stem, foot = rng.uniform(0.3, 0.42), rng.uniform(0.45, 0.65), rng.uniform(0.26, 0.36)
    outline = [(0, 0), (foot, 0), (foot, 0.04), (0.06, 0.1), (0.045, stem), (0.12, stem + 0.05)]
    bowl = [(cup, stem + 0.3), (cup * rng.uniform(0.8, 1.0), stem + 0.65)]
    inside = [(bowl[1][0] - 0.04, stem + 0.65), (cup - 0.04, stem + 0.3), (0, stem + 0.1)]
    return Parts(revolve(outline + bowl + inside))


def teapot(rng: np.random.Generator) -> Parts:
    h = rng.uniform(0.75, 0.95)
    body = revolve([(0, 0), (0.3, 0), (0.5, h * 0.4), (0.42, h * 0.75), (0.2, h * 0.95), (0, h)], smooth=True)
    knob = ellipsoid((0.09, 0.09, 0.09), (0, 0, h + 0.06))
    at = np.array([[0.4, 0, 0.25], [0.6, 0, 0.35], [0.7, 0, 0.55], [0.84, 0, h * 0.9]])
    spout = tube(PchipInterpolator([0, 1, 2, 3], at)(np.linspace(0, 3, 10)), np.linspace(0.13, 0.06, 10))
    handle = tube(arc(rng.uniform(0.28, 0.36), 0.3, np.pi / 2, 1.5 * np.pi, (-0.4, 0, h * 0.5)), 0.05)
    return Parts(join(body, knob, spout, handle))


def pan(rng: np.random.Generator) -> Parts:
    h = rng.uniform(0.16, 0.26)
    dish = vessel([(0.5, 0), (0.56, h * 0.5), (0.62, h)], 0.04)
    length = rng.uniform(0.8, 1.1)
    grip = tube([[0.58, 0, h * 0.8], [0.8, 0, h], [0.6 + length, 0, h * 1.2]], [0.05, 0.055, 0.075])
    return Parts(dish, grip, (0.12, 0.12, 0.12)) if rng.random() < 0.4 else Parts(join(dish, grip))


def spoon(rng: np.random.Generator) -> Parts:
    bowl = ellipsoid((rng.uniform(0.26, 0.34), rng.uniform(0.18, 0.23), 0.07), (0, 0, 0.07))
    length = rng.uniform(1.1, 1.4)
    handle = tube([[0.22, 0, 0.08], [0.5, 0, 0.14], [length, 0, 0.08]], [0.05, 0.045, 0.075])
    return Parts(join(bowl, handle))


def apple(rng: np.random.Generator) -> Parts:
    h = rng.uniform(0.8, 0.95)
    outline = [(0, 0.06), (0.18, 0), (0.4, h * 0.25), (0.5, h * 0.6), (0.38, h * 0.95), (0.15, h), (0, h * 0.86)]
    stem = tube([[0, 0, h * 0.84], [0.02, 0, h], [0.07, 0, h * 1.2]], 0.03)
    leaf = ellipsoid((0.15, 0.07, 0.02), (0.18, 0, h * 1.12))
    return Parts(revolve(outline, smooth=True), join(stem, leaf) if rng.random() < 0.6 else stem, WOOD)


def pear(rng: np.random.Generator) -> Parts:
    neck = rng.uniform(0.16, 0.22)
    outline = [(0, 0), (0.25, 0.02), (0.44, 0.35), (0.36, 0.65), (neck, 0.95), (neck * 0.7, 1.15), (0, 1.2)]
    return Parts(revolve(outline, smooth=True), tube([[0, 0, 1.15], [0.03, 0, 1.3], [0.08, 0, 1.4]], 0.028), WOOD)


def banana(rng: np.random.Generator) -> Parts:
    bend = rng.uniform(0.9, 1.2)
    path = arc(1.0, 1.0, np.pi / 2 - bend, np.pi / 2 + bend, steps=20)
    along = np.linspace(-1, 1, 20)
    radius = rng.uniform(0.17, 0.22) * np.clip(1 - along**4, 0, 1) + 0.045
    path = path[:, [0, 2, 1]]  # lies on its side: the bend is in the table's plane
    return Parts(tube(path, radius))


def carrot(rng: np.random.Generator) -> Parts:
    r = rng.uniform(0.15, 0.2)
    root = revolve([(0, 0), (0.03, 0), (r * 0.7, 0.55), (r, 1.0), (r * 0.8, 1.08), (0, 1.1)], smooth=True)
    leaves = []
    for _ in range(int(rng.integers(4, 7))):
        tip = np.array([rng.uniform(-0.22, 0.22), rng.uniform(-0.14, 0.14), rng.uniform(1.35, 1.6)])
        leaves.append(tube(np.stack([[0, 0, 1.05], tip * [0.4, 0.4, 0.8], tip]), [0.025, 0.045, 0.03]))
    return Parts(rotated(root, np.pi / 2, (0, 1, 0)), rotated(join(*leaves), np.pi / 2, (0, 1, 0)), LEAF)


def mushroom(rng: np.random.Generator) -> Parts:
    stem_h, cap = rng.uniform(0.45, 0.65), rng.uniform(0.5, 0.65)
    top = stem_h + cap * rng.uniform(0.65, 0.85)
    hat = revolve(
        [(0, stem_h), (cap * 0.9, stem_h - 0.04), (cap, stem_h + 0.1), (cap * 0.7, top - 0.1), (0, top)], smooth=True
    )
    stem = revolve([(0, 0), (0.24, 0), (0.18, stem_h * 0.5), (0.2, stem_h + 0.05), (0, stem_h + 0.06)], smooth=True)
    return Parts(hat, stem, IVORY)
