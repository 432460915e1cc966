# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading and writing routes through a program that answers as iproute2 did, and what happens when a route changes in between."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.host import routes as host_routes
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.machine import Host
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.programs import ProgramFailed
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.routes import RoutesState, plan
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.setting import Setting
from ansible_collections.lowlatency.fleet.tests.unit.fixture_routes import VERSIONS, Shown

PREFIX = {"to": "10.64.0.0/24"}


class Here(Host):
    """A machine with the captured interfaces that is taken for the one we run on."""

    live = True  # type: ignore[assignment]
    without_ipv6 = False

    def names(self, name: str) -> list[str]:
        return ["a0", "b0", "lo"] if name == "/sys/class/net" else super().names(name)

    def exists(self, name: str) -> bool:
        return name != host_routes.IPV6 or not self.without_ipv6

    def read_if_there(self, name: str) -> str | None:
        return None


def read(*entries: dict[str, Any]) -> RoutesState:
    return host_routes.read_routes(Here(), {"routes": list(entries)})


def write(state: RoutesState, metrics: dict[str, Any], *entries: dict[str, Any]) -> None:
    host_routes.write_routes(Here(), state, plan(state, {"metrics": metrics, "routes": list(entries)}).settings)


@pytest.mark.parametrize("version", VERSIONS)
def test_both_looks_at_a_route_belong_together(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    Shown(monkeypatch, version)
    found = {route.name: route.metrics for route in host_routes.routes(4, "main", ())}
    assert found["10.1.0.0/16 dev a0"] == (("mtu", "lock", "1400"), ("initcwnd", "12"), ("features", "ecn"), ("rto_min", "lock", "5ms"), ("quickack", "1"),
                                           ("congctl", "lock", "cubic"))
    assert sum(bool(metrics) for metrics in found.values()) == 1
    assert host_routes.routes(6, "77", ()) == (), "a table that nobody made is empty"


def test_routes_that_change_between_the_looks_are_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Shown(monkeypatch)
    monkeypatch.setattr(host_routes, "output_of", lambda *command: shown.output_of(*command).replace("10.1.0.0", "x" if "-o" in command else "y"))
    with pytest.raises(ProgramFailed, match="change faster than they can be read"):
        host_routes.routes(4, "main", ())
    assert shown.asked == 2 * host_routes._LOOKS


def test_only_what_an_entry_speaks_of_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(host_routes, "output_of", lambda *command: asked.append(" ".join(command)) or "")
    read(PREFIX)
    assert asked[0] == "ip -j -d -4 route show table main exact 10.64.0.0/24", "and in its family"
    asked.clear()
    read({"within": "2001:db8::/32", "table": "100"})
    assert asked[0] == "ip -j -d -6 route show table 100 root 2001:db8::/32"


def test_a_kernel_without_ipv6_is_asked_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(host_routes, "output_of", lambda *command: asked.append(command[command.index("route") - 1]) or "")
    monkeypatch.setattr(Here, "without_ipv6", True)
    read({"to": "default"}, {"to": "::/0"})
    assert set(asked) == {"-4"}


def test_what_is_told_of_an_interface_that_is_not_there_and_of_a_captured_tree(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Shown(monkeypatch)
    assert read({"interface": "c0"}).found[0].unreadable == "no interface c0 on this host; there are: a0, b0, lo"
    assert "captured tree" in host_routes.read_routes(Host(str(tmp_path)), {"routes": [PREFIX]}).found[0].silent


def test_one_change_for_all_metrics_of_a_route(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Shown(monkeypatch)
    write(read(PREFIX), {"quickack": 1, "initcwnd": 20}, PREFIX)
    assert shown.changes == ["ip -4 route change 10.64.0.0/24 table main proto kernel scope link src 10.64.0.1 dev a0 initcwnd 20 quickack 1"]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [("10.64.0.0/24", "10.64.9.0/24", "gone since it was read"), ("10.64.0.1", "10.64.0.8", "prefsrc 10.64.0.1 became 10.64.0.8"),
     ('"dev":"a0","protocol":"kernel"', '"dev":"b0","protocol":"kernel"', "dev a0 became b0"),
     ('"protocol":"kernel"', '"protocol":"bird"', "protocol kernel became bird")],
)
def test_a_route_that_went_or_became_another_is_not_written(monkeypatch: pytest.MonkeyPatch, old: str, new: str, words: str) -> None:
    shown = Shown(monkeypatch)
    state = read(PREFIX)
    shown.replaced = {old: new}
    with pytest.raises(ProgramFailed, match=words):
        write(state, {"initcwnd": 20}, PREFIX)
    assert shown.changes == []


def test_metrics_that_came_since_it_was_read_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Shown(monkeypatch)
    state = read(PREFIX)
    shown.replaced = {'"prefsrc":"10.64.0.1","flags":[]': '"prefsrc":"10.64.0.1","flags":["linkdown"],"metrics":[{"mtu":1400}]',
                      "scope link src 10.64.0.1": "scope link src 10.64.0.1 linkdown mtu lock 1400"}
    write(state, {"initcwnd": 20}, PREFIX)
    assert shown.changes == ["ip -4 route change 10.64.0.0/24 table main proto kernel scope link src 10.64.0.1 dev a0 mtu lock 1400 initcwnd 20"]


def test_a_route_that_the_change_made_another_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Shown(monkeypatch)
    state = read(PREFIX)

    def output_of(*command: str) -> str:
        if "change" in command:
            shown.replaced = {'"protocol":"kernel"': '"protocol":"boot"'}
        return shown.output_of(*command)

    monkeypatch.setattr(host_routes, "output_of", output_of)
    with pytest.raises(ProgramFailed, match="protocol kernel became boot after its metrics were set"):
        write(state, {"initcwnd": 20}, PREFIX)


def test_an_original_is_put_back_with_nothing_but_its_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Shown(monkeypatch)
    state = read({"to": "10.1.0.0/16"})
    for metric, original in (("initcwnd", None), ("rto_min", "5ms, not locked")):
        host_routes.write_routes(Here(), state, [Setting(f"route.{metric}", f"10.1.0.0/16 dev a0 {metric}", original)])
    assert "initcwnd" not in shown.changes[0] and shown.changes[1].endswith("congctl lock cubic rto_min 5ms")
