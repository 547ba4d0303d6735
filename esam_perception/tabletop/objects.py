"""Meshes of the 32 household categories, each drawn with random proportions.

Every maker takes a numpy Generator and returns `Parts(body, trim, trim_colour)` of trimesh meshes: the body takes
the object's colour, the trim (wick, pips, leaves, pages) may take a colour of its own. `make_object` puts an object
upright on z = 0, centred, and scales its largest extent to 1. Solids of revolution, extrusions and swept tubes are
enough; the meshes are for looking at and need not be watertight.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import trimesh
from scipy.interpolate import PchipInterpolator
from shapely import affinity
from shapely.geometry import Point, Polygon, box
from shapely.ops import unary_union

IVORY = (0.93, 0.90, 0.80)
LEAF = (0.16, 0.50, 0.12)
WOOD = (0.45, 0.28, 0.14)
FLAME = (1.0, 0.75, 0.2)


@dataclass(frozen=True)
class Parts:
    """Meshes of one object; `trim_colour` is None where the trim should contrast with the body (pips of a die)."""

    body: trimesh.Trimesh
    trim: trimesh.Trimesh | None = None
    trim_colour: tuple[float, float, float] | None = None


def _revolve(points, smooth: bool = False, sections: int = 36) -> trimesh.Trimesh:
    """Surface of revolution about z of (radius, height) points; `smooth` interpolates between them."""
    points = np.asarray(points, float)
    if smooth:
        at = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
        fine = np.linspace(0, at[-1], 28)
        points = np.stack([PchipInterpolator(at, points[:, i])(fine) for i in (0, 1)], 1)
    points[:, 0] = np.clip(points[:, 0], 0, None)
    return trimesh.creation.revolve(points, sections=sections)


def _vessel(outer, wall: float, smooth: bool = True) -> trimesh.Trimesh:
    """An open vessel: the outer profile from foot to rim, then the inner one back down at `wall` distance."""
    outer = np.asarray(outer, float)
    if smooth:
        at = np.linspace(0, 1, len(outer))
        fine = np.linspace(0, 1, 16)
        outer = np.stack([PchipInterpolator(at, outer[:, i])(fine) for i in (0, 1)], 1)
    inner = outer[::-1].copy()
    inner[:, 0] = np.clip(inner[:, 0] - wall, 0, None)
    inner[:, 1] = np.maximum(inner[:, 1], outer[0, 1] + wall)
    return _revolve(np.concatenate([[[0, outer[0, 1]]], outer, inner, [[0, outer[0, 1] + wall]]]))


def _tube(path, radius, sides: int = 12) -> trimesh.Trimesh:
    """A tube of circles of `radius` (number or one per point) along `path` [N, 3], with closed ends."""
    path = np.asarray(path, float)
    radius = np.broadcast_to(np.asarray(radius, float), len(path))
    tangent = np.gradient(path, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    reference = np.eye(3)[np.argmin(np.abs(tangent).max(0))]
    side = np.cross(tangent, reference)
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    up = np.cross(tangent, side)
    angle = np.linspace(0, 2 * np.pi, sides, endpoint=False)
    ring = np.cos(angle)[None, :, None] * side[:, None] + np.sin(angle)[None, :, None] * up[:, None]
    vertices = (path[:, None] + radius[:, None, None] * ring).reshape(-1, 3)
    faces = []
    for i in range(len(path) - 1):
        for j in range(sides):
            a, b = i * sides + j, i * sides + (j + 1) % sides
            faces += [[a, b, a + sides], [b, b + sides, a + sides]]
    first, last = len(vertices), len(vertices) + 1
    vertices = np.concatenate([vertices, path[:1], path[-1:]])
    end = (len(path) - 1) * sides
    for j in range(sides):
        k = (j + 1) % sides
        faces += [[first, k, j], [last, end + j, end + k]]
    mesh = trimesh.Trimesh(vertices, faces, process=False)
    # cross products fix the winding only up to a mirror: make the faces look outwards
    if mesh.volume < 0:
        mesh.invert()
    return mesh


def _arc(radius_x, radius_z, start, stop, centre=(0, 0, 0), steps=14) -> np.ndarray:
    """Points of an elliptic arc in the xz plane, angles in radians from +x towards +z."""
    angle = np.linspace(start, stop, steps)
    return np.stack([radius_x * np.cos(angle), 0 * angle, radius_z * np.sin(angle)], 1) + np.asarray(centre, float)


def _extrude(polygon: Polygon, height: float) -> trimesh.Trimesh:
    return trimesh.creation.extrude_polygon(polygon, height)


def _ellipsoid(size, centre=(0, 0, 0)) -> trimesh.Trimesh:
    mesh = trimesh.creation.icosphere(subdivisions=3)
    mesh.apply_scale(size)
    mesh.apply_translation(centre)
    return mesh


def _box(size, centre) -> trimesh.Trimesh:
    mesh = trimesh.creation.box(size)
    mesh.apply_translation(centre)
    return mesh


def _rotated(mesh: trimesh.Trimesh, angle: float, axis) -> trimesh.Trimesh:
    mesh.apply_transform(trimesh.transformations.rotation_matrix(angle, axis))
    return mesh


def _join(*meshes: trimesh.Trimesh) -> trimesh.Trimesh:
    return trimesh.util.concatenate(meshes)


def _mug(rng) -> Parts:
    r, h, taper = rng.uniform(0.34, 0.46), rng.uniform(0.8, 1.05), rng.uniform(-0.06, 0.06)
    wall = _vessel([(r - taper, 0), (r, h * 0.5), (r + taper, h)], 0.05)
    reach = rng.uniform(0.22, 0.34)
    handle = _arc(reach, h * rng.uniform(0.26, 0.34), -np.pi / 2, np.pi / 2, (r - 0.03, 0, h * 0.52))
    return Parts(_join(wall, _tube(handle, rng.uniform(0.045, 0.07))))


def _bowl(rng) -> Parts:
    h, foot = rng.uniform(0.38, 0.55), rng.uniform(0.2, 0.35)
    outline = [(foot, 0), (foot + 0.2, h * 0.16), (0.85, h * rng.uniform(0.45, 0.6)), (1.0, h)]
    return Parts(_vessel(outline, 0.06))


def _plate(rng) -> Parts:
    inner, h = rng.uniform(0.55, 0.7), rng.uniform(0.1, 0.16)
    outline = [(0, 0), (inner, 0), (1, h), (0.98, h + 0.03), (inner - 0.02, 0.04), (0, 0.04)]
    return Parts(_revolve(outline, sections=48))


def _bottle(rng) -> Parts:
    r, neck, shoulder = rng.uniform(0.24, 0.32), rng.uniform(0.08, 0.11), rng.uniform(0.9, 1.2)
    top = shoulder + rng.uniform(0.55, 0.75)
    body = _revolve(
        [(0, 0), (r, 0), (r, shoulder * 0.5), (r, shoulder), (neck, shoulder + 0.3), (neck, top)], smooth=True
    )
    cap = _revolve([(0, top - 0.1), (neck * 1.35, top - 0.1), (neck * 1.35, top), (0, top)])
    return Parts(body, cap, IVORY if rng.random() < 0.5 else (0.15, 0.15, 0.15))


def _can(rng) -> Parts:
    r, h = 0.36, rng.uniform(0.9, 1.25)
    rim = r * 0.88
    body = [(0, 0), (rim, 0), (r, 0.08), (r, h - 0.1), (rim, h), (rim - 0.04, h), (rim - 0.05, h - 0.05), (0, h - 0.05)]
    tab = _ellipsoid((0.12, 0.07, 0.02), (0.08, 0, h - 0.03))
    return Parts(_revolve(body), tab, (0.7, 0.7, 0.7))


def _vase(rng) -> Parts:
    belly, neck, rim = rng.uniform(0.38, 0.5), rng.uniform(0.12, 0.18), rng.uniform(0.24, 0.36)
    at = rng.uniform(0.35, 0.55)
    return Parts(_vessel([(0.22, 0), (belly, at), (belly * 0.85, at + 0.25), (neck, 1.05), (rim, 1.3)], 0.04))


def _goblet(rng) -> Parts:
    cup, stem, foot = rng.uniform(0.3, 0.42), rng.uniform(0.45, 0.65), rng.uniform(0.26, 0.36)
    outline = [(0, 0), (foot, 0), (foot, 0.04), (0.06, 0.1), (0.045, stem), (0.12, stem + 0.05)]
    bowl = [(cup, stem + 0.3), (cup * rng.uniform(0.8, 1.0), stem + 0.65)]
    inside = [(bowl[1][0] - 0.04, stem + 0.65), (cup - 0.04, stem + 0.3), (0, stem + 0.1)]
    return Parts(_revolve(outline + bowl + inside))


def _teapot(rng) -> Parts:
    h = rng.uniform(0.75, 0.95)
    body = _revolve([(0, 0), (0.3, 0), (0.5, h * 0.4), (0.42, h * 0.75), (0.2, h * 0.95), (0, h)], smooth=True)
    knob = _ellipsoid((0.09, 0.09, 0.09), (0, 0, h + 0.06))
    at = np.array([[0.4, 0, 0.25], [0.6, 0, 0.35], [0.7, 0, 0.55], [0.84, 0, h * 0.9]])
    spout = _tube(PchipInterpolator([0, 1, 2, 3], at)(np.linspace(0, 3, 10)), np.linspace(0.13, 0.06, 10))
    handle = _tube(_arc(rng.uniform(0.28, 0.36), 0.3, np.pi / 2, 1.5 * np.pi, (-0.4, 0, h * 0.5)), 0.05)
    return Parts(_join(body, knob, spout, handle))


def _pan(rng) -> Parts:
    h = rng.uniform(0.16, 0.26)
    dish = _vessel([(0.5, 0), (0.56, h * 0.5), (0.62, h)], 0.04)
    length = rng.uniform(0.8, 1.1)
    grip = _tube([[0.58, 0, h * 0.8], [0.8, 0, h], [0.6 + length, 0, h * 1.2]], [0.05, 0.055, 0.075])
    return Parts(dish, grip, (0.12, 0.12, 0.12)) if rng.random() < 0.4 else Parts(_join(dish, grip))


def _ball(rng) -> Parts:
    return Parts(_ellipsoid((1, 1, 1)))


def _cube(rng) -> Parts:
    return Parts(trimesh.creation.box((1, 1, 1)))


def _cone(rng) -> Parts:
    r, h = rng.uniform(0.34, 0.5), 1.0
    cone = _revolve([(0, 0), (r, 0), (0.01, h), (0, h)])
    if rng.random() < 0.4:
        return Parts(_join(cone, _box((2.5 * r, 2.5 * r, 0.06), (0, 0, 0.03))))
    return Parts(cone)


def _ring(rng) -> Parts:
    return Parts(trimesh.creation.torus(1.0, rng.uniform(0.16, 0.3), major_sections=40, minor_sections=16))


def _star(rng) -> Parts:
    inner = rng.uniform(0.38, 0.5)
    angle = np.arange(10) * np.pi / 5 + np.pi / 2
    radius = np.where(np.arange(10) % 2 == 0, 1, inner)
    return Parts(
        _extrude(Polygon(np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)), rng.uniform(0.3, 0.55))
    )


def _heart(rng) -> Parts:
    t = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return Parts(_extrude(Polygon(np.stack([x / 16, y / 16], 1)), rng.uniform(0.35, 0.6)))


def _apple(rng) -> Parts:
    h = rng.uniform(0.8, 0.95)
    outline = [(0, 0.06), (0.18, 0), (0.4, h * 0.25), (0.5, h * 0.6), (0.38, h * 0.95), (0.15, h), (0, h * 0.86)]
    stem = _tube([[0, 0, h * 0.84], [0.02, 0, h], [0.07, 0, h * 1.2]], 0.03)
    leaf = _ellipsoid((0.15, 0.07, 0.02), (0.18, 0, h * 1.12))
    return Parts(_revolve(outline, smooth=True), _join(stem, leaf) if rng.random() < 0.6 else stem, WOOD)


def _pear(rng) -> Parts:
    neck = rng.uniform(0.16, 0.22)
    outline = [(0, 0), (0.25, 0.02), (0.44, 0.35), (0.36, 0.65), (neck, 0.95), (neck * 0.7, 1.15), (0, 1.2)]
    return Parts(_revolve(outline, smooth=True), _tube([[0, 0, 1.15], [0.03, 0, 1.3], [0.08, 0, 1.4]], 0.028), WOOD)


def _banana(rng) -> Parts:
    bend = rng.uniform(0.9, 1.2)
    path = _arc(1.0, 1.0, np.pi / 2 - bend, np.pi / 2 + bend, steps=20)
    along = np.linspace(-1, 1, 20)
    radius = rng.uniform(0.17, 0.22) * np.clip(1 - along**4, 0, 1) + 0.045
    path = path[:, [0, 2, 1]]  # lies on its side: the bend is in the table's plane
    return Parts(_tube(path, radius))


def _carrot(rng) -> Parts:
    r = rng.uniform(0.15, 0.2)
    root = _revolve([(0, 0), (0.03, 0), (r * 0.7, 0.55), (r, 1.0), (r * 0.8, 1.08), (0, 1.1)], smooth=True)
    leaves = []
    for _ in range(int(rng.integers(4, 7))):
        tip = np.array([rng.uniform(-0.22, 0.22), rng.uniform(-0.14, 0.14), rng.uniform(1.35, 1.6)])
        leaves.append(_tube([[0, 0, 1.05], tip * [0.4, 0.4, 0.8], tip], [0.025, 0.045, 0.03]))
    return Parts(_rotated(root, np.pi / 2, (0, 1, 0)), _rotated(_join(*leaves), np.pi / 2, (0, 1, 0)), LEAF)


def _mushroom(rng) -> Parts:
    stem_h, cap = rng.uniform(0.45, 0.65), rng.uniform(0.5, 0.65)
    top = stem_h + cap * rng.uniform(0.65, 0.85)
    hat = _revolve(
        [(0, stem_h), (cap * 0.9, stem_h - 0.04), (cap, stem_h + 0.1), (cap * 0.7, top - 0.1), (0, top)], smooth=True
    )
    stem = _revolve([(0, 0), (0.24, 0), (0.18, stem_h * 0.5), (0.2, stem_h + 0.05), (0, stem_h + 0.06)], smooth=True)
    return Parts(hat, stem, IVORY)


def _hammer(rng) -> Parts:
    w = rng.uniform(0.55, 0.75)
    head = _join(
        _rotated(trimesh.creation.cylinder(0.14, w * 0.5), np.pi / 2, (0, 1, 0)),
        _box((w * 0.3, 0.2, 0.2), (-w * 0.35, 0, 0)),
    )
    claw = _extrude(Polygon([(-w * 0.45, -0.1), (-w * 0.45, 0.1), (-w * 0.85, 0.02), (-w * 0.9, -0.06)]), 0.18)
    claw.apply_translation((0, 0, -0.09))
    grip = _rotated(trimesh.creation.cylinder(rng.uniform(0.055, 0.085), 1.3), np.pi / 2, (1, 0, 0))
    grip.apply_translation((-w * 0.2, -0.65, 0))
    return Parts(_join(head, claw), grip, WOOD) if rng.random() < 0.25 else Parts(_join(head, claw, grip))


def _screwdriver(rng) -> Parts:
    r = rng.uniform(0.11, 0.16)
    grip = _revolve(
        [(0, 0), (r * 0.8, 0), (r, 0.1), (r * 0.85, 0.35), (r, 0.55), (r * 0.6, 0.65), (0, 0.65)], sections=8
    )
    shaft = _join(trimesh.creation.cylinder(0.04, 0.75), _box((0.12, 0.03, 0.12), (0, 0, 0.36)))
    shaft.apply_translation((0, 0, 1.0))
    grip, shaft = (_rotated(mesh, np.pi / 2, (0, 1, 0)) for mesh in (grip, shaft))
    return Parts(grip, shaft, (0.62, 0.63, 0.66)) if rng.random() < 0.7 else Parts(_join(grip, shaft))


def _wrench(rng) -> Parts:
    jaw = rng.uniform(0.24, 0.3)
    shaft = box(-0.8, -0.09, 0.8, 0.09)
    end_a = Point(0.9, 0).buffer(jaw).difference(affinity.rotate(box(0.85, -0.12, 1.4, 0.12), 15, origin=(0.9, 0)))
    if rng.random() < 0.5:
        end_b = Point(-0.9, 0).buffer(jaw * 0.85).difference(Point(-0.9, 0).buffer(jaw * 0.45))
    else:
        end_b = Point(-0.9, 0).buffer(jaw * 0.85).difference(box(-1.4, -0.1, -0.88, 0.1))
    return Parts(_extrude(unary_union([shaft.difference(Point(-0.9, 0).buffer(jaw * 0.6)), end_a, end_b]), 0.14))


def _spoon(rng) -> Parts:
    bowl = _ellipsoid((rng.uniform(0.26, 0.34), rng.uniform(0.18, 0.23), 0.07), (0, 0, 0.07))
    length = rng.uniform(1.1, 1.4)
    handle = _tube([[0.22, 0, 0.08], [0.5, 0, 0.14], [length, 0, 0.08]], [0.05, 0.045, 0.075])
    return Parts(_join(bowl, handle))


def _scissors(rng) -> Parts:
    spread = rng.uniform(0.18, 0.45)
    halves = []
    for side in (-1, 1):
        blade = Polygon([(-0.1, -0.09), (-0.1, 0.09), (0.5, 0.1), (1.05, 0.0), (0.5, -0.06)])
        arm = box(-0.6, -0.055, 0.0, 0.055)
        loop = affinity.scale(Point(-0.85, side * 0.12).buffer(0.28), 1.15, 0.85)
        loop = loop.difference(affinity.scale(Point(-0.85, side * 0.12).buffer(0.17), 1.15, 0.85))
        half = _extrude(unary_union([blade, arm, loop]), 0.08)
        half.apply_translation((0, 0, 0.0 if side < 0 else 0.08))
        halves.append(_rotated(half, -side * spread, (0, 0, 1)))
    if rng.random() < 0.5:
        return Parts(_join(*halves))
    grips = [half.slice_plane((-0.45, 0, 0), (-1, 0, 0)) for half in halves]
    blades = [half.slice_plane((-0.45, 0, 0), (1, 0, 0)) for half in halves]
    # the coloured part is the larger one, so that the colour word fits what is seen
    return Parts(_join(*grips, *[blade.slice_plane((0.1, 0, 0), (-1, 0, 0)) for blade in blades]),
                 _join(*[blade.slice_plane((0.1, 0, 0), (1, 0, 0)) for blade in blades]), (0.65, 0.66, 0.68))  # fmt: skip


def _key(rng) -> Parts:
    r = rng.uniform(0.3, 0.38)
    head = Point(0, 0).buffer(r).difference(Point(-0.04, 0).buffer(r * rng.uniform(0.4, 0.55)))
    shapes = [head, box(r * 0.9, -0.07, 1.4, 0.07)]
    for x in (1.0, 1.15, 1.3)[: int(rng.integers(2, 4))]:
        shapes.append(box(x, -rng.uniform(0.2, 0.3), x + 0.09, 0))
    return Parts(_extrude(unary_union(shapes), 0.12))


def _book(rng) -> Parts:
    w, d, h = rng.uniform(0.65, 0.8), 1.0, rng.uniform(0.16, 0.3)
    cover = [_box((w, d, 0.03), (0, 0, z)) for z in (0.015, h - 0.015)] + [
        _box((0.03, d, h), (-w / 2 + 0.015, 0, h / 2))
    ]
    pages = _box((w - 0.06, d - 0.06, h - 0.05), (-0.005, 0, h / 2))
    return Parts(_join(*cover), pages, IVORY)


_PIPS = {1: [(0, 0)], 2: [(-1, -1), (1, 1)], 3: [(-1, -1), (0, 0), (1, 1)], 4: [(-1, -1), (-1, 1), (1, -1), (1, 1)],
         5: [(-1, -1), (-1, 1), (1, -1), (1, 1), (0, 0)], 6: [(-1, -1), (-1, 0), (-1, 1), (1, -1), (1, 0), (1, 1)]}  # fmt: skip


def _die(rng) -> Parts:
    pips = []
    order = rng.permutation(6) + 1
    for face, count in enumerate(order):
        axis, sign = face // 2, 1 - 2 * (face % 2)
        for u, v in _PIPS[int(count)]:
            at = np.zeros(3)
            at[axis], at[(axis + 1) % 3], at[(axis + 2) % 3] = 0.5 * sign, 0.26 * u, 0.26 * v
            size = np.full(3, 0.105)
            size[axis] = 0.012
            pips.append(_ellipsoid_coarse(size, at))
    return Parts(trimesh.creation.box((1, 1, 1)), _join(*pips), None)


def _ellipsoid_coarse(size, centre) -> trimesh.Trimesh:
    mesh = trimesh.creation.icosphere(subdivisions=1)
    mesh.apply_scale(size)
    mesh.apply_translation(centre)
    return mesh


def _candle(rng) -> Parts:
    r, h = rng.uniform(0.14, 0.22), 1.0
    wax = _revolve([(0, 0), (r, 0), (r, h), (r * 0.8, h), (0, h - 0.03)])
    flame = _revolve([(0, h + 0.06), (0.05, h + 0.1), (0.07, h + 0.16), (0.0, h + 0.34)], smooth=True, sections=16)
    wick = _tube([[0, 0, h - 0.05], [0, 0, h + 0.04], [0, 0, h + 0.1]], 0.015)
    return Parts(wax, _join(flame, wick), FLAME)


def _gear(rng) -> Parts:
    teeth, depth = int(rng.integers(8, 13)), rng.uniform(0.18, 0.26)
    points = []
    for k in range(teeth):
        for offset, radius in ((-0.30, 1 - depth), (-0.18, 1.0), (0.18, 1.0), (0.30, 1 - depth)):
            angle = 2 * np.pi * (k + offset) / teeth
            points.append((radius * np.cos(angle), radius * np.sin(angle)))
    return Parts(
        _extrude(Polygon(points).difference(Point(0, 0).buffer(rng.uniform(0.2, 0.36))), rng.uniform(0.25, 0.42))
    )


def _duck(rng) -> Parts:
    body = _ellipsoid((0.55, 0.4, 0.32), (0, 0, 0.32))
    tail = _tube([[-0.35, 0, 0.4], [-0.52, 0, 0.52], [-0.66, 0, 0.68]], [0.2, 0.12, 0.03])
    head = _ellipsoid((0.26, 0.25, 0.26), (0.34, 0, rng.uniform(0.74, 0.84)))
    beak = _ellipsoid((0.2, 0.14, 0.05), (0.62, 0, 0.74))
    eyes = [_ellipsoid_coarse((0.04, 0.04, 0.04), (0.52, side * 0.15, 0.86)) for side in (-1, 1)]
    if rng.random() < 0.6:
        return Parts(_join(body, tail, head), _join(beak, *eyes), (0.95, 0.5, 0.05))
    return Parts(_join(body, tail, head, beak))


def _hat(rng) -> Parts:
    crown, h = rng.uniform(0.42, 0.5), rng.uniform(0.5, 0.85)
    outline = [
        (0, 0),
        (1.0 - rng.uniform(0, 0.2), 0),
        (0.9, 0.05),
        (crown, 0.07),
        (crown * rng.uniform(0.85, 1.05), h),
        (0, h),
    ]
    band = _revolve([(crown * 1.03, 0.08), (crown * 1.05, 0.2), (crown * 0.99, 0.2)])
    return Parts(_revolve(outline), band, (0.12, 0.12, 0.14)) if rng.random() < 0.5 else Parts(_revolve(outline))


MAKERS: dict[str, Callable[[np.random.Generator], Parts]] = {
    "mug": _mug, "bowl": _bowl, "plate": _plate, "bottle": _bottle, "can": _can, "vase": _vase, "goblet": _goblet,
    "teapot": _teapot, "pan": _pan, "ball": _ball, "cube": _cube, "cone": _cone, "ring": _ring, "star": _star,
    "heart": _heart, "apple": _apple, "pear": _pear, "banana": _banana, "carrot": _carrot, "mushroom": _mushroom,
    "hammer": _hammer, "screwdriver": _screwdriver, "wrench": _wrench, "spoon": _spoon, "scissors": _scissors,
    "key": _key, "book": _book, "die": _die, "candle": _candle, "gear": _gear, "duck": _duck, "hat": _hat,
}  # fmt: skip

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
            _rotated(mesh, np.pi / 2, (1, 0, 0))
    elif turn < LIES_DOWN.get(category, 0.0):
        for mesh in meshes:
            _rotated(mesh, np.pi / 2, (0, 1, 0))
    stretch = rng.uniform(0.9, 1.1, 3) if category not in ("ball", "cube", "die") else np.ones(3)
    for mesh in meshes:
        mesh.apply_scale(stretch)
    bounds = np.array([mesh.bounds for mesh in meshes])
    low, high = bounds[:, 0].min(0), bounds[:, 1].max(0)
    for mesh in meshes:
        mesh.apply_translation(-np.array([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2]]))
        mesh.apply_scale(1.0 / (high - low).max())
    return parts
