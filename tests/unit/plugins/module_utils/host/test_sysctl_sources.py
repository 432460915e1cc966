# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looking for what else sets sysctl keys, on trees of files."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.machine import Host
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.sysctl_sources import read_files, read_others
from ansible_collections.lowlatency.fleet.tests.unit.fixture_machine import FixtureMachine

WANTED = {"net.ipv4.tcp_sack": "1", "vm.swappiness": "10"}


@pytest.fixture
def machine(tmp_path: Path) -> FixtureMachine:
    return FixtureMachine(tmp_path)


def others(machine: FixtureMachine) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    host = Host(str(machine.root))
    later, found = read_others(host, WANTED, read_files(host))
    return [(one.key, one.value) for one in later], [(one.name, one.sets) for one in found]


def test_a_host_without_any_of_it(machine: FixtureMachine) -> None:
    assert others(machine) == ([], [])


@pytest.mark.parametrize(("reapply", "later"), [("reapply_sysctl = 0\n", [("vm.swappiness", "60")]), ("reapply_sysctl = 1\n", []), ("", [])])
def test_tuned_wins_only_where_it_does_not_set_sysctl_d_again(machine: FixtureMachine, reapply: str, later: list[tuple[str, str]]) -> None:
    machine.write("etc/tuned/active_profile", "mine\n").write("etc/tuned/tuned-main.conf", reapply)
    machine.write("etc/tuned/mine/tuned.conf", "[sysctl]\nvm.swappiness = 60\nvm.dirty_ratio = 3\n").write("run/tuned/tuned.pid", "700\n")
    assert others(machine) == (later, [])


@pytest.mark.parametrize(("enabled", "later"), [("yes", [("net.ipv4.tcp_sack", "0")]), ("no", [])])
def test_ufw_sets_a_file_of_its_own(machine: FixtureMachine, enabled: str, later: list[tuple[str, str]]) -> None:
    machine.write("etc/ufw/ufw.conf", f"# x\nENABLED={enabled}\n").write("etc/default/ufw", 'IPT_SYSCTL=/etc/ufw/sysctl.conf\nIPV6="yes"\n')
    machine.write("etc/ufw/sysctl.conf", "net/ipv4/tcp_sack=0\nnet/ipv4/conf/all/accept_redirects=0\n")
    assert others(machine) == (later, [])


def test_the_old_file_is_a_finding_where_no_boot_reads_it(machine: FixtureMachine) -> None:
    machine.write("etc/sysctl.conf", "net.ipv4.tcp_sack = 0\n")
    assert others(machine) == ([], [("/etc/sysctl.conf", "sysctl -p and sysctl --system set net.ipv4.tcp_sack = 0")])
    machine.link("etc/sysctl.d/99-sysctl.conf", "../sysctl.conf")
    assert others(machine) == ([], [])


def test_commands_are_found_where_something_runs_them(machine: FixtureMachine) -> None:
    machine.write("etc/cron.d/tune", "@reboot root sysctl -w vm.swappiness=60\n")
    machine.write("etc/systemd/system/tune.service", "[Service]\nExecStart=/bin/sh -c 'echo 0 > /proc/sys/net/ipv4/tcp_sack'\n")
    assert others(machine) == ([], [("/etc/systemd/system/tune.service", "runs sysctl: net.ipv4.tcp_sack = 0"),
                                    ("/etc/cron.d/tune", "runs sysctl: vm.swappiness = 60")])
