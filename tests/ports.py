"""Ports for servers that cannot be handed a socket."""

from __future__ import annotations

import random
import socket

_BELOW = (20_000, 32_000)  # Linux gives outgoing connections ports from 32768 on


def free_port() -> int:
    """A loopback port that is free, and that no outgoing connection takes before the server has it."""
    while True:
        port = random.randrange(*_BELOW)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
