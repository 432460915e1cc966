# SPDX-License-Identifier: GPL-3.0-or-later
"""irqbalance is gone for good, and the host agent is in its place."""

from __future__ import annotations

import time

import pytest
from conftest import inventory


def test_irqbalance_is_inactive_and_masked(node, host):
    shown = host.check_output("systemctl show --property=LoadState,ActiveState,UnitFileState irqbalance.service")
    properties = dict(line.split("=", 1) for line in shown.splitlines())
    assert properties["ActiveState"] == "inactive"
    if inventory()["_meta"]["hostvars"][node].get("test_without_irqbalance"):
        assert properties["LoadState"] in ("not-found", "masked")
    else:
        assert properties["UnitFileState"] == "masked"


def test_no_irqbalance_process_runs(host):
    assert host.run("pgrep -x irqbalance").rc == 1


def test_agent_starts_at_boot(host):
    assert host.check_output("systemctl is-enabled lowlatency.service") == "enabled"
    assert host.run("systemd-analyze verify lowlatency.service").rc == 0
    assert host.file("/usr/local/sbin/lowlatency").mode & 0o111


def test_agent_watches_for_nics(host):
    assert host.check_output("systemctl is-enabled lowlatency-nics.path") == "enabled"
    assert host.check_output("systemctl is-active lowlatency-nics.path") == "active"
    assert host.run("systemd-analyze verify lowlatency-nics.path lowlatency-nics.service").rc == 0


def test_agent_finds_the_host_right(host):
    verdict = host.run("/usr/local/sbin/lowlatency verify")
    assert verdict.rc == 0, verdict.stdout + verdict.stderr


def test_system_is_healthy(host):
    assert host.check_output("systemctl is-system-running") == "running"


@pytest.mark.groups("md-gateways")
def test_agent_notices_drift_and_mends_it(host, nics, feature, sysctl):
    nic = nics[0]
    host.check_output("ethtool -K %s gro on", nic)
    host.check_output("sysctl -w net.ipv4.tcp_autocorking=1")
    assert host.run("/usr/local/sbin/lowlatency verify").rc == 1
    assert host.run("/usr/local/sbin/lowlatency apply").rc == 0
    assert feature(nic, "generic-receive-offload") == "off"
    assert sysctl("net.ipv4.tcp_autocorking") == "0"
    assert host.run("/usr/local/sbin/lowlatency verify").rc == 0


@pytest.mark.groups("md-gateways")
def test_agent_sets_nics_again_after_a_mark_as_udev_leaves_it(host, nics, feature):
    """No udev runs in a container; molecule/vm has the whole way from the kernel's event."""
    host.check_output("ethtool -K %s gro on", nics[0])
    host.check_output("touch /run/lowlatency/nics/event")
    deadline = time.monotonic() + 60
    while feature(nics[0], "generic-receive-offload") != "off" and time.monotonic() < deadline:
        time.sleep(1)
    assert feature(nics[0], "generic-receive-offload") == "off", host.check_output("journalctl --no-pager -u lowlatency-nics.service")
    assert host.check_output("ls /run/lowlatency/nics") == ""
