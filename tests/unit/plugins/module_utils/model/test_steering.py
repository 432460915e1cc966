# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Steering rules in the inventory's words, and how the rest is spread over the queues."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.setting import SpecError
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.steering import (
    DROP,
    FIELDS,
    HASH_TYPES,
    Rule,
    hash_text,
    parse_rule,
    rule_from,
    spread_problems,
    table,
    table_from,
    table_text,
)
from hypothesis import assume, given
from hypothesis import strategies as st


def rule(**words: Any) -> dict[str, Any]:
    return {name.replace("_", "-"): value for name, value in {"flow_type": "udp4", "action": 2, **words}.items()}


def refusal(wanted: dict[str, Any]) -> str:
    with pytest.raises(SpecError) as caught:
        parse_rule(wanted)
    return str(caught.value)


# --- rules ------------------------------------------------------------------------------------------------------------


def test_a_rule_in_ethtool_s_words() -> None:
    found = parse_rule(rule(dst_port=26400, dst_ip="233.54.12.1"))
    assert found == Rule("udp4", (("dst-ip", "233.54.12.1"), ("dst-port", "26400")), 2)
    assert (found.flow, found.target) == ("udp4 dst-ip 233.54.12.1 dst-port 26400", "queue 2"), "in one order, whatever that of the inventory"
    assert parse_rule(rule(dst_port=1, action=-1)).target == "drop" and parse_rule(rule(dst_port=1, action=-1)).action == DROP
    assert parse_rule(rule(dst_port=1, loc="7")).location == 7


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ({"dst_ip": "10.0.0.1/32"}, ("dst-ip", "10.0.0.1")),
        ({"src_ip": "10.0.0.0/8"}, ("src-ip", "10.0.0.0/8")),
        ({"flow_type": "udp6", "dst_ip": "FF0E:0::1"}, ("dst-ip", "ff0e::1")),
        ({"flow_type": "ether", "proto": 0x88F7}, ("proto", "0x88f7")),
        ({"flow_type": "ether", "proto": "0x800"}, ("proto", "0x0800")),
        ({"flow_type": "ether", "dst": "01:00:5E:00:00:01"}, ("dst", "01:00:5e:00:00:01")),
        ({"dst_port": "0x50"}, ("dst-port", "80")),
        ({"vlan": 101}, ("vlan", "101")),
        ({"tos": 184}, ("tos", "184")),
    ],
)
def test_one_value_has_one_form(words: dict[str, Any], match: tuple[str, str]) -> None:
    assert parse_rule(rule(**words)).matches == (match,)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"flow_type": "tcp5", "dst_port": 1}, ["flow-type tcp5", "there are: tcp4, udp4"]),
        ({"flow_type": "", "dst_port": 1}, ["flow-type is missing"]),
        ({"dst_prt": 1}, ["rule udp4: no field dst-prt", "dst-port"]),
        ({"l4proto": 17}, ["no field l4proto"]),
        ({"flow_type": "ether", "dst_port": 1}, ["no field dst-port", "proto"]),
        ({}, ["would match every packet"]),
        ({"dst_ip": None}, ["would match every packet"]),
        ({"dst_ip": "0.0.0.0/0"}, ["dst-ip 0.0.0.0/0 is every address; leave it out"]),
        ({"dst_ip": "10.0.0.1/8"}, ["dst-ip 10.0.0.1/8", "host bits"]),
        ({"dst_ip": "ff0e::1"}, ["dst-ip ff0e::1 is of IP version 6"]),
        ({"flow_type": "tcp6", "src_ip": "10.0.0.1"}, ["IP version 4"]),
        ({"dst_ip": "md01"}, ["dst-ip md01"]),
        ({"dst_port": 65536}, ["dst-port 65536 is not a number up to 65535"]),
        ({"dst_port": -1}, ["not a number"]),
        ({"dst_port": "http"}, ["'http' is not a number"]),
        ({"dst_port": True}, ["not a number"]),
        ({"vlan": 4096}, ["up to 4095"]),
        ({"tos": 256}, ["up to 255"]),
        ({"flow_type": "ether", "src": "02:00:00:00:00"}, ["not a MAC address"]),
        ({"dst_port": 1, "action": None}, ["neither a queue number nor -1 (drop)"]),
        ({"dst_port": 1, "action": "drop"}, ["'drop' is neither"]),
        ({"dst_port": 1, "action": True}, ["True is neither"]),
        ({"dst_port": 1, "action": -2}, ["-2 is neither"]),
        ({"dst_port": 1, "action": 1.5}, ["1.5 is neither"]),
        ({"dst_port": 1, "loc": "first"}, ["loc 'first' is not a number"]),
        ({"dst_port": 1, "loc": -1}, ["loc -1 is not a number"]),
        ({"dst_port": 1, "loc": True}, ["loc True is not a number"]),
        ({"dst_port": 1, "loc": "\u00b2"}, ["is not a number"]),
    ],
)
def test_a_rule_that_cannot_be_right_is_refused(words: dict[str, Any], said: list[str]) -> None:
    message = refusal(rule(**words))
    for word in said:
        assert word in message


def test_every_type_may_have_a_vlan() -> None:
    for flow_type in FIELDS:
        assert parse_rule(rule(flow_type=flow_type, vlan=5)).flow == f"{flow_type} vlan 5"


@given(st.dictionaries(st.sampled_from(["flow-type", "action", "loc", "vlan", *{name for names in FIELDS.values() for name in names}]),
                       st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.sampled_from(sorted(FIELDS))))
def test_whatever_a_rule_says_it_is_a_rule_or_refused(wanted: dict[str, Any]) -> None:
    try:
        found = parse_rule(wanted)
    except SpecError:
        return
    assert rule_from(found.flow, found.target, found.location) == found, "its words are all there is of it"


def test_a_rule_comes_back_from_its_words() -> None:
    for action in (-1, 0, 17):
        found = parse_rule(rule(flow_type="tcp6", src_ip="2001:db8::/32", dst_port=80, vlan=3, action=action, loc=9))
        assert rule_from(found.flow, found.target, 9) == found


# --- spreading --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spread", "size", "queues", "entries"),
    [
        ({"equal": 2}, 6, 4, (0, 1, 0, 1, 0, 1)),
        ({"equal": "channels"}, 6, 3, (0, 1, 2, 0, 1, 2)),
        ({"equal": "4"}, 4, 4, (0, 1, 2, 3)),
        ({"equal": 1}, 3, 4, (0, 0, 0)),
        ({"weight": [3, 1]}, 8, 4, (0, 0, 0, 0, 0, 0, 1, 1)),
        ({"weight": [0, 1]}, 4, 2, (1, 1, 1, 1)),
        ({"weight": ["1", 0, 1]}, 4, 3, (0, 0, 2, 2)),
        ({"weight": [1, 1, 1]}, 4, 3, (0, 1, 2, 2)),
    ],
)
def test_the_table_that_is_asked_for(spread: dict[str, Any], size: int, queues: int, entries: tuple[int, ...]) -> None:
    assert table(spread, size, queues) == entries


@pytest.mark.parametrize("spread", [{"equal": 5}, {"weight": [1, 1, 1, 1, 1]}])
def test_more_queues_than_the_nic_has_are_refused(spread: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match="rss: 5 queues, but the NIC has 4"):
        table(spread, 128, 4)


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=16), st.integers(1, 512))
def test_each_queue_has_its_share_of_the_entries(weights: list[int], size: int) -> None:
    assume(sum(weights))
    entries = table({"weight": weights}, size, len(weights))
    assert len(entries) == size and list(entries) == sorted(entries)
    for queue, weight in enumerate(weights):
        assert abs(entries.count(queue) - size * weight / sum(weights)) <= 1


@given(st.integers(1, 64), st.integers(1, 512))
def test_an_equal_spread_is_equal(queues: int, size: int) -> None:
    entries = table({"equal": queues}, size, 64)
    counts = [entries.count(queue) for queue in range(queues)]
    assert max(counts) - min(counts) <= 1 and sum(counts) == size


@given(st.lists(st.integers(0, 300), max_size=300))
def test_a_table_comes_back_from_its_words(entries: list[int]) -> None:
    assert table_from(table_text(entries), len(entries)) == tuple(entries)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=12))
def test_tables_that_differ_have_different_words(pairs: list[tuple[int, int]]) -> None:
    one, other = ([pair[place] for pair in pairs] for place in (0, 1))
    assert (table_text(one) == table_text(other)) == (one == other)


def test_tables_in_a_few_words() -> None:
    assert table_text([0, 1, 2, 3] * 32) == "equal 4" and table_text([0] * 128) == "equal 1"
    assert table_text([0] * 96 + [1] * 32) == "0*96 1*32" and table_text([]) == ""
    with pytest.raises(SpecError, match="a table of 128 entries, but the NIC has 64"):
        table_from("0*96 1*32", 64)


@pytest.mark.parametrize(
    "spread",
    [{}, {"equal": 4}, {"equal": "4"}, {"equal": "channels"}, {"weight": [1, 0, 2]}, {"weight": ["1"]}, {"hash": {"udp4": "sdfn", "tcp6": "sd"}},
     {"equal": 2, "hash": {}}, {"hash": None}],
)
def test_a_right_spread_has_no_problems(spread: dict[str, Any]) -> None:
    assert spread_problems(spread) == []


@pytest.mark.parametrize(
    ("spread", "words"),
    [
        ({"even": 4}, "no option even; there are: equal, weight, hash"),
        ({"equal": 2, "weight": [1]}, "exclude each other"),
        ({"equal": 0}, "equal 0 is neither"),
        ({"equal": True}, "equal True is neither"),
        ({"equal": "all"}, "equal 'all' is neither a number of queues nor channels"),
        ({"weight": []}, "weight [] is not a list of numbers, one of them above 0"),
        ({"weight": [0, 0]}, "one of them above 0"),
        ({"weight": "1 2"}, "not a list of numbers"),
        ({"weight": [-1, 2]}, "not a list of numbers"),
        ({"weight": [True]}, "not a list of numbers"),
        ({"hash": "sdfn"}, "hash is a mapping"),
        ({"hash": {"tcp": "sd"}}, "no packet type tcp; there are: tcp4"),
        ({"hash": {"tcp4": "sdx"}}, "'sdx' has other letters than mvtsdfn"),
        ({"hash": {"tcp4": ""}}, "has other letters"),
    ],
)
def test_a_spread_that_is_right_on_no_nic(spread: dict[str, Any], words: str) -> None:
    found = spread_problems(spread)
    assert len(found) == 1 and words in found[0]


HASHES = st.dictionaries(st.sampled_from(HASH_TYPES), st.text("mvtsdfnx", max_size=4))


@given(st.dictionaries(st.sampled_from(["equal", "weight", "hash"]), st.none() | st.booleans() | st.integers() | st.text(max_size=5) | HASHES
                       | st.lists(st.integers() | st.text(max_size=3), max_size=3)))
def test_whatever_a_spread_says_it_is_a_table_or_has_problems(spread: dict[str, Any]) -> None:
    if spread_problems(spread) or not set(spread) & {"equal", "weight"}:
        return
    try:
        assert len(table(spread, 128, 64)) == 128
    except SpecError as error:
        assert "but the NIC has 64" in str(error)


@pytest.mark.parametrize(("letters", "text"), [("nfds", "sdfn"), ("sdsd", "sd"), ("m", "m"), ("vtm", "mvt")])
def test_hash_letters_in_one_order(letters: str, text: str) -> None:
    assert hash_text(letters) == text
