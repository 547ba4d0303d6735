"""The thresholds that hold for queries, settled when queries or defaults come: frames find them there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from esam_perception.errors import InvalidThresholds
from esam_perception.pipeline.verdict import VerdictOptions, thresholds_that_hold
from esam_perception.stream.query_sets import RefusedQuery
from esam_perception.types import Query


def resolve(query: Query, match_default: float, reject_default: float, options: VerdictOptions) -> Query:
    """The query with both of its thresholds filled in, 0 <= reject <= match <= 1; what it has of its own stays.

    match_default, reject_default: of all queries, 0 for those of the profile, which are `options`. See
    verdict.thresholds_that_hold for the rule. What comes out means the same to Pipeline.locate, and to this, without
    the defaults. Raises RefusedQuery (bad_threshold), whose text says which value came from where.
    """
    try:
        match, reject = thresholds_that_hold(query, match_default, reject_default, options)
    except InvalidThresholds as error:
        raise RefusedQuery("bad_threshold", f"query {query.text[:40]!r}: {error}") from error
    return replace(query, match_threshold=match, reject_threshold=reject)


def resolve_all(
    queries: Iterable[Query], match_default: float, reject_default: float, options: VerdictOptions
) -> tuple[Query, ...]:
    """The same of each of them, in order. Raises RefusedQuery for the first that cannot be asked."""
    return tuple(resolve(query, match_default, reject_default, options) for query in queries)
