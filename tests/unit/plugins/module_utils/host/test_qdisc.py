# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The qdisc domain by rtnetlink: what the kernel's bytes say, what is sent, and a write that fails on the way."""

from __future__ import annotations

import errno
import struct
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.host import qdisc
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.machine import Host
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.netlink import (
    ACK,
    CREATE,
    REPLACE,
    ROUTE,
    NetlinkRefusal,
    attribute,
    attributes,
    text_attribute,
)
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.qdisc import read_qdiscs, write_qdisc
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.qdisc import MOST, QdiscState, plan
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.setting import Setting, Unsupported

NEW_LINK, NEW, DELETE, GET = 16, 36, 37, 38
ROOT, INGRESS, MQ = 0xFFFFFFFF, 0xFFFFFFF1, 0x80010000
INDEX = 7
# {parent: (handle, kind, options)}
Tree = dict[int, tuple[int, str, bytes]]


def words(**values: int) -> bytes:
    """Options of fq as net/sched/sch_fq.c dumps them."""
    codes = {"limit": 1, "flow_limit": 2, "quantum": 3, "pacing": 5, "maxrate": 7, "buckets_log": 8}
    return b"".join(attribute(codes[name], struct.pack("=I", value)) for name, value in values.items())


DEFAULT = words(limit=10000, flow_limit=100, quantum=3028, pacing=1, maxrate=MOST, buckets_log=10)


class Kernel:
    """Answers as net/sched/sch_api.c does, for one interface of four transmit queues; ``lacks`` are kinds it has not."""

    def __init__(self, tree: Tree, queues: int = 4) -> None:
        self.tree, self.queues = tree, queues
        self.lacks: set[str] = set()
        self.sent: list[tuple[int, int, int, str, dict[int, int]]] = []

    def __call__(self, protocol: int) -> Kernel:
        assert protocol == ROUTE
        return self

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass

    def exchange(self, kind: int, flags: int, body: bytes) -> list[bytes]:
        if kind == GET:
            return [struct.pack("=BxxxiIII", 0, INDEX, handle, parent, 1) + text_attribute(1, name) + attribute(2, options)
                    for parent, (handle, name, options) in self.tree.items()]
        if kind not in (NEW, DELETE):
            return [struct.pack("=BxHiII", 0, 1, index, 0, 0) + text_attribute(3, name) + attribute(31, struct.pack("=I", queues))
                    for index, name, queues in ((1, "lo", 1), (INDEX, "eth0", self.queues))]
        _family, index, handle, parent, _info = struct.unpack_from("=BxxxiIII", body)
        assert (index, handle) == (INDEX, 0)
        if kind == DELETE:
            self.tree = mq("fq_codel", handle=0)
            return []
        told = attributes(body[20:])
        self.change(flags, parent, told[1].rstrip(b"\0").decode(), told.get(2, b""))
        return []

    def change(self, flags: int, parent: int, name: str, options: bytes) -> None:
        self.sent.append((NEW, flags, parent, name, {code: struct.unpack("=I", value)[0] for code, value in attributes(options).items()}))
        if name in self.lacks:
            raise NetlinkRefusal(errno.ENOENT, "No such file or directory: Specified qdisc kind is unknown")
        if parent == ROOT and name == "mq":
            self.tree = mq("pfifo_fast", handle=MQ)
        elif parent == ROOT:
            self.tree = {ROOT: (0x90000000, name, options)}
        else:
            assert parent & 0xFFFF0000 == self.tree[ROOT][0] != 0, "a queue is addressed by a root with a handle"
            self.tree[parent] = (0x80020000, name, options)

    def parents(self) -> list[tuple[int, str]]:
        return [(parent, name) for _kind, _flags, parent, name, _options in self.sent]


def mq(*kinds: str, handle: int = MQ) -> Tree:
    """``mq`` with four queues; one kind stands for all."""
    every = kinds * 4 if len(kinds) == 1 else kinds
    leaf = 0x80020000 if handle else 0
    options = {"fq": DEFAULT, "pfifo_fast": b"\x03\0\0\0" + bytes(16)}
    return {ROOT: (handle, "mq", b""), INGRESS: (0xFFFF0000, "clsact", b""),
            **{handle | number: (leaf, kind, options.get(kind, b"")) for number, kind in enumerate(every, 1)}}


class Machine(Host):
    """Files below a folder that count as the live ones."""

    live = True  # type: ignore[assignment]

    def path(self, name: str) -> str:
        return f"{self.root}/{name.lstrip('/')}"

    followed = path


@pytest.fixture
def host(tmp_path: Path) -> Machine:
    for queue in range(4):
        (tmp_path / f"sys/class/net/eth0/queues/tx-{queue}").mkdir(parents=True)
    (tmp_path / "proc/sys/kernel").mkdir(parents=True)
    (tmp_path / "proc/sys/kernel/osrelease").write_text("6.1.0\n")
    (tmp_path / "lib/modules/6.1.0").mkdir(parents=True)
    (tmp_path / "lib/modules/6.1.0/modules.dep").write_text("kernel/net/sched/sch_fq.ko.xz:\n")
    return Machine(str(tmp_path))


def spec(kind: str = "fq", **options: Any) -> dict[str, Any]:
    return {"nics": [{"interface": "eth0", "qdisc": {"kind": kind, "options": options}}]}


def read(monkeypatch: pytest.MonkeyPatch, host: Host, kernel: Kernel, wish: dict[str, Any]) -> tuple[QdiscState, Setting]:
    monkeypatch.setattr(qdisc, "Netlink", kernel)
    state = read_qdiscs(host, wish)
    return state, plan(state, wish).settings[0]


def written(monkeypatch: pytest.MonkeyPatch, host: Host, kernel: Kernel, wish: dict[str, Any]) -> Setting:
    state, setting = read(monkeypatch, host, kernel, wish)
    write_qdisc(host, state, setting)
    return read(monkeypatch, host, kernel, wish)[1]


# --- reading ----------------------------------------------------------------------------------------------------------


def test_what_the_kernel_tells_of_every_queue(monkeypatch: pytest.MonkeyPatch, host: Machine) -> None:
    _state, setting = read(monkeypatch, host, Kernel(mq("fq", "fq", "pfifo_fast", "fq")), spec(limit=10000, maxrate="unlimited", buckets=1024, pacing="on"))
    leaf = "fq limit=10000 pacing=on maxrate=unlimited buckets=1024"
    assert setting.current == f"mq + {leaf} | {leaf} | pfifo_fast | {leaf}"
    assert setting.desired == f"mq + {leaf}"


def test_a_queue_that_channels_took_away_is_not_judged(monkeypatch: pytest.MonkeyPatch, host: Machine, tmp_path: Path) -> None:
    (tmp_path / "sys/class/net/eth0/queues/tx-3").rmdir()
    assert read(monkeypatch, host, Kernel(mq("fq", "fq", "fq", "pfifo_fast")), spec())[1].current == "mq + fq"


def test_a_driver_with_one_queue_has_its_qdisc_at_the_root(monkeypatch: pytest.MonkeyPatch, host: Machine) -> None:
    _state, setting = read(monkeypatch, host, Kernel({ROOT: (0, "pfifo_fast", b""), INGRESS: (0xFFFF0000, "ingress", b"")}, queues=1), spec())
    assert (setting.desired, setting.current) == ("fq", "pfifo_fast")


@pytest.mark.parametrize(
    ("files", "there"),
    [({}, True), ({"lib/modules/6.1.0/modules.dep": ""}, False), ({"lib/modules/6.1.0/modules.dep": "", "proc/modules": "sch_fq 20480 4 - Live 0x0\n"}, True),
     ({"lib/modules/6.1.0/modules.dep": "", "lib/modules/6.1.0/modules.builtin": "kernel/net/sched/sch_fq.ko\n"}, True),
     ({"lib/modules/6.1.0/modules.dep": "kernel/net/sched/sch_fq_codel.ko:\n"}, False)],
)
def test_whether_the_kernel_has_the_kind(monkeypatch: pytest.MonkeyPatch, host: Machine, tmp_path: Path, files: dict[str, str], there: bool) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    state, _setting = read(monkeypatch, host, Kernel(mq("pfifo_fast")), spec())
    assert state.kinds is not None and ("fq" in state.kinds) is there


def test_a_captured_tree_and_an_interface_that_is_not_there(monkeypatch: pytest.MonkeyPatch, host: Machine, tmp_path: Path) -> None:
    (tmp_path / "sys/class/net/eth0").mkdir(parents=True, exist_ok=True)
    told = plan(read_qdiscs(Host(str(tmp_path)), spec()), spec()).settings[0]
    assert told.state == "unsupported" and "captured tree" in told.reason
    wish = {"nics": [{"interface": "eth9", "qdisc": {"kind": "fq"}}]}
    state, setting = read(monkeypatch, host, Kernel(mq("fq")), wish)
    assert "no such interface" in setting.reason
    with pytest.raises(OSError, match="No such device"):
        write_qdisc(host, state, Setting(setting.control, "eth9", "mq + fq"))


def test_where_nothing_is_wanted_the_kernel_is_not_asked(monkeypatch: pytest.MonkeyPatch, host: Machine) -> None:
    monkeypatch.setattr(qdisc, "Netlink", None)
    assert plan(read_qdiscs(host, {"nics": [{"interface": "eth0"}]}), {"nics": [{"interface": "eth0"}]}).settings == ()


# --- writing ----------------------------------------------------------------------------------------------------------


def test_below_the_kernel_s_own_root_a_new_one_comes_first(monkeypatch: pytest.MonkeyPatch, host: Machine) -> None:
    kernel = Kernel(mq("fq_codel", handle=0))
    setting = written(monkeypatch, host, kernel, spec())
    assert setting.current == "mq + fq"
    assert kernel.parents() == [(ROOT, "mq"), *((MQ | queue, "fq") for queue in (1, 2, 3, 4))]
    assert {flags for _kind, flags, *_rest in kernel.sent} == {ACK | CREATE | REPLACE}


def test_only_what_differs_is_written_below_a_root_that_is_right(monkeypatch: pytest.MonkeyPatch, host: Machine) -> None:
    kernel = Kernel(mq("fq", "pfifo_fast", "fq", "fq"))
    assert written(monkeypatch, host, kernel, spec()).current == "mq + fq"
    assert kernel.parents() == [(MQ | 2, "fq")]


def test_options_go_in_the_kernel_s_units(monkeypatch: pytest.MonkeyPatch, host: Machine) -> None:
    kernel = Kernel(mq("fq"))
    wish = spec(limit=20000, maxrate="1gbit", buckets=2048, pacing="off")
    setting = written(monkeypatch, host, kernel, wish)
    assert setting.current == setting.desired
    assert kernel.sent[0][4] == {1: 20000, 5: 0, 7: 125_000_000, 8: 11}


def test_originals_are_put_back_queue_by_queue(monkeypatch: pytest.MonkeyPatch, host: Machine) -> None:
    kernel = Kernel(mq("fq"))
    state, setting = read(monkeypatch, host, kernel, spec())
    write_qdisc(host, state, Setting(setting.control, "eth0", "mq + fq | pfifo_fast | fq | fq"))
    assert kernel.parents() == [(MQ | 2, "pfifo_fast")]
    write_qdisc(host, state, Setting(setting.control, "eth0", "noqueue"))
    assert kernel.tree[ROOT][1] == "noqueue"
    with pytest.raises(OSError, match="a site's own"):
        write_qdisc(host, state, Setting(setting.control, "eth0", "htb"))


@pytest.mark.parametrize(("container", "error"), [("podman", Unsupported), ("", NetlinkRefusal)])
def test_what_the_kernel_has_not_leaves_its_own_choice_in_place(
    monkeypatch: pytest.MonkeyPatch, host: Machine, tmp_path: Path, container: str, error: type[Exception],
) -> None:
    kernel = Kernel(mq("fq_codel", handle=0))
    kernel.lacks = {"fq"}
    monkeypatch.setattr(qdisc, "container_kind", lambda host: container)
    state, setting = read(monkeypatch, host, kernel, spec())
    with pytest.raises(error, match="Specified qdisc kind is unknown"):
        write_qdisc(host, state, setting)
    assert kernel.tree == mq("fq_codel", handle=0)
