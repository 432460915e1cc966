# SPDX-License-Identifier: GPL-3.0-or-later
"""NIC features of every host role, and what must stay untouched."""

from __future__ import annotations

import pytest
from conftest import inventory
from expected import FEATURES, cases


@pytest.mark.parametrize(("node", "name", "value"), cases(FEATURES, inventory()))
def test_data_nics_have_the_features_of_their_role(node, name, value, nics, feature):
    assert {nic: feature(nic, name) for nic in nics} == dict.fromkeys(nics, value)


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
