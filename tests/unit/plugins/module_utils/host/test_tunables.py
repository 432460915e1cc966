# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading tunables, and the sysctl.d files in exactly the order in which boot reads them."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.machine import Host
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.sysctl_sources import FOLDERS
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.tunables import (
    read_tunables,
    write_tunable,
)
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.setting import ERROR, UNSUPPORTED, Setting
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.sysctl_files import at_boot
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.tunables import (
    CONGESTION_CONTROL,
    Tunable,
    TunablesState,
    plan,
)
from ansible_collections.lowlatency.fleet.tests.unit.fixture_machine import FixtureMachine

SACK = "net.ipv4.tcp_sack"


@pytest.fixture
def machine(tmp_path: Path) -> FixtureMachine:
    return FixtureMachine(tmp_path).write("proc/sys/net/ipv4/tcp_sack", "1\n")


def read(machine: FixtureMachine, **values: Any) -> TunablesState:
    return read_tunables(Host(str(machine.root)), {"values": values or {SACK: 1}})


def boot(machine: FixtureMachine) -> dict[str, tuple[str, str]]:
    return at_boot(read(machine).files)


# --- sysctl.d(5) ------------------------------------------------------------------------------------------------------


def test_files_are_read_by_name_across_all_folders(machine: FixtureMachine) -> None:
    for folder, name in zip(FOLDERS, ("50-e.conf", "40-d.conf", "30-c.conf", "20-b.conf", "10-a.conf"), strict=True):
        machine.write(f"{folder[1:]}/{name}", f"{SACK} = {name[0]}\n")
    assert [os.path.basename(path) for path, _text in read(machine).files] == ["10-a.conf", "20-b.conf", "30-c.conf", "40-d.conf", "50-e.conf"]
    assert boot(machine)[SACK] == ("5", "/lib/sysctl.d/50-e.conf")


@pytest.mark.parametrize(("better", "worse"), [("/etc", "/run"), ("/run", "/usr/local/lib"), ("/usr/local/lib", "/usr/lib"), ("/usr/lib", "/lib")])
def test_a_file_of_the_same_name_replaces_the_one_of_a_lesser_folder(machine: FixtureMachine, better: str, worse: str) -> None:
    machine.write(f"{worse[1:]}/sysctl.d/50-default.conf", f"{SACK} = 0\nvm.swappiness = 1\n")
    machine.write(f"{better[1:]}/sysctl.d/50-default.conf", f"{SACK} = 1\n")
    assert boot(machine) == {SACK: ("1", f"{better}/sysctl.d/50-default.conf")}


def test_a_file_linked_to_nothing_masks_the_vendor_s(machine: FixtureMachine) -> None:
    machine.write("usr/lib/sysctl.d/50-default.conf", f"{SACK} = 0\n").link("etc/sysctl.d/50-default.conf", "/dev/null")
    assert boot(machine) == {}


def test_an_empty_file_masks_the_vendor_s(machine: FixtureMachine) -> None:
    machine.write("usr/lib/sysctl.d/50-default.conf", f"{SACK} = 0\n").write("etc/sysctl.d/50-default.conf", "")
    assert boot(machine) == {}


def test_the_old_file_counts_where_a_distribution_links_to_it(machine: FixtureMachine) -> None:
    machine.write("etc/sysctl.conf", f"{SACK} = 0\n").link("etc/sysctl.d/99-sysctl.conf", "../sysctl.conf")
    assert boot(machine) == {SACK: ("0", "/etc/sysctl.d/99-sysctl.conf")}


def test_other_names_do_not_count(machine: FixtureMachine) -> None:
    for name in ("99-x.conf.rpmnew", "README", "99-x.conf~", "conf"):
        machine.write(f"etc/sysctl.d/{name}", f"{SACK} = 0\n")
    assert boot(machine) == {}


def test_names_are_sorted_by_their_bytes(machine: FixtureMachine) -> None:
    for name in ("9.conf", "10.conf", "Z.conf", "a.conf"):
        machine.write(f"etc/sysctl.d/{name}", f"{SACK} = {name[0]}\n")
    assert [os.path.basename(path) for path, _text in read(machine).files] == ["10.conf", "9.conf", "Z.conf", "a.conf"]


# --- live values ------------------------------------------------------------------------------------------------------


def test_keys_with_dots_in_their_parts_are_found(machine: FixtureMachine) -> None:
    machine.write("proc/sys/net/ipv4/conf/eth0.7/rp_filter", "2\n")
    for spelling in ("net.ipv4.conf.eth0/7.rp_filter", "net/ipv4/conf/eth0.7/rp_filter"):
        state = read(machine, **{spelling: 1})
        assert state.live == {"net.ipv4.conf.eth0/7.rp_filter": Tunable("2\n")}
        (setting,) = plan(state, {"values": {spelling: 1}}).settings
        write_tunable(Host(str(machine.root)), state, setting)
        assert (machine.root / "proc/sys/net/ipv4/conf/eth0.7/rp_filter").read_text() == "1"
        machine.write("proc/sys/net/ipv4/conf/eth0.7/rp_filter", "2\n")


def test_a_key_the_kernel_has_not(machine: FixtureMachine) -> None:
    assert read(machine, **{"net.ipv4.tcp_none": 1}).live["net.ipv4.tcp_none"].current is None
    assert read(machine, **{"net.ipv4": 1}).live["net.ipv4"].current is None, "a folder is no key"


def test_a_read_only_key(machine: FixtureMachine) -> None:
    (machine.root / "proc/sys/net/ipv4/tcp_sack").chmod(0o444)
    assert read(machine).live[SACK] == Tunable("1\n", writable=False)


def test_a_key_that_cannot_be_read_is_an_error(machine: FixtureMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Host, name: str) -> bytes:
        raise OSError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(Host, "read_bytes", refuse)
        state = read(machine)
    assert [setting.state for setting in plan(state, {"values": {SACK: 0}}).settings] == [ERROR]


@pytest.mark.parametrize("spelling", [CONGESTION_CONTROL, CONGESTION_CONTROL.replace(".", "/")])
@pytest.mark.parametrize(
    ("index", "text"),
    [("modules.dep", "kernel/net/ipv4/tcp_bbr.ko.xz:\n"), ("modules.builtin", "kernel/net/ipv4/tcp_bbr.ko\n"), ("", "")],
)
def test_algorithms_that_can_be_loaded(machine: FixtureMachine, spelling: str, index: str, text: str) -> None:
    machine.write("proc/sys/net/ipv4/tcp_available_congestion_control", "reno cubic\n").write("proc/sys/net/ipv4/tcp_congestion_control", "cubic\n")
    machine.write("proc/sys/kernel/osrelease", "6.12.0\n").write(f"lib/modules/6.12.0/{index or 'none'}", text)
    state = read(machine, **{spelling: "bbr"})
    assert state.algorithms == {"reno", "cubic"} | ({"bbr"} if index else set())


def test_the_marks_of_a_container_are_seen(machine: FixtureMachine) -> None:
    assert read(machine).container == ""
    machine.write("run/systemd/container", "podman\n").write("proc/sys/vm/swappiness", "60\n")
    state = read(machine, **{"vm.swappiness": 1})
    assert [setting.state for setting in plan(state, {"values": {"vm.swappiness": 1}}).settings] == [UNSUPPORTED]


def test_what_the_kernel_refuses_is_raised(machine: FixtureMachine) -> None:
    with pytest.raises(FileNotFoundError):
        write_tunable(Host(str(machine.root)), TunablesState({}), Setting("c", "net.ipv4.tcp_none", "1"))
