"""Renders scenes of the simulated tabletop off screen with MuJoCo: colour, depth, instances, intrinsics, truth."""

from __future__ import annotations

import ctypes.util
import os
from typing import Any

import numpy as np

from esam_perception.tabletop.language import TabletopObject, scene_phrases
from esam_perception.tabletop.needs import GL_HINT, OffscreenGLError
from esam_perception.tabletop.rendered_scene import RenderedScene
from esam_perception.tabletop.scene import SCENES_PER_WORLD, TABLE_HALF, Scene, World, make_world, sample_scene

# An object is named only if at least this share of the image shows it (123 pixels of 640x480).
VISIBLE_SHARE = 4e-4
HIDDEN_GROUP = 4
MAX_LIGHTS = 3


def _import_mujoco() -> Any:
    """MuJoCo chooses its GL when it is first imported: choose one that this machine has."""
    if "MUJOCO_GL" not in os.environ:
        os.environ["MUJOCO_GL"] = "egl" if ctypes.util.find_library("EGL") else "osmesa"
    try:
        import mujoco
    except ModuleNotFoundError:
        raise  # a package that is not installed: GL is not to blame
    except (ImportError, AttributeError, OSError, RuntimeError) as error:
        # PyOpenGL raises AttributeError where the library it was told to use is missing
        raise OffscreenGLError(f"{GL_HINT} ({type(error).__name__}: {error})") from error
    return mujoco


class Tabletop:
    """The simulated tabletop at one image size. Not thread-safe: GL contexts belong to the thread that made them.

        world = Tabletop(640, 480)
        seen = world.render(world.sample(seed=7))
        world.close()

    Raises OffscreenGLError where no off-screen GL works, ModuleNotFoundError where a package is missing (see needs).
    """

    def __init__(self, width: int = 640, height: int = 480, samples: int = 4) -> None:
        self.width, self.height, self._samples = width, height, samples
        self._mujoco = _import_mujoco()
        self._world: World | None = None
        self._renderer: Any = None  # a mujoco.Renderer, until it is closed
        self._enter_world(0)

    def close(self) -> None:
        """Free the GL context. Safe to call twice."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None
        self._world = None

    def sample(self, seed: int) -> Scene:
        """The scene of `seed` (>= 0)."""
        return sample_scene(seed, self._enter_world(seed // SCENES_PER_WORLD))

    def render(self, scene: Scene, orbit: float = 0.0) -> RenderedScene:
        """Render `scene`, the camera turned by `orbit` radians around the table."""
        world = self._enter_world(scene.seed // SCENES_PER_WORLD)
        self._lay(scene)
        rotation, position = self._aim(scene, orbit)
        mujoco, model, data = self._mujoco, self._model, self._data
        mujoco.mj_kinematics(model, data)
        mujoco.mj_camlight(model, data)
        renderer = self._renderer
        renderer.update_scene(data, camera=0, scene_option=self._option)
        image = renderer.render().copy()
        renderer.enable_depth_rendering()
        depth = renderer.render().astype(np.float32)
        renderer.disable_depth_rendering()
        renderer.enable_segmentation_rendering()
        geoms = renderer.render()[..., 0]
        renderer.disable_segmentation_rendering()
        depth[depth > 10.0] = 0.0  # the sky
        label_of_geom = np.zeros(model.ngeom + 1, np.uint8)
        for label, item in enumerate(scene.placed, start=1):
            label_of_geom[self._geoms[item.pool_index]] = label
        instances = label_of_geom[geoms]  # -1, no geom, reads the last entry: 0
        pixels = np.bincount(instances.ravel(), minlength=len(scene.placed) + 1)
        objects = []
        for label, item in enumerate(scene.placed, start=1):
            entry = world.pool[item.pool_index]
            x, y, z = rotation @ (np.array([*item.xy, entry.height / 2]) - position)
            count = int(pixels[label])
            objects.append(
                TabletopObject(label, entry.category, item.colour, (float(x), float(y), float(z)), count,
                               count >= VISIBLE_SHARE * instances.size)
            )  # fmt: skip
        focal = self.height / 2 / np.tan(scene.field_of_view / 2)
        matrix = np.array([[focal, 0, self.width / 2 - 0.5], [0, focal, self.height / 2 - 0.5], [0, 0, 1]])
        phrases = scene_phrases(objects, np.random.default_rng([2, scene.seed]))
        return RenderedScene(image, depth, instances, matrix, tuple(objects), phrases, scene.seed)

    def unhidden_pixels(self, scene: Scene) -> dict[int, int]:
        """How many pixels each object (by label) would cover if nothing stood before it."""
        self._enter_world(scene.seed // SCENES_PER_WORLD)
        self._lay(scene)
        self._aim(scene, 0.0)
        model, counts = self._model, dict[int, int]()
        self._mujoco.mj_kinematics(model, self._data)
        self._mujoco.mj_camlight(model, self._data)
        self._renderer.enable_segmentation_rendering()
        for label, item in enumerate(scene.placed, start=1):
            geoms = self._geoms[item.pool_index]
            model.geom_group[2:] = HIDDEN_GROUP
            model.geom_group[geoms] = 0
            self._renderer.update_scene(self._data, camera=0, scene_option=self._option)
            counts[label] = int(np.isin(self._renderer.render()[..., 0], geoms).sum())
        self._renderer.disable_segmentation_rendering()
        return counts

    def _enter_world(self, index: int) -> World:
        """Build the MuJoCo model of a world, unless it is the one at hand."""
        if self._world is not None and self._world.index == index:
            return self._world
        self.close()
        mujoco, world = self._mujoco, make_world(index)
        spec = mujoco.MjSpec()
        spec.visual.global_.offwidth, spec.visual.global_.offheight = self.width, self.height
        spec.visual.quality.offsamples, spec.visual.quality.shadowsize = self._samples, 1024
        spec.visual.map.znear, spec.visual.map.zfar, spec.stat.extent = 0.02, 20.0, 1.0
        self._add_textures(spec, world)
        root = spec.worldbody
        root.add_camera(name="camera")
        for _ in range(MAX_LIGHTS):
            root.add_light(type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL, pos=[0, 0, 2])
        box, mesh_type = mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_MESH
        root.add_geom(name="table", type=box, size=[*TABLE_HALF, 0.02], pos=[0, 0, -0.02], material="table0")
        root.add_geom(name="floor", type=box, size=[4, 4, 0.02], pos=[0, 0, -0.8], rgba=[0.35, 0.33, 0.32, 1])
        self._geoms: list[list[int]] = []
        count = 2
        for i, item in enumerate(world.pool):
            body = root.add_body(name=f"object{i}")
            own = []
            for part, mesh in (("body", item.parts.body), ("trim", item.parts.trim)):
                if mesh is None:
                    continue
                spec.add_mesh(
                    name=f"{part}{i}",
                    uservert=(mesh.vertices * item.size).astype(np.float32).ravel(),
                    userface=mesh.faces.astype(np.int32).ravel(),
                    # thin and open meshes have no volume to take an inertia from
                    inertia=mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL,
                )
                body.add_geom(type=mesh_type, meshname=f"{part}{i}", material="skin0", contype=0, conaffinity=0)
                own.append(count)
                count += 1
            self._geoms.append(own)
        self._model = spec.compile()
        self._data = mujoco.MjData(self._model)
        try:
            self._renderer = mujoco.Renderer(self._model, self.height, self.width)
        except (RuntimeError, ImportError, AttributeError, OSError, mujoco.FatalError) as error:
            raise OffscreenGLError(f"{GL_HINT} ({type(error).__name__}: {error})") from error
        self._option = mujoco.MjvOption()
        self._option.geomgroup[HIDDEN_GROUP] = 0
        self._world = world
        return world

    def _add_textures(self, spec: Any, world: World) -> None:
        mujoco = self._mujoco
        spec.add_texture(name="sky", type=mujoco.mjtTexture.mjTEXTURE_SKYBOX, builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
                         rgb1=[0.75, 0.77, 0.8], rgb2=[0.45, 0.45, 0.48], width=64, height=384)  # fmt: skip
        cube, flat = mujoco.mjtTexture.mjTEXTURE_CUBE, mujoco.mjtTexture.mjTEXTURE_2D
        self._tables = len(world.table_textures)
        for prefix, kind, textures in (("table", flat, world.table_textures), ("skin", cube, world.skin_textures)):
            for i, pixels in enumerate(textures):
                # a cube texture is six squares below each other; the same one on every side will do
                stacked = np.tile(pixels, (6, 1, 1)) if kind == cube else pixels
                texture = spec.add_texture(
                    name=f"{prefix}{i}", type=kind, width=stacked.shape[1], height=stacked.shape[0], nchannel=3
                )
                texture.data = stacked.tobytes()
                material = spec.add_material(name=f"{prefix}{i}", specular=0.3, shininess=0.3)
                material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = f"{prefix}{i}"

    def _lay(self, scene: Scene) -> None:
        """Put the scene's objects, colours and lights into the model; hide the rest of the pool."""
        model = self._model
        model.geom_group[2:] = HIDDEN_GROUP
        # materials lie in the order they were added: tables, then skins
        model.geom_matid[0] = scene.table_texture
        for item in scene.placed:
            body = item.pool_index + 1
            model.body_pos[body] = [*item.xy, 0]
            model.body_quat[body] = [np.cos(item.yaw / 2), 0, 0, np.sin(item.yaw / 2)]
            for geom, rgb in zip(self._geoms[item.pool_index], (item.rgb, item.trim_rgb)):
                model.geom_group[geom] = 0
                model.geom_rgba[geom] = [*rgb, 1]
                model.geom_matid[geom] = self._tables + item.skin
        for i in range(MAX_LIGHTS):
            on = i < len(scene.lights)
            model.light_active[i] = on
            if on:
                light = scene.lights[i]
                model.light_dir[i], model.light_castshadow[i] = light.direction, light.shadow
                model.light_pos[i] = -2 * np.array(light.direction)
                model.light_diffuse[i], model.light_specular[i] = light.brightness, 0.3 * light.brightness
                model.light_ambient[i] = 0
        headlight = model.vis.headlight
        headlight.ambient[:], headlight.diffuse[:], headlight.specular[:] = scene.ambient, 0.12, 0.0

    def _aim(self, scene: Scene, orbit: float) -> tuple[np.ndarray, np.ndarray]:
        """Point the camera; returns the rotation world -> optical frame [3, 3] and the camera's position [3]."""
        azimuth = scene.azimuth + orbit
        back = np.array([np.cos(azimuth) * np.cos(scene.elevation), np.sin(azimuth) * np.cos(scene.elevation),
                         np.sin(scene.elevation)])  # fmt: skip
        position = np.array(scene.look_at) + scene.distance * back
        right = np.cross([0, 0, 1], back)
        right /= np.linalg.norm(right)
        up = np.cross(back, right)
        quaternion = np.zeros(4)
        self._mujoco.mju_mat2Quat(quaternion, np.stack([right, up, back], 1).ravel())
        self._model.cam_pos[0], self._model.cam_quat[0] = position, quaternion
        self._model.cam_fovy[0] = np.degrees(scene.field_of_view)
        return np.stack([right, -up, -back]), position
