"""What a perfect RGB-D camera sees of the tabletop, with the truth: rendered, or read from the recorded clip."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import numpy as np

from esam_perception.tabletop.language import Phrase, TabletopObject


@dataclass(frozen=True, eq=False)
class RenderedScene:
    """A scene as a perfect RGB-D camera sees it.

    image: uint8 [H, W, 3] RGB. depth: float32 [H, W] metres along the optical axis, 0 where there is none.
    instances: uint8 [H, W], 0 for the background, else `TabletopObject.label`.
    camera_matrix: float64 [3, 3], pixels. phrases: true and false ones (language.scene_phrases).
    """

    image: np.ndarray
    depth: np.ndarray
    instances: np.ndarray
    camera_matrix: np.ndarray
    objects: tuple[TabletopObject, ...]
    phrases: tuple[Phrase, ...]
    seed: int

    def truth_json(self) -> str:
        """Objects, phrases and seed as JSON."""
        return json.dumps(
            {
                "seed": self.seed,
                "objects": [asdict(o) for o in self.objects],
                "phrases": [asdict(p) for p in self.phrases],
            }
        )
