# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SACK off towards prefixes: what is refused, the table as nft tells it, and when it lasts."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.sack_filter import (
    CONTROL,
    COST,
    FILE,
    TABLE,
    UNIT_FILE,
    UNIT_TEXT,
    SackState,
    filter_text,
    plan,
    problems,
    table_from,
    table_text,
)
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.setting import (
    DRIFTED,
    ERROR,
    OK,
    UNSUPPORTED,
    Setting,
    SpecError,
    judged,
)

PREFIXES = ["10.9.1.0/25", "10.9.1.128/25", "fd01::/64"]
TEXT = "10.9.1.0/24 fd01::/64"
IN_FORCE = SackState(TEXT, table_text(PREFIXES), UNIT_TEXT.encode(), enabled=True, active=True)


def rule(chain: str, header: str, field: str, name: str, option: str = "sack-perm", handle: int = 4) -> dict[str, Any]:
    """As nft 1.0.6 prints it."""
    syn = {"match": {"op": "==", "left": {"&": [{"payload": {"protocol": "tcp", "field": "flags"}}, "syn"]}, "right": "syn"}}
    address = {"match": {"op": "==", "left": {"payload": {"protocol": header, "field": field}}, "right": f"@{name}"}}
    return {"rule": {"family": "inet", "table": TABLE, "chain": chain, "handle": handle, "expr": [syn, address, {"reset": {"tcp option": {"name": option}}}]}}


def told(v4: list[Any], v6: list[Any]) -> dict[str, Any]:
    sets = [{"set": {"family": "inet", "name": name, "table": TABLE, "type": kind, "handle": 2, "flags": ["interval"],
                     **({"elem": elements} if elements else {})}}
            for name, kind, elements in (("v4", "ipv4_addr", v4), ("v6", "ipv6_addr", v6))]
    chains = [{"chain": {"family": "inet", "table": TABLE, "name": hook, "handle": 1, "type": "filter", "hook": hook, "prio": -150, "policy": "accept"}}
              for hook in ("output", "input")]
    rules = [rule(*words) for words in (("output", "ip", "daddr", "v4"), ("output", "ip6", "daddr", "v6"), ("input", "ip", "saddr", "v4"),
                                        ("input", "ip6", "saddr", "v6"))]
    return {"nftables": [{"metainfo": {"version": "1.0.6", "json_schema_version": 1}}, {"table": {"family": "inet", "name": TABLE}}, *sets, *chains, *rules]}


def prefix(text: str) -> dict[str, Any]:
    address, _slash, length = text.partition("/")
    return {"prefix": {"addr": address, "len": int(length)}}


def planned(state: SackState, *prefixes: str) -> Setting:
    settings = plan(state, {"prefixes": list(prefixes)}).settings
    assert [setting.key for setting in settings] == [(CONTROL, TABLE)]
    return judged(settings[0])


# --- what is wanted ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "words"),
    [({"prefixes": ["10.0.0.1/8"]}, "host bits"), ({"prefixes": ["inside"]}, "write a prefix like"), ({"prefixes": ["10.0.0.0/33"]}, "write a prefix like"),
     ({"prefixes": ["0.0.0.0/0"]}, "R14"), ({"prefixes": ["::/0"]}, "R14"), ({"prefixes": ["0.0.0.0/1", "128.0.0.0/1"]}, "0.0.0.0/0: covers every"),
     ({"prefixes": ["10.0.0.0/8"], "traffic": "wan"}, "R14")],
)
def test_what_cannot_be_right(spec: dict[str, Any], words: str) -> None:
    found = problems(spec)
    assert len(found) == 1 and words in found[0]


@pytest.mark.parametrize("spec", [{}, {"prefixes": []}, {"prefixes": [], "traffic": "wan"}, {"prefixes": PREFIXES, "traffic": "orders"},
                                  {"prefixes": ["192.0.2.1"]}])
def test_what_is_right(spec: dict[str, Any]) -> None:
    assert problems(spec) == []


def test_the_file_replaces_the_table_in_one_transaction_and_speaks_of_no_other() -> None:
    lines = [line.strip() for line in table_text(PREFIXES).decode().splitlines() if not line.startswith("#")]
    assert lines[:3] == [f"table inet {TABLE}", f"delete table inet {TABLE}", f"table inet {TABLE} {{"]
    assert not any(word in line for line in lines for word in ("flush", "drop", "reject", "forward", "prerouting"))
    assert lines.count("elements = { 10.9.1.0/24 }") == lines.count("elements = { fd01::/64 }") == 1
    assert sum(line.endswith("reset tcp option sack-perm") for line in lines) == 4


def test_an_empty_set_has_no_elements() -> None:
    assert table_text(["10.0.0.0/8"]).decode().count("elements") == 1


# --- the table as nft tells it ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("v4", "v6"),
    [([prefix("10.9.1.0/24")], [prefix("fd01::/64")]), ([prefix("10.9.1.128/25"), prefix("10.9.1.0/25")], [prefix("fd01::/64")]),
     ([{"range": ["10.9.1.0", "10.9.1.255"]}], [{"range": ["fd01::", "fd01::ffff:ffff:ffff:ffff"]}]),
     (["10.9.1.0", {"range": ["10.9.1.1", "10.9.1.255"]}], [prefix("fd01::/64")])],
)
def test_elements_that_cover_the_same_are_the_same(v4: list[Any], v6: list[Any]) -> None:
    assert table_from(told(v4, v6)) == filter_text(PREFIXES) == TEXT


def altered(change: str) -> dict[str, Any]:
    document = copy.deepcopy(told([prefix("10.9.1.0/24")], [prefix("fd01::/64")]))
    entries = document["nftables"]
    if change == "missing":
        entries.pop()
    elif change == "other option":
        entries[-1] = rule("input", "ip6", "saddr", "v6", "timestamp")
    elif change == "other set":
        entries[-1] = rule("input", "ip6", "saddr", "v4")
    elif change == "counter":
        entries[-1]["rule"]["expr"].append({"drop": None})
    elif change == "policy":
        next(entry for entry in entries if "chain" in entry)["chain"]["policy"] = "drop"
    elif change == "more":
        entries.append(rule("forward", "ip", "daddr", "v4"))
    return document


@pytest.mark.parametrize("change", ["missing", "other option", "other set", "counter", "policy", "more"])
def test_rules_that_are_not_ours_are_told(change: str) -> None:
    assert table_from(altered(change)) == f"{TEXT} (other rules)"
    assert planned(replace(IN_FORCE, table=table_from(altered(change))), *PREFIXES).state == DRIFTED


# --- the plan ---------------------------------------------------------------------------------------------------------


def test_what_is_in_force_is_right_and_tells_its_cost() -> None:
    setting = planned(IN_FORCE, *PREFIXES)
    assert (setting.state, setting.desired, setting.reason) == (OK, TEXT, COST)
    assert "RACK-TLP" in COST and "200 ms" in COST
    assert planned(IN_FORCE, *reversed(PREFIXES)).state == OK


@pytest.mark.parametrize(
    "change", [{"table": None}, {"table": "10.0.0.0/8"}, {"file": None}, {"file": b"table"}, {"unit": None}, {"enabled": False}, {"active": False}])
def test_what_does_not_last_or_is_not_there_has_drifted(change: dict[str, Any]) -> None:
    assert planned(replace(IN_FORCE, **change), *PREFIXES).state == DRIFTED


def test_the_files_are_owned_as_a_whole() -> None:
    assert [(file.path, file.mode) for file in plan(SackState(), {"prefixes": PREFIXES}).files] == [(FILE, 0o644), (UNIT_FILE, 0o644)]


@pytest.mark.parametrize(
    "state", [IN_FORCE, SackState(table=TEXT), SackState(file=b"x"), SackState(unit=b"x"), SackState(enabled=True), replace(IN_FORCE, nft=False, table=None)])
def test_without_prefixes_all_that_is_ours_goes(state: SackState) -> None:
    setting = planned(state)
    assert (setting.desired, setting.state) == (None, DRIFTED)
    assert plan(state, {"prefixes": []}).files == ()


def test_without_prefixes_a_host_that_never_had_any_is_not_spoken_of() -> None:
    for state in (SackState(), SackState(nft=False), SackState(unreadable="not root")):
        assert plan(state, {}).settings == ()


def test_prefixes_without_nftables_are_refused_with_the_package() -> None:
    with pytest.raises(SpecError, match="install the package nftables"):
        plan(SackState(nft=False), {"prefixes": PREFIXES})


def test_what_could_not_be_read_is_an_error_and_what_cannot_be_is_none() -> None:
    assert planned(SackState(unreadable="could not be read"), *PREFIXES).state == ERROR
    assert planned(SackState(impossible="systemd does not run here"), *PREFIXES).state == UNSUPPORTED
