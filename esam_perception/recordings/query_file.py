"""Queries from a file: one phrase a line, or YAML/JSON with own ids and thresholds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from esam_perception.errors import EsamError
from esam_perception.stream.query_sets import RefusedQuery, checked_queries, parse_query_text
from esam_perception.types import Query

STRUCTURED = (".yaml", ".yml", ".json")
FIELDS = ("text", "id", "match_threshold", "reject_threshold")


class QueryFileError(EsamError):
    """A file of queries that cannot be taken; one line that says why."""


def read_queries(path: Path) -> tuple[Query, ...]:
    """The queries of a file, in its order, at least one. Raises QueryFileError.

    .yaml, .yml, .json: a list, or `queries:` with a list, of phrases or of mappings with `text` and, as wanted, `id`,
    `match_threshold` and `reject_threshold`. Any other name: one phrase a line; what follows `#` is a comment.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise QueryFileError(f"{path}: cannot be read ({error})") from error
    try:
        if path.suffix.lower() in STRUCTURED:
            queries = checked_queries([_query(entry, path, i) for i, entry in enumerate(_entries(text, path), 1)])
        else:
            queries = parse_query_text("\n".join(line.partition("#")[0] for line in text.splitlines()))
    except RefusedQuery as error:
        raise QueryFileError(f"{path}: {error}") from error
    if not queries:
        raise QueryFileError(f"{path}: has no queries: write one phrase a line, for instance: the red mug")
    return queries


def _entries(text: str, path: Path) -> list[Any]:
    try:
        # JSON is YAML
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        raise QueryFileError(f"{path}{f':{where.line + 1}' if where else ''}: is neither YAML nor JSON") from error
    except (ValueError, RecursionError) as error:  # a 13th month, a number of 5000 digits, 1000 brackets
        raise QueryFileError(f"{path}: cannot be read as YAML ({error})") from error
    entries = content.get("queries") if isinstance(content, dict) else content
    if content is not None and not isinstance(entries, list):
        raise QueryFileError(f"{path}: must be a list of queries, or a mapping with `queries:` and a list")
    return entries or []


def _query(entry: Any, path: Path, number: int) -> Query:
    where = f"{path}: query {number}"
    if isinstance(entry, str):
        return Query(entry.strip())
    if not isinstance(entry, dict) or not isinstance(entry.get("text"), str):
        raise QueryFileError(f"{where} must be a phrase, or a mapping with `text` ({', '.join(FIELDS)})")
    if unknown := [str(key) for key in entry if key not in FIELDS]:
        raise QueryFileError(f"{where} has the unknown field {unknown[0]!r}; there are {', '.join(FIELDS)}")
    own_id = entry.get("id")
    if isinstance(own_id, (list, dict, set)):
        raise QueryFileError(f"{where}: an id must be a word or a number")
    thresholds = [_threshold(entry.get(name), where) for name in FIELDS[2:]]
    return Query(entry["text"].strip(), "" if own_id is None else str(own_id).strip(), *thresholds)


def _threshold(value: Any, where: str) -> float:
    """0 where there is none; its range is checked with the others'."""
    if value is None:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise QueryFileError(f"{where}: a threshold must be a number")
    try:
        return float(value)
    except OverflowError as error:
        raise QueryFileError(f"{where}: a threshold must be in 0..1") from error
