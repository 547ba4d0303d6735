"""What the meshes of the household objects are made of: solids of revolution, vessels, tubes, extrusions.

The meshes are for looking at and need not be watertight.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import trimesh
from numpy.typing import ArrayLike
from scipy.interpolate import PchipInterpolator
from shapely.geometry import Polygon

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


def revolve(profile: ArrayLike, smooth: bool = False, sections: int = 36) -> trimesh.Trimesh:
    """Surface of revolution about z of (radius, height) points; `smooth` interpolates between them."""
    points = np.asarray(profile, float)
    if smooth:
        at = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
        fine = np.linspace(0, at[-1], 28)
        points = np.stack([PchipInterpolator(at, points[:, i])(fine) for i in (0, 1)], 1)
    points[:, 0] = np.clip(points[:, 0], 0, None)
    return trimesh.creation.revolve(points, sections=sections)


def vessel(profile: ArrayLike, wall: float, smooth: bool = True) -> trimesh.Trimesh:
    """An open vessel: the outer profile from foot to rim, then the inner one back down at `wall` distance."""
    outer = np.asarray(profile, float)
    if smooth:
        at = np.linspace(0, 1, len(outer))
        fine = np.linspace(0, 1, 16)
        outer = np.stack([PchipInterpolator(at, outer[:, i])(fine) for i in (0, 1)], 1)
    inner = outer[::-1].copy()
    inner[:, 0] = np.clip(inner[:, 0] - wall, 0, None)
    inner[:, 1] = np.maximum(inner[:, 1], outer[0, 1] + wall)
    return revolve(np.concatenate([[[0, outer[0, 1]]], outer, inner, [[0, outer[0, 1] + wall]]]))


def tube(points: ArrayLike, radii: ArrayLike, sides: int = 12) -> trimesh.Trimesh:
    """A tube of circles of `radii` (a number or one per point) along `points` [N, 3], with closed ends."""
    path = np.asarray(points, float)
    radius = np.broadcast_to(np.asarray(radii, float), len(path))
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


def arc(
    radius_x: float, radius_z: float, start: float, stop: float, centre: ArrayLike = (0, 0, 0), steps: int = 14
) -> np.ndarray:
    """Points of an elliptic arc in the xz plane, angles in radians from +x towards +z."""
    angle = np.linspace(start, stop, steps)
    around = np.stack([radius_x * np.cos(angle), 0 * angle, radius_z * np.sin(angle)], 1)
    return np.asarray(around + np.asarray(centre, float))


def extrude(polygon: Polygon, height: float) -> trimesh.Trimesh:
    """The polygon in the xy plane as a plate of this height."""
    return trimesh.creation.extrude_polygon(polygon, height)


def ellipsoid(size: ArrayLike, centre: ArrayLike = (0, 0, 0), subdivisions: int = 3) -> trimesh.Trimesh:
    """An ellipsoid of these half axes; small ones do with fewer subdivisions."""
    mesh: trimesh.Trimesh = trimesh.creation.icosphere(subdivisions=subdivisions)
    mesh.apply_scale(size)
    mesh.apply_translation(centre)
    return mesh


def box_mesh(size: ArrayLike, centre: ArrayLike) -> trimesh.Trimesh:
    """A box of these side lengths."""
    mesh: trimesh.Trimesh = trimesh.creation.box(size)
    mesh.apply_translation(centre)
    return mesh


def rotated(mesh: trimesh.Trimesh, angle: float, axis: ArrayLike) -> trimesh.Trimesh:
    """The same mesh, turned in place by an angle in radians about an axis through the origin."""
    mesh.apply_transform(trimesh.transformations.rotation_matrix(angle, axis))
    return mesh


def join(*meshes: trimesh.Trimesh) -> trimesh.Trimesh:
    """All of them as one mesh."""
    return cast("trimesh.Trimesh", trimesh.util.concatenate(meshes))
