"""Errors that a user can act on. Each message is one line: what, where, and the way out."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

_WEB_ADDRESS = re.compile(r"https?://[^\s'\"]+", re.IGNORECASE)
_WEB_USER = re.compile(r"(?<=://)[^/\s?#]*@")
_SECRET_PARAMETER = re.compile(
    r"([?&](?:x-(?:amz|goog)-[\w-]+|awsaccesskeyid|signature|expires|sig|[\w-]*token|"
    r"[\w-]*secret|api[_-]?key|access[_-]?key|passw(?:or)?d|pwd|credential)=)[^&\s#'\"]*",
    re.IGNORECASE,
)
_USER_AND_PASSWORD = re.compile(r"(?<=://)[^/\s:@]*:[^/\s]*@")


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


def without_secrets(text: str) -> str:
    """Addresses in `text` without user and password, and with *** for what signs them.

    >>> without_secrets("https://me:pw@host/a.wav?part=2&X-Amz-Signature=ab12")
    'https://host/a.wav?part=2&X-Amz-Signature=***'
    """
    if "://" not in text:
        return text
    return _USER_AND_PASSWORD.sub("", _WEB_ADDRESS.sub(_unsigned, text))


def _unsigned(address: re.Match[str]) -> str:
    return _SECRET_PARAMETER.sub(r"\1***", _WEB_USER.sub("", address[0], count=1))


def printable(text: str) -> str:
    """Names on one line: control characters are escaped, secrets in addresses are left out,
    everything else stays.

    >>> printable("a\\nb")
    'a\\\\nb'
    """
    text = without_secrets(text)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def closest(key: str, known: Iterable[str]) -> str:
    """For a message about an unknown key.

    >>> closest("speaker", ["language", "speakers"])
    " (did you mean 'speakers'?)"
    """
    close = difflib.get_close_matches(key, list(known), n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""
