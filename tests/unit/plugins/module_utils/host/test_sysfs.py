# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Switches below /sys on trees of files."""

from __future__ import annotations

from pathlib import Path

from ansible_collections.lowlatency.fleet.plugins.module_utils.host.machine import Host
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.sysfs import read_sysfs, write_sysfs
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.setting import Setting
from ansible_collections.lowlatency.fleet.tests.unit.fixture_machine import FixtureMachine

MASK, KSM = "sys/devices/virtual/workqueue/cpumask", "sys/kernel/mm/ksm/run"


def test_files_are_read_and_written_in_the_kernel_s_form(tmp_path: Path) -> None:
    machine = FixtureMachine(tmp_path).write(MASK, "ff,ffffffff\n").write(KSM, "1\n")
    host = Host(str(machine.root))
    state = read_sysfs(host, {"values": {"workqueue_cpumask": "0", "ksm": 0, "transparent_hugepage": "never"}})
    assert (state.live["workqueue_cpumask"], state.live["ksm"], state.live["transparent_hugepage"]) == ("ff,ffffffff\n", "1\n", None)
    write_sysfs(host, state, Setting("sysfs.workqueue_cpumask", "workqueue_cpumask", "0-1,36"))
    write_sysfs(host, state, Setting("sysfs.ksm", "ksm", "0"))
    assert (tmp_path / MASK).read_text() == "10,00000003" and (tmp_path / KSM).read_text() == "0"


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / KSM).mkdir(parents=True)
    assert "ksm" in read_sysfs(Host(str(tmp_path)), {"values": {"ksm": 0}}).unreadable
