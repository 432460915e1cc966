# SPDX-License-Identifier: GPL-3.0-or-later
"""What must not be is refused by name, before anything is written, and on a host whose /boot is no longer sound the old configuration stays."""

from __future__ import annotations

import re

import lab
import pytest
from conftest import put_right, said, site

NAME = "lab-b"
# An argument that harms nobody; it makes the run want a new command line.
PENDING = {"kernel_cmdline_arguments_extra": {"lab.harmless": "1"}}

INPUTS = {
    "every CPU isolated": ({"lowlatency_application_cpulist": "0-7"}, r"application_cpulist 0-7.*\(R\d+\).*nothing was written"),
    "a core split": ({"lowlatency_application_cpulist": "2"}, r"application_cpulist 2.*\(R\d+\).*nothing was written"),
    "an argument with a newline": (
        {"kernel_cmdline_arguments_extra": {"lab.text": "1\ninit=/bin/sh"}}, r"lab\.text.*(newline|line break|control|white ?space)",
    ),
    "an argument with a quote": ({"kernel_cmdline_arguments_extra": {"lab.text": '1" init=/bin/sh'}}, r"lab\.text.*quot"),
    "an argument's name with a space": ({"kernel_cmdline_arguments_extra": {"lab.text init": "1"}}, r"lab\.text init.*(space|name)"),
    "more huge pages than a node has memory": (
        {"lowlatency_hugepages": [{"size": "2M", "count": 2000, "node": 0, "at": "boot"}]}, r"node 0.*(memory|MiB|GiB|kB)",
    ),
    "an algorithm that the kernel has not": (
        {"tcp_tuning_sysctl_extra": {"net.ipv4.tcp_congestion_control": "bbr3"}},
        r"bbr3: this kernel has no such congestion control algorithm, nor a module for it",
    ),
    "a buffer that the path does not fit into": (
        {"tcp_tuning_sysctl_extra": {"net.ipv4.tcp_rmem": "4096 131072 16777216", "net.ipv4.tcp_wmem": "4096 65536 268435456"},
         "tcp_tuning_paths": [{"bandwidth": "10gbit", "round_trip_ms": 50}]}, r"at most 16777216 bytes, the paths need 125000000",
    ),
    "the management NIC for user space": (
        {"dpdk_devices": [{"pci": "0000:00:10.0"}]}, r"0000:00:10\.0.*carries (the default route|this SSH connection).*never taken.*\(R6\)",
    ),
    "a port with a route for user space": ({"dpdk_devices": [{"pci": "0000:41:00.0"}]}, r"enp65s0 is used by the route 10\.64\.0\.0/24; take it out of that"),
    "a disk for user space": ({"dpdk_devices": [{"pci": "0000:00:11.0"}]}, r"0000:00:11\.0: is no network controller"),
    "a port that is not there for user space": ({"dpdk_devices": [{"pci": "0000:99:00.0"}]}, r"0000:99:00\.0: no such PCI device"),
    "more memory for a feed than there are pages": (
        {"lowlatency_services": [{"unit": "lab-feed.service", "nics": ["0000:82:00.0"], "eal": {"memory_mib": 2048}}]},
        r"lab-feed\.service: 2 huge pages of 1G on node 1, where 1 of 1 are free.*nothing was written",
    ),
    "two services on one CPU": (
        {"lowlatency_services": [{"unit": "lab-feed.service", "cpus": "6"}, {"unit": "lab-orders.service", "cpus": "6"}]},
        r"lab-orders\.service: CPU 6 is lab-feed\.service's already.*nothing was written",
    ),
    "huge pages on a node that is not there": ({"lowlatency_hugepages": [{"size": "2M", "count": 1, "node": 7, "at": "boot"}]}, r"node 7"),
}

# A fault, how to cause it and how to undo it. What the test itself puts on the host is named test-*, and left out of the comparison.
FAULTS = {
    "/boot is full": (
        "fallocate -l $(($(df --output=avail -B1 /boot | tail -1) - 4096)) /boot/test-filler; cat /dev/zero >>/boot/test-filler 2>/dev/null || true",
        "rm -f /boot/test-filler",
        r"/boot.*(full|space|free)|No space left",
    ),
    "/boot is read-only": ("mount -o remount,ro /boot", "mount -o remount,rw /boot", r"/boot.*read-only|[Rr]ead-only file system"),
    "a script of grub.d fails half way": (
        r"printf '#!/bin/sh\necho \"menuentry half {\"\nexit 1\n' >/etc/grub.d/42_test-broken; chmod 755 /etc/grub.d/42_test-broken",
        "rm -f /etc/grub.d/42_test-broken",
        r"grub-mkconfig|update-grub|42_test-broken|grub\.d",
    ),
}
# Contents and owners of all that boots the host. A write that was refused by a full disk may have touched a folder's time.
BOOT_FILES = r"""
cd / && find boot etc/default etc/grub.d ! -path '*test-*' -printf '%p %y%m %U:%G %l\n' | LC_ALL=C sort
find boot etc/default etc/grub.d -type f ! -path '*test-*' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
"""


@pytest.mark.parametrize("case", INPUTS)
def test_bad_input_is_refused_and_nothing_is_written(case, changes):
    variables, message = INPUTS[case]
    before, boot_id = lab.files(NAME), lab.boot_id(NAME)
    process = site(NAME, lowlatency_reboot_ok=True, **variables)
    assert process.returncode != 0
    assert re.search(message, said(process)), said(process)[-1500:]
    assert changes(before, lab.files(NAME)) == ""
    assert lab.boot_id(NAME) == boot_id


@pytest.fixture
def read_only_sysctls():
    lab.run(NAME, "mount --bind /etc/sysctl.d /etc/sysctl.d && mount -o remount,bind,ro /etc/sysctl.d")
    yield
    lab.run(NAME, "umount /etc/sysctl.d")


def test_a_read_only_sysctl_d_is_refused_before_anything_is_set(read_only_sysctls):
    before = lab.run(NAME, "sysctl -n vm.swappiness")
    process = site(NAME, kernel_tunables_sysctl_extra={"vm.swappiness": 11})
    assert process.returncode != 0
    assert re.search(r"80-lowlatency\.conf.*(not writable|[Rr]ead-only)", said(process)), said(process)[-1500:]
    assert lab.run(NAME, "sysctl -n vm.swappiness") == before


@pytest.fixture
def fault(request):
    """The host with a fault, and without it afterwards whatever happened."""
    cause, undo, message = FAULTS[request.param]
    lab.run(NAME, cause)
    yield message
    lab.run(NAME, undo)


@pytest.mark.parametrize("fault", FAULTS, indirect=True, ids=str)
def test_fault_of_the_host_leaves_the_old_configuration(fault, changes):
    before, boot_id = lab.run(NAME, BOOT_FILES), lab.boot_id(NAME)
    process = site(NAME, lowlatency_reboot_ok=True, **PENDING)
    assert process.returncode != 0, "the run should have failed"
    assert re.search(fault, said(process)), said(process)[-1500:]
    assert changes(before, lab.run(NAME, BOOT_FILES)) == ""
    assert lab.boot_id(NAME) == boot_id
    assert lab.trial_left(NAME) == ""


def test_ordinary_run_finds_the_host_right_after_all_of_this():
    boot_id = lab.boot_id(NAME)
    put_right(NAME)
    assert lab.boot_id(NAME) == boot_id
