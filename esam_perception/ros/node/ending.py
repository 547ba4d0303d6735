"""The end of the node's process: within the contract's 3 s and with exit code 0, whatever the moment of Ctrl-C.

SIGINT and SIGTERM do not interrupt anything. A thread of its own hears of them and tells the program, which then ends in
order, while ROS is still whole: work under way is given some time, what outlasts it is left standing where it is.
Imports nothing large: it must be at work before anything else is imported.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import NoReturn

SIGNALS = frozenset({signal.SIGINT, signal.SIGTERM})
# After a signal: for work under way, then for ROS to be left. Together less than the 3 s that launch files and people have.
WORK_SECONDS, LIMIT_SECONDS = 1.5, 2.7


class Signals:
    """The signals that end this process, from the first line of its program to the last; see `catch_signals`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tell: Callable[[], object] | None = None
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        for number in SIGNALS:
            # also where a shell that started this in the background had it ignored
            signal.signal(number, lambda number, frame: None)
        # written to at once, whichever thread the signal finds and whatever the main thread is at
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        threading.Thread(target=self._listen, args=(reading,), name="signals", daemon=True).start()

    def tell(self, program: Callable[[], object]) -> None:
        """From now on a signal calls `program`, once, in another thread, and the process is gone LIMIT_SECONDS later whatever
        becomes of that. Before that, a signal ends the process at once: there is nothing yet to leave in order."""
        with self._lock:
            self._tell = program

    def _listen(self, reading: int) -> None:
        while not SIGNALS & set(os.read(reading, 1)):
            pass
        with self._lock:
            if self._tell is None:
                os._exit(0)
            self._tell()
        # further signals are not waited for: launch and a terminal may both send one
        time.sleep(LIMIT_SECONDS)
        leave(0)


_signals: list[Signals] = []


def catch_signals() -> Signals:
    """This process' Signals; the first call, which must be the main thread's, catches them."""
    if not _signals:
        _signals.append(Signals())
    return _signals[0]


class Gate:
    """What goes on inside of `with gate` is not to be met half-way by the end of the process."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._own = threading.local()
        self._inside = 0
        self._closed = self._left_behind = False

    def __enter__(self) -> None:
        depth = getattr(self._own, "depth", 0)
        with self._condition:
            if depth or not self._closed:
                self._own.depth = depth + 1
                self._inside += not depth
                return
        _stand_still()

    def __exit__(self, *_: object) -> None:
        self.pass_by()
        self._own.depth -= 1
        if not self._own.depth:
            with self._condition:
                self._inside -= 1
                self._condition.notify_all()

    def close(self, seconds: float) -> bool:
        """Let nobody in any more, and wait until everybody has left. Returns whether they have; from then on those who have
        not never will, nor come past `pass_by`: what they use can be destroyed."""
        with self._condition:
            self._closed = True
            empty = self._condition.wait_for(lambda: not self._inside, max(0.0, seconds))
            self._left_behind = True
        return empty

    def pass_by(self) -> None:
        """Return, or never, where the end has gone on without this thread."""
        with self._condition:
            if not self._left_behind:
                return
        _stand_still()


def _stand_still() -> NoReturn:
    while True:
        time.sleep(LIMIT_SECONDS)


def leave(code: int) -> NoReturn:
    """End the process without waiting for any of its threads, one of which may never end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):  # nobody reads it any more, or it is closed
            pass
    os._exit(code)
