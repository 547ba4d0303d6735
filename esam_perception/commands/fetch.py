"""`esam fetch`: the published weights of a profile, once."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from esam_perception.profiles.fetch import FetchError, fetch
from esam_perception.profiles.registry import fetchable_profiles, load_profile
from esam_perception.profiles.schema import ProfileError, cache_dir


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    names = " or ".join(fetchable_profiles())
    parser.add_argument("profile", help=f"{names}, or a directory whose profile.yaml names sources")
    parser.add_argument("--from", dest="directory", type=Path, metavar="DIR",
                        help="take the files from this directory instead of the network")  # fmt: skip
    parser.add_argument("--force", action="store_true", help="fetch again what is already there")
    parser.epilog = (
        "Files go to ~/.cache/esam_perception (ESAM_HOME moves it). HF_ENDPOINT names a mirror of the Hugging Face hub. "
        "An interrupted download goes on where it stopped. A directory's profile.yaml may name https addresses and plain "
        "names of files alone. The node itself never uses the network."
    )


def run(args: argparse.Namespace) -> int:
    """Fetch; the exit code."""
    try:
        profile = load_profile(args.profile)
        if not profile.sources:
            print(f"esam fetch: profile '{args.profile}' has nothing to fetch", file=sys.stderr)
            return 2
        fetch(profile, args.directory, args.force)
    except (FetchError, ProfileError) as error:
        print(f"esam fetch: {error}", file=sys.stderr)
        return 1
    print(f"profile '{profile.name}' is in {cache_dir(profile.name)}")
    return 0
