"""Makers of toys, tools and small things of a household. See `objects`."""

from __future__ import annotations

import numpy as np
import trimesh
from shapely import affinity
from shapely.geometry import Point, Polygon, box
from shapely.ops import unary_union

from esam_perception.tabletop.shapes import (
    FLAME,
    IVORY,
    WOOD,
    Parts,
    box_mesh,
    ellipsoid,
    extrude,
    join,
    revolve,
    rotated,
    tube,
)


def ball(rng: np.random.Generator) -> Parts:
    return Parts(ellipsoid((1, 1, 1)))


def cube(rng: np.random.Generator) -> Parts:
    return Parts(trimesh.creation.box((1, 1, 1)))


def cone(rng: np.random.Generator) -> Parts:
    r, h = rng.uniform(0.34, 0.5), 1.0
    cone = revolve([(0, 0), (r, 0), (0.01, h), (0, h)])
    if rng.random() < 0.4:
        return Parts(join(cone, box_mesh((2.5 * r, 2.5 * r, 0.06), (0, 0, 0.03))))
    return Parts(cone)


def ring(rng: np.random.Generator) -> Parts:
    return Parts(trimesh.creation.torus(1.0, rng.uniform(0.16, 0.3), major_sections=40, minor_sections=16))


def star(rng: np.random.Generator) -> Parts:
    inner = rng.uniform(0.38, 0.5)
    angle = np.arange(10) * np.pi / 5 + np.pi / 2
    radius = np.where(np.arange(10) % 2 == 0, 1, inner)
    return Parts(
        extrude(Polygon(np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)), rng.uniform(0.3, 0.55))
    )


def heart(rng: np.random.Generator) -> Parts:
    t = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return Parts(extrude(Polygon(np.stack([x / 16, y / 16], 1)), rng.uniform(0.35, 0.6)))


def hammer(rng: np.random.Generator) -> Parts:
    w = rng.uniform(0.55, 0.75)
    head = join(
        rotated(trimesh.creation.cylinder(0.14, w * 0.5), np.pi / 2, (0, 1, 0)),
        box_mesh((w * 0.3, 0.2, 0.2), (-w * 0.35, 0, 0)),
    )
    claw = extrude(Polygon([(-w * 0.45, -0.1), (-w * 0.45, 0.1), (-w * 0.85, 0.02), (-w * 0.9, -0.06)]), 0.18)
    claw.apply_translation((0, 0, -0.09))
    grip = rotated(trimesh.creation.cylinder(rng.uniform(0.055, 0.085), 1.3), np.pi / 2, (1, 0, 0))
    grip.apply_translation((-w * 0.2, -0.65, 0))
    return Parts(join(head, claw), grip, WOOD) if rng.random() < 0.25 else Parts(join(head, claw, grip))


def screwdriver(rng: np.random.Generator) -> Parts:
    r = rng.uniform(0.11, 0.16)
    grip = revolve(
        [(0, 0), (r * 0.8, 0), (r, 0.1), (r * 0.85, 0.35), (r, 0.55), (r * 0.6, 0.65), (0, 0.65)], sections=8
    )
    shaft = join(trimesh.creation.cylinder(0.04, 0.75), box_mesh((0.12, 0.03, 0.12), (0, 0, 0.36)))
    shaft.apply_translation((0, 0, 1.0))
    grip, shaft = (rotated(mesh, np.pi / 2, (0, 1, 0)) for mesh in (grip, shaft))
    return Parts(grip, shaft, (0.62, 0.63, 0.66)) if rng.random() < 0.7 else Parts(join(grip, shaft))


def wrench(rng: np.random.Generator) -> Parts:
    jaw = rng.uniform(0.24, 0.3)
    shaft = box(-0.8, -0.09, 0.8, 0.09)
    end_a = Point(0.9, 0).buffer(jaw).difference(affinity.rotate(box(0.85, -0.12, 1.4, 0.12), 15, origin=(0.9, 0)))
    if rng.random() < 0.5:
        end_b = Point(-0.9, 0).buffer(jaw * 0.85).difference(Point(-0.9, 0).buffer(jaw * 0.45))
    else:
        end_b = Point(-0.9, 0).buffer(jaw * 0.85).difference(box(-1.4, -0.1, -0.88, 0.1))
    return Parts(extrude(unary_union([shaft.difference(Point(-0.9, 0).buffer(jaw * 0.6)), end_a, end_b]), 0.14))


def scissors(rng: np.random.Generator) -> Parts:
    spread = rng.uniform(0.18, 0.45)
    halves = []
    for side in (-1, 1):
        blade = Polygon([(-0.1, -0.09), (-0.1, 0.09), (0.5, 0.1), (1.05, 0.0), (0.5, -0.06)])
        arm = box(-0.6, -0.055, 0.0, 0.055)
        loop = affinity.scale(Point(-0.85, side * 0.12).buffer(0.28), 1.15, 0.85)
        loop = loop.difference(affinity.scale(Point(-0.85, side * 0.12).buffer(0.17), 1.15, 0.85))
        half = extrude(unary_union([blade, arm, loop]), 0.08)
        half.apply_translation((0, 0, 0.0 if side < 0 else 0.08))
        halves.append(rotated(half, -side * spread, (0, 0, 1)))
    if rng.random() < 0.5:
        return Parts(join(*halves))
    grips = [half.slice_plane((-0.45, 0, 0), (-1, 0, 0)) for half in halves]
    blades = [half.slice_plane((-0.45, 0, 0), (1, 0, 0)) for half in halves]
    # the coloured part is the larger one, so that the colour word fits what is seen
    return Parts(join(*grips, *[blade.slice_plane((0.1, 0, 0), (-1, 0, 0)) for blade in blades]),
                 join(*[blade.slice_plane((0.1, 0, 0), (1, 0, 0)) for blade in blades]), (0.65, 0.66, 0.68))  # fmt: skip


def key(rng: np.random.Generator) -> Parts:
    r = rng.uniform(0.3, 0.38)
    head = Point(0, 0).buffer(r).difference(Point(-0.04, 0).buffer(r * rng.uniform(0.4, 0.55)))
    shapes = [head, box(r * 0.9, -0.07, 1.4, 0.07)]
    for x in (1.0, 1.15, 1.3)[: int(rng.integers(2, 4))]:
        shapes.append(box(x, -rng.uniform(0.2, 0.3), x + 0.09, 0))
    return Parts(extrude(unary_union(shapes), 0.12))


def book(rng: np.random.Generator) -> Parts:
    w, d, h = rng.uniform(0.65, 0.8), 1.0, rng.uniform(0.16, 0.3)
    cover = [box_mesh((w, d, 0.03), (0, 0, z)) for z in (0.015, h - 0.015)] + [
        box_mesh((0.03, d, h), (-w / 2 + 0.015, 0, h / 2))
    ]
    pages = box_mesh((w - 0.06, d - 0.06, h - 0.05), (-0.005, 0, h / 2))
    return Parts(join(*cover), pages, IVORY)


_PIPS = {1: [(0, 0)], 2: [(-1, -1), (1, 1)], 3: [(-1, -1), (0, 0), (1, 1)], 4: [(-1, -1), (-1, 1), (1, -1), (1, 1)],
         5: [(-1, -1), (-1, 1), (1, -1), (1, 1), (0, 0)], 6: [(-1, -1), (-1, 0), (-1, 1), (1, -1), (1, 0), (1, 1)]}  # fmt: skip


def die(rng: np.random.Generator) -> Parts:
    pips = []
    order = rng.permutation(6) + 1
    for face, count in enumerate(order):
        axis, sign = face // 2, 1 - 2 * (face % 2)
        for u, v in _PIPS[int(count)]:
            at = np.zeros(3)
            at[axis], at[(axis + 1) % 3], at[(axis + 2) % 3] = 0.5 * sign, 0.26 * u, 0.26 * v
            size = np.full(3, 0.105)
            size[axis] = 0.012
            pips.append(ellipsoid(size, at, 1))
    return Parts(trimesh.creation.box((1, 1, 1)), join(*pips), None)


def candle(rng: np.random.Generator) -> Parts:
    r, h = rng.uniform(0.14, 0.22), 1.0
    wax = revolve([(0, 0), (r, 0), (r, h), (r * 0.8, h), (0, h - 0.03)])
    flame = revolve([(0, h + 0.06), (0.05, h + 0.1), (0.07, h + 0.16), (0.0, h + 0.34)], smooth=True, sections=16)
    wick = tube([[0, 0, h - 0.05], [0, 0, h + 0.04], [0, 0, h + 0.1]], 0.015)
    return Parts(wax, join(flame, wick), FLAME)


def gear(rng: np.random.Generator) -> Parts:
    teeth, depth = int(rng.integers(8, 13)), rng.uniform(0.18, 0.26)
    points = []
    for k in range(teeth):
        for offset, radius in ((-0.30, 1 - depth), (-0.18, 1.0), (0.18, 1.0), (0.30, 1 - depth)):
            angle = 2 * np.pi * (k + offset) / teeth
            points.append((radius * np.cos(angle), radius * np.sin(angle)))
    return Parts(
        extrude(Polygon(points).difference(Point(0, 0).buffer(rng.uniform(0.2, 0.36))), rng.uniform(0.25, 0.42))
    )


def duck(rng: np.random.Generator) -> Parts:
    body = ellipsoid((0.55, 0.4, 0.32), (0, 0, 0.32))
    tail = tube([[-0.35, 0, 0.4], [-0.52, 0, 0.52], [-0.66, 0, 0.68]], [0.2, 0.12, 0.03])
    head = ellipsoid((0.26, 0.25, 0.26), (0.34, 0, rng.uniform(0.74, 0.84)))
    beak = ellipsoid((0.2, 0.14, 0.05), (0.62, 0, 0.74))
    eyes = [ellipsoid((0.04, 0.04, 0.04), (0.52, side * 0.15, 0.86), 1) for side in (-1, 1)]
    if rng.random() < 0.6:
        return Parts(join(body, tail, head), join(beak, *eyes), (0.95, 0.5, 0.05))
    return Parts(join(body, tail, head, beak))


def hat(rng: np.random.Generator) -> Parts:
    crown, h = rng.uniform(0.42, 0.5), rng.uniform(0.5, 0.85)
    outline = [
        (0, 0),
        (1.0 - rng.uniform(0, 0.2), 0),
        (0.9, 0.05),
        (crown, 0.07),
        (crown * rng.uniform(0.85, 1.05), h),
        (0, h),
    ]
    band = revolve([(crown * 1.03, 0.08), (crown * 1.05, 0.2), (crown * 0.99, 0.2)])
    return Parts(revolve(outline), band, (0.12, 0.12, 0.14)) if rng.random() < 0.5 else Parts(revolve(outline))
