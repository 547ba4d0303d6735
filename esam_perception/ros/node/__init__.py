"""The lifecycle node `esam`: worker, parameters, services, outputs."""

from __future__ import annotations

from esam_perception.environment.allocation import one_arena
from esam_perception.ros.node.ending import catch_signals


def main(args: list[str] | None = None) -> int:
    """The program: run the node until it is told to end."""
    one_arena()
    # the node and what it needs take seconds to import: a signal meanwhile must find somebody who minds it
    catch_signals()
    from esam_perception.ros.node import node

    return node.main(args)
