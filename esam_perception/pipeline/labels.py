"""Labels of segments in the label image."""

from __future__ import annotations

LAST_LABEL = 254  # 255 is reserved (vision_msgs/LabelInfo calls the greatest id unlabeled)


def segment_label(query: int, rank: int, queries: int) -> int | None:
    """The label of a query's segment (both counted from 0), None where labels have run out: the best segments of all
    queries are 1, 2, ... in their order, the second ones follow, and so on. So a label keeps its meaning from frame to
    frame while the queries stay the same."""
    label = 1 + query + rank * queries
    return label if label <= LAST_LABEL else None


def label_table(queries):
    return [
        (l, q.key) for r in range(LAST_LABEL) for i, q in enumerate(queries) if (l := segment_label(i, r, len(queries)))
    ]
