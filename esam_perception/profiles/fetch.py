"""The published weights of a profile, once, from the hub, from a URL or from a directory, into its cache."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from esam_perception.errors import EsamError
from esam_perception.profiles.download import DownloadError, NetworkError, download
from esam_perception.profiles.registry import BUNDLED, available_profiles
from esam_perception.profiles.schema import DOWNLOADS, PROFILE_FILE, FetchSource, Profile, cache_dir
from esam_perception.profiles.weights import convert_checkpoint, file_sha256, note_fetched


class FetchError(EsamError):
    """Weights could not be fetched; the text names the file, says what failed and how to go on."""


def fetch(profile: Profile, directory: Path | None = None, force: bool = False) -> None:
    """Bring the files of a profile into its cache, checked and converted; each appears there whole or not at all.

    directory: where the files lie already; None for the network. force: fetch again what is there. Raises FetchError,
    ProfileError where the notes in the cache are damaged.
    """
    if profile.name in available_profiles() and profile.directory.resolve() != (BUNDLED / profile.name).resolve():
        raise FetchError(
            f"{profile.directory}: a profile that comes with the package is called {profile.name!r}; give this one another "
            f"name in its {PROFILE_FILE}: both would have the same cache"
        )
    for source in profile.sources:
        _fetch_file(profile, source, directory, force)


def _fetch_file(profile: Profile, source: FetchSource, directory: Path | None, force: bool) -> None:
    folder = cache_dir(profile.name)
    target = folder / source.target
    if not force and target.exists() and source.target in profile.fetched():
        print(f"{source.target}: already in {folder}")
        return
    folder.mkdir(parents=True, exist_ok=True)
    got = _find(source, directory) if directory else _download(profile, source, folder / DOWNLOADS)
    # seconds to import, which nobody need wait for who has the file already, or cannot get it
    from esam_perception.matching.checkpoint import CheckpointError

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
    if not source.url:
        return _from_hub(source, folder, cure)
    target = folder / source.names[0]
    try:
        download(source.url, target, source.size, source.sha256)
    except NetworkError as error:
        raise FetchError(f"{error}; {cure}") from error
    except DownloadError as error:
        raise FetchError(str(error)) from error
    return target


def _from_hub(source: FetchSource, folder: Path, cure: str) -> Path:
    """A file of a Hugging Face repository; the hub's client shows progress, resumes, and checks the size."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # it tells every try; what counts is the end
    try:
        return Path(hf_hub_download(source.repository, source.file, local_dir=folder))
    # its own errors, OSErrors, and those of an HTTP library that is not the same in every version of it
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise FetchError(f"{source.address} could not be fetched ({reason}); {cure}") from error
