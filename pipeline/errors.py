"""Errors that a user can act on. Each message is one line: what, where, and the way out."""

from __future__ import annotations


class HansardError(Exception):
    """Base of what is shown to the user as one line, without a traceback."""


class UsageError(HansardError):
    """The call itself was wrong: exit code 2."""


class ProfileError(UsageError):
    """A profile, or a `--set`, that does not fit the graph."""


class ModelError(UsageError):
    """A model folder that is missing, incomplete or of another kind."""


class InputError(HansardError):
    """A recording that cannot be read."""


class OutputError(HansardError):
    """The output folder cannot be written."""


def printable(text: str) -> str:
    """File names on one line: control characters are escaped, everything else stays.

    >>> printable("a\\nb")
    'a\\\\nb'
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
