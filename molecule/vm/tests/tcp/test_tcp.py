# SPDX-License-Identifier: GPL-3.0-or-later
"""Real connections between the two hosts, after a boot that brought everything by itself: what TCP does is judged, not what a file says.

lab-a is the client: its initial window is 20 towards 10.64.0.0/24, SACK is stripped towards 10.64.1.0/24. lab-b sends with BBR over fq.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess

import lab
import pytest
from connections import CAPTURE, CLIENT, CUT_OFF, RECONNECT, SERVER

PORT = 7100
ADDRESS = {"lab-a": "10.64.{}.1", "lab-b": "10.64.{}.2"}
DATA, PLAIN = 0, 1  # the wires: enp65s0 with enp65s0, enp129s0 with enp129s0
CUT = r"""
nft -f - <<END
table inet lab_cut {{
  chain input {{ type filter hook input priority -10; tcp dport {port} drop; }}
  chain output {{ type filter hook output priority -10; tcp sport {port} drop; }}
}}
END
"""


def start(name, program, *arguments):
    """A Python program on a host, which has said its first line."""
    command = ["ssh", "-F", str(lab.ssh_config()), "-o", "ControlPath=none", name, "python3", "-u", "-c", f"'{program}'", *map(str, arguments)]
    started = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    first = started.stdout.readline()
    assert first, f"{name}: {' '.join(map(str, arguments))}: the program said nothing"
    return started, first


@contextlib.contextmanager
def running(name, program, *arguments):
    """The program's first line; it ends with the block."""
    started, first = start(name, program, *arguments)
    try:
        yield first.split()
    finally:
        started.stdin.close()
        started.terminate()
        started.wait()


def address(name, wire):
    return ADDRESS[name].format(wire)


@pytest.fixture(scope="module", autouse=True)
def booted():
    """Both hosts, after a boot that no controller had a hand in."""
    ids = {name: lab.boot_id(name) for name in lab.NAMES}
    for name in lab.NAMES:
        lab.run(name, "systemd-run --quiet --on-active=1 systemctl reboot")
    for name in lab.NAMES:
        lab.wait(lambda name=name: lab.answers(name) and lab.boot_id(name) != ids[name], lab.BOOT_TIME_LIMIT, f"{name} boots")
        lab.wait_ready(name)


@pytest.fixture(scope="module", autouse=True)
def servers(booted):
    """A server on each address of each host; each listens on the ports that the tests cut too."""
    with contextlib.ExitStack() as stack:
        for name in lab.NAMES:
            places = [(address(name, wire), port) for wire in (DATA, PLAIN) for port in (PORT, PORT + 1, PORT + 2)]
            stack.enter_context(running(name, SERVER, *(word for place in places for word in place)))
        yield


def connection(name, peer, wire):
    """What ss says of a new connection of one host to the other, and the client's own words."""
    with running(name, CLIENT, address(peer, wire), PORT) as words:
        shown = lab.run(name, f"ss -tinmoH state established sport = :{words[1]} dport = :{PORT}")
    assert shown.strip(), "ss shows no such connection"
    return " ".join(shown.split()), [int(word) for word in words[2:]]


def test_initial_window_is_twenty_on_the_route_that_says_so():
    assert re.search(r"\bcwnd:20\b", connection("lab-a", "lab-b", DATA)[0])


def test_initial_window_is_the_kernels_on_any_other_route():
    assert re.search(r"\bcwnd:10\b", connection("lab-a", "lab-b", PLAIN)[0])


def test_first_flight_is_twenty_segments():
    """Not what ss says: what leaves before the first answer. The peer's acknowledgements are held back by its packet filter."""
    port = PORT + 2
    # the handshake is let through, acknowledgements of data are not
    lab.run("lab-b", f"""nft -f - <<END
table inet lab_flight {{
  chain output {{ type filter hook output priority -10; tcp sport {port} tcp flags & (syn|ack) == ack drop; }}
}}
END""")
    try:
        said = lab.run("lab-a", f"""python3 -c '
import socket, time
link = socket.create_connection(("{address("lab-b", DATA)}", {port}), timeout=30)
link.setblocking(False)
link.send(bytes(60000))
time.sleep(0.1)
import struct
info = link.getsockopt(socket.IPPROTO_TCP, 11, 232)
print(struct.unpack_from("=6I", info, 8)[4])
'""")
    finally:
        lab.run("lab-b", "nft delete table inet lab_flight")
    assert int(said) == 20


def test_other_host_sends_with_bbr():
    assert " bbr " in connection("lab-b", "lab-a", DATA)[0]
    assert " cubic " in connection("lab-a", "lab-b", DATA)[0]


def test_module_of_bbr_was_loaded_before_sysctl_set_it():
    assert "Inserted module 'tcp_bbr'" in lab.run("lab-b", "journalctl --boot --identifier systemd-modules-load --output cat")


def test_bbr_is_paced_by_fq_on_every_queue():
    shown = json.loads(lab.run("lab-b", "tc -s -j qdisc show dev enp65s0"))
    assert [entry["kind"] for entry in shown if entry.get("root")] == ["mq"]
    children = {entry["parent"]: entry for entry in shown if not entry.get("root")}
    assert {entry["kind"] for entry in children.values()} == {"fq"} and len(children) == 4
    before = sum(entry["bytes"] for entry in children.values())
    lab.run("lab-b", f"""python3 -c 'import socket; socket.create_connection(("{address("lab-a", DATA)}", {PORT})).sendall(bytes(500000))'""")
    after = json.loads(lab.run("lab-b", "tc -s -j qdisc show dev enp65s0"))
    assert sum(entry["bytes"] for entry in after if entry["kind"] == "fq") > before + 500000


@pytest.mark.parametrize("name", lab.NAMES)
def test_buffers_of_a_new_connection_are_those_of_the_profile(name):
    """The profile of these hosts leaves tcp_rmem and tcp_wmem to the kernel and sets the limits for applications that ask themselves."""
    said = lab.run(name, """python3 -c '
import socket
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**30)
udp.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**30)
print(udp.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF), udp.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF))
'""")
    assert said.split() == [str(2 * 67108864), str(2 * 16777216)]  # the kernel doubles what it grants (socket(7))
    assert connection(name, next(other for other in lab.NAMES if other != name), DATA)[1][0] >= 131072


def syn_options(wire):
    """What the SYN and the SYN/ACK of a connection from lab-a to lab-b say of SACK, as lab-b's wire has them."""
    nic = ("enp65s0", "enp129s0")[wire]
    capture, _ready = start("lab-b", CAPTURE, nic, PORT + 1, 30)
    with running("lab-a", CLIENT, address("lab-b", wire), PORT + 1) as words:
        shown = lab.run("lab-a", f"ss -tioH state established sport = :{words[1]} dport = :{PORT + 1}")
    said, _none = capture.communicate(timeout=60)
    return said.strip(), " sack " in f" {' '.join(shown.split())} "


def test_sack_is_permitted_outside():
    assert syn_options(DATA) == ("SYN permits, SYN/ACK permits", True)


def test_sack_is_stripped_inside():
    """lab-a takes it out of the SYN that leaves. So the peer, which strips nothing, does not offer it either."""
    assert syn_options(PLAIN) == ("SYN none, SYN/ACK none", False)


def dead_after(name, peer, port, how, *user_timeout, seconds):
    """Seconds until a connection whose peer is cut off is dead, and how it died."""
    started, _connected = start(name, CUT_OFF, address(peer, DATA), port, how, *user_timeout)
    lab.run(peer, CUT.format(port=port))
    try:
        said, _none = started.communicate("\n", timeout=seconds)
    finally:
        started.kill()
        lab.run(peer, "nft delete table inet lab_cut")
    took, _space, error = said.strip().partition(" ")
    return float(took), error


def test_keepalive_finds_an_idle_peer_that_was_cut_off_within_eight_seconds():
    took, error = dead_after("lab-a", "lab-b", PORT + 2, "idle", seconds=60)
    assert error == "Connection timed out"
    assert 6 < took < 10  # 5 s of silence, then 3 probes 1 s apart; the clock of an emulated host is coarse


def test_keepalive_does_not_bound_a_peer_cut_off_with_data_in_flight():
    """A user timeout of the application's own does. Without one it is net.ipv4.tcp_retries2: 8 on lab-b, about 100 s."""
    took, error = dead_after("lab-a", "lab-b", PORT + 2, "busy", 12000, seconds=90)
    assert error == "Connection timed out"
    assert 11 < took < 30, "keepalive alone would have ended it after 8 s"
    took, error = dead_after("lab-b", "lab-a", PORT + 2, "busy", seconds=240)
    assert error == "Connection timed out"
    assert 90 < took < 150


def test_reconnects_reuse_ports_that_wait():
    """From two ports: without reuse, which the test turns off for a moment, the third attempt finds none."""
    def made(reuse):
        return lab.run("lab-a", f"""
old=$(sysctl -n net.ipv4.ip_local_port_range); was=$(sysctl -n net.ipv4.tcp_tw_reuse)
trap 'sysctl -qw net.ipv4.ip_local_port_range="$old" net.ipv4.tcp_tw_reuse=$was' EXIT
sysctl -qw net.ipv4.ip_local_port_range="{40000 + 10 * reuse} {40001 + 10 * reuse}"
[ {reuse} = 1 ] && [ $was = 1 ] || sysctl -qw net.ipv4.tcp_tw_reuse={reuse}
python3 - {address("lab-b", DATA)} {PORT} <<'END'
{RECONNECT}
END
""")
    assert lab.run("lab-a", "sysctl -n net.ipv4.tcp_tw_reuse").strip() == "1"
    assert made(0).split()[-1] == "2"
    assert made(1).split()[-1] == "6"
