"""`esam profiles`: which models are at hand, and how to get the others."""

from __future__ import annotations

import argparse
from pathlib import Path

from esam_perception.profiles.registry import available_profiles, load_profile
from esam_perception.profiles.schema import Profile, ProfileError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes: nothing."""
    parser.epilog = (
        "A profile is used with --model NAME (esam locate) or model:=NAME (launch); a directory is one, too."
    )


def run(args: argparse.Namespace) -> int:
    """List them; the exit code."""
    chosen = load_profile()
    for name in available_profiles():
        profile = load_profile(name)
        print(f"{name:<11}{_state(profile)}{'; this is what auto takes' if name == chosen.name else ''}")
        print(f"{'':<11}{profile.description}")
    return 0


def _state(profile: Profile) -> str:
    try:
        files = [profile.find(name) for name in profile.files]
    except ProfileError:
        return f"not fetched yet; run: esam fetch {profile.name}"
    size = sum(path.stat().st_size for path in files)
    return f"ready, {size / 1e6:.0f} MB in {Path(files[-1]).parent}"
