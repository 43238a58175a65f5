"""When a recording was made, as its file name or folder says."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import datetime

_DATE = re.compile(
    r"(?<!\d)(?P<year>(?:19|20)\d\d)(?P<mark>[-_./]?)(?P<month>[01]\d)(?P=mark)(?P<day>[0-3]\d)"
    r"(?:[-_T ]{1,3}(?P<hour>[01]\d|2[0-3])[-_:.h]?(?P<minute>[0-5]\d)"
    r"(?:[-_:.m]?(?P<second>[0-5]\d))?)?(?!\d)"
)
_PARTS = ("year", "month", "day", "hour", "minute", "second")


def recorded_at(uri: str) -> datetime | None:
    """The last date in the uri, with the time of day that follows it; None without one.

    >>> recorded_at("/archive/2024/03/17/council.wav")
    datetime.datetime(2024, 3, 17, 0, 0)
    >>> recorded_at("s3://calls/20240317_093000.mp3")
    datetime.datetime(2024, 3, 17, 9, 30)
    >>> recorded_at("/calls/0049301234567.wav")
    """
    found = None
    for match in _DATE.finditer(uri):
        year, month, day, hour, minute, second = (int(match[part] or 0) for part in _PARTS)
        with suppress(ValueError):  # a number which is no date: the 45th of a month
            found = datetime(year, month, day, hour, minute, second)
    return found
