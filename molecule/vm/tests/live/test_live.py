# SPDX-License-Identifier: GPL-3.0-or-later
"""lab-a converged without leave to reboot: what can be live is, the boot loader is as it was, and the report says what waits."""

from __future__ import annotations

import lab
import pytest
from conftest import cpulist, said, site
from expected import FEATURES, NICS, SWITCHES

NAME = "lab-a"
BOOT_FILES = "cd / && find boot etc/default etc/grub.d -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum; find boot | LC_ALL=C sort"


@pytest.fixture(scope="module")
def before():
    return {"boot_id": lab.boot_id(NAME), "boot": lab.run(NAME, BOOT_FILES)}


@pytest.fixture(scope="module")
def process(before):
    return site(NAME, lowlatency_reboot_ok=False)


def test_run_succeeds(process):
    assert process.returncode == 0, process.stdout[-3000:]


def test_report_says_that_a_reboot_is_needed_and_why(process):
    assert "reboot" in said(process).lower()
    for argument in ("isolcpus", "nohz_full", "hugepages"):
        assert argument in said(process)


def test_boot_loader_is_untouched(process, before, changes):
    assert changes(before["boot"], lab.run(NAME, BOOT_FILES)) == ""


def test_host_was_not_rebooted(process, before):
    assert lab.boot_id(NAME) == before["boot_id"]


@pytest.mark.parametrize("nic", NICS)
def test_interrupts_are_on_their_node_already(process, nic):
    lists = lab.run(NAME, f"cd /sys/class/net/{nic}/device/msi_irqs && for irq in *; do cat /proc/irq/$irq/smp_affinity_list; done")
    assert set().union(*map(cpulist, lists.split())) <= NICS[nic]


@pytest.mark.parametrize("nic", NICS)
def test_features_are_set_already(process, nic):
    shown = lab.run(NAME, f"ethtool -k {nic}")
    assert [f"{name}: {value}" for name, value in FEATURES.items() if f"{name}: {value}" not in shown] == []


@pytest.mark.parametrize(("path", "text"), SWITCHES.items())
def test_switches_of_the_kernel_are_set_already(process, path, text):
    assert lab.run(NAME, f"cat {path}").strip() == text
