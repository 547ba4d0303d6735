"""Labels of segments in the label image."""

from __future__ import annotations

from collections.abc import Sequence

from esam_perception.types import Query

LAST_LABEL = 254  # 255 is reserved (vision_msgs/LabelInfo calls the greatest id unlabeled)


def query_labels(query: int, queries: int) -> range:
    """The labels of a query (counted from 0), of its segments by rank: the best segments of all queries are 1, 2, ... in
    their order, the second ones follow, and so on. So a label keeps its meaning from frame to frame while the queries
    stay the same."""
    return range(1 + query, LAST_LABEL + 1, queries)


def segment_label(query: int, rank: int, queries: int) -> int | None:
    """The label of a query's segment (both counted from 0), None where labels have run out."""
    labels = query_labels(query, queries)
    return labels[rank] if rank < len(labels) else None


def label_table(queries: Sequence[Query], regions: int | None = None) -> list[tuple[int, str]]:
    """(label, key of its query) of every label that can be published while these queries are active, labels ascending.

    regions: how many segments a query may have, where labels follow their order in the frame. None: labels stay with
    their things (see stream.tracking), and a query's n-th label may come without its first.
    """
    labels = (
        (label, query.key)
        for place, query in enumerate(queries)
        for label in query_labels(place, len(queries))[:regions]
    )
    return sorted(labels)
