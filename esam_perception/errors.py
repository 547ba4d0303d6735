"""One family of errors: what the caller, the user or the machine's owner can mend. The text says what is wrong and how.

Catch `EsamError` to tell a person; whatever else is raised is a bug, or the machine's (OSError, MemoryError), and its
traceback is wanted. Errors of one room are defined there (ProfileError, BagError, NoDepth ...); here are those that
several rooms raise.

`InvalidInput` is a ValueError too, and so are its kinds: it is what Python's callers expect of a wrong argument, and what
Pipeline's methods, the readers of messages and the options of a profile have always raised, so that `except ValueError`
around them goes on working. No other error of the family is a ValueError, an OSError or a RuntimeError: nothing but
`except EsamError`, or their own name, is to catch them.

Outside of the family: OffscreenGLError, as tabletop imports nothing of ours; what the trainable module, the networks and
the simulator say of arguments that no user gives (plain ValueErrors: bugs of their callers); and the launch files, which
run where this package need not be importable.
"""

from __future__ import annotations


class EsamError(Exception):
    """Something that is not a bug: the text tells a person what is wrong and how to mend it."""


class InvalidInput(EsamError, ValueError):
    """What was given cannot be taken: an argument, a message, an option."""


class InvalidImage(InvalidInput):
    """No image that can be looked at."""


class InvalidQuery(InvalidInput):
    """A query that cannot be asked, such as one with no words."""


class InvalidThresholds(InvalidInput):
    """Thresholds that are out of 0..1 or out of order."""


class InvalidDevice(InvalidInput):
    """A device that is not there, or a number format that it has not."""


class InvalidOptions(InvalidInput):
    """Options or sizes of a profile that do not go together or are out of range."""


def in_one_line(error: BaseException) -> str:
    """What went wrong, for people: the text of an EsamError or OSError as it is; a package that is missing with its cure;
    anything else with the name of its class."""
    if isinstance(error, EsamError):
        return " ".join(str(error).split())
    cause: BaseException | None = error
    while cause is not None:  # transformers hides what it misses behind an error of its own
        if isinstance(cause, ModuleNotFoundError) and cause.name:
            return f"the Python package '{cause.name}' is not installed here: pip install -r requirements.txt"
        cause = cause.__cause__ or cause.__context__
    text = " ".join(str(error).split())
    return text if isinstance(error, OSError) else f"{type(error).__name__}: {text}"
