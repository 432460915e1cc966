# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers of sock_diag as a kernel sent them, beside what ss said of the same sockets, and whose descriptors are a service's."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.host import held_sockets
from ansible_collections.lowlatency.fleet.plugins.module_utils.host import sockets as reading
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.machine import Host
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.sockets import (
    Held,
    Service,
    bypass_of,
    found_in,
    held_by,
    processes_of,
    read_sockets,
    watched_in,
)
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.sockets import Connection

DATA = Path(__file__).resolve().parents[3] / "data" / "sock_diag"
LITTLE = pytest.mark.skipif(sys.byteorder != "little", reason="the bytes are those of a little-endian machine")

# By kernel and inode of the socket: what "ss -tinmoeHO" printed of it at that moment.
SAID_BY_SS = {
    # 127.0.0.1:49426 127.0.0.2:47001 timer:(keepalive,119min,0) skmem:(r0,rb131072,t0,tb3939840,...) ts sack bbr cwnd:10
    ("6.18", 2525948): ("127.0.0.2", Connection("127.0.0.1:49426", "127.0.0.2:47001", 2, "bbr", 10, 7, 0, 0, 131072, 3939840)),
    # [::ffff:127.0.0.2]:47001 [::ffff:127.0.0.1]:49426 ts sack bbr cwnd:10
    ("6.18", 2525949): ("127.0.0.1", Connection("127.0.0.2:47001", "127.0.0.1:49426", 0, "bbr", 10, 7, 0, 0, 131072, 3939840)),
    # [::1]:35306 [::1]:47001 ts sack cubic cwnd:10
    ("6.18", 2525950): ("::1", Connection("[::1]:35306", "[::1]:47001", 0, "cubic", 10, 7, 0, 0, 131072, 3939840)),
    # 3000 0 [::1]:47001 [::1]:35306 ts sack bbr cwnd:10
    ("6.18", 2525951): ("::1", Connection("[::1]:47001", "[::1]:35306", 0, "bbr", 10, 7, 3000, 0, 131072, 3939840)),
    # 127.0.0.1:35088 127.0.0.2:47001 timer:(keepalive,119min,0) skmem:(r0,rb131072,t0,tb2626560,...) ts sack cubic cwnd:10
    ("6.1", 1543): ("127.0.0.2", Connection("127.0.0.1:35088", "127.0.0.2:47001", 2, "cubic", 10, 7, 0, 0, 131072, 2626560)),
    # [::ffff:127.0.0.2]:47001 [::ffff:127.0.0.1]:35088 ts sack cubic cwnd:10
    ("6.1", 1544): ("127.0.0.1", Connection("127.0.0.2:47001", "127.0.0.1:35088", 0, "cubic", 10, 7, 0, 0, 131072, 2626560)),
    # 3000 0 [::1]:47001 [::1]:47268 ts sack cubic cwnd:10
    ("6.1", 251): ("::1", Connection("[::1]:47001", "[::1]:47268", 0, "cubic", 10, 7, 3000, 0, 131072, 2626560)),
}
KEPT = 2525948


def messages(kernel: str = "6.18") -> dict[int, bytes]:
    lines = (line.split() for line in (DATA / f"linux-{kernel}.hex").read_text().splitlines() if not line.startswith("#"))
    return {int(inode): bytes.fromhex(message) for inode, message in lines}


# --- what the kernel tells --------------------------------------------------------------------------------------------


@LITTLE
@pytest.mark.parametrize(("kernel", "inode"), sorted(SAID_BY_SS))
def test_a_message_of_the_kernel_is_what_ss_said(kernel: str, inode: int) -> None:
    found = found_in(messages(kernel)[inode], frozenset({inode}))
    assert found and (found.inode, found.address, found.connection) == (inode, *SAID_BY_SS[kernel, inode])


@LITTLE
def test_sockets_of_others_are_passed_over() -> None:
    assert [found_in(message, frozenset({1})) for message in messages().values()] == [None] * 4


@LITTLE
def test_a_kernel_that_tells_less_is_believed_less() -> None:
    message = messages()[KEPT]
    for length in range(72):
        assert found_in(message[:length], frozenset({KEPT})) is None
    bare = found_in(message[:72], frozenset({KEPT}))
    assert bare and bare.connection == Connection("127.0.0.1:49426", "127.0.0.2:47001", 2)
    for length in range(72, len(message)):
        found = found_in(message[:length], frozenset({KEPT}))
        assert found and found.connection.cwnd in (None, 10) and found.connection.receive_buffer in (None, 131072)


def test_what_an_epoll_set_watches() -> None:
    text = ("pos:\t0\nflags:\t02\nmnt_id:\t15\nino:\t1040\n"
            "tfd:        5 events: 8000201d data:                5  pos:0 ino:26873d sdev:8\n"
            "tfd:       12 events:       19 data: ffff00000000000c  pos:0 ino:1b sdev:8\n")
    assert watched_in(text) == [(0x26873D, True), (0x1B, False)]
    assert watched_in("pos:\t0\n") == []


# --- whose descriptors ------------------------------------------------------------------------------------------------


class Tree:
    """A /proc and a /sys/fs/cgroup of our own."""

    def __init__(self, root: Path) -> None:
        self.root, self.host = root, Host(str(root))
        self.process("self")

    def process(self, name: object, *targets: str, net: str = "net:[1]", maps: str = "") -> None:
        folder = self.root / "proc" / str(name)
        for part in ("fd", "fdinfo", "ns"):
            (folder / part).mkdir(parents=True)
        (folder / "ns" / "net").symlink_to(net)
        (folder / "maps").write_text(maps)
        for number, target in enumerate(targets):
            (folder / "fd" / str(number)).symlink_to(target)

    def file(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


@pytest.mark.parametrize("root", ["sys/fs/cgroup", "sys/fs/cgroup/unified", "sys/fs/cgroup/systemd"])
def test_the_processes_of_a_group_and_of_those_below_it(tree: Tree, root: str) -> None:
    tree.file(f"{root}/system.slice/a.service/cgroup.procs", "7\n9\n")
    tree.file(f"{root}/system.slice/a.service/worker/cgroup.procs", "12\n0\n")
    tree.file(f"{root}/system.slice/b.service/cgroup.procs", "13\n")
    assert processes_of(tree.host, "/system.slice/a.service") == [7, 9, 12]
    assert processes_of(tree.host, "/system.slice/c.service") == []


def test_no_group_is_not_the_root_of_all(tree: Tree) -> None:
    tree.file("sys/fs/cgroup/cgroup.procs", "1\n")
    assert processes_of(tree.host, "") == [] == processes_of(tree.host, "/")


def test_the_sockets_of_a_service(tree: Tree) -> None:
    tree.process(7, "/dev/null", "socket:[70]", "anon_inode:[eventpoll]")
    tree.process(8, "socket:[70]", "pipe:[71]", "socket:[80]", "anon_inode:[eventpoll]")
    tree.file("proc/7/fdinfo/2", "tfd: 1 events: 80000019 data: 1  pos:0 ino:46 sdev:8\n")
    tree.file("proc/8/fdinfo/3", "tfd: 0 events: 19 data: 1  pos:0 ino:46 sdev:8\ntfd: 2 events: 80000019 data: 1  pos:0 ino:50 sdev:8\n")
    assert held_by(tree.host, [7, 8, 99], epoll=True) == Held({70: (7, 1), 80: (8, 2)}, {70: False, 80: True}, processes=(7, 8))
    assert held_by(tree.host, [7, 8], epoll=False).edge == {}


def test_another_network_namespace_is_out_of_reach(tree: Tree) -> None:
    tree.process(7, "socket:[70]", net="net:[2]")
    tree.process(8, "socket:[80]")
    assert "network namespace of its own" in held_by(tree.host, [7], epoll=False).silent
    both = held_by(tree.host, [7, 8], epoll=False)
    assert (set(both.sockets), both.silent) == ({80}, "") and both.partly.startswith("1 of its processes are in a network namespace")


@pytest.mark.parametrize(("library", "name"), [("libonload.so", "Onload"), ("libvma.so.9.8", "VMA"), ("libxlio.so", "XLIO"), ("librte_eal.so.24", "DPDK")])
def test_a_stack_in_user_space_is_seen(tree: Tree, library: str, name: str) -> None:
    tree.process(7, maps=f"7f2b3c000000-7f2b3c100000 r-xp 00000000 08:01 131 /usr/lib/x86_64-linux-gnu/{library}\n")
    tree.process(8)
    assert (bypass_of(tree.host, [8, 7]), bypass_of(tree.host, [8, 99])) == (name, "")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look at everything")
def test_without_root_a_foreign_process_is_not_taken_for_one_without_sockets() -> None:
    with pytest.raises(PermissionError):
        held_by(Host(), [1], epoll=False)


# --- asking sockets ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "words"), [
    (errno.ENOSYS, "this kernel has no pidfd_getfd"), (errno.EPERM, "pidfd_getfd: Operation not permitted"), (errno.ESRCH, ""), (errno.EBADF, ""),
])
@pytest.mark.parametrize("call", [held_sockets.PIDFD_OPEN, held_sockets.PIDFD_GETFD])
def test_why_a_socket_could_not_be_asked(monkeypatch: pytest.MonkeyPatch, code: int, words: str, call: int) -> None:
    def system_call(number: int, *_arguments: int) -> int:
        if number == call:
            raise OSError(code, os.strerror(code))
        return os.open("/dev/null", os.O_RDONLY)

    monkeypatch.setattr(held_sockets, "_system_call", system_call)
    before = len(os.listdir("/proc/self/fd"))
    answers, refused = held_sockets.ask_sockets({70: (7, 1), 71: (7, 2), 80: (8, 1)})
    assert answers == {} and refused.startswith(words) and bool(refused) == bool(words)
    assert len(os.listdir("/proc/self/fd")) == before


# --- services ---------------------------------------------------------------------------------------------------------

SPEC: dict[str, Any] = {"services": [{"unit": "a.service", "expects": {"sack": True}}, {"unit": "b.service", "expects": {"sack": True}}]}


def services(monkeypatch: pytest.MonkeyPatch, shown: str, held: Any = None) -> tuple[Service, ...]:
    monkeypatch.setattr(reading, "without_systemd", lambda host: "")
    monkeypatch.setattr(reading, "output_of", lambda *command: shown)
    monkeypatch.setattr(reading, "processes_of", lambda host, group: [1] if group else [])
    monkeypatch.setattr(reading, "held_by", held or (lambda host, processes, *, epoll: Held()))
    return read_sockets(Host(), SPEC).services


GONE = "LoadState=not-found\nActiveState=inactive\nControlGroup=\n"
STOPPED = "LoadState=loaded\nActiveState=failed\nControlGroup=\n"
RUNNING = "LoadState=loaded\nActiveState=active\nControlGroup=/a\n"


def test_why_nothing_can_be_told_of_a_service(monkeypatch: pytest.MonkeyPatch) -> None:
    found = services(monkeypatch, f"{GONE}\n{STOPPED}")
    assert [one.silent for one in found] == ["could not tell: this host has no such service", "could not tell: the service does not run (failed)"]


def test_a_service_without_connections_and_one_with_a_stack_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert services(monkeypatch, f"{RUNNING}\n{GONE}")[0] == Service()
    monkeypatch.setattr(reading, "bypass_of", lambda host, processes: "Onload")
    found = services(monkeypatch, f"{RUNNING}\n{GONE}")
    assert found[0].silent == "could not tell: it has Onload loaded, whose sockets the kernel does not know"


def test_without_the_right_to_look_it_is_an_error_and_not_a_service_without_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_arguments: Any, **_options: Any) -> Held:
        raise PermissionError

    found = services(monkeypatch, f"{RUNNING}\n{STOPPED}", forbidden)
    assert found[0].unreadable == "needs root to see which sockets are the service's" and found[1].unreadable == ""


@pytest.mark.parametrize(("error", "field", "words"), [
    (OSError(errno.ENOENT, "No such file"), "silent", "could not tell: nothing is told of TCP sockets: No such file (a kernel without tcp_diag)"),
    (OSError(errno.EPROTONOSUPPORT, "Protocol not supported"), "silent", "could not tell: nothing is told of TCP sockets: Protocol not supported"),
    (TimeoutError("timed out"), "unreadable", "nothing is told of TCP sockets: timed out"),
    (OSError(errno.ENOBUFS, "No buffer space available"), "unreadable", "nothing is told of TCP sockets: No buffer space available"),
])
def test_a_kernel_that_answers_nothing_is_not_one_without_sockets(monkeypatch: pytest.MonkeyPatch, error: OSError, field: str, words: str) -> None:
    def refused(*_arguments: Any) -> list[bytes]:
        raise error

    monkeypatch.setattr(reading, "_dump", refused)
    found = services(monkeypatch, f"{RUNNING}\n{RUNNING}", lambda host, processes, *, epoll: Held({70: (1, 2)}))
    assert len(found) == 2 and all(getattr(one, field).startswith(words) for one in found)


def test_a_service_manager_that_says_too_little_is_no_running_service(monkeypatch: pytest.MonkeyPatch) -> None:
    assert {one.silent for one in services(monkeypatch, "")} == {"could not tell: the service does not run (unknown)"}


def test_a_captured_tree_has_no_services(tree: Tree) -> None:
    assert read_sockets(tree.host, SPEC).services == (Service(silent="a captured tree has no running service manager"),) * 2
