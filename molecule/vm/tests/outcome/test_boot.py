# SPDX-License-Identifier: GPL-3.0-or-later
"""What the host was booted with, what its kernel made of it, and what the next boot will have."""

from __future__ import annotations

import re

import lab
import pytest
from expected import ARGUMENTS, FOREIGN, HOUSEKEEPING_MASK, HUGEPAGES, ISOLATED_LIST

OWN = re.compile(r"\b(isolcpus|nohz_full|rcu_nocbs|irqaffinity|hugepages|skew_tick)=")


@pytest.fixture
def entries(host):
    """Every Linux entry of grub.cfg: [(title, command line)]."""
    found, title = [], ""
    for line in host.file("/boot/grub/grub.cfg").content_string.splitlines():
        words = line.split()
        if words[:1] == ["menuentry"]:
            title = line.split("'")[1]
        if words[:1] == ["linux"]:
            found.append((title, " ".join(words[2:])))
    return found


@pytest.mark.parametrize("argument", ARGUMENTS)
def test_command_line_has_the_argument_once(host, argument):
    words = host.check_output("cat /proc/cmdline").split()
    name = argument.split("=")[0]
    assert [word for word in words if word.split("=")[0] == name] == [argument]


def test_foreign_arguments_are_there_once_and_in_order(host):
    command_line = host.check_output("cat /proc/cmdline")
    assert command_line.count(FOREIGN) == 1
    words = command_line.split()
    assert [words.count(word) for word in FOREIGN.split()] == [1, 1]


def test_kernel_isolates_what_was_planned(host):
    assert host.check_output("cat /sys/devices/system/cpu/isolated") == ISOLATED_LIST
    assert host.check_output("cat /sys/devices/system/cpu/nohz_full") == ISOLATED_LIST


def test_kernel_keeps_new_interrupts_and_unbound_work_off_isolated_cpus(host):
    assert host.check_output("cat /proc/irq/default_smp_affinity") == HOUSEKEEPING_MASK
    assert host.check_output("cat /sys/devices/virtual/workqueue/cpumask") == HOUSEKEEPING_MASK


def test_kernel_offloads_the_callbacks_of_isolated_cpus(host):
    assert f"Offload RCU callbacks from CPUs: {ISOLATED_LIST}." in host.check_output("dmesg")


def test_transparent_huge_pages_are_off(host):
    assert "[never]" in host.check_output("cat /sys/kernel/mm/transparent_hugepage/enabled")


@pytest.mark.parametrize(("place", "pages"), HUGEPAGES.items(), ids=str)
def test_node_has_its_huge_pages(node, place, pages):
    assert lab.hugepages(node, *place) == pages


@pytest.mark.parametrize("argument", [*ARGUMENTS, *FOREIGN.split()])
def test_next_boot_has_the_argument(entries, argument):
    title, command_line = entries[0]
    assert command_line.split().count(argument) == 1, title


def test_next_boot_is_no_trial(entries):
    assert [command_line for _title, command_line in entries if "lowlatency.trial=" in command_line or "panic=10" in command_line.split()] == []


def test_recovery_entries_have_no_argument_of_ours(entries):
    recovery = [(title, command_line) for title, command_line in entries if "single" in command_line.split()]
    assert recovery
    assert [entry for entry in recovery if OWN.search(entry[1])] == []


def test_grub_takes_the_configuration(host):
    assert host.run("grub-script-check /boot/grub/grub.cfg").rc == 0


def test_update_grub_by_hand_gives_the_same_again(host):
    """A kernel update must not lose what was proved, nor bring anything that was not."""
    assert host.check_output("grub-mkconfig 2>/dev/null | cmp - /boot/grub/grub.cfg") == ""


def test_no_trial_is_left(node):
    assert lab.trial_left(node) == ""


def test_management_network_came_back(host):
    assert "default via" in host.check_output("ip route")
    assert host.check_output("systemctl is-system-running") == "running"
