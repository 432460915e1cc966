# SPDX-License-Identifier: GPL-3.0-or-later
"""NIC features of every host role, and what must stay untouched."""

from __future__ import annotations

import pytest
from conftest import container, inventory
from expected import FEATURES, cases


@pytest.mark.parametrize(("node", "name", "value"), cases(FEATURES, inventory()))
def test_data_nics_have_the_features_of_their_role(node, name, value, nics, feature):
    assert {nic: feature(nic, name) for nic in nics} == dict.fromkeys(nics, value)


@pytest.mark.parametrize(("nic", "rx", "tx"), [("md0", 2, 2), ("md1", 3, 1)])
def test_channels_are_those_of_the_inventory(nic, rx, tx):
    host = container("md-gw-1")
    lines = host.check_output("ethtool -l %s", nic).partition("Current")[2].splitlines()
    held = {line.split(":")[0]: line.split()[-1] for line in lines if ":" in line}
    assert (held["RX"], held["TX"]) == (str(rx), str(tx))
    assert len(host.check_output("ls -d /sys/class/net/%s/queues/rx-*", nic).split()) == rx


def test_channels_that_nobody_named_are_untouched():
    """The profile asks for as many as planned CPUs; for a NIC that is no PCI device none are planned."""
    assert len(container("md-gw-2").check_output("ls -d /sys/class/net/md0/queues/rx-*").split()) == 4


def test_management_nic_is_untouched(feature):
    """It carries the default route: no profile may reach it."""
    assert feature("mgmt0", "generic-receive-offload") == "on"
    assert feature("mgmt0", "tcp-segmentation-offload") == "on"


def test_addresses_and_routes_are_untouched(host, nics):
    routes = host.check_output("ip route")
    assert "default via 192.0.2.254 dev mgmt0" in routes
    for nic in nics:
        assert f"dev {nic}" in routes
        assert "state UP" in host.check_output("ip -o link show %s", nic)
