"""The active queries in a file, so that a node that was killed comes back with them."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from esam_perception.errors import EsamError
from esam_perception.stream.query_sets import checked_queries
from esam_perception.types import Query

VERSION = 1
# 64 queries with a text and an id of 256 characters, of 4 bytes each at most, take 140 kB with their names.
MOST_BYTES = 256 * 1024
_TEXTS, _THRESHOLDS = ("text", "id"), ("match_threshold", "reject_threshold")
_FIELDS = {**dict.fromkeys(_TEXTS, str), **dict.fromkeys(_THRESHOLDS, float)}


class QueryStoreError(EsamError):
    """Queries could not be kept or read back; what is asked goes on without. reason: one of REASONS, for counters."""

    REASONS = ("not_written", "not_read", "damaged")

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class QueryStore:
    """The query set of one node, in a file of its own. Any threads.

    folder: of the machine's ROS state ($ROS_HOME, else ~/.ros). node: its fully qualified name. path: the file,
    `folder`/esam/NODE.queries.json, with a dot for each slash in the name (a dot is no character of a ROS name, so no
    two nodes share a file). run: what another run of the node kept is none of this one's; empty: a run like any other.
    """

    def __init__(self, folder: Path, node: str, run: str = "") -> None:
        self._run = run
        self.path = folder / "esam" / f"{node.strip('/').replace('/', '.')}.queries.json"
        self._lock = threading.Lock()
        self._kept: tuple[Query, ...] | None = None

    @classmethod
    def of_node(cls, name: str, environment: Mapping[str, str] = os.environ) -> QueryStore:
        """That of a node by its fully qualified name, below ROS_HOME, as its logs are. ESAM_RUN is what a launch tells all its
        starts of the node, so that another launch begins with its own queries."""
        home = Path(environment.get("ROS_HOME") or Path.home() / ".ros")
        return cls(home, name, environment.get("ESAM_RUN", ""))

    def save(self, queries: Sequence[Query]) -> None:
        """Keep these queries, none too; a set that is kept already costs nothing.

        A file is replaced whole or not at all, and is on the disk when this returns, which may take some 10 ms: not for
        a thread that must not wait. Raises QueryStoreError (not_written): the disk is full, the folder is read-only ...;
        what was kept before stays.
        """
        wanted = tuple(queries)
        with self._lock:
            content = {"version": VERSION, "run": self._run, "queries": [_entry(query) for query in wanted]}
            try:
                if wanted == self._kept and self.path.exists():
                    return
                self._replace(json.dumps(content, ensure_ascii=False, indent=1).encode())
            except OSError as error:
                raise QueryStoreError(
                    "not_written", f"the active queries cannot be kept in {self.path}: {error.strerror or error}"
                ) from error
            self._kept = wanted

    def load(self) -> tuple[Query, ...] | None:
        """The queries that were kept, () where the set was cleared, None where none was ever kept in this run.

        Raises QueryStoreError: not_read where the file cannot be read; damaged where it holds no legal set of queries:
        it is then laid aside (`path` with .damaged behind), and the next `load` finds none.
        """
        with self._lock:
            try:
                data = self._read()
            except FileNotFoundError:
                return None
            except OSError as error:
                raise QueryStoreError(
                    "not_read", f"the kept queries cannot be read from {self.path}: {error.strerror or error}"
                ) from error
            try:
                run, queries = _content(data)
            except (ValueError, RecursionError) as error:
                raise QueryStoreError(
                    "damaged", f"the kept queries in {self.path} are damaged ({error}){self._lay_aside()}"
                ) from error
            self._kept = queries if run == self._run else None
            return self._kept

    def _lay_aside(self) -> str:
        """What became of the file, for people."""
        aside = self.path.with_name(self.path.name + ".damaged")
        try:
            os.replace(self.path, aside)
        except OSError as error:
            return f", and the file cannot be laid aside: {error.strerror or error}"
        return f"; the file is laid aside as {aside.name}"

    def _replace(self, data: bytes) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # one name, so that nothing piles up where nodes are killed while they write
        new = self.path.with_name(self.path.name + ".new")
        try:
            with open(new, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(new, self.path)
        except OSError:
            with contextlib.suppress(OSError):
                new.unlink()
            raise
        with contextlib.suppress(OSError):  # of file systems that cannot: the file is whole in any case
            folder = os.open(self.path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def _read(self) -> bytes:
        """At most MOST_BYTES + 1."""
        # a pipe of that name must not make anybody wait
        descriptor = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError("it is no file")
            with open(descriptor, "rb", closefd=False) as file:
                return file.read(MOST_BYTES + 1)
        finally:
            os.close(descriptor)


def _content(data: bytes) -> tuple[str, tuple[Query, ...]]:
    """(run, queries) of a file. Raises ValueError (RefusedQuery is one) and RecursionError."""
    if len(data) > MOST_BYTES:
        raise ValueError(f"it has more than {MOST_BYTES} bytes")
    content = json.loads(data.decode())
    if not isinstance(content, dict) or set(content) != {"version", "run", "queries"}:
        raise ValueError("it must hold `version`, `run` and `queries`")
    if content["version"] != VERSION:
        raise ValueError(f"it is of version {str(content['version'])[:20]}, this package writes and reads {VERSION}")
    if not isinstance(content["queries"], list):
        raise ValueError("`queries` must be a list")
    if not isinstance(content["run"], str):
        raise ValueError("`run` must be a text")
    return content["run"], checked_queries([_query(entry) for entry in content["queries"]])


def _entry(query: Query) -> dict[str, str | float]:
    return {name: kind(getattr(query, name)) for name, kind in _FIELDS.items()}


def _query(entry: object) -> Query:
    if not isinstance(entry, dict) or set(entry) != set(_FIELDS):
        raise ValueError(f"a query must hold {', '.join(_FIELDS)}")
    if not all(isinstance(entry[name], str) for name in _TEXTS):
        raise ValueError(f"{' and '.join(_TEXTS)} of a query must be texts")
    thresholds = [entry[name] for name in _THRESHOLDS]
    if not all(type(value) in (int, float) and 0 <= value <= 1 for value in thresholds):
        raise ValueError(f"{' and '.join(_THRESHOLDS)} of a query must be numbers in 0..1")
    return Query(*(entry[name] for name in _TEXTS), *map(float, thresholds))
