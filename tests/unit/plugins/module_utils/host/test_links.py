# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which interfaces keep a host reachable, by the routes of machines made of files."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.host import links
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.links import (
    guard,
    interface_of,
    management_interfaces,
)
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.machine import Host
from ansible_collections.lowlatency.fleet.tests.unit.fixture_machine import FixtureMachine

HEAD = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"


def route(interface: str, destination: str = "00000000", mask: str = "00000000", flags: str = "0003") -> str:
    return f"{interface}\t{destination}\t0102000A\t{flags}\t0\t0\t100\t{mask}\t0\t0\t0\n"


def guarded(root: Path) -> dict[str, str]:
    return management_interfaces(Host(str(root)))


def test_the_default_route(tmp_path: Path) -> None:
    FixtureMachine(tmp_path).write("proc/net/route", HEAD + route("eth0") + route("eth1", "0002000A", "00FFFFFF") + route("eth2", flags="0002"))
    assert guarded(tmp_path) == {"eth0": "carries the default route"}


def test_half_of_everything_is_no_default_route(tmp_path: Path) -> None:
    FixtureMachine(tmp_path).write("proc/net/route", HEAD + route("tun0", "00000000", "00000080"))
    assert guarded(tmp_path) == {}


def test_the_default_route_of_ipv6(tmp_path: Path) -> None:
    zero = "0" * 32
    line = "{0} {1} {2} 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003 {3:>8}\n"
    lines = [line.format(zero, "00", zero, "eth0"), line.format(zero, "00", zero, "lo"), line.format("2" * 32, "40", zero, "eth1"),
             line.format(zero, "60", zero, "eth2")]
    FixtureMachine(tmp_path).write("proc/net/ipv6_route", "".join(lines))
    assert guarded(tmp_path) == {"eth0": "carries the default route"}


def test_what_lies_below_is_guarded_too(tmp_path: Path) -> None:
    machine = FixtureMachine(tmp_path).write("proc/net/route", HEAD + route("bond0.7"))
    for name in ("bond0.7", "bond0", "eth0", "eth1", "eth2"):
        machine.write(f"sys/class/net/{name}/address", "02:00:00:00:00:01\n")
    machine.link("sys/class/net/bond0.7/lower_bond0", "../bond0")
    machine.link("sys/class/net/bond0/lower_eth0", "../eth0").link("sys/class/net/bond0/lower_eth1", "../eth1")
    assert set(guarded(tmp_path)) == {"bond0.7", "bond0", "eth0", "eth1"}
    assert guard(Host(str(tmp_path)), "eth1", guarded(tmp_path)) == "eth1 carries the default route (below bond0.7)"
    assert guard(Host(str(tmp_path)), "eth2", guarded(tmp_path)) == ""


def test_a_machine_without_routes_guards_nothing(tmp_path: Path) -> None:
    assert guarded(tmp_path) == {}


@pytest.mark.parametrize("text", ["", "\n", HEAD, HEAD + "eth0\n", HEAD + "eth0 00000000\n"])
def test_short_lines_are_no_routes(tmp_path: Path, text: str) -> None:
    FixtureMachine(tmp_path).write("proc/net/route", text)
    assert guarded(tmp_path) == {}


def test_this_session_is_guarded(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the live machine, which always has lo with 127.0.0.1."""
    monkeypatch.setattr(links, "_session_address", lambda: "127.0.0.1")
    assert management_interfaces(Host()).get("lo") == "carries this SSH connection"


@pytest.mark.parametrize("name", ["..", ".", "a/b", "", "eth9"])
def test_what_is_no_interface(tmp_path: Path, name: str) -> None:
    FixtureMachine(tmp_path).write("sys/class/net/eth0/address", "\n").write("sys/class/net/a/b", "")
    assert interface_of(Host(str(tmp_path)), {"interface": name}) is None


def test_a_mac_is_that_of_a_device_and_not_of_what_lies_on_top(tmp_path: Path) -> None:
    machine = FixtureMachine(tmp_path)
    for name in ("bond0", "eth0"):
        machine.write(f"sys/class/net/{name}/address", "02:00:00:00:00:01\n")
    machine.write("sys/class/net/eth0/device/vendor", "0x8086\n")
    assert interface_of(Host(str(tmp_path)), {"mac": "02:00:00:00:00:01"}) == "eth0"
