"""A file by https. What an earlier try left is gone on with while it is of the same file; it is never trusted blindly."""

from __future__ import annotations

import http.client
import json
import os
import re
import urllib.error
import urllib.request
from email.message import Message
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from esam_perception.errors import EsamError
from esam_perception.profiles.schema import is_loopback
from esam_perception.profiles.weights import file_sha256

CHUNK = 1 << 20
TIMEOUT = 60  # seconds without a byte


class DownloadError(EsamError):
    """A file did not arrive; the text names it and says what failed."""


class NetworkError(DownloadError):
    """The server could not be reached, or did not give the file."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows no redirect out of encryption."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if urlsplit(newurl).scheme != "https" and not (is_loopback(req.full_url) and is_loopback(newurl)):
            raise DownloadError(f"{req.full_url}: leads to {newurl}: only https is followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def download(url: str, target: Path, size: int = 0, sha256: str = "") -> None:
    """Bring the file at `url` to `target`, which appears whole or not at all, with a progress bar.

    Until then its beginning lies in `target`.part, and beside it (.part.json) what the server knows the file by (RFC 9110:
    a strong ETag, else Last-Modified), by which the next try asks for the rest of that file alone. size (bytes) and sha256
    are what is known of it, if anything: by these a .part that is whole already is told from one that is not. Raises
    DownloadError.
    """
    part, note = (target.with_name(target.name + ending) for ending in (".part", ".part.json"))
    try:
        if not _fetch_rest(url, part, note, size, sha256):
            part.unlink()
            _fetch_rest(url, part, note, size, sha256)
        os.replace(part, target)
        note.unlink(missing_ok=True)
    except OSError as error:  # the network's are NetworkErrors by now
        raise DownloadError(f"{error.filename or part}: cannot be written ({error.strerror or error})") from error


def _fetch_rest(url: str, part: Path, note: Path, size: int, sha256: str) -> bool:
    """Make `part` whole; false where it is not a beginning of the file. Raises DownloadError, OSError of the disk."""
    from tqdm import tqdm

    validator = _validator_of(note, url) if part.exists() else ""
    have = part.stat().st_size if validator else 0
    headers = {"Range": f"bytes={have}-", "If-Range": validator} if have else {}
    try:
        answer = urllib.request.build_opener(_Redirects).open(
            urllib.request.Request(url, headers=headers), timeout=TIMEOUT
        )
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:  # nothing comes after what is there
            return _is_whole(part, _range_of(error.headers)[1], size, sha256)
        raise NetworkError(f"{url} could not be fetched ({error})") from error
    except (OSError, http.client.HTTPException) as error:
        raise NetworkError(f"{url} could not be fetched ({error})") from error
    with answer:
        if answer.status == 206:
            begin, total = _range_of(answer.headers)
            if begin != have:
                return False
        else:  # the whole: it is another file by now, or the server gives no parts
            have, total = 0, _number(answer.headers.get("Content-Length"))
            # gone before the note of the new one is there, never beside it
            part.unlink(missing_ok=True)
            note.write_text(json.dumps({"url": url, "validator": _validator(answer.headers)}), encoding="utf-8")
        with (
            open(part, "ab") as file,
            tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=part.stem) as progress,
        ):
            while chunk := _read(answer, url, file):
                file.write(chunk)
                progress.update(len(chunk))
    arrived = part.stat().st_size
    if total is not None and arrived != total:
        raise DownloadError(f"{url}: {arrived} of {total} bytes arrived; run the command again to go on")
    return True


def _read(answer: Any, url: str, file: IO[bytes]) -> bytes:
    try:
        return bytes(answer.read(CHUNK))
    except http.client.IncompleteRead as error:  # of an answer in chunks; others just end
        file.write(error.partial)
        raise DownloadError(f"{url}: the answer broke off; run the command again to go on") from error
    except (OSError, http.client.HTTPException) as error:
        raise NetworkError(f"{url}: the answer broke off ({error}); run the command again to go on") from error


def _is_whole(part: Path, total: int | None, size: int, sha256: str) -> bool:
    """Whether a .part is the file, by all that is known of it; where nothing is, it is not."""
    lengths = {length for length in (total, size) if length}
    if lengths - {part.stat().st_size} or not (lengths or sha256):
        return False
    return not sha256 or file_sha256(part) == sha256


def _validator_of(note: Path, url: str) -> str:
    """By what the server knew the file at `url` when the .part was begun; empty where that is not known."""
    try:
        content = json.loads(note.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return ""
    known = isinstance(content, dict) and content.get("url") == url
    return str(content.get("validator", "")) if known else ""


def _validator(headers: Message) -> str:
    etag = headers.get("ETag", "")
    # a weak one (W/"...") says that files mean the same, not that their bytes are
    return etag if etag.startswith('"') else headers.get("Last-Modified", "")


def _range_of(headers: Message) -> tuple[int | None, int | None]:
    """(first byte, length of the whole file) of a Content-Range, None where it does not say."""
    found = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", headers.get("Content-Range", ""))
    return (_number(found[1]), _number(found[2])) if found else (None, None)


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None
