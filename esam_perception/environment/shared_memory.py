"""Whether /dev/shm holds the segments that Fast DDS passes images through: containers get 64 MB of it by default."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

FOLDER = "/dev/shm"
# The camera, the node, and one that looks at its results: each has a segment of its own.
PROCESSES = 3
CURE = "give the container more (docker run --shm-size=512m) or the host's (--ipc=host)"


def segment_bytes(profile: str | Path) -> int:
    """The bytes of a process' segment by a Fast DDS profile: the largest in there; 0 where it names none.

    A file that cannot be read or is no XML counts as none: Fast DDS says so itself and takes half a megabyte."""
    try:
        root = ElementTree.parse(profile).getroot()
    except (OSError, ElementTree.ParseError):
        return 0
    texts = [
        (element.text or "").strip() for element in root.iter() if element.tag.rpartition("}")[2] == "segment_size"
    ]
    return max((int(text) for text in texts if text.isdecimal()), default=0)


def shortage(profile: str | Path, statvfs: Callable[[str], os.statvfs_result] = os.statvfs) -> str:
    """One line that says why images will get lost and what mends it, or nothing where there is room.

    profile: the Fast DDS profile in use, empty for none. To be asked before this process has its own segment."""
    segment = segment_bytes(profile) if profile else 0
    if not segment:
        return ""
    try:
        found = statvfs(FOLDER)
    except OSError as error:
        return f"no shared memory for images, they may get lost: {FOLDER}: {error.strerror}; {CURE}"
    total, free = found.f_frsize * found.f_blocks, found.f_frsize * found.f_bavail
    if total < PROCESSES * segment:
        needed = f"{PROCESSES} processes (camera, node, viewer) need {_megabytes(PROCESSES * segment)}"
        return f"images may get lost: {FOLDER} has {_megabytes(total)}, {needed}; {CURE}"
    if free < segment:
        left = f"{_megabytes(free)} of {_megabytes(total)} are free, {_megabytes(segment)} are needed"
        return f"images may get lost: {FOLDER} is full: {left}; free what ended processes left: fastdds shm clean"
    return ""


def _megabytes(size: int) -> str:
    return f"{size / (1 << 20):.0f} MB"
