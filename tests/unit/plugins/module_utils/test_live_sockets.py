# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Live connections of another process on this machine: what is read of them against ``ss``, and what they answer against what they were set to."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.host import sockets as reading
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.held_sockets import ask_sockets
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.machine import Host
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.setting import Setting, judged
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.sockets import Connection, plan

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to look at the descriptors of another process"),
    pytest.mark.skipif(not shutil.which("ss"), reason="no ss (iproute2) to judge by"),
]

# Four connections to itself; writes what they are and does what it is told, line by line.
PROGRAM = """
import select, socket, sys, threading, time
SO_BUSY_POLL, TCP_USER_TIMEOUT = 46, 18
listening = socket.socket()
listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)  # its ends take little, so that what is sent soon waits
listening.bind(("127.0.0.1", 0))
listening.listen(8)
out = {name: socket.create_connection(listening.getsockname()) for name in ("plain", "tuned", "corked", "full")}
accepted = {listening.accept()[0] for _name in out}
out["tuned"].setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
out["tuned"].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
out["tuned"].setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno")
out["tuned"].setsockopt(socket.SOL_SOCKET, SO_BUSY_POLL, 50)
out["tuned"].setsockopt(socket.IPPROTO_TCP, TCP_USER_TIMEOUT, 5000)
out["tuned"].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 40000)
out["corked"].setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
out["full"].setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
out["full"].setblocking(False)
edge, level = select.epoll(), select.epoll()
edge.register(out["tuned"], select.EPOLLIN | select.EPOLLET)
edge.register(out["corked"], select.EPOLLIN | select.EPOLLET)
level.register(out["corked"], select.EPOLLIN)
def dribble():
    while True:
        out["full"].send(bytes(1000))
        time.sleep(0.005)
print(*(f"{name}={one.getsockname()[1]}" for name, one in out.items()), flush=True)
for line in sys.stdin:
    if line == "fill\\n":
        try:
            while True:
                out["full"].send(bytes(65536))
        except BlockingIOError:
            pass
    elif line == "close\\n":
        for one in out.values():
            one.close()
    elif line == "dribble\\n":
        out["full"].send(bytes(200000))
        threading.Thread(target=dribble, daemon=True).start()
    print(flush=True)
"""


class Application:
    """The program, seen as a service; connections by their names."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.process = subprocess.Popen([sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        self.ports = {name: f"127.0.0.1:{port}" for name, port in (part.split("=") for part in self.process.stdout.readline().split())}
        monkeypatch.setattr(reading, "without_systemd", lambda host: "")
        monkeypatch.setattr(reading, "output_of", lambda *command: "LoadState=loaded\nActiveState=active\nControlGroup=/a\n")
        monkeypatch.setattr(reading, "processes_of", lambda host, group: [self.process.pid])

    def do(self, word: str) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        self.process.stdout.readline()

    def read(self, **entry: Any) -> dict[str, Connection]:
        """The connections of the four clients by name, and of the other ends by their local port."""
        spec = {"services": [{"unit": "a.service", "peers": ["127.0.0.0/8"], "expects": {"sack": True}, **entry}]}
        (service,) = reading.read_sockets(Host(), spec).services
        assert (service.silent, service.unreadable, service.refused, service.partly) == ("", "", "", "")
        names = {port: name for name, port in self.ports.items()}
        return {names.get(one.local, f"to {names.get(one.peer)}"): one for one in service.connections}

    def finding(self, name: str, wish: Any, **entry: Any) -> Setting:
        spec = {"services": [{"unit": "a.service", "peers": ["127.0.0.0/8"], "expects": {name: wish}, **entry}]}
        (setting,) = plan(reading.read_sockets(Host(), spec), spec).settings
        return judged(setting)

    def settle(self) -> None:
        """Wait until the send queue stays what it is: after the first write that blocked, the peer's window still moves a little."""
        queues = [0, -1]
        while queues[-1] != queues[-2]:
            time.sleep(0.5)
            queues.append(told(self.said_by_ss()["full"])["send_queue"])

    def said_by_ss(self) -> dict[str, str]:
        lines = subprocess.run(["ss", "-tinmoepHO"], check=True, capture_output=True, text=True).stdout.splitlines()
        found = {line.split()[3]: line for line in lines if f"pid={self.process.pid}," in line}
        return {name: found[port] for name, port in self.ports.items()}


@pytest.fixture
def application(monkeypatch: pytest.MonkeyPatch) -> Iterator[Application]:
    started = Application(monkeypatch)
    yield started
    assert started.process.stdin
    started.process.stdin.close()
    started.process.wait(10)
    assert started.process.stdout
    started.process.stdout.close()


def seen(connection: Connection) -> dict[str, Any]:
    return {"receive_queue": connection.receive_queue, "send_queue": connection.send_queue, "keepalive": connection.timer == 2,
            "congestion": connection.congestion, "cwnd": connection.cwnd, "receive_buffer": connection.receive_buffer,
            "send_buffer": connection.send_buffer, "timestamps": bool((connection.options or 0) & 1), "sack": bool((connection.options or 0) & 2)}


def told(line: str) -> dict[str, Any]:
    """The same of a line of ``ss -tinmoepHO``; what else it says about memory and TCP comes after ``skmem``."""
    words = line.split(" skmem:")[1].split()
    memory = re.search(r"rb([0-9]+),t[0-9]+,tb([0-9]+)", line)
    window = re.search(r" cwnd:([0-9]+)", line)
    assert memory and window
    return {"receive_queue": int(line.split()[1]), "send_queue": int(line.split()[2]), "keepalive": "timer:(keepalive," in line,
            "congestion": next(word for word in words if word in ("cubic", "reno", "bbr", "dctcp")), "cwnd": int(window[1]),
            "receive_buffer": int(memory[1]), "send_buffer": int(memory[2]), "timestamps": "ts" in words, "sack": "sack" in words}


def test_connections_are_what_ss_says(application: Application) -> None:
    read, said = application.read(), application.said_by_ss()
    assert {name: seen(read[name]) for name in said} == {name: told(line) for name, line in said.items()}
    assert {name: one.timer == 2 for name, one in read.items() if name in said} == {"plain": False, "tuned": True, "corked": False, "full": True}
    assert read["tuned"].congestion == "reno" and read["tuned"].receive_buffer == 80000
    assert len(read) == 8, "both ends belong to the service"


def test_a_peer_that_does_not_read(application: Application) -> None:
    application.do("fill")
    application.settle()
    one, said = application.read()["full"], told(application.said_by_ss()["full"])
    assert one.send_queue == said["send_queue"] > 1 << 16
    assert application.read()["to full"].receive_queue > 0
    assert application.finding("send_queue_at_most", 1 << 16).state == "drifted"
    told_of = application.finding("keepalive", True)
    assert "1 of 8 could not be told" in told_of.reason, "its keepalive timer is behind that of the data in flight"
    assert "1 of 8" not in application.finding("keepalive", True, look_inside=True).reason.replace("of 8 connections", "")


def test_a_send_queue_that_grows(application: Application) -> None:
    assert application.finding("send_queue_grows", False).state == "ok"
    application.do("dribble")
    grown = application.finding("send_queue_grows", False)
    assert grown.state == "drifted" and grown.reason.startswith(f"1 of 8 connections, {application.ports['full']} -> ")
    assert re.search(r"has yes \(by [0-9]+ bytes\)", grown.reason)


def test_a_send_queue_that_is_full_does_not_grow(application: Application) -> None:
    application.do("fill")
    application.settle()
    assert {one.grew for one in application.read(expects={"send_queue_grows": False}).values()} == {0}


def test_nothing_waits_where_growth_is_not_asked_for(application: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_growth", None)
    assert {one.grew for one in application.read().values()} == {None}


def test_sockets_answer_what_they_were_set_to(application: Application) -> None:
    read = application.read(look_inside=True, expects={"nodelay": True})
    assert read["tuned"].inside == {"keepalive": 1, "nodelay": 1, "cork": 0, "busy_poll": 50, "user_timeout_ms": 5000}
    assert (read["plain"].inside["nodelay"], read["plain"].inside["keepalive"], read["plain"].inside["user_timeout_ms"]) == (0, 0, 0)
    assert read["corked"].inside["cork"] == 1 and read["full"].inside["keepalive"] == 1
    assert len(read) == 8 and all(one.inside for one in read.values())


def test_sockets_are_not_asked_without_leave(application: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*_arguments: Any) -> None:
        raise AssertionError("a socket was asked")

    monkeypatch.setattr(reading, "ask_sockets", asked)
    assert application.finding("nodelay", True).state == "unsupported"
    assert application.finding("sack", True, look_inside=True).state == "ok"


def test_asking_leaves_nothing_behind_and_changes_nothing(application: Application) -> None:
    place, before = Path(f"/proc/{application.process.pid}"), application.said_by_ss()
    files = {path.name: path.read_text() for path in (place / "fdinfo").iterdir()}
    ours = len(os.listdir("/proc/self/fd"))
    application.read(look_inside=True, expects={"nodelay": True})
    assert len(os.listdir("/proc/self/fd")) == ours
    assert {path.name: path.read_text() for path in (place / "fdinfo").iterdir()} == files, "its blocking mode too"
    after = application.said_by_ss()
    assert {name: told(line) for name, line in after.items()} == {name: told(line) for name, line in before.items()}
    assert "State:\tS" in (place / "status").read_text() and "TracerPid:\t0" in (place / "status").read_text()


def test_a_socket_that_closed_meanwhile_is_left_out(application: Application) -> None:
    held = reading.held_by(Host(), [application.process.pid], epoll=False)
    application.do("close")
    answers, refused = ask_sockets(held.sockets)
    assert refused == "" and set(answers) < set(held.sockets)
    assert ask_sockets({1: next(iter(held.sockets.values()))}) == ({}, ""), "the descriptor is another socket's"
    assert set(application.read(look_inside=True, expects={"nodelay": True})) == set(), "the other ends are no longer established"


def test_edge_triggered_only_where_every_epoll_set_has_it_so(application: Application) -> None:
    read = application.read(expects={"edge_triggered": True})
    assert {name: read[name].edge for name in application.ports} == {"plain": None, "tuned": True, "corked": False, "full": None}


def test_a_process_that_is_gone_has_no_connections(application: Application) -> None:
    held = reading.held_by(Host(), [application.process.pid], epoll=False)
    application.process.kill()
    application.process.wait(10)
    assert ask_sockets(held.sockets) == ({}, "")
    assert reading.held_by(Host(), [application.process.pid], epoll=True) == reading.Held()
