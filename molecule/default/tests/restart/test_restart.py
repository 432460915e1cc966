# SPDX-License-Identifier: GPL-3.0-or-later
"""After a restart every network card is a new one: the settings return without a controller."""

from __future__ import annotations

import subprocess

import pytest
from conftest import container, container_name, sack_sets
from expected import FEATURES, ROUTES, SACK_OFF_TOWARDS, SYSCTLS, cases
from snapshot import machine_state

RESTARTED = {"md-gateways": {"hosts": ["md-gw-1"]}, "replay-servers": {"hosts": ["replay-1"]}}
SETTINGS = {group: SYSCTLS[group] for group in RESTARTED}
REPLAYED = {"replay-servers": {"hosts": ["replay-1"]}}
OFFLOADS = {group: FEATURES[group] for group in RESTARTED}


@pytest.mark.parametrize("node", ["md-gw-1", "replay-1"])
def test_host_was_restarted_at_all(node):
    """Without this, everything below would pass on a host that never went down."""
    shape = "{{.Created.Unix}} {{.State.StartedAt.Unix}}"
    command = ["podman", "inspect", "--format", shape, container_name(node)]
    created, started = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True).stdout.split()
    assert int(started) - int(created) > 5


@pytest.mark.parametrize(("node", "key", "value"), cases(SETTINGS, RESTARTED))
def test_sysctl_is_there_again(node, key, value, sysctl):
    assert sysctl(key) == value


@pytest.mark.parametrize(("node", "name", "value"), cases(OFFLOADS, RESTARTED))
def test_nic_features_are_there_again(node, name, value, nics, feature):
    assert {nic: feature(nic, name) for nic in nics} == dict.fromkeys(nics, value)


def test_sack_filter_is_there_again_before_any_agent():
    host = container("md-gw-1")
    assert sack_sets(host) == SACK_OFF_TOWARDS
    moments = "systemctl show --property=ActiveEnterTimestampMonotonic --value lowlatency-sack.service network-pre.target lowlatency.service"
    sack, network, agent = (int(word) for word in host.check_output(moments).split())
    assert 0 < sack <= network < agent


@pytest.mark.parametrize(("node", "prefix", "metrics"), cases({"replay-servers": ROUTES["replay-servers"]}, REPLAYED))
def test_routes_have_their_metrics_again(node, prefix, metrics, host):
    assert " ".join(host.check_output("ip route show exact %s", prefix).split()).endswith(metrics)


@pytest.mark.parametrize("node", ["md-gw-1", "replay-1"])
def test_agent_ran_at_boot_and_finds_the_host_right(node, host):
    assert host.check_output("systemctl show --property=Result --value lowlatency.service") == "success"
    assert host.run("/usr/local/sbin/lowlatency verify").rc == 0
    assert host.run("pgrep -x irqbalance").rc == 1


def test_restart_left_the_machine_alone(snapshots):
    before = (snapshots / "machine.txt").read_text().splitlines()
    assert sorted(set(before) ^ set(machine_state().splitlines())) == []
