"""What callers give to the pipeline: images and queries, as they come."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import numpy as np

from esam_perception.errors import InvalidImage, InvalidQuery
from esam_perception.types import Query

# One query or several; a text is a query with the defaults.
Queries: TypeAlias = "str | Query | Sequence[str | Query]"


def as_queries(given: Queries) -> list[Query]:
    """One query or a sequence of them, as a list in its order, duplicates too. A text is one query, not its letters.

    Raises InvalidQuery for what is neither a text nor a Query.
    """
    if isinstance(given, (str, Query)):
        return [_query(given)]
    if not isinstance(given, Iterable):
        raise InvalidQuery(f"a query must be a str or a Query, or a sequence of these, got {type(given).__name__}")
    return [_query(one) for one in given]


def _query(given: object) -> Query:
    if isinstance(given, str):
        return Query(given)
    if isinstance(given, Query):
        return given
    raise InvalidQuery(f"a query must be a str or a Query, got {type(given).__name__}")


def check_image(image: Any) -> None:
    """Raise InvalidImage unless the image is uint8 [H, W, 3] and not empty."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        shape = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
        raise InvalidImage(f"the image must be uint8 [H, W, 3] RGB, got {shape}")
    if 0 in image.shape:
        raise InvalidImage(f"the image is empty: {list(image.shape)}")
