"""The simulated RGB-D tabletop: household objects, their truth, and phrases about them. Imports nothing of ours.

The renderer is imported when `Tabletop` is first asked for: the recorded clip and the language do without its packages.
"""

from typing import TYPE_CHECKING

from esam_perception.tabletop.language import Phrase, TabletopObject
from esam_perception.tabletop.needs import OffscreenGLError
from esam_perception.tabletop.rendered_scene import RenderedScene

if TYPE_CHECKING:
    from esam_perception.tabletop.renderer import Tabletop

__all__ = ["OffscreenGLError", "Phrase", "RenderedScene", "Tabletop", "TabletopObject"]


def __getattr__(name: str) -> object:
    if name == "Tabletop":
        from esam_perception.tabletop.renderer import Tabletop

        return Tabletop
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
