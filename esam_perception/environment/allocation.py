"""Memory that was freed goes back to the system. Imports nothing large: `one_arena` must come before any thread does.

glibc has an arena for every thread that allocates (up to eight a core), and of all but the first it gives back less than
was freed. A node loads its model in one thread of its executor and then in another: each load left tens of megabytes
behind in another arena.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping

M_ARENA_MAX = -8  # of glibc's malloc.h


def one_arena(environment: Mapping[str, str] = os.environ) -> None:
    """Let all threads of this process share one arena, unless the user has said how many there may be. Does nothing where
    the C library has no arenas."""
    if environment.get("MALLOC_ARENA_MAX") or "arena_max" in environment.get("GLIBC_TUNABLES", ""):
        return
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(M_ARENA_MAX, 1)


def trim() -> None:
    """Give what was freed back to the system, where the C library can be told to."""
    give_back = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if give_back is not None:
        give_back(0)
