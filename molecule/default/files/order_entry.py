# SPDX-License-Identifier: GPL-3.0-or-later
"""An application for tests: three connections from this host's address (the argument) to itself, set up as an order entry would.

SIGUSR1 spoils the first of them, SIGUSR2 mends it.
"""

from __future__ import annotations

import signal
import socket
import sys

listening = socket.create_server((sys.argv[1], 9000))
connections = [socket.create_connection((sys.argv[1], 9000), source_address=(sys.argv[1], 0)) for _number in range(3)]
accepted = [listening.accept()[0] for _connection in connections]


def set_up(ends: list[socket.socket], right: int) -> None:
    for end in ends:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, right)
        end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, right)


set_up(connections + accepted, 1)
signal.signal(signal.SIGUSR1, lambda number, frame: set_up(connections[:1], 0))
signal.signal(signal.SIGUSR2, lambda number, frame: set_up(connections[:1], 1))
while True:
    signal.pause()
