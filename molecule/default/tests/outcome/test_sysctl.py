# SPDX-License-Identifier: GPL-3.0-or-later
"""TCP behaviour of every host role: what the kernel holds now, and what it will hold after a boot."""

from __future__ import annotations

import pytest
from conftest import container, inventory
from expected import SYSCTLS, cases


@pytest.mark.parametrize(("node", "key", "value"), cases(SYSCTLS, inventory()))
def test_kernel_holds(node, key, value, sysctl):
    assert sysctl(key) == value


@pytest.mark.parametrize(("node", "key", "value"), cases(SYSCTLS, inventory()))
def test_next_boot_will_hold(node, key, value, persisted):
    assert persisted()[key] == value


def test_owned_file_is_valid_and_holds_nothing_of_the_machine(host, persisted):
    """A container's kernel.* and vm.* are the machine's: they have no place in the file that its boot applies."""
    keys = persisted()
    assert keys
    assert not [key for key in keys if key.startswith(("kernel.", "vm.", "fs."))]
    assert host.run("sysctl -p /etc/sysctl.d/80-lowlatency.conf").rc == 0


@pytest.mark.groups("wan-gateways")
def test_congestion_control_is_bbr_where_the_kernel_has_it(sysctl, persisted):
    if "bbr" not in sysctl("net.ipv4.tcp_available_congestion_control").split():
        pytest.skip("this machine's kernel has no bbr: nothing to judge")
    assert sysctl("net.ipv4.tcp_congestion_control") == "bbr"
    assert persisted()["net.ipv4.tcp_congestion_control"] == "bbr"


def test_bulk_hosts_keep_their_keepalive():
    assert container("replay-1").check_output("sysctl -n net.ipv4.tcp_keepalive_time") == "7200"
