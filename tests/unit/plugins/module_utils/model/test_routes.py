# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which routes a site's words select, what keeps one from being changed, and the words that change it: on captured routes of two iproute2."""

from __future__ import annotations

import doctest
from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.model import routes as model
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.routes import (
    Route,
    change,
    obstacle,
    plan,
    problems,
    selected,
)
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.setting import (
    ERROR,
    OK,
    UNSUPPORTED,
    Setting,
    merged_spec,
    without_items,
)
from ansible_collections.lowlatency.fleet.tests.unit.fixture_routes import VERSIONS, captured, state_of

ALL_METRICS = {"initcwnd": 20, "initrwnd": "30", "quickack": 1, "rto_min": "05ms", "congctl": "bbr", "features": ["tcp_usec_ts", "ecn"]}
SHOWN = {"initcwnd": "20", "initrwnd": "30", "quickack": "1", "rto_min": "5ms", "congctl": "bbr", "features": "ecn tcp_usec_ts"}


@pytest.fixture(params=VERSIONS)
def routes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[Route, ...]:
    return captured(monkeypatch, request.param, 4) + captured(monkeypatch, request.param, 6)


def names(entry: dict[str, Any], routes: tuple[Route, ...]) -> set[str]:
    return {route.name for route in selected(entry, routes)}


def planned(routes: tuple[Route, ...], *entries: dict[str, Any], protected: dict[str, str] | None = None, **spec: Any) -> dict[str, Setting]:
    wish = {**spec, "routes": list(entries)}
    return {setting.name: setting for setting in plan(state_of(wish, routes, protected), wish).settings}


def named(routes: tuple[Route, ...], name: str) -> Route:
    return next(route for route in routes if route.name == name)


def test_examples() -> None:
    assert doctest.testmod(model).failed == 0


# --- what is selected -------------------------------------------------------------------------------------------------


def test_a_prefix_selects_the_routes_to_exactly_that(routes: tuple[Route, ...]) -> None:
    assert names({"to": "10.64.0.0/24"}, routes) == {"10.64.0.0/24 dev a0"}
    assert names({"to": "10.4.0.0/16"}, routes) == {"10.4.0.0/16 tos 0x10 metric 5 dev a0", "10.4.0.0/16 metric 6 dev a0"}
    assert names({"to": "2001:db8:1::/48"}, routes) == {"2001:db8:1::/48 metric 99 dev a0"}
    assert names({"to": "10.0.0.0/8"}, routes) == set()
    assert names({"to": "10.5.0.0/16"}, routes) == set(), "what throws packets away has no connections"


def test_default_is_that_of_both_families_and_a_zero_prefix_that_of_one(routes: tuple[Route, ...]) -> None:
    assert names({"to": "default"}, routes) == {"default metric 1024 dev a0", "::/0 metric 1024 dev a0"}
    assert names({"to": "0.0.0.0/0"}, routes) == {"default metric 1024 dev a0"}
    assert names({"to": "::/0"}, routes) == {"::/0 metric 1024 dev a0"}


def test_within_selects_what_is_inside_and_an_interface_all_out_of_it(routes: tuple[Route, ...]) -> None:
    assert names({"within": "10.64.0.0/15"}, routes) == {"10.64.0.0/24 dev a0", "10.65.0.0/24 dev b0"}
    assert names({"within": "10.64.0.0/15", "interface": "b0"}, routes) == {"10.65.0.0/24 dev b0"}
    assert names({"interface": "b0"}, routes) == {"10.65.0.0/24 dev b0", "10.2.0.0/16", "2001:db8:3::/48 metric 1024"}, "no link-local ones"


@pytest.mark.parametrize(
    ("entry", "words"),
    [({"to": "10.64.0.1/24"}, "has host bits set"), ({"to": "exchange"}, "is no prefix"), ({"within": "default"}, "is no prefix"),
     ({}, "every route of the host"), ({"to": "any"}, "every route of the host"), ({"to": "default", "metrics": {"initcwnd": 41}}, "1 to 40"),
     ({"to": "default", "metrics": {"mtu": 9000}}, "no metric 'mtu'"),
     ({"to": "10.77.0.0/16"}, "selects no unicast route of this host; there are: 10.1.0.0/16")],
)
def test_an_entry_that_cannot_be_served_is_an_error_alone(routes: tuple[Route, ...], entry: dict[str, Any], words: str) -> None:
    found = planned(routes, entry, {"to": "10.65.0.0/24"}, metrics={"initcwnd": 20})
    wrong = [setting for setting in found.values() if setting.state == ERROR]
    assert [setting.control for setting in wrong] == ["route"] and words in wrong[0].reason
    assert found["10.65.0.0/24 dev b0 initcwnd"].desired == "20"


def test_an_entry_without_metrics_is_told(routes: tuple[Route, ...]) -> None:
    assert "no metrics are wanted" in planned(routes, {"to": "10.65.0.0/24"})["to 10.65.0.0/24"].reason


def test_an_entry_that_was_an_error_is_not_kept_and_takes_nothing_else_with_it() -> None:
    entries = [{"to": "10.1.0.0/16", "table": "main"}, {"to": "10.1.0.0/16", "table": "7"}, {"to": "any", "interface": "eth1"}]
    desired = {"route_metrics": {"site": {"routes": entries}}, "ethtool": {"site": {"nics": [{"interface": "eth1"}]}}}
    kept = without_items(desired, {}, frozenset({"to 10.1.0.0/16 table 7", "to any interface eth1"}))
    assert kept["route_metrics"]["site"]["routes"] == entries[:1] and kept["ethtool"] == desired["ethtool"]
    assert without_items(desired, {}, frozenset({"eth1"}))["route_metrics"] == desired["route_metrics"], "a NIC's error says nothing of routes"


def test_two_roles_speak_of_one_selection() -> None:
    one, two = {"to": "default", "interface": "a", "metrics": {"initcwnd": 20}}, {"to": "default", "interface": "a", "metrics": {"quickack": 1}}
    other = {"to": "default", "interface": "b", "metrics": {"quickack": 0}}
    merged = merged_spec({"x": {"routes": [one]}, "y": {"routes": [two, other]}})
    assert merged["routes"] == [{**one, "metrics": {"initcwnd": 20, "quickack": 1}}, other]


# --- what is wanted ---------------------------------------------------------------------------------------------------


def test_every_metric_in_its_one_form(routes: tuple[Route, ...]) -> None:
    found = planned(routes, {"to": "10.1.0.0/16"}, metrics=ALL_METRICS)
    assert {name.rpartition(" ")[2]: setting.desired for name, setting in found.items()} == SHOWN
    assert {name.rpartition(" ")[2]: setting.current for name, setting in found.items()} == {
        "initcwnd": "12", "initrwnd": None, "quickack": "1", "rto_min": "5ms", "congctl": "cubic", "features": "ecn"}
    assert {setting.control for setting in found.values()} == {f"route.{name}" for name in SHOWN}


@pytest.mark.parametrize(
    ("name", "value"),
    [("initcwnd", 0), ("initcwnd", 41), ("initcwnd", True), ("initrwnd", "many"), ("quickack", True), ("quickack", 2), ("rto_min", 5), ("rto_min", "0ms"),
     ("rto_min", "5s"), ("congctl", ""), ("congctl", "-4"), ("congctl", "a b"), ("congctl", "an_algorithm_too_long"), ("features", ""),
     ("features", "sack"), ("ssthresh", 7)],
)
def test_a_value_that_is_none_is_refused_without_the_host(name: str, value: object) -> None:
    assert len(problems({"metrics": {name: value}})) == 1


def test_a_large_window_is_told_of(routes: tuple[Route, ...]) -> None:
    found = planned(routes, {"to": "10.1.0.0/16"}, {"to": "10.65.0.0/24", "metrics": {"initcwnd": 20}}, metrics={"initcwnd": 21})
    assert "more than 20" in found["10.1.0.0/16 dev a0 initcwnd"].reason and found["10.65.0.0/24 dev b0 initcwnd"].reason == ""


def test_the_more_specific_entry_says_whatever_the_order(routes: tuple[Route, ...]) -> None:
    entries = [{"to": "10.65.0.0/24", "metrics": {"initcwnd": 13}}, {"interface": "b0", "metrics": {"initcwnd": 11, "quickack": 1}},
               {"within": "10.0.0.0/8", "metrics": {"initcwnd": 12, "initrwnd": 5}}]
    for order in (entries, entries[::-1]):
        found = planned(routes, *order)
        assert {metric: found[f"10.65.0.0/24 dev b0 {metric}"].desired for metric in ("initcwnd", "initrwnd", "quickack")} == {
            "initcwnd": "13", "initrwnd": "5", "quickack": "1"}
        assert found["10.1.0.0/16 dev a0 initcwnd"].desired == "12"


# --- what is left alone -----------------------------------------------------------------------------------------------

OBSTACLES = {
    "10.8.0.0/16 dev a0": "another one of the same destination",
    "2001:db8:2::/48 metric 1024 dev a0": "router advertisements",
    "::/0 metric 1024 dev a0": "router advertisements",
    "2001:db8:3::/48 metric 1024": "several next hops",
    "10.9.0.0/16": "encap",
}


def test_what_could_not_be_given_back_unchanged_is_left_alone(routes: tuple[Route, ...]) -> None:
    found = {route.name: obstacle(route, routes) for route in routes if route.fields["type"] == "unicast" and not route.network.is_link_local}
    for name, words in OBSTACLES.items():
        assert [words in reason for route, reason in found.items() if route.startswith(name)] == [True], name
    assert sum(reason != "" for reason in found.values()) == len(OBSTACLES)


def test_realms_are_said_in_words_that_a_change_does_not_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    (route,) = captured(monkeypatch, VERSIONS[0], 4, "100")
    assert route.name == "10.7.0.0/16 dev b0 table 100" and "flow" in obstacle(route, [route])


def test_metrics_that_are_not_understood_are_not_lost(routes: tuple[Route, ...]) -> None:
    route = named(routes, "10.1.0.0/16 dev a0")
    new = Route(4, "main", {**route.fields, "metrics": [{**route.fields["metrics"][0], "of_tomorrow": 1}]}, route.metrics)
    assert obstacle(route, [route]) == "" and "not understood" in obstacle(new, [new])


def test_a_timer_that_is_not_locked_is_none_and_is_not_locked_by_the_way(routes: tuple[Route, ...]) -> None:
    route = Route(4, "main", {**named(routes, "10.65.0.0/24 dev b0").fields, "metrics": [{"rto_min": 5}]}, (("rto_min", "5ms"),))
    assert planned((route,), {"to": "10.65.0.0/24"}, metrics={"rto_min": "5ms"})["10.65.0.0/24 dev b0 rto_min"].current == "5ms, not locked"
    assert "would lock it" in planned((route,), {"to": "10.65.0.0/24"}, metrics={"initcwnd": 5})["10.65.0.0/24 dev b0"].reason


def test_asked_for_by_prefix_it_is_an_error_and_otherwise_only_told(routes: tuple[Route, ...]) -> None:
    found = planned(routes, {"to": "10.8.0.0/16"}, {"to": "10.65.0.0/24"}, metrics={"initcwnd": 20})
    assert (found["10.8.0.0/16 dev a0"].state, found["10.65.0.0/24 dev b0 initcwnd"].state) == (ERROR, OK)
    found = planned(routes, {"within": "10.8.0.0/15"}, metrics={"initcwnd": 20})
    assert {setting.state for setting in found.values()} == {UNSUPPORTED}


def test_a_route_that_keeps_the_host_reachable_needs_the_word(routes: tuple[Route, ...]) -> None:
    for entry in ({"to": "10.1.0.0/16"}, {"within": "10.1.0.0/16"}, {"to": "10.2.0.0/16"}):
        (refused,) = planned(routes, entry, metrics={"initcwnd": 20}, protected={"a0": "carries the default route"}).values()
        assert refused.state == ERROR and "management: true" in refused.reason
        (allowed,) = planned(routes, {**entry, "management": True}, metrics={"initcwnd": 20}, protected={"a0": "carries the default route"}).values()
        assert allowed.control == "route.initcwnd"


# --- the words of a change --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "words"),
    [("10.64.0.0/24 dev a0", "-4 route change 10.64.0.0/24 table main proto kernel scope link src 10.64.0.1 dev a0 initcwnd 20"),
     ("default metric 1024 dev a0", "-4 route change default table main proto dhcp scope global src 10.64.0.1 metric 1024 via 10.64.0.2 dev a0 initcwnd 20"),
     ("10.1.0.0/16 dev a0", "-4 route change 10.1.0.0/16 table main proto boot scope global via 10.64.0.3 dev a0 mtu lock 1400 features ecn rto_min 5ms "
      "quickack 1 congctl lock cubic initcwnd 20"),
     ("10.2.0.0/16", "-4 route change 10.2.0.0/16 table main proto boot scope global initcwnd 20 nexthop via 10.64.0.3 dev a0 weight 2 "
      "nexthop via 10.65.0.3 dev b0 weight 1"),
     ("10.3.0.0/16 dev a0", "-4 route change 10.3.0.0/16 table main proto static scope global nhid 7 initcwnd 20"),
     ("10.4.0.0/16 tos 0x10 metric 5 dev a0",
      "-4 route change 10.4.0.0/16 table main tos 0x10 proto static scope global metric 5 via 1.2.3.4 dev a0 onlink initcwnd 20"),
     ("10.6.0.0/16 dev a0", "-4 route change 10.6.0.0/16 table main proto boot scope global via inet6 fe80::5 dev a0 initcwnd 20"),
     ("2001:db8:1::/48 metric 99 dev a0",
      "-6 route change 2001:db8:1::/48 table main proto boot scope global metric 99 pref high via 2001:db8::2 dev a0 initcwnd 20"),
     ("2001:db8:4::/48 metric 1024 dev a0",
      "-6 route change 2001:db8:4::/48 table main from 2001:db8::/64 proto boot scope global metric 1024 pref medium via fe80::2 dev a0 initcwnd 20")],
)
def test_all_of_a_route_is_said_again(routes: tuple[Route, ...], name: str, words: str) -> None:
    assert " ".join(change(named(routes, name), {"initcwnd": "20"})) == words


def test_a_metric_keeps_its_lock_and_can_go(routes: tuple[Route, ...]) -> None:
    route = named(routes, "10.1.0.0/16 dev a0")
    assert " ".join(change(route, {"congctl": "bbr", "rto_min": "7ms"})).endswith("features ecn quickack 1 congctl lock bbr rto_min 7ms")
    assert change(named(routes, "10.3.0.0/16 dev a0"), {"quickack": None})[-4:] == ("nhid", "7", "initcwnd", "0"), "the kernel takes none for no answer"
    gone = " ".join(change(route, dict.fromkeys(SHOWN)))
    assert gone == "-4 route change 10.1.0.0/16 table main proto boot scope global via 10.64.0.3 dev a0 mtu lock 1400"
