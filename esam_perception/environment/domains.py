"""DDS domains of this machine, claimed: two graphs in one domain hear each other, so a graph of our own takes a free one."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from esam_perception.errors import EsamError

# Not tempfile's folder: that may be each user's or session's own, and domains are the machine's.
LOCKS = Path("/tmp")
# The UDP ports of the others, 102 to 214, lie among those that Linux hands out to whoever asks for any. The high ones
# first: what people choose by hand is low. Never 0, where everything is that chose nothing.
DOMAINS = (*range(215, 233), *range(101, 0, -1))
FIRST_PORT, PORTS = 7400, 250  # of domain 0; of each domain (the DDS interoperability protocol, 9.6.2)


class NoFreeDomain(EsamError):
    """Every domain is claimed or in use."""


@contextmanager
def claimed_domain(locks: Path = LOCKS, candidates: tuple[int, ...] = DOMAINS) -> Iterator[int]:
    """The id of a DDS domain that nobody else on this machine uses or claims, held until the end of the block.

    A lock on a file of the folder `locks` holds it (the system lets go of it should this process die); a domain in which
    somebody who claims nothing has opened its ports is passed over. Raises NoFreeDomain.
    """
    for domain in candidates:
        lock = _locked(locks / f"esam_domain_{domain}.lock")
        if lock is None:
            continue
        try:
            if not _ports_are_open(domain):
                yield domain
                return
        finally:
            os.close(lock)
    raise NoFreeDomain(f"none of {len(candidates)} DDS domains is free; set ROS_DOMAIN_ID to the one to use")


def _locked(path: Path) -> int | None:
    """A descriptor that holds the lock on the file; None where another one does."""
    try:
        try:
            # the file of another user can be opened so, but not with O_CREAT (fs.protected_regular)
            file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            file = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC)
            os.fchmod(file, 0o644)  # whatever the umask: the next one may be another user
    except OSError:
        return None  # somebody else's, and made unreadable, or made between the two: its domain is not ours to take
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    return file


def _ports_are_open(domain: int) -> bool:
    """Whether any process, of whatever user, has a UDP socket on a port of the domain."""
    first = FIRST_PORT + PORTS * domain
    sockets = Path("/proc/net/udp").read_text().splitlines()[1:]
    return any(first <= int(line.split()[1].rpartition(":")[2], 16) < first + PORTS for line in sockets)
