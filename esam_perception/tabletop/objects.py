"""The 32 household categories, each drawn with random proportions.

Every maker (in `kitchen` and `household`) takes a numpy Generator and returns `Parts(body, trim, trim_colour)` of trimesh
meshes: the body takes the object's colour, the trim (wick, pips, leaves, pages) may take a colour of its own.
`make_object` puts an object upright on z = 0, centred, and scales its largest extent to 1.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from esam_perception.tabletop import household, kitchen
from esam_perception.tabletop.shapes import Parts, rotated

MAKERS: dict[str, Callable[[np.random.Generator], Parts]] = {
    "mug": kitchen.mug,
    "bowl": kitchen.bowl,
    "plate": kitchen.plate,
    "bottle": kitchen.bottle,
    "can": kitchen.can,
    "vase": kitchen.vase,
    "goblet": kitchen.goblet,
    "teapot": kitchen.teapot,
    "pan": kitchen.pan,
    "ball": household.ball,
    "cube": household.cube,
    "cone": household.cone,
    "ring": household.ring,
    "star": household.star,
    "heart": household.heart,
    "apple": kitchen.apple,
    "pear": kitchen.pear,
    "banana": kitchen.banana,
    "carrot": kitchen.carrot,
    "mushroom": kitchen.mushroom,
    "hammer": household.hammer,
    "screwdriver": household.screwdriver,
    "wrench": household.wrench,
    "spoon": kitchen.spoon,
    "scissors": household.scissors,
    "key": household.key,
    "book": household.book,
    "die": household.die,
    "candle": household.candle,
    "gear": household.gear,
    "duck": household.duck,
    "hat": household.hat,
}

# Flat things that also stand on their edge, and tall ones that also lie on their side.
STANDS_ON_EDGE = {"star": 0.7, "heart": 0.7, "gear": 0.5, "ring": 0.4, "book": 0.3, "plate": 0.1}
LIES_DOWN = {"bottle": 0.25, "can": 0.2, "goblet": 0.15, "candle": 0.2, "mug": 0.1, "vase": 0.1, "pear": 0.1}


def make_object(category: str, rng: np.random.Generator) -> Parts:
    """Draw one object of `category`, resting on z = 0, centred on the z axis, largest extent 1.

    Raises KeyError for an unknown category.
    """
    parts = MAKERS[category](rng)
    meshes = [mesh for mesh in (parts.body, parts.trim) if mesh is not None]
    turn = rng.random()
    if turn < STANDS_ON_EDGE.get(category, 0.0):
        # extruded shapes are drawn in the xy plane: turning x by 90 degrees keeps their own "up" up
        for mesh in meshes:
            rotated(mesh, np.pi / 2, (1, 0, 0))
    elif turn < LIES_DOWN.get(category, 0.0):
        for mesh in meshes:
            rotated(mesh, np.pi / 2, (0, 1, 0))
    stretch = rng.uniform(0.9, 1.1, 3) if category not in ("ball", "cube", "die") else np.ones(3)
    for mesh in meshes:
        mesh.apply_scale(stretch)
    bounds = np.array([mesh.bounds for mesh in meshes])
    low, high = bounds[:, 0].min(0), bounds[:, 1].max(0)
    for mesh in meshes:
        mesh.apply_translation(-np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2]]))
        mesh.apply_scale(1.0 / (high - low).max())
    return parts
