"""`esam fetch`: the published weights of a profile, once, from the hub or from a directory."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import urllib.error
import urllib.request
from pathlib import Path

from esam_perception.errors import EsamError
from esam_perception.profiles.registry import (
    FetchSource,
    Profile,
    ProfileError,
    cache_dir,
    fetchable_profiles,
    load_profile,
)

CHUNK = 1 << 20
DOWNLOADS = "download"


class FetchError(EsamError):
    """Weights could not be fetched; the text names the file, says what failed and how to go on."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("profile", type=_profile_with_sources,
                        help=f"{' or '.join(fetchable_profiles())}, or a directory whose profile.yaml names sources")  # fmt: skip
    parser.add_argument("--from", dest="directory", type=Path, metavar="DIR",
                        help="take the files from this directory instead of the network")  # fmt: skip
    parser.add_argument("--force", action="store_true", help="fetch again what is already there")
    parser.epilog = (
        "Files go to ~/.cache/esam_perception (ESAM_HOME moves it). HF_ENDPOINT names a mirror of the Hugging Face hub. "
        "An interrupted download goes on where it stopped. The node itself never uses the network."
    )


def _profile_with_sources(name: str) -> Profile:
    try:
        profile = load_profile(name)
    except ProfileError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if not profile.sources:
        raise argparse.ArgumentTypeError(f"profile '{name}' has nothing to fetch")
    return profile


def run(args: argparse.Namespace) -> int:
    profile = args.profile
    try:
        for source in profile.sources:
            fetch(profile, source, args.directory, args.force)
    except FetchError as error:
        print(f"esam fetch: {error}", file=sys.stderr)
        return 1
    print(f"profile '{profile.name}' is in {cache_dir(profile.name)}")
    return 0


def fetch(profile: Profile, source: FetchSource, directory: Path | None = None, force: bool = False) -> None:
    """Bring one file of a profile into its cache, checked and converted; there it appears whole or not at all.

    directory: where the files lie already; None for the network. Raises FetchError.
    """
    folder = cache_dir(profile.name)
    target = folder / source.target
    if not force and target.exists() and source.target in profile.fetched():
        print(f"{source.target}: already in {folder}")
        return
    folder.mkdir(parents=True, exist_ok=True)
    got = _find(source, directory) if directory else _download(profile, source, folder / DOWNLOADS)
    # seconds to import, which nobody need wait for who has the file already, or cannot get it
    from esam_perception.matching.checkpoint import CheckpointError
    from esam_perception.profiles.weights import convert_checkpoint, file_sha256, note_fetched

    size = got.stat().st_size
    if source.size and size != source.size:
        raise FetchError(
            f"{got}: has {size} bytes instead of {source.size}: it is truncated or another file; {_again(got, directory)}"
        )
    if source.sha256 and (digest := file_sha256(got)) != source.sha256:
        raise FetchError(f"{got}: SHA-256 is {digest} instead of {source.sha256}; {_again(got, directory)}")
    print(f"{source.target}: checking {got.name}", flush=True)
    if source.target == profile.vocab:
        _copy_vocabulary(got, profile, target)
    else:
        try:
            convert_checkpoint(got, profile, source.target, target)
        except CheckpointError as error:
            raise FetchError(f"{error}; {_again(got, directory)}") from error
    note_fetched(folder, source.target, str(got) if directory else source.address)
    if directory is None:
        got.unlink()


def _again(got: Path, directory: Path | None) -> str:
    """How to go on after a bad file; one that was downloaded is removed, so that the next run fetches it anew."""
    if directory is not None:
        return "put the right file there"
    got.unlink(missing_ok=True)
    return "run the command again"


def _find(source: FetchSource, directory: Path) -> Path:
    """The file of a source in a directory: under any of its names, there or in a folder named after its repository."""
    places = [directory, directory / source.repository, directory / source.repository.rpartition("/")[2]]
    names = source.names
    for place in places:
        for name in names:
            if (place / name).is_file():
                return place / name
    raise FetchError(f"{directory} holds none of {', '.join(names)}, wanted for {source.target}")


def _copy_vocabulary(got: Path, profile: Profile, target: Path) -> None:
    try:
        entries = len(got.read_text(encoding="utf-8").splitlines())
    except UnicodeDecodeError as error:
        raise FetchError(f"{got}: is not a vocabulary ({error})") from error
    wanted = profile.blip.get("vocab_size", 0)
    if entries not in (wanted, wanted - 2):  # [DEC] and [ENC] may be missing
        raise FetchError(f"{got}: has {entries} entries, profile '{profile.name}' wants {wanted - 2} or {wanted}")
    unfinished = target.with_suffix(".unfinished")
    shutil.copyfile(got, unfinished)
    os.replace(unfinished, target)


def _download(profile: Profile, source: FetchSource, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    print(f"{source.target}: fetching {source.address}", flush=True)
    cure = f"check the network, name a mirror with HF_ENDPOINT, or copy {source.names[0]} by hand into a directory DIR and run: esam fetch {profile.name} --from DIR"
    return _from_url(source.url, folder, cure) if source.url else _from_hub(source, folder, cure)


def _from_hub(source: FetchSource, folder: Path, cure: str) -> Path:
    """A file of a Hugging Face repository; the hub's client shows progress, resumes, and checks the size."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import logging

    logging.set_verbosity_error()  # it tells every try; what counts is the end
    try:
        return Path(hf_hub_download(source.repository, source.file, local_dir=folder))
    # its own errors, OSErrors, and those of an HTTP library that is not the same in every version of it
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise FetchError(f"{source.address} could not be fetched ({reason}); {cure}") from error


def _from_url(url: str, folder: Path, cure: str) -> Path:
    """A file from a URL, with a progress bar; goes on where an earlier try stopped."""
    from tqdm import tqdm

    target = folder / url.rsplit("/", 1)[1]
    part = target.with_name(target.name + ".part")
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            if answer.status != 206:
                have = 0  # the server begins anew
            total = have + int(answer.headers.get("Content-Length") or 0)
            with (
                open(part, "ab" if have else "wb") as file,
                tqdm(total=total or None, initial=have, unit="B", unit_scale=True, desc=target.name) as progress,
            ):
                while chunk := answer.read(CHUNK):
                    file.write(chunk)
                    progress.update(len(chunk))
    except urllib.error.HTTPError as error:
        if error.code == 416:  # what is there is not a beginning of the file
            part.unlink()
        raise FetchError(f"{url} could not be fetched ({error}); {cure}") from error
    except (urllib.error.URLError, TimeoutError, OSError) as error:
        raise FetchError(f"{url} could not be fetched ({error}); {cure}") from error
    if total and part.stat().st_size != total:
        raise FetchError(f"{url}: {part.stat().st_size} of {total} bytes arrived; run the command again to go on")
    os.replace(part, target)
    return target
