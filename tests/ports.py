"""Ports of this machine that servers of the tests can have."""

from __future__ import annotations

import os
import socket
from itertools import count

# Under those that the system gives to connections, one of which could take the port between this
# and the start of its server; over those that Ray gives to its workers and to its clients.
_FIRST, _LAST = 24001, 32000
_asked = count(os.getpid() * 61)  # test processes beside each other begin at different ones


def free_port() -> int:
    """A port that nobody listens on, another one each time."""
    for number in _asked:
        port = _FIRST + number % (_LAST - _FIRST)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("count() has no end")
