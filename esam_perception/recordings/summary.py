"""The table of a replay, for people (Markdown) and for programs (CSV)."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from esam_perception.recordings.replay import BagResult, QueryCounts
from esam_perception.types import Verdict

COLUMNS = ("bag", "query", "text", "frames", "MATCH", "UNSURE", "NO_MATCH", "mean_score", "first_match", "last_match")
NANOSECONDS = 1_000_000_000


def _seconds(stamp: int | None) -> str:
    """Seconds with all nine decimals, as a stamp is compared and never rounded; empty for None."""
    return "" if stamp is None else f"{stamp // NANOSECONDS}.{stamp % NANOSECONDS:09d}"


def _row(bag: str, counts: QueryCounts) -> list[str]:
    verdicts = [str(counts.verdicts[verdict]) for verdict in (Verdict.MATCH, Verdict.UNSURE, Verdict.NO_MATCH)]
    mean = f"{counts.score_sum / counts.frames:.6f}" if counts.frames else ""
    stamps = [_seconds(counts.first_match), _seconds(counts.last_match)]
    return [bag, counts.query.key, counts.query.text, str(counts.frames), *verdicts, mean, *stamps]


def csv_summary(results: Sequence[BagResult]) -> str:
    """A row a bag and query; bags that failed have none. Stamps in seconds, of the images' headers."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for result in results:
        if not result.error:
            writer.writerows(_row(result.bag.name, counts) for counts in result.queries)
    return text.getvalue()


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def markdown_summary(results: Sequence[BagResult]) -> str:
    """The rows of `csv_summary`, then what became of each bag's frames."""
    lines = ["# Replay", "", _line(COLUMNS), _line(["---"] * len(COLUMNS))]
    for result in results:
        if not result.error:
            lines += [_line(_row(result.bag.name, counts)) for counts in result.queries]
    lines += ["", "Stamps are those of the images' headers, in seconds.", ""]
    return "\n".join(lines + [f"- {about(result)}" for result in results]) + "\n"


def about(result: BagResult) -> str:
    """One line about a bag: what was read, processed, left out and refused."""
    name = result.bag.name
    if result.error:
        return f"{name}: FAILED: {result.error}"
    parts = [f"{result.processed} of {result.read} frames of {result.topic} processed (profile {result.profile})"]
    if result.skipped:
        parts.append(f"{result.skipped} left out by --every")
    for reason, frames in sorted(result.refused.items()):
        parts.append(f"{frames} refused: {reason} (the first: {result.details[reason]})")
    if result.read < result.announced:
        parts.append(f"the bag announces {result.announced}: {result.announced - result.read} are missing in it")
    return f"{name}: " + "; ".join(parts)


def write_summaries(folder: Path, results: Sequence[BagResult]) -> None:
    """summary.csv and summary.md in a folder."""
    (folder / "summary.csv").write_text(csv_summary(results), encoding="utf-8")
    (folder / "summary.md").write_text(markdown_summary(results), encoding="utf-8")
