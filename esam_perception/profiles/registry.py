"""Which profiles there are. The bundled directories travel inside the Python package, so that pip and CMake installs both
carry them."""

from __future__ import annotations

from pathlib import Path

from esam_perception.profiles.schema import PROFILE_FILE, Profile, ProfileError, read_profile

BUNDLED = Path(__file__).parent / "models"
AUTO = "auto"
AUTO_PREFERS, AUTO_FALLS_BACK_TO = "blip_base", "tabletop"


def available_profiles() -> list[str]:
    """Names of the profiles that come with the package, fetched or not."""
    return sorted(path.parent.name for path in BUNDLED.glob(f"*/{PROFILE_FILE}"))


def fetchable_profiles() -> list[str]:
    """Names of the profiles whose weights `esam fetch` can get."""
    return [name for name in available_profiles() if read_profile(BUNDLED / name).sources]


def load_profile(name_or_path: str = AUTO) -> Profile:
    """The profile of a name, of a directory, or `auto`: blip_base if it was fetched, else tabletop (see notes_on). Raises
    ProfileError."""
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
