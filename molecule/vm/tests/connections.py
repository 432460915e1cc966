# SPDX-License-Identifier: GPL-3.0-or-later
"""The programs that the tests of TCP run on the lab's hosts: plain sockets, nothing of the collection."""

from __future__ import annotations

# A server on each "address port" that accepts and keeps what it is sent, until its input ends.
SERVER = r"""
import selectors, socket, sys
selector = selectors.DefaultSelector()
selector.register(sys.stdin, selectors.EVENT_READ)
listeners = [socket.create_server((address, int(port)), backlog=64) for address, port in zip(sys.argv[1::2], sys.argv[2::2])]
for listener in listeners:
    selector.register(listener, selectors.EVENT_READ)
print("ready", flush=True)
while True:
    for key, _events in selector.select():
        if key.fileobj is sys.stdin:
            sys.exit()
        if key.fileobj in listeners:
            selector.register(key.fileobj.accept()[0], selectors.EVENT_READ)
            continue
        try:
            open_still = key.fileobj.recv(1 << 20)
        except OSError:
            open_still = b""
        if not open_still:
            selector.unregister(key.fileobj)
            key.fileobj.close()
"""

# A connection that is there until its input ends; "connected" and its own port are said at once.
CLIENT = r"""
import socket, sys
link = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=30)
sizes = [link.getsockopt(socket.SOL_SOCKET, option) for option in (socket.SO_RCVBUF, socket.SO_SNDBUF)]
print("connected", link.getsockname()[1], *sizes, flush=True)
sys.stdin.read()
"""

# How long a connection lives once its peer is cut off: "idle" (keepalive finds out) or "busy" (data in flight), in seconds and with its error.
CUT_OFF = r"""
import socket, sys, time
link = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=30)
link.settimeout(None)
link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
if len(sys.argv) > 4:
    link.setsockopt(socket.IPPROTO_TCP, 18, int(sys.argv[4]))  # TCP_USER_TIMEOUT
print("connected", flush=True)
sys.stdin.readline()
start = time.monotonic()
try:
    if sys.argv[3] == "busy":
        link.send(b"order")
    link.recv(1)
    said = "the peer closed it"
except OSError as error:
    said = error.strerror
print(round(time.monotonic() - start, 2), said, flush=True)
"""

# Rapid reconnects from two local ports to one server, each closed here first, which leaves it in TIME_WAIT: how many could be made.
RECONNECT = r"""
import socket, sys, time
made = 0
for turn in range(6):
    try:
        socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=10).close()
        made += 1
    except OSError as error:
        print(error.strerror, end=" ")
    # reuse needs a timestamp that has moved on: a second
    time.sleep(1.2)
print(made)
"""

# Whether each SYN and SYN/ACK of one port that passes an interface permits SACK; the copy is taken below the packet filter of what is received.
CAPTURE = r"""
import socket, struct, sys, time
raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
raw.bind((sys.argv[1], 0))
raw.settimeout(0.5)
port, end = int(sys.argv[2]), time.monotonic() + float(sys.argv[3])
print("ready", flush=True)
seen = {}
while time.monotonic() < end and len(seen) < 2:
    try:
        frame, address = raw.recvfrom(2048)
    except TimeoutError:
        continue
    if frame[12:14] != b"\x08\x00" or frame[23] != 6:
        continue
    tcp = frame[14 + (frame[14] & 15) * 4:]
    if port not in struct.unpack("!HH", tcp[:4]) or not tcp[13] & 2:
        continue
    options, kinds = tcp[20:(tcp[12] >> 4) * 4], []
    while options:
        kinds.append(options[0])
        options = options[1:] if options[0] < 2 else options[options[1]:]
    seen["SYN/ACK" if tcp[13] & 16 else "SYN"] = "permits" if 4 in kinds else "none"
print(*(f"{name} {seen[name]}" for name in ("SYN", "SYN/ACK") if name in seen), sep=", ")
"""
