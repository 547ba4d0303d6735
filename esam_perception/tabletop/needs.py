"""What rendering the tabletop needs beyond NumPy and OpenCV, and what to do where it is missing. Imports none of it."""

from __future__ import annotations

# What requirements-tabletop.txt brings for rendering, as it is imported; OpenGL comes along with mujoco.
PACKAGES = ("mujoco", "OpenGL", "trimesh", "mapbox_earcut", "shapely", "networkx", "scipy")
PACKAGES_HINT = "in a clone of the repository: pip install -r requirements-tabletop.txt"
GL_HINT = "off-screen GL is missing: sudo apt-get install -y libegl1 libegl-mesa0 libgl1-mesa-dri"
# Exit code of a process that was to render and cannot.
CANNOT_RENDER_EXIT_CODE = 3


class OffscreenGLError(RuntimeError):
    """No off-screen GL works here; the text names what to install."""
