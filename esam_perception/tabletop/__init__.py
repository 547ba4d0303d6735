"""The simulated RGB-D tabletop: household objects, their truth, and phrases about them. Imports nothing of ours."""

from esam_perception.tabletop.language import Phrase, TabletopObject
from esam_perception.tabletop.renderer import OffscreenGLError, RenderedScene, Tabletop

__all__ = ["OffscreenGLError", "Phrase", "RenderedScene", "Tabletop", "TabletopObject"]
