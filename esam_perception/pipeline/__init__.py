"""Where matching and segmentation meet: encode, ask, locate. `Pipeline` is imported when it is asked for, as torch takes
seconds: options and verdicts are used where no torch is."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from esam_perception.pipeline.pipeline import EncodedImage, Pipeline

__all__ = ["EncodedImage", "Pipeline"]


def __getattr__(name: str) -> object:
    if name in __all__:
        from esam_perception.pipeline import pipeline

        return getattr(pipeline, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
