# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What may be expected of live connections, and what is said of those that are not so."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.setting import (
    DRIFTED,
    ERROR,
    OK,
    UNSUPPORTED,
    Setting,
    judged,
    merged_spec,
    updated_spec,
)
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.sockets import (
    EXPECTATIONS,
    Connection,
    Service,
    SocketsState,
    asks_inside,
    control_of,
    counted_peers,
    plan,
    problems,
)

UNIT = "order-entry.service"


def entry(expects: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"unit": UNIT, "expects": expects, **more}


def connection(number: int = 1, **told: Any) -> Connection:
    return Connection(f"10.0.0.1:{40000 + number}", f"192.0.2.{number}:9000", **told)


def finding(expects: dict[str, Any], *connections: Connection, **service: Any) -> Setting:
    """The finding of the one expectation, as the runner judges it."""
    more = {"look_inside": True} if service.pop("look_inside", False) else {}
    state = SocketsState((Service(connections, **service),))
    (setting,) = plan(state, {"services": [entry(expects, **more)]}).settings
    assert setting.finding or setting.state == UNSUPPORTED
    return judged(setting)


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("services", "words"), [
    ([{"unit": "order entry", "expects": {"keepalive": True}}], "not the name of a systemd service"),
    ([{"unit": "order*.service", "expects": {"keepalive": True}}], "not the name of a systemd service"),
    ([{"unit": "order@.service", "expects": {"keepalive": True}}], "not the name of a systemd service"),
    ([{"unit": "a" * 248 + ".service", "expects": {"keepalive": True}}], "not the name of a systemd service"),
    ([{"unit": "--all.service", "expects": {"keepalive": True}}], "not the name of a systemd service"),
    ([{"unit": UNIT, "expects": {}}], "expects nothing; there are: keepalive"),
    ([{"unit": UNIT, "expects": {"keepalive": None}}], "expects nothing"),
    ([{"unit": UNIT, "expects": {"no_delay": True}}], "no such expectation; there are: keepalive"),
    ([{"unit": UNIT, "expects": {"quickack": True}}], "set quickack of the route"),
    ([{"unit": UNIT, "expects": {"initcwnd": 20}}], "say cwnd_at_least"),
    ([{"unit": UNIT, "expects": {"nodelay": "yes"}}], "'yes': give true or false"),
    ([{"unit": UNIT, "expects": {"nodelay": 1}}], "1: give true or false"),
    ([{"unit": UNIT, "expects": {"busy_poll": True}}], "True: give a whole number"),
    ([{"unit": UNIT, "expects": {"busy_poll": -1}}], "-1: give a whole number"),
    ([{"unit": UNIT, "expects": {"cwnd_at_least": 2**31}}], "give a whole number"),
    ([{"unit": UNIT, "expects": {"send_queue_grows": True}}], "give false"),
    ([{"unit": UNIT, "expects": {"congestion_control": "Cubic!"}}], "not the name of a congestion control algorithm"),
    ([{"unit": UNIT, "expects": {"send_buffer_at_least": 9, "send_buffer_at_most": 8}}], "send_buffer: no size is both at least 9 and at most 8"),
    ([entry({"sack": True}, peers=["192.0.2.1/24"])], "has host bits set; write a prefix"),
    ([entry({"sack": True}, peers=["exchange"])], "write a prefix"),
    ([entry({"sack": True}), entry({"nodelay": True})], "named twice"),
])
def test_a_wish_that_is_wrong_on_any_host_is_refused(services: list[dict[str, Any]], words: str) -> None:
    (problem,) = problems({"services": services})
    assert words in problem and problem.startswith("service ")


def test_right_wishes_are_not_refused() -> None:
    wishes: dict[str, Any] = {"yes or no": True, "word": "cubic", "at least": 1, "at most": 1, "exactly": 0}
    everything = {name: wishes[expectation.kind] for name, expectation in EXPECTATIONS.items()}
    wanted = entry({**everything, "send_queue_grows": False})
    assert problems({"services": [wanted, {**wanted, "peers": ["192.0.2.0/24", "2001:db8::/32"]}]}) == []
    names = ("a@b.service", "a-b_c.d:e.service", "x\\x2dy.service", "a" * 247 + ".service")
    assert problems({"services": [{"unit": name, "expects": {"sack": True}} for name in names]}) == []
    assert problems({"services": []}) == [] == problems({})


def test_the_same_service_may_come_again_with_other_peers() -> None:
    inner, outer = entry({"sack": False}, peers=["10.0.0.0/8"]), entry({"sack": True}, peers=["192.0.2.0/24"])
    merged = merged_spec({"one": {"services": [inner]}, "two": {"services": [outer]}})
    assert merged == {"services": [inner, outer]}
    changed = entry({"sack": True}, peers=["10.0.0.0/8"])
    assert updated_spec(merged, {"services": [changed]}) == {"services": [outer, changed]}


# --- which connections count ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("peers", "address", "counts"), [
    ([], "192.0.2.1", True), ([], "2001:db8::1", True), ([], "127.0.0.1", False), ([], "127.9.9.9", False), ([], "::1", False), (None, "10.0.0.1", True),
    (["192.0.2.0/24"], "192.0.2.255", True), (["192.0.2.0/24"], "192.0.3.0", False), (["192.0.2.0/24"], "2001:db8::1", False),
    (["127.0.0.0/8"], "127.0.0.1", True), (["10.0.0.0/8", "2001:db8::/32"], "2001:db8::1", True), (["192.0.2.7"], "192.0.2.7", True),
])
def test_which_peers_count(peers: list[str] | None, address: str, counts: bool) -> None:
    assert counted_peers(entry({}, peers=peers))(address) is counts


@pytest.mark.parametrize(("expects", "allowed", "asks"), [
    ({"nodelay": True}, True, True), ({"nodelay": True}, False, False), ({"sack": True}, True, False), ({"keepalive": True}, True, True),
    ({"keepalive": True}, False, False),
])
def test_sockets_are_asked_only_where_that_is_allowed_and_needed(expects: dict[str, Any], allowed: bool, asks: bool) -> None:
    assert asks_inside(entry(expects, look_inside=allowed)) is asks


# --- findings ---------------------------------------------------------------------------------------------------------

RIGHT: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"keepalive": True}, {"timer": 2}, "yes"),
    ({"keepalive": False}, {"timer": 0}, "no"),
    ({"congestion_control": "cubic"}, {"congestion": "cubic"}, "cubic"),
    ({"cwnd_at_least": 20}, {"cwnd": 20}, "20 segments"),
    ({"sack": True}, {"options": 2}, "yes"),
    ({"timestamps": True}, {"options": 1}, "yes"),
    ({"receive_buffer_at_least": 8}, {"receive_buffer": 8}, "8 bytes"),
    ({"receive_buffer_at_most": 8}, {"receive_buffer": 8}, "8 bytes"),
    ({"send_buffer_at_least": 8}, {"send_buffer": 8}, "8 bytes"),
    ({"send_buffer_at_most": 8}, {"send_buffer": 8}, "8 bytes"),
    ({"receive_queue_at_most": 0}, {"receive_queue": 0}, "0 bytes"),
    ({"send_queue_at_most": 10}, {"send_queue": 10}, "10 bytes"),
    ({"send_queue_grows": False}, {"grew": -5}, "no"),
    ({"edge_triggered": True}, {"edge": True}, "yes"),
    ({"nodelay": True}, {"inside": {"nodelay": 1}}, "yes"),
    ({"cork": False}, {"inside": {"cork": 0}}, "no"),
    ({"busy_poll": 50}, {"inside": {"busy_poll": 50}}, "50 us"),
    ({"user_timeout_ms": 0}, {"inside": {"user_timeout_ms": 0}}, "0 ms"),
]
WRONG: list[tuple[dict[str, Any], dict[str, Any], str, str]] = [
    ({"keepalive": True}, {"timer": 0}, "no", "yes"),
    ({"keepalive": True}, {"timer": 2, "inside": {"keepalive": 0}}, "no", "yes"),
    ({"keepalive": True}, {"timer": 1, "inside": {"keepalive": 0}}, "no", "yes"),
    ({"congestion_control": "cubic"}, {"congestion": "reno"}, "reno", "cubic"),
    ({"cwnd_at_least": 20}, {"cwnd": 19}, "19 segments", "at least 20 segments"),
    ({"sack": False}, {"options": 7}, "yes", "no"),
    ({"sack": True}, {"options": 5}, "no", "yes"),
    ({"timestamps": True}, {"options": 6}, "no", "yes"),
    ({"receive_buffer_at_least": 8}, {"receive_buffer": 7}, "7 bytes", "at least 8 bytes"),
    ({"receive_buffer_at_most": 8}, {"receive_buffer": 9}, "9 bytes", "at most 8 bytes"),
    ({"send_buffer_at_least": 8}, {"send_buffer": 7}, "7 bytes", "at least 8 bytes"),
    ({"send_buffer_at_most": 8}, {"send_buffer": 9}, "9 bytes", "at most 8 bytes"),
    ({"receive_queue_at_most": 0}, {"receive_queue": 1}, "1 bytes", "at most 0 bytes"),
    ({"send_queue_at_most": 10}, {"send_queue": 11}, "11 bytes", "at most 10 bytes"),
    ({"send_queue_grows": False}, {"grew": 1}, "yes", "no"),
    ({"edge_triggered": True}, {"edge": False}, "no", "yes"),
    ({"edge_triggered": False}, {"edge": True}, "yes", "no"),
    ({"nodelay": True}, {"inside": {"nodelay": 0}}, "no", "yes"),
    ({"cork": False}, {"inside": {"cork": 1}}, "yes", "no"),
    ({"busy_poll": 50}, {"inside": {"busy_poll": 0}}, "0 us", "50 us"),
    ({"user_timeout_ms": 5000}, {"inside": {"user_timeout_ms": 0}}, "0 ms", "5000 ms"),
]


@pytest.mark.parametrize(("expects", "told", "shown"), RIGHT)
def test_a_connection_that_is_as_expected(expects: dict[str, Any], told: dict[str, Any], shown: str) -> None:
    setting = finding(expects, connection(**told))
    assert (setting.state, setting.current, setting.desired, setting.reason) == (OK, shown, shown, "")


@pytest.mark.parametrize(("expects", "told", "current", "desired"), WRONG)
def test_a_connection_that_is_not_as_expected(expects: dict[str, Any], told: dict[str, Any], current: str, desired: str) -> None:
    setting = finding(expects, connection(**told))
    (name,) = expects
    assert (setting.state, setting.current, setting.desired) == (DRIFTED, current, desired)
    assert setting.finding and not setting.live_drift, "nothing of it is ever written"
    assert (setting.control, setting.name) == (control_of(name), f"{UNIT} {name}")
    assert setting.reason.startswith("1 of 1 connections, 10.0.0.1:40001 -> 192.0.2.1:9000 has ")
    assert EXPECTATIONS[name].remedy in setting.reason


def test_every_expectation_is_tried_here() -> None:
    for cases in (RIGHT, WRONG):
        assert {name for case in cases for name in case[0]} == set(EXPECTATIONS)


@pytest.mark.parametrize(("expects", "told", "current", "worst"), [
    ({"cwnd_at_least": 20}, [{"cwnd": number} for number in (44, 12, 10, 30, 19)], "10 to 44 segments", "3 of 5 connections, 10.0.0.1:40003 -> 192.0.2.3:9000"),
    ({"send_queue_at_most": 9}, [{"send_queue": number} for number in (0, 50, 10)], "0 bytes (1), 10 bytes (1), 50 bytes (1)",
     "2 of 3 connections, 10.0.0.1:40002"),
    ({"congestion_control": "cubic"}, [{"congestion": name} for name in ("reno", "cubic", "bbr", "reno")], "bbr (1), cubic (1), reno (2)",
     "3 of 4 connections, 10.0.0.1:40003 -> 192.0.2.3:9000 has bbr"),
    ({"keepalive": True}, [{"timer": 2}, {"timer": 0}, {"timer": 2}], "no (1), yes (2)", "1 of 3 connections, 10.0.0.1:40002"),
])
def test_many_connections_are_summed_up_and_the_worst_is_named(expects: dict[str, Any], told: list[dict[str, Any]], current: str, worst: str) -> None:
    setting = finding(expects, *(connection(number, **one) for number, one in enumerate(told, 1)))
    assert (setting.state, setting.current) == (DRIFTED, current) and setting.reason.startswith(worst)


def test_what_could_not_be_told_of_some_is_said() -> None:
    setting = finding({"keepalive": True}, connection(1, timer=2), connection(2, timer=1))
    assert (setting.state, setting.current) == (OK, "yes")
    assert setting.reason == "1 of 2 could not be told: the kernel shows no keepalive timer while data is in flight"


@pytest.mark.parametrize(("expects", "told", "service", "words"), [
    ({"keepalive": True}, {"timer": 4}, {}, "no keepalive timer while data is in flight"),
    ({"nodelay": True}, {}, {}, "say look_inside: true"),
    ({"nodelay": True}, {}, {"look_inside": True, "refused": "pidfd_getfd: no"}, "pidfd_getfd: no"),
    ({"nodelay": True}, {}, {"look_inside": True}, "closed while they were asked"),
    ({"edge_triggered": True}, {}, {}, "no epoll set of the service has it"),
    ({"send_queue_grows": False}, {}, {}, "not there for both readings"),
    ({"cwnd_at_least": 1}, {}, {}, "the kernel does not tell"),
])
def test_what_cannot_be_told_of_any_is_never_right(expects: dict[str, Any], told: dict[str, Any], service: dict[str, Any], words: str) -> None:
    setting = finding(expects, connection(**told), **service)
    assert setting.state == UNSUPPORTED and setting.reason.startswith("could not tell: ") and words in setting.reason


def test_a_service_without_connections_is_never_right() -> None:
    assert finding({"sack": True}).state == UNSUPPORTED and finding({"sack": True}).reason == "could not tell: the service has no such connection"
    assert finding({"sack": True}, silent="why").reason == "why"
    assert finding({"sack": True}, partly="2 of its processes").reason.endswith("no such connection; 2 of its processes")


def test_a_service_that_could_not_be_read_is_one_error() -> None:
    setting = finding({"sack": True, "nodelay": True, "keepalive": True}, unreadable="needs root")
    assert (setting.control, setting.name, setting.state, setting.reason) == ("socket", UNIT, ERROR, "needs root")


def test_what_was_left_out_of_a_service_is_said() -> None:
    assert finding({"sack": True}, connection(options=2), partly="2 of its processes").reason == "2 of its processes"
    assert finding({"sack": True}, connection(options=0), partly="2 of its processes").reason.endswith("; 2 of its processes")


def test_entries_and_expectations_keep_their_order_and_peers_are_part_of_the_name() -> None:
    services = [entry({"sack": True, "keepalive": True}), entry({"sack": False}, peers=["10.0.0.0/8"])]
    state = SocketsState((Service((connection(options=2),)), Service((connection(options=0),))))
    settings = plan(state, {"services": services}).settings
    assert [(setting.name, setting.current) for setting in settings] == [
        (f"{UNIT} keepalive", "no"), (f"{UNIT} sack", "yes"), (f"{UNIT} to 10.0.0.0/8 sack", "no")]
