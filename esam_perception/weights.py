"""Weights on disk: reading with checksums, and `esam fetch`, which gets the published ones once."""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from esam_perception.profiles import Profile, ProfileError, WeightsFile, cache_dir, fetchable_profiles, load_profile

CHUNK = 1 << 20


class FetchError(RuntimeError):
    """Weights could not be fetched; the text says what failed and how to go on."""


@dataclass(frozen=True)
class Source:
    """One file to fetch: from a Hugging Face repository, or from a URL (a zip's only member is unpacked)."""

    target: str
    repository: str = ""
    file: str = ""
    url: str = ""


_VOCAB = "vocab.txt"
_EFFICIENT_SAM = "https://raw.githubusercontent.com/yformer/EfficientSAM/main/weights/"
SOURCES: dict[str, tuple[Source, ...]] = {
    "blip_base": (
        Source("blip.safetensors", "Salesforce/blip-itm-base-coco", "model.safetensors"),
        Source(_VOCAB, "Salesforce/blip-itm-base-coco", "vocab.txt"),
        Source("efficient_sam.safetensors", url=_EFFICIENT_SAM + "efficient_sam_vitt.pt"),
    ),
    "blip_large": (
        Source("blip.safetensors", "Salesforce/blip-itm-large-coco", "model.safetensors"),
        Source(_VOCAB, "Salesforce/blip-itm-large-coco", "vocab.txt"),
        Source("efficient_sam.safetensors", url=_EFFICIENT_SAM + "efficient_sam_vits.pt.zip"),
    ),
}


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, as hex."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def load_weights(profile: Profile, weights: WeightsFile):
    """The tensors of a safetensors file of the profile (dict of name to Tensor, float32, on the CPU) and its SHA-256.

    Raises ProfileError where the file is missing, is not what the profile promises, or cannot be read.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = profile.find(weights.file)
    digest = file_sha256(path)
    if weights.sha256 and digest != weights.sha256:
        fix = f"run: esam fetch {profile.name} --force" if profile.name in fetchable_profiles() else "restore the file"
        raise ProfileError(f"{path}: SHA-256 is {digest}, the profile expects {weights.sha256}; {fix}")
    try:
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise ProfileError(f"{path}: cannot be read as safetensors ({error})") from error
    return {name: value.float() if value.dtype == torch.float16 else value for name, value in state.items()}, digest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("profile", choices=fetchable_profiles(), help="whose weights to fetch")
    parser.add_argument("--force", action="store_true", help="fetch again what is already there")


def run(args: argparse.Namespace) -> int:
    profile, _ = load_profile(args.profile)
    folder = cache_dir(args.profile)
    try:
        for source in SOURCES[args.profile]:
            if (folder / source.target).exists() and not args.force:
                print(f"{source.target}: already in {folder}")
                continue
            print(f"{source.target}: fetching {source.url or source.repository + '/' + source.file}", flush=True)
            fetch(source, folder)
    except FetchError as error:
        print(f"esam fetch: {error}", file=sys.stderr)
        return 1
    print(f"profile '{profile.name}' is in {folder}")
    return 0


def fetch(source: Source, folder: Path) -> None:
    """Fetch one file into `folder`. It appears there under its name only when it is whole. Raises FetchError."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        if source.url:
            got = _download(source.url, Path(scratch))
            whole = _to_safetensors(got, Path(scratch) / source.target)
        else:
            whole = _from_hub(source, Path(scratch))
        os.replace(whole, folder / source.target)


def _from_hub(source: Source, scratch: Path) -> Path:
    """A file of a Hugging Face repository, with the hub's own progress bar and check of its size."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(source.repository, source.file, local_dir=scratch))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = " ".join(str(error).split())[:300]
        raise FetchError(
            f"{source.repository}/{source.file} could not be fetched ({reason}); check the network, or copy the file by "
            f"hand to the profile's cache as {source.target}"
        ) from error


def _download(url: str, scratch: Path, opener: Callable = urllib.request.urlopen) -> Path:
    from tqdm import tqdm

    target = scratch / url.rsplit("/", 1)[1]
    try:
        with opener(url, timeout=60) as answer, open(target, "wb") as file:
            total = int(answer.headers.get("Content-Length") or 0)
            with tqdm(total=total or None, unit="B", unit_scale=True, desc=target.name) as progress:
                while chunk := answer.read(CHUNK):
                    file.write(chunk)
                    progress.update(len(chunk))
    except (urllib.error.URLError, TimeoutError, OSError) as error:
        raise FetchError(f"{url} could not be fetched ({error}); check the network") from error
    if total and target.stat().st_size != total:
        raise FetchError(f"{url}: {target.stat().st_size} of {total} bytes arrived; run the command again")
    return target


def _to_safetensors(path: Path, target: Path) -> Path:
    """An official EfficientSAM checkpoint ({"model": state_dict}, perhaps zipped) as safetensors."""
    import pickle

    import torch
    from safetensors.torch import save_file

    if path.name.endswith(".zip"):
        with zipfile.ZipFile(path) as archive:
            member = next(name for name in archive.namelist() if name.endswith(".pt"))
            path = Path(archive.extract(member, path.parent))
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise FetchError(f"{path.name} is not a checkpoint that can be loaded safely ({error})") from error
    save_file({name: value.contiguous() for name, value in content["model"].items()}, target)
    return target
