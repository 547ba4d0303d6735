"""What a profile is: the fields of profile.yaml, read and checked, written.

A profile is a directory with `profile.yaml` and `vocab.txt`; its weights (safetensors) lie beside it, or in the
user's cache for the profiles that `esam fetch` fills. Profiles are passed on: whatever one names, it names files in these
two places alone, and fetches over https.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from esam_perception.errors import InvalidInput
from esam_perception.pipeline.fusion import FusionOptions
from esam_perception.pipeline.prompting import PromptingOptions
from esam_perception.pipeline.verdict import VerdictOptions

PROFILE_FILE = "profile.yaml"
FETCHED_FILE = "fetched.json"
# of the cache, where `esam fetch` keeps what is not whole yet
DOWNLOADS = "download"
LOOPBACK = ("127.0.0.1", "::1", "localhost")

Config = typing.TypeVar("Config")


class ProfileError(InvalidInput):
    """A profile that cannot be used; the text names the file, what is wrong and how to mend it."""


def check_name(text: str, what: str) -> None:
    """Raise ProfileError unless `text` is the name of something right in a folder: no path, nothing unprintable."""
    if text in ("", ".", "..") or any(c in "/\\" or not c.isprintable() for c in text):
        raise ProfileError(f"{what} must be a plain name, not a path: {text!r}")


def check_file_name(text: str, what: str) -> None:
    """Raise ProfileError unless `text` may be the name of a file of a profile."""
    check_name(text, what)
    if text in (PROFILE_FILE, FETCHED_FILE, DOWNLOADS):
        raise ProfileError(f"{what}: {text!r} is the name of something else in a profile")


def check_sha256(text: str) -> None:
    """Raise ProfileError unless `text` is a SHA-256 in hex, or empty."""
    if text and not re.fullmatch("[0-9a-f]{64}", text):
        raise ProfileError(f"sha256: must be 64 digits of 0-9 and a-f, not {text!r}")


def is_loopback(url: str) -> bool:
    """Whether a URL is http to this machine, which no one else can listen to or answer."""
    parts = urlsplit(url)
    return parts.scheme == "http" and parts.hostname in LOOPBACK


def check_url(url: str) -> None:
    """Raise ProfileError unless a URL is https to some host without a user's name, or http to this machine."""
    try:
        parts = urlsplit(url)
        fits = bool(parts.hostname) and "@" not in parts.netloc and (parts.scheme == "https" or is_loopback(url))
    except ValueError:  # a host in brackets that is no address
        fits = False
    if not fits or not url.isascii() or any(c in " \\" or not c.isprintable() for c in url):
        raise ProfileError(f"url: must be https://HOST/FILE, not {url!r}")


@dataclass(frozen=True)
class WeightsFile:
    """file: its name in the profile's directory or in its cache. sha256: hex, empty where unknown."""

    file: str
    sha256: str = ""

    def __post_init__(self) -> None:
        check_file_name(self.file, "file")
        check_sha256(self.sha256)


@dataclass(frozen=True)
class FetchSource:
    """Where one published file of a profile is fetched from: a file of a Hugging Face repository, or a URL.

    target: the file of the profile that it becomes. url: https, or http on this machine alone. also: other names under
    which `esam fetch --from` looks for it. size (bytes) and sha256 of the published file are checked where they are stated.
    Raises ProfileError for a name that is a path, another kind of URL, and what is missing or too much.
    """

    target: str
    repository: str = ""
    file: str = ""
    url: str = ""
    also: tuple[str, ...] = ()
    size: int = 0
    sha256: str = ""

    def __post_init__(self) -> None:
        check_name(self.target, "target")
        for name in self.also:
            check_name(name, "also")
        if bool(self.url) == bool(self.repository or self.file) or bool(self.repository) != bool(self.file):
            raise ProfileError("give either url, or repository and file")
        if self.url:
            check_url(self.url)
            for name in self.names:
                check_name(name, "url: its last part")
        else:
            parts = self.repository.split("/")
            if len(parts) > 2:
                raise ProfileError(f"repository: must be OWNER/NAME, not {self.repository!r}")
            for name in parts:
                check_name(name, "repository: each part")
            for name in self.file.split("/"):
                check_name(name, "file: each part")
        if self.size < 0:
            raise ProfileError(f"size: must be positive, or 0 where it is unknown, not {self.size}")
        check_sha256(self.sha256)

    @property
    def address(self) -> str:
        """For people."""
        return self.url or f"{self.repository}/{self.file}"

    @property
    def names(self) -> list[str]:
        """The names the file may have in a directory, the published one first."""
        published = urlsplit(self.url).path.rpartition("/")[2] if self.url else self.file
        return list(dict.fromkeys([published, published.removesuffix(".zip"), *self.also, self.target]))


@dataclass(frozen=True)
class Profile:
    """A named model. `blip`, `efficient_sam` and `mask_head` hold the fields of BlipArchitecture, EfficientSamConfig and
    MaskHeadConfig; they stay dictionaries here, so that profiles can be listed without importing torch. Published
    BLIP has no mask head."""

    name: str
    description: str
    directory: Path
    blip: dict[str, Any]
    efficient_sam: dict[str, Any]
    blip_weights: WeightsFile
    efficient_sam_weights: WeightsFile
    mask_head: dict[str, Any] | None = None
    mask_head_weights: WeightsFile | None = None
    vocab: str = "vocab.txt"
    prompting: PromptingOptions = field(default_factory=PromptingOptions)
    fusion: FusionOptions = field(default_factory=FusionOptions)
    verdict: VerdictOptions = field(default_factory=VerdictOptions)
    training: dict[str, Any] = field(default_factory=dict)
    sources: tuple[FetchSource, ...] = ()

    @property
    def files(self) -> tuple[str, ...]:
        """The names of its files besides profile.yaml."""
        weights = (self.blip_weights, self.efficient_sam_weights, self.mask_head_weights)
        return self.vocab, *(one.file for one in weights if one is not None)

    def __post_init__(self) -> None:
        check_name(self.name, "name")
        check_file_name(self.vocab, "vocab")
        files = self.files
        if twice := {file for file in files if files.count(file) > 1}:
            raise ProfileError(f"two of its files are called {sorted(twice)[0]!r}")
        for source in self.sources:
            if source.target not in files:
                raise ProfileError(f"sources: target: {source.target!r} is none of its files: {', '.join(files)}")
        if (self.mask_head is None) != (self.mask_head_weights is None):
            raise ProfileError("mask_head and mask_head_weights: give both or neither")
        if self.mask_head is None and self.prompting.source != "gradcam":
            raise ProfileError(f"prompting: source {self.prompting.source!r} needs a mask_head, and there is none")

    def fetched(self) -> dict[str, dict[str, Any]]:
        """What `esam fetch` noted of the files in the cache: name to size (bytes), sha256 and source."""
        path = cache_dir(self.name) / FETCHED_FILE
        if not self.sources or not path.is_file():
            return {}
        try:
            return read_notes(path)
        except ValueError as error:
            raise ProfileError(f"{path}: is damaged ({error}); run: esam fetch {self.name} --force") from error

    def find(self, file: str) -> Path:
        """The path of one of the profile's files: beside profile.yaml, else in the cache. Raises ProfileError."""
        places = [self.directory / file, cache_dir(self.name) / file]
        for path in places:
            if path.is_file():
                return path
        fix = f"run: esam fetch {self.name}" if self.sources else f"put it into {self.directory}"
        raise ProfileError(f"profile '{self.name}': {file} is missing ({' and '.join(map(str, places))}); {fix}")

    @property
    def is_complete(self) -> bool:
        """Whether every file of the profile is at hand."""
        try:
            for file in self.files:
                self.find(file)
        except ProfileError:
            return False
        return True


def cache_dir(name: str) -> Path:
    """Where `esam fetch` puts the files of a profile: $ESAM_HOME/NAME, else ~/.cache/esam_perception/NAME."""
    root = os.environ.get("ESAM_HOME")
    return (Path(root) if root else Path.home() / ".cache" / "esam_perception") / name


def read_notes(path: Path) -> dict[str, dict[str, Any]]:
    """What a fetched.json holds. Raises ValueError."""
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict) or not all(isinstance(note, dict) for note in content.values()):
        raise ValueError("it must hold a note for every file")
    return content


def read_profile(directory: Path) -> Profile:
    """Read `directory`/profile.yaml. Raises ProfileError for whatever is wrong with it."""
    path = directory / PROFILE_FILE
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ProfileError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ProfileError(f"{path}: is not valid YAML ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise ProfileError(f"{path}: must hold keys and values, not {type(content).__name__}")
    return build_config(Profile, {**content, "directory": directory}, str(path))


def profile_dict(profile: Profile) -> dict[str, Any]:
    """The profile as profile.yaml holds it."""
    content = dataclasses.asdict(profile)
    del content["directory"]
    for name in ("sources", "mask_head", "mask_head_weights"):
        if not content[name]:
            del content[name]
    return content


def write_profile(profile: Profile) -> None:
    """Write profile.yaml into the profile's directory."""
    text = yaml.safe_dump(profile_dict(profile), sort_keys=False, allow_unicode=True, width=110)
    (profile.directory / PROFILE_FILE).write_text(text, encoding="utf-8")


def copy_profile(profile: Profile, output: Path) -> Profile:
    """Write the whole profile, weights too, into the directory `output`; returns it as it is there, with nothing left to
    fetch. Raises ProfileError for a file that is missing, OSError."""
    output.mkdir(parents=True, exist_ok=True)
    for file in profile.files:
        if profile.find(file).resolve() != (output / file).resolve():
            shutil.copyfile(profile.find(file), output / file)
    copied = dataclasses.replace(profile, directory=output, sources=())
    write_profile(copied)
    return copied


def build_config(cls: type[Config], content: object, where: str) -> Config:
    """An instance of a dataclass (Profile, or the architecture of a network) from a mapping, every key and type checked.
    Raises ProfileError, which begins with `where`."""
    if not isinstance(content, dict):
        raise ProfileError(f"{where}: must hold keys and values, not {type(content).__name__}")
    hints = typing.get_type_hints(cls)
    known = {f.name: f for f in dataclasses.fields(typing.cast(Any, cls))}
    if unknown := sorted(map(str, set(content) - set(known))):
        raise ProfileError(f"{where}: unknown key {', '.join(unknown)}; known are {', '.join(known)}")
    required = {
        n for n, f in known.items() if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    }
    if missing := sorted(required - set(content)):
        raise ProfileError(f"{where}: missing key {', '.join(missing)}")
    values = {name: _convert(hints[name], value, f"{where}: {name}") for name, value in content.items()}
    try:
        return cls(**values)
    except InvalidInput as error:
        raise ProfileError(f"{where}: {error}") from error


def _convert(hint: object, value: object, where: str) -> object:
    if isinstance(hint, types.UnionType):
        if value is None and type(None) in typing.get_args(hint):
            return None
        hint = next(kind for kind in typing.get_args(hint) if kind is not type(None))
    if dataclasses.is_dataclass(hint):
        return build_config(typing.cast("type[object]", hint), value, where)
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, (list, tuple)):
            raise ProfileError(f"{where}: must be a list, not {value!r}")
        return tuple(_convert(typing.get_args(hint)[0], item, where) for item in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    kind = typing.cast("type[object]", typing.get_origin(hint) or hint)  # dict of dict[str, Any]
    if not isinstance(value, kind) or (hint in (int, float) and isinstance(value, bool)):
        raise ProfileError(f"{where}: must be {kind.__name__}, not {value!r}")
    return value
