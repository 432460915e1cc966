# SPDX-License-Identifier: GPL-3.0-or-later
"""Many flows from lab-b to lab-a and back on the NICs of both nodes: only housekeeping CPUs of the own node are interrupted."""

from __future__ import annotations

import subprocess

import lab
import pytest
from conftest import interrupts
from expected import CHANNELS, ISOLATED, NICS

# UDP is answered packet by packet, a window of them in flight. Each of 32 ports is a flow of its own, for any queue.
PORTS, ROUNDS, WINDOW, SECONDS = 32, 12, 16, 90
PACKETS = PORTS * ROUNDS * WINDOW
ECHO = r"""
import select, socket, sys, time
address, ports, end = sys.argv[1], int(sys.argv[2]), time.monotonic() + float(sys.argv[3])
sockets = []
for port in range(7000, 7000 + ports):
    sockets.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    sockets[-1].bind((address, port))
print("ready", flush=True)
while time.monotonic() < end:
    for each in select.select(sockets, [], [], 1)[0]:
        data, peer = each.recvfrom(2048)
        if data == b"end":
            raise SystemExit
        each.sendto(data, peer)
"""
SEND = r"""
import socket, sys, time
address, ports, rounds, window, end = sys.argv[1], *map(int, sys.argv[2:5]), time.monotonic() + float(sys.argv[5])
back = 0
for port in range(7000, 7000 + ports):
    flow = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    flow.settimeout(0.5)
    flow.connect((address, port))
    for _ in range(rounds):
        for _ in range(window):
            flow.send(bytes(200))
        try:
            for _ in range(window):
                back += len(flow.recv(2048)) == 200
        except TimeoutError:
            pass
        if time.monotonic() > end:
            raise SystemExit(f"only {back} packets came back in time")
flow.send(b"end")
print(back)
"""


def ssh(name, program, *arguments, **options):
    """A Python program on a host."""
    command = ["ssh", "-F", str(lab.ssh_config()), "-o", "ControlPath=none", name, "python3", "-c", f"'{program}'", *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, **options)


def exchange(address):
    """How many packets came back over one wire."""
    with ssh("lab-a", ECHO, address, PORTS, SECONDS) as echo:
        try:
            assert echo.stdout.readline() == "ready\n"
            with ssh("lab-b", SEND, address, PORTS, ROUNDS, WINDOW, SECONDS) as sender:
                said, _none = sender.communicate(timeout=SECONDS + 30)
        finally:
            echo.terminate()
    return int(said or 0)


def growth(before, after):
    return {name: {cpu: count - before.get(name, {}).get(cpu, 0) for cpu, count in cpus.items()} for name, cpus in after.items()}


@pytest.fixture(scope="module")
def exchanged():
    """NIC -> packets that came back, and each host's growth of /proc/interrupts in that time."""
    before = {name: interrupts(name) for name in lab.NAMES}
    back = {nic: exchange(f"10.64.{number}.1") for number, nic in enumerate(NICS)}
    return back, {name: growth(before[name], interrupts(name)) for name in lab.NAMES}


@pytest.mark.parametrize("nic", NICS)
def test_packets_crossed_in_both_directions(exchanged, nic):
    """A few may be lost where the emulation falls behind."""
    assert exchanged[0][nic] > 0.9 * PACKETS


@pytest.mark.parametrize("nic", NICS)
def test_housekeeping_cpus_of_the_own_node_took_the_interrupts(exchanged, node, nic):
    grown = {name: cpus for name, cpus in exchanged[1][node].items() if nic in name}
    assert sum(cpus[cpu] for cpus in grown.values() for cpu in NICS[nic]) > 1000
    # With few channels each way has vectors of its own; the NIC spreads received UDP by address alone, the kernel what it sends by port too.
    busy = [name for name, cpus in grown.items() if sum(cpus.values()) > 50]
    queues = max(len([name for name in busy if way in name]) for way in ("-TxRx-", "-rx-", "-tx-"))
    assert queues >= min(2, CHANNELS[nic]), f"the flows are in one queue only, the others were not tried: {busy}"


@pytest.mark.parametrize("nic", NICS)
def test_no_other_cpu_took_an_interrupt_of_the_nic(exchanged, node, nic):
    grown = {name: cpus for name, cpus in exchanged[1][node].items() if nic in name}
    assert {name: cpus for name, cpus in grown.items() if any(count for cpu, count in cpus.items() if cpu not in NICS[nic])} == {}


def test_isolated_cpus_took_no_interrupt_of_any_device(exchanged, node):
    assert {name: cpus for name, cpus in exchanged[1][node].items() if any(cpus[cpu] for cpu in ISOLATED)} == {}
