# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Services in a tree of files: their threads, what they have mapped and open, who else is there, and what is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.host import service_pinning
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.machine import Host
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.service_pinning import read_services, write_service
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.service_pinning import (
    CPUS,
    GONE,
    LOADED,
    MANAGER,
    ServicesState,
    Thread,
    drop_in,
)
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.setting import Setting

FEED, PORT = "feed.service", "0000:81:00.0"
SPEC: dict[str, Any] = {"services": [{"unit": FEED, "cpus": "4", "library": "libonload.so", "ports": [PORT]}], "application_cpus": "4-7"}
SHOWN = "LoadState=loaded\nActiveState=active\nResult=success\nNeedDaemonReload=yes\nControlGroup=/system.slice/feed.service\n"


def put(root: Path, name: str, text: str = "") -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def process(root: Path, pid: int, name: str, cpus: str, *, last: int = 0, flags: int = 0x400000) -> None:
    """A process of one thread, with as much of stat and status as counts."""
    put(root, f"proc/{pid}/task/{pid}/status", f"Name:\t{name}\nCpus_allowed_list:\t{cpus}\nMems_allowed_list:\t0-1\n")
    fields = ["S", "1", "1", "1", "0", "-1", str(flags), *["0"] * 29, str(last), "0"]
    put(root, f"proc/{pid}/task/{pid}/stat", f"{pid} ({name} x) {' '.join(fields)}\n")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(service_pinning, "without_systemd", lambda host: "")
    monkeypatch.setattr(service_pinning, "output_of", lambda *command: SHOWN)
    put(tmp_path, "sys/fs/cgroup/system.slice/feed.service/cgroup.procs", "70\n")
    put(tmp_path, "sys/fs/cgroup/system.slice/feed.service/worker/cgroup.procs", "71\n")
    put(tmp_path, "proc/1/status", "Name:\tsystemd\nCpus_allowed_list:\t0-3\n")
    process(tmp_path, 70, "feed", "4")
    process(tmp_path, 71, "feed-worker", "0-7")
    return tmp_path


def read(root: Path) -> ServicesState:
    return read_services(Host(str(root)), SPEC)


def test_the_threads_of_a_service_are_those_of_its_group_and_below(root: Path) -> None:
    unit = read(root).units[FEED]
    both = frozenset((0, 1))
    assert unit.threads == (Thread(70, "feed", frozenset({4}), both), Thread(71, "feed-worker", frozenset(range(8)), both))
    assert (unit.load, unit.active, unit.result, unit.reload, unit.drop_in) == ("loaded", "active", "success", True, None)
    assert read(root).manager == frozenset(range(4))


@pytest.mark.parametrize("tree", ["unified", "systemd"])
def test_older_trees_of_groups_are_known(root: Path, tree: str) -> None:
    (root / "sys/fs/cgroup/system.slice").rename(root / "sys/fs/slice")
    (root / f"sys/fs/cgroup/{tree}").mkdir()
    (root / "sys/fs/slice").rename(root / f"sys/fs/cgroup/{tree}/system.slice")
    assert len(read(root).units[FEED].threads) == 2


def test_a_bypass_shows_in_what_is_mapped_and_open(root: Path) -> None:
    assert read(root).units[FEED].libraries == read(root).units[FEED].ports == frozenset()
    put(root, "proc/71/maps", "7f00-7f01 r-xp 0 fd:00 1   /usr/lib/x86_64-linux-gnu/libonload.so\n7f02-7f03 r--p 0 fd:00 2 /usr/lib/libc.so.6\n")
    folder = root / f"sys/bus/pci/devices/{PORT}"
    folder.mkdir(parents=True)
    (folder / "iommu_group").symlink_to("/sys/kernel/iommu_groups/14")
    (root / "proc/70/fd").mkdir()
    (root / "proc/70/fd/9").symlink_to("/dev/vfio/14")
    unit = read(root).units[FEED]
    assert unit.libraries == {"libonload.so"} and unit.ports == {PORT}


def test_others_are_programs_that_were_placed_there(root: Path) -> None:
    process(root, 80, "cron", "0-7", last=5)
    process(root, 81, "pinned", "6-7", last=0)
    process(root, 82, "far", "0-3", last=1)
    process(root, 83, "kworker/5", "5", last=5, flags=0x04208060)
    put(root, "proc/84/task/84/stat", "gone")
    assert [(other.pid, other.name, other.last) for other in read(root).others] == [(80, "cron", 5), (81, "pinned", 0)]


def test_drop_ins_that_no_service_has_any_more_are_found(root: Path) -> None:
    put(root, drop_in("old.service")[1:], "[Service]\n")
    put(root, "etc/systemd/system/other.service.d/10-site.conf", "[Service]\n")
    put(root, drop_in(FEED)[1:], "[Service]\n")
    state = read(root)
    assert state.left == ("old.service",) and state.units[FEED].drop_in == b"[Service]\n"


def test_what_is_written(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[tuple[str, ...]] = []
    monkeypatch.setattr(service_pinning, "output_of", lambda *command: commands.append(command) or "")
    masks: list[tuple[int, frozenset[int]]] = []
    monkeypatch.setattr(service_pinning.os, "sched_setaffinity", lambda pid, cpus: masks.append((pid, cpus)))
    put(root, drop_in("old.service")[1:], "[Service]\n")
    host = Host(str(root))
    write_service(host, ServicesState(), Setting(GONE, "old.service", None))
    assert not (root / drop_in("old.service")[1:]).parent.exists()
    write_service(host, ServicesState(), Setting(LOADED, f"{FEED} 80-lowlatency.conf", "as written"))
    write_service(host, ServicesState(), Setting(CPUS, f"{FEED} threads", "4"))
    write_service(host, ServicesState(), Setting(MANAGER, "systemd", "0-3"))
    assert commands == [("systemctl", "daemon-reload"), ("systemctl", "daemon-reload"), ("systemctl", "restart", "--", FEED)]
    assert masks == [(1, frozenset(range(4)))]
