"""What users say on /esam/query and /esam/queries, and ask of /esam/locate -> queries, or a reason why not."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np

from esam_perception.errors import InvalidQuery
from esam_perception.types import Query

MAX_QUERIES = 64
MAX_CHARACTERS = 256
_SEPARATOR = re.compile(r"[\n;]")


class RefusedQuery(InvalidQuery):
    """A query message that is not taken; the active queries stay as they are. reason: for counters."""

    REASONS = ("too_long", "too_many", "control_characters", "no_words", "bad_threshold", "duplicate_id")

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class QueryMessage(Protocol):
    """An esam_perception/Query, as far as it is read here."""

    text: str
    id: str
    match_threshold: float
    reject_threshold: float


class QueryArrayMessage(Protocol):
    """An esam_perception/QueryArray, as far as it is read here."""

    queries: Sequence[QueryMessage]


def parse_query_text(text: str) -> tuple[Query, ...]:
    """Phrases separated by newline or `;`, trimmed, empty ones dropped, each once, order kept. Nothing left: clear.

    Raises RefusedQuery.
    """
    if len(text) > MAX_QUERIES * (MAX_CHARACTERS + 1):
        raise RefusedQuery("too_long", f"the query message has {len(text)} characters")
    phrases = dict.fromkeys(phrase for phrase in (part.strip() for part in _SEPARATOR.split(text)) if phrase)
    return checked_queries(Query(phrase) for phrase in phrases)


def parse_texts(texts: Sequence[str]) -> tuple[Query, ...]:
    """One query for every text, in order, duplicates too: whoever asks counts the answers. A text is trimmed, and never
    split: `;` is a character like any other, and a line break inside is a control character, which is refused (a text
    that was meant as two would be answered as one). Raises RefusedQuery for the first that cannot be taken, an empty one
    too, and for more than MAX_QUERIES."""
    queries = tuple(Query(text.strip()) for text in texts[: MAX_QUERIES + 1])
    _check_number(queries)
    for query in queries:
        _check_query(query)
    return queries


def queries_of_message(message: QueryArrayMessage) -> tuple[Query, ...]:
    """The queries of an esam_perception/QueryArray. Raises RefusedQuery."""
    queries = [
        Query(q.text.strip(), q.id.strip(), _decimal(q.match_threshold), _decimal(q.reject_threshold))
        for q in message.queries[: MAX_QUERIES + 1]
    ]
    return checked_queries(queries)


def _decimal(value: float) -> float:
    """What somebody wrote who got this float32: 0.6, not 0.60000002, which lies above a profile's threshold of 0.6."""
    return float(str(np.float32(value)))


def checked_queries(queries: Iterable[Query]) -> tuple[Query, ...]:
    """The queries as they are, wherever they came from. Raises RefusedQuery for the first that cannot be taken."""
    checked = tuple(queries)
    _check_number(checked)
    seen: set[str] = set()
    for query in checked:
        _check_query(query)
        if query.key in seen:
            raise RefusedQuery("duplicate_id", f"the query id {query.key[:40]!r} is given twice")
        seen.add(query.key)
    return checked


def _check_number(queries: Sequence[Query]) -> None:
    if len(queries) > MAX_QUERIES:
        raise RefusedQuery("too_many", f"more than {MAX_QUERIES} queries")


def _check_query(query: Query) -> None:
    """What can be wrong with a query by itself."""
    for what, value in (("query", query.text), ("query id", query.id)):
        if len(value) > MAX_CHARACTERS:
            raise RefusedQuery("too_long", f"a {what} has {len(value)} characters, at most {MAX_CHARACTERS} are taken")
        # Cc: controls; Cs: lone surrogates, which cannot be published again
        if any(unicodedata.category(character) in ("Cc", "Cs") for character in value):
            raise RefusedQuery("control_characters", f"the {what} {value[:40]!r} has control characters")
    if not any(character.isalnum() for character in query.text):
        raise RefusedQuery("no_words", f"the query {query.text[:40]!r} has no words to look for")
    _check_query_thresholds(query)


def _check_query_thresholds(query: Query) -> None:
    """As far as the query tells by itself: see stream.thresholds for those that hold."""
    match, reject = query.match_threshold, query.reject_threshold
    if not (0 <= match <= 1 and 0 <= reject <= 1) or 0 < match < reject:
        raise RefusedQuery(
            "bad_threshold",
            f"query {query.text[:40]!r}: thresholds must satisfy 0 <= reject <= match <= 1, got reject {reject:g}, match "
            f"{match:g} (0: the default)",
        )
