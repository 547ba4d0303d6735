"""esam_perception: text-queried perception for robots (BLIP image-text matching + EfficientSAM).

    from esam_perception import Pipeline, Query, Verdict

    pipeline = Pipeline.from_profile("tabletop")
    for match in pipeline.locate(image, ["the red mug", Query("a banana", match_threshold=0.8)]):  # uint8 [H, W, 3] RGB
        print(match.query.text, match.verdict.name, [segment.box for segment in match.segments])

The names of `__all__` are the public ones. Each is imported when it is first asked for: importing the package imports
neither torch nor rclpy nor cv2. The library logs under `esam_perception` and is silent unless logging is set up. What the
user can mend is an EsamError; see esam_perception.errors.
"""

import logging
from pkgutil import extend_path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from esam_perception.errors import (
        EsamError,
        InvalidDevice,
        InvalidImage,
        InvalidInput,
        InvalidOptions,
        InvalidQuery,
        InvalidThresholds,
    )
    from esam_perception.matching.matcher import WordMap
    from esam_perception.pipeline.fusion import FusionOptions
    from esam_perception.pipeline.pipeline import EncodedImage, Pipeline
    from esam_perception.pipeline.prompting import PromptingOptions
    from esam_perception.pipeline.verdict import VerdictOptions
    from esam_perception.profiles.registry import load_profile
    from esam_perception.profiles.schema import Profile, ProfileError
    from esam_perception.targets.measure import NoTarget, measure_target, with_targets
    from esam_perception.types import (
        Frame,
        Intrinsics,
        Located,
        Match,
        Provenance,
        Query,
        Segment,
        Target3D,
        Timing,
        Verdict,
    )

# The messages are generated into an installed `esam_perception` of their own. When this source tree is first on
# sys.path (pytest from the repository), `esam_perception.msg` is found there only through the extended path.
__path__ = extend_path(__path__, __name__)

__version__ = "0.1.0"

__all__ = [
    "EncodedImage",
    "EsamError",
    "Frame",
    "FusionOptions",
    "Intrinsics",
    "InvalidDevice",
    "InvalidImage",
    "InvalidInput",
    "InvalidOptions",
    "InvalidQuery",
    "InvalidThresholds",
    "Located",
    "Match",
    "NoTarget",
    "Pipeline",
    "Profile",
    "ProfileError",
    "PromptingOptions",
    "Provenance",
    "Query",
    "Segment",
    "Target3D",
    "Timing",
    "Verdict",
    "VerdictOptions",
    "WordMap",
    "__version__",
    "load_profile",
    "measure_target",
    "with_targets",
]

# Where each lives, for __getattr__; the imports above say the same to type checkers.
_HOMES = {
    "EncodedImage": "esam_perception.pipeline.pipeline",
    "EsamError": "esam_perception.errors",
    "Frame": "esam_perception.types",
    "FusionOptions": "esam_perception.pipeline.fusion",
    "Intrinsics": "esam_perception.types",
    "InvalidDevice": "esam_perception.errors",
    "InvalidImage": "esam_perception.errors",
    "InvalidInput": "esam_perception.errors",
    "InvalidOptions": "esam_perception.errors",
    "InvalidQuery": "esam_perception.errors",
    "InvalidThresholds": "esam_perception.errors",
    "Located": "esam_perception.types",
    "Match": "esam_perception.types",
    "NoTarget": "esam_perception.targets.measure",
    "Pipeline": "esam_perception.pipeline.pipeline",
    "Profile": "esam_perception.profiles.schema",
    "ProfileError": "esam_perception.profiles.schema",
    "PromptingOptions": "esam_perception.pipeline.prompting",
    "Provenance": "esam_perception.types",
    "Query": "esam_perception.types",
    "Segment": "esam_perception.types",
    "Target3D": "esam_perception.types",
    "Timing": "esam_perception.types",
    "Verdict": "esam_perception.types",
    "VerdictOptions": "esam_perception.pipeline.verdict",
    "WordMap": "esam_perception.matching.matcher",
    "load_profile": "esam_perception.profiles.registry",
    "measure_target": "esam_perception.targets.measure",
    "with_targets": "esam_perception.targets.measure",
}

# A library does not print; who wants its log adds a handler.
logging.getLogger(__name__).addHandler(logging.NullHandler())


if not TYPE_CHECKING:  # a checker that saw it would take every misspelt name for an object

    def __getattr__(name: str) -> object:
        """A public name, at first use (PEP 562)."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value  # the next one finds it there
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
