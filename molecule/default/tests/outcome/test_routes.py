# SPDX-License-Identifier: GPL-3.0-or-later
"""Metrics of routes, and everything else of them, as ip shows them."""

from __future__ import annotations

import pytest
from conftest import container, inventory
from expected import ROUTES, cases


@pytest.mark.parametrize(("node", "prefix", "metrics"), cases(ROUTES, inventory()))
def test_routes_have_the_metrics_that_are_wanted_and_no_other(node, prefix, metrics, host):
    line = " ".join(host.check_output("ip route show exact %s", prefix).split())
    assert line.startswith(f"{prefix} ") and line.endswith(metrics)
    assert ("initcwnd" in line) is bool(metrics)


def test_default_route_is_untouched(host):
    assert host.check_output("ip route show exact default").split() == ["default", "via", "192.0.2.254", "dev", "mgmt0"]


def test_connected_route_is_still_the_kernel_s_own():
    assert container("replay-1").check_output("ip route show exact 198.51.100.0/25").startswith(
        "198.51.100.0/25 dev bulk0 proto kernel scope link src 198.51.100.41 ")


def test_watch_for_routes_is_there_where_some_are_wanted_and_not_elsewhere(node, host):
    wanted = any(node in inventory()[group]["hosts"] for group, routes in ROUTES.items() if any(routes.values()))
    assert host.run("systemctl is-active lowlatency-routes.service").stdout.strip() == ("active" if wanted else "inactive")
    assert host.file("/etc/systemd/system/lowlatency-routes.service").exists is wanted
