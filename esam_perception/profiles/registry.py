"""Named models: what a profile is, where it lies, how it is read.

A profile is a directory with `profile.yaml` and `vocab.txt`; its weights (safetensors) lie beside it, or in the
user's cache for the profiles that `esam fetch` fills. The bundled directories travel inside the Python package, so
that pip and CMake installs both carry them.
"""

from __future__ import annotations

import dataclasses
import json
import os
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import yaml

from esam_perception.errors import InvalidInput
from esam_perception.pipeline.fusion import FusionOptions
from esam_perception.pipeline.prompting import PromptingOptions
from esam_perception.pipeline.verdict import VerdictOptions

BUNDLED = Path(__file__).parent / "models"
PROFILE_FILE = "profile.yaml"
FETCHED_FILE = "fetched.json"
AUTO = "auto"
AUTO_PREFERS, AUTO_FALLS_BACK_TO = "blip_base", "tabletop"
Config = TypeVar("Config")


class ProfileError(InvalidInput):
    """A profile that cannot be used; the text names the file, what is wrong and how to mend it."""


@dataclass(frozen=True)
class WeightsFile:
    """file: relative to the profile's directory or to its cache. sha256: hex, empty where unknown."""

    file: str
    sha256: str = ""


@dataclass(frozen=True)
class FetchSource:
    """Where one published file of a profile is fetched from: a file of a Hugging Face repository, or a URL.

    target: its name in the profile's cache. also: other names under which `esam fetch --from` looks for it. size
    (bytes) and sha256 of the published file are checked where they are stated.
    """

    target: str
    repository: str = ""
    file: str = ""
    url: str = ""
    also: tuple[str, ...] = ()
    size: int = 0
    sha256: str = ""

    @property
    def address(self) -> str:
        """For people."""
        return self.url or f"{self.repository}/{self.file}"

    @property
    def names(self) -> list[str]:
        """The names the file may have in a directory, the published one first."""
        published = self.url.rpartition("/")[2] or self.file
        return list(dict.fromkeys([published, published.removesuffix(".zip"), *self.also, self.target]))


@dataclass(frozen=True)
class Profile:
    """A named model. `blip`, `efficient_sam` and `mask_head` hold the fields of BlipArchitecture, EfficientSamConfig and
    MaskHeadConfig; they stay dictionaries here, so that profiles can be listed without importing torch. Published
    BLIP has no mask head."""

    name: str
    description: str
    directory: Path
    blip: dict
    efficient_sam: dict
    blip_weights: WeightsFile
    efficient_sam_weights: WeightsFile
    mask_head: dict | None = None
    mask_head_weights: WeightsFile | None = None
    vocab: str = "vocab.txt"
    prompting: PromptingOptions = field(default_factory=PromptingOptions)
    fusion: FusionOptions = field(default_factory=FusionOptions)
    verdict: VerdictOptions = field(default_factory=VerdictOptions)
    training: dict = field(default_factory=dict)
    sources: tuple[FetchSource, ...] = ()

    @property
    def files(self) -> tuple[str, ...]:
        """The names of its files besides profile.yaml."""
        weights = (self.blip_weights, self.efficient_sam_weights, self.mask_head_weights)
        return self.vocab, *(one.file for one in weights if one is not None)

    def __post_init__(self) -> None:
        if (self.mask_head is None) != (self.mask_head_weights is None):
            raise ProfileError("mask_head and mask_head_weights: give both or neither")
        if self.mask_head is None and self.prompting.source != "gradcam":
            raise ProfileError(f"prompting: source {self.prompting.source!r} needs a mask_head, and there is none")

    def fetched(self) -> dict[str, dict]:
        """What `esam fetch` noted of the files in the cache: name to size (bytes), sha256 and source."""
        path = cache_dir(self.name) / FETCHED_FILE
        if not self.sources or not path.is_file():
            return {}
        try:
            return json.loads(path.read_text(encoding="utf-8"))
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


def available_profiles() -> list[str]:
    """Names of the profiles that come with the package, fetched or not."""
    return sorted(path.parent.name for path in BUNDLED.glob(f"*/{PROFILE_FILE}"))


def fetchable_profiles() -> list[str]:
    """Names of the profiles whose weights `esam fetch` can get."""
    return [name for name in available_profiles() if read_profile(BUNDLED / name).sources]


def load_profile(name_or_path: str = AUTO) -> Profile:
    """The profile of a name, of a directory, or `auto`: blip_base if it was fetched, else tabletop (`notes_on` says so).

    Raises ProfileError.
    """
    if name_or_path == AUTO:
        preferred = read_profile(BUNDLED / AUTO_PREFERS)
        return preferred if preferred.is_complete else read_profile(BUNDLED / AUTO_FALLS_BACK_TO)
    if name_or_path in available_profiles():
        return read_profile(BUNDLED / name_or_path)
    if Path(name_or_path).is_dir():
        return read_profile(Path(name_or_path))
    raise ProfileError(
        f"no profile '{name_or_path}': give one of {', '.join([AUTO, *available_profiles()])}, or a directory with a {PROFILE_FILE}"
    )


def notes_on(name_or_path: str, profile: Profile) -> tuple[str, ...]:
    """What a user should know of the profile that `load_profile` found by a name, a line each; nothing where it is what
    was asked for."""
    if name_or_path != AUTO or profile.name == AUTO_PREFERS:
        return ()
    return (
        f"model 'auto': {AUTO_PREFERS} is not fetched, using the bundled '{profile.name}' profile, which knows only the "
        f"simulated tabletop; for photographs run once: esam fetch {AUTO_PREFERS}",
    )


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
    return _build(Profile, {**content, "directory": directory}, str(path))


def profile_dict(profile: Profile) -> dict:
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


def _build(cls: type[Config], content: object, where: str) -> Config:
    """An instance of a dataclass from a mapping, every key and type checked."""
    if not isinstance(content, dict):
        raise ProfileError(f"{where}: must hold keys and values, not {type(content).__name__}")
    hints = typing.get_type_hints(cls)
    known = {f.name: f for f in dataclasses.fields(cls)}
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
        return _build(typing.cast(type, hint), value, where)
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, (list, tuple)):
            raise ProfileError(f"{where}: must be a list, not {value!r}")
        return tuple(_convert(typing.get_args(hint)[0], item, where) for item in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, typing.cast(type, hint)) or (hint in (int, float) and isinstance(value, bool)):
        raise ProfileError(f"{where}: must be {getattr(hint, '__name__', hint)}, not {value!r}")
    return value


def build_config(cls: type[Config], content: dict, where: str) -> Config:
    """The architecture of a network (BlipArchitecture, EfficientSamConfig) from a profile's section."""
    return _build(cls, content, where)
