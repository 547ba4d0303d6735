"""What stands on the table: worlds (meshes, textures) and scenes (which objects, where, lit and seen how).

Deterministic: a world depends on `seed // SCENES_PER_WORLD` alone, a scene on its seed and its world. Ranges of seeds
that do not share a block of SCENES_PER_WORLD therefore share no mesh, texture or scene.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

from esam_perception.tabletop.objects import make_object
from esam_perception.tabletop.shapes import Parts
from esam_perception.tabletop.words import CATEGORIES, COLOURS

SCENES_PER_WORLD = 100
VARIANTS = 2
TABLE_HALF = (0.62, 0.5)
# Largest extent of an object in metres; long thin things are drawn longer, to be as easy to see.
SIZE_RANGE = (0.085, 0.18)
LONG = {"hammer", "screwdriver", "wrench", "spoon", "scissors", "key", "pan", "plate", "carrot", "banana", "candle"}
LONG_FACTOR = 1.35


@dataclass(frozen=True)
class PoolObject:
    """One mesh of a world's pool. size: largest extent in metres. radius: of its footprint, metres."""

    category: str
    parts: Parts
    size: float
    radius: float
    height: float


@dataclass(frozen=True)
class World:
    """The pool of objects and the textures that SCENES_PER_WORLD scenes share."""

    index: int
    pool: tuple[PoolObject, ...]
    table_textures: tuple[np.ndarray, ...]  # uint8 [T, T, 3]
    skin_textures: tuple[np.ndarray, ...]  # uint8 [T, T, 3], near white: they modulate the object's colour


@dataclass(frozen=True)
class Placed:
    """A pool object in a scene. rgb and trim_rgb in 0..1; skin: index of its texture."""

    pool_index: int
    colour: str
    rgb: tuple[float, float, float]
    trim_rgb: tuple[float, float, float]
    xy: tuple[float, float]
    yaw: float
    skin: int


@dataclass(frozen=True)
class Light:
    """A directional light; direction points from the light to the table."""

    direction: tuple[float, float, float]
    brightness: float
    shadow: bool


@dataclass(frozen=True)
class Scene:
    """Everything that a render of this seed needs besides its world. Angles in radians, lengths in metres."""

    seed: int
    placed: tuple[Placed, ...]
    lights: tuple[Light, ...]
    ambient: float
    table_texture: int
    azimuth: float
    elevation: float
    distance: float
    field_of_view: float
    look_at: tuple[float, float, float]


def _smooth_noise(rng: np.random.Generator, size: int) -> np.ndarray:
    """Cloudy noise [size, size] in 0..1 out of a few octaves, optionally stretched to a grain."""
    total = np.zeros((size, size))
    stretch = int(rng.choice([1, 1, 4, 8]))
    for cells in (4, 8, 16, 32, 64):
        coarse = rng.random((cells, max(cells // stretch, 2)))
        rows = np.linspace(0, coarse.shape[0] - 1, size)
        columns = np.linspace(0, coarse.shape[1] - 1, size)
        r, c = rows.astype(int), columns.astype(int)
        r1, c1 = np.minimum(r + 1, coarse.shape[0] - 1), np.minimum(c + 1, coarse.shape[1] - 1)
        fr, fc = (rows - r)[:, None], (columns - c)[None]
        top = coarse[r][:, c] * (1 - fc) + coarse[r][:, c1] * fc
        low = coarse[r1][:, c] * (1 - fc) + coarse[r1][:, c1] * fc
        total += (top * (1 - fr) + low * fr) / cells**0.5
    total -= total.min()
    return np.asarray(total / total.max())


def _table_texture(rng: np.random.Generator, size: int = 256) -> np.ndarray:
    """A table top: wood, stone, cloth or paint in mostly muted colours."""
    hue, saturation = rng.random(), rng.beta(1.2, 2.5) * 0.7
    base = np.array(colorsys.hsv_to_rgb(hue, saturation, rng.uniform(0.2, 0.95)))
    other = np.clip(base * rng.uniform(0.6, 1.25) + rng.normal(0, 0.06, 3), 0, 1)
    kind = rng.choice(["noise", "checker", "stripes", "plain"], p=[0.5, 0.15, 0.15, 0.2])
    if kind == "noise":
        mix = _smooth_noise(rng, size)
    elif kind == "plain":
        mix = 0.15 * _smooth_noise(rng, size)
    else:
        cells = int(rng.integers(4, 17))
        axis = np.arange(size) * cells // size
        mix = ((axis[:, None] + (axis[None] if kind == "checker" else 0)) % 2).astype(float)
        mix = 0.8 * mix + 0.2 * _smooth_noise(rng, size)
    colour = base + mix[..., None] * (other - base)
    texture: np.ndarray = (np.clip(colour, 0, 1) * 255).astype(np.uint8)
    return texture


def _skin_texture(rng: np.random.Generator, size: int = 64) -> np.ndarray:
    depth = rng.uniform(0.05, 0.35)
    grey = 1 - depth * _smooth_noise(rng, size)
    return np.repeat((grey * 255).astype(np.uint8)[..., None], 3, axis=2)


def make_world(index: int) -> World:
    """The world that scenes `index * SCENES_PER_WORLD ...` share."""
    rng = np.random.default_rng([0, index])
    pool = []
    for category in CATEGORIES:
        for _ in range(VARIANTS):
            parts = make_object(category, rng)
            size = rng.uniform(*SIZE_RANGE) * (LONG_FACTOR if category in LONG else 1.0)
            meshes = [mesh for mesh in (parts.body, parts.trim) if mesh is not None]
            points = np.concatenate([mesh.vertices for mesh in meshes]) * size
            radius = float(np.linalg.norm(points[:, :2], axis=1).max())
            pool.append(PoolObject(category, parts, size, radius, float(points[:, 2].max())))
    tables = tuple(_table_texture(rng) for _ in range(6))
    skins = (np.full((8, 8, 3), 255, np.uint8), *(_skin_texture(rng) for _ in range(4)))
    return World(index, tuple(pool), tables, skins)


def _jittered(rgb: tuple[float, float, float], rng: np.random.Generator) -> tuple[float, float, float]:
    """The colour as it comes out of a pot: hue, saturation and value vary, the word for it does not."""
    hue, saturation, value = colorsys.rgb_to_hsv(*rgb)
    hue = (hue + rng.normal(0, 0.008)) % 1
    saturation = np.clip(saturation + rng.normal(0, 0.05) * (saturation > 0.1), 0, 1)
    value = np.clip(value + rng.normal(0, 0.03), 0.03, 1)
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return float(red), float(green), float(blue)


def _draw_names(rng: np.random.Generator, count: int) -> list[tuple[str, str]]:
    """Colour and category of each object; half of the later ones share one word with an earlier one, so that both
    words of a phrase are needed."""
    names: list[tuple[str, str]] = []
    colours = tuple(COLOURS)
    for _ in range(200):
        if len(names) == count:
            break
        colour, category = colours[rng.integers(len(colours))], CATEGORIES[rng.integers(len(CATEGORIES))]
        if names and (twist := rng.random()) < 0.5:
            seen = names[rng.integers(len(names))]
            colour, category = (seen[0], category) if twist < 0.25 else (colour, seen[1])
        if (colour, category) in names or sum(c == category for _, c in names) >= VARIANTS:
            continue
        names.append((colour, category))
    return names


def sample_scene(seed: int, world: World) -> Scene:
    """Draw the scene of `seed`. Raises ValueError if `world` is not the one of this seed."""
    if world.index != seed // SCENES_PER_WORLD:
        raise ValueError(f"scene {seed} belongs to world {seed // SCENES_PER_WORLD}, not {world.index}")
    rng = np.random.default_rng([1, seed])
    by_category: dict[str, list[int]] = {}
    for i, item in enumerate(world.pool):
        by_category.setdefault(item.category, []).append(i)
    placed: list[Placed] = []
    discs: list[tuple[float, float, float]] = []
    for colour, category in _draw_names(rng, int(rng.integers(3, 9))):
        free = [i for i in by_category[category] if all(p.pool_index != i for p in placed)]
        index = free[rng.integers(len(free))]
        item = world.pool[index]
        for _ in range(60):
            x, y = rng.uniform(-0.36, 0.36), rng.uniform(-0.28, 0.28)
            if all((x - a) ** 2 + (y - b) ** 2 > (r + item.radius) ** 2 * 0.8 for a, b, r in discs):
                break
        else:
            continue  # the table is full: one object fewer
        discs.append((x, y, item.radius))
        rgb = _jittered(COLOURS[colour], rng)
        trim = item.parts.trim_colour
        if trim is None:  # pips: dark on light, light on dark
            trim = (0.05, 0.05, 0.05) if sum(rgb) > 1.2 else (0.95, 0.95, 0.95)
        elif rng.random() < 0.25:
            trim = rgb
        skin = 0 if rng.random() < 0.5 else int(rng.integers(1, len(world.skin_textures)))
        placed.append(Placed(index, colour, rgb, trim, (x, y), rng.uniform(-np.pi, np.pi), skin))
        rng.random()  # of a quantity that is gone: without this draw every seed would give another scene
    lights = []
    for k in range(int(rng.integers(1, 4))):
        direction = np.array([rng.normal(0, 0.5), rng.normal(0, 0.5), -1.0])
        direction /= np.linalg.norm(direction)
        brightness = rng.uniform(0.45, 0.75) if k == 0 else rng.uniform(0.05, 0.2)
        lights.append(Light(tuple(direction), brightness, k == 0 and rng.random() < 0.7))
    return Scene(
        seed=seed,
        placed=tuple(placed),
        lights=tuple(lights),
        ambient=rng.uniform(0.2, 0.45),
        table_texture=int(rng.integers(len(world.table_textures))),
        azimuth=rng.uniform(-np.pi, np.pi),
        elevation=np.radians(rng.uniform(28, 65)),
        distance=rng.uniform(0.52, 0.9),
        field_of_view=np.radians(rng.uniform(40, 52)),
        look_at=(rng.uniform(-0.05, 0.05), rng.uniform(-0.05, 0.05), 0.03),
    )
