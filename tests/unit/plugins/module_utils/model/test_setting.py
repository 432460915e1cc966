# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one shape of every result: how it is judged before and after writing, and how several parts make one wish."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.setting import (
    CHANGED,
    DRIFTED,
    ERROR,
    OK,
    UNSUPPORTED,
    Setting,
    SpecError,
    after_writing,
    as_dicts,
    judged,
    judged_live,
    merged_spec,
    options_given,
    unsupported,
    updated_spec,
    without_items,
)
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.tunables import problems
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("current", "persisted", "both", "live"),
    [("1", "1", OK, OK), ("0", "1", DRIFTED, DRIFTED), ("1", "0", DRIFTED, OK), ("1", None, DRIFTED, OK), (None, "1", DRIFTED, DRIFTED)],
)
def test_both_values_are_judged(current: str | None, persisted: str | None, both: str, live: str) -> None:
    setting = Setting("c", "n", "1", current, persisted)
    assert judged(setting).state == both
    assert judged_live(setting, "why").state == live
    assert judged_live(setting, "why").reason == "why"


@pytest.mark.parametrize("state", [UNSUPPORTED, ERROR, CHANGED])
def test_other_states_stay(state: str) -> None:
    setting = Setting("c", "n", "1", "0", "0", state=state, reason="r")
    assert judged(setting) == judged_live(setting, "why") == setting


def test_a_setting_that_was_wrong_and_is_right_has_changed() -> None:
    before = Setting("c", "n", "1", "0", "0", state=DRIFTED)
    assert after_writing(before, Setting("c", "n", "1", "1", "1", state=OK)).state == CHANGED


def test_what_the_host_holds_decides_and_not_what_the_write_returned() -> None:
    before = Setting("c", "n", "1", "0", "0", state=DRIFTED)
    after = after_writing(before, before)
    assert (after.state, after.reason) == (ERROR, "written, but the host did not keep it")
    assert after_writing(before, before, "Invalid argument").reason == "Invalid argument"
    assert after_writing(before, Setting("c", "n", "1", "1", "1", state=OK), "EIO").state == CHANGED


@pytest.mark.parametrize("state", [OK, UNSUPPORTED])
def test_what_needed_no_writing_is_told_as_it_is(state: str) -> None:
    setting = Setting("c", "n", "1", "1", "1", state=state)
    assert after_writing(setting, setting) == setting


def test_the_contract_of_every_module() -> None:
    assert as_dicts([unsupported("c", "n", "1", "none")]) == [
        {"control": "c", "name": "n", "desired": "1", "current": None, "persisted": None, "state": "unsupported", "reason": "none", "needs_reboot": False,
         "finding": False},
    ]


# --- several parts ---------------------------------------------------------------------------------------------------


def test_parts_are_one_wish() -> None:
    parts = {"tcp_tuning": {"values": {"a": 1}}, "kernel_tunables": {"values": {"b": 2}}}
    assert merged_spec(parts) == {"values": {"a": 1, "b": 2}}


def test_lists_are_joined_without_repetition() -> None:
    assert merged_spec({"a": {"removed": ["x", "y"]}, "b": {"removed": ["y", "z"]}}) == {"removed": ["x", "y", "z"]}


def test_two_parts_that_disagree_are_both_named_with_their_values() -> None:
    with pytest.raises(SpecError) as caught:
        merged_spec({"tcp_tuning": {"values": {"net.ipv4.tcp_sack": 1}}, "kernel_tunables": {"values": {"net.ipv4.tcp_sack": 0}}})
    message = str(caught.value)
    for word in ("values net.ipv4.tcp_sack", "kernel_tunables wants 0", "tcp_tuning wants 1", "let one of them say it"):
        assert word in message


def test_the_one_named_is_the_one_who_said_it() -> None:
    with pytest.raises(SpecError, match="b wants 1, c wants 2"):
        merged_spec({"a": {"values": {"x": 0}}, "b": {"values": {"y": 1}}, "c": {"values": {"y": 2}}})


def test_parts_that_agree_are_no_conflict() -> None:
    assert merged_spec({"a": {"values": {"x": 1}}, "b": {"values": {"x": 1}}}) == {"values": {"x": 1}}


def test_steering_rules_of_several_parts_stay_apart() -> None:
    """Rules have no name; those for other packets are other rules, and the same one is there once."""
    rules = [{"flow-type": "udp4", "dst-port": port, "action": 1} for port in (1, 2, 3)]
    said = {"a": rules[:2], "b": rules[1:], "c": [dict(reversed(rules[2].items()))]}
    parts = {part: {"nics": [{"interface": "eth0", "rules": wanted}]} for part, wanted in said.items()}
    assert merged_spec(parts) == {"nics": [{"interface": "eth0", "rules": rules}]}


SPECS = st.dictionaries(
    st.sampled_from(["values", "removed", "isolated"]),
    st.one_of(st.none(), st.text(max_size=2), st.lists(st.integers(0, 3), max_size=3), st.dictionaries(st.sampled_from("xyz"), st.integers(0, 1))),
)


@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), SPECS))
def test_merging_changes_no_part_and_knows_no_order(parts: dict[str, dict[str, Any]]) -> None:
    before = copy.deepcopy(parts)

    def merged(order: dict[str, dict[str, Any]]) -> object:
        try:
            return merged_spec(order)
        except SpecError as error:
            return str(error)

    assert merged(parts) == merged(dict(reversed(parts.items())))
    assert parts == before


@given(SPECS)
def test_a_part_merged_with_itself_is_itself(spec: dict[str, Any]) -> None:
    assert merged_spec({"a": spec, "b": copy.deepcopy(spec)}) == merged_spec({"a": spec})


# --- what a site's own tasks said before -----------------------------------------------------------------------------


def test_a_later_task_adds_to_an_earlier_one() -> None:
    assert updated_spec({"values": {"a": 1, "b": 1}}, {"values": {"b": 2, "c": 3}}) == {"values": {"a": 1, "b": 2, "c": 3}}
    assert updated_spec({"removed": ["x", "y"]}, {"removed": ["y", "z"]}) == {"removed": ["x", "y", "z"]}


def test_a_nic_that_comes_again_replaces_itself() -> None:
    kept = {"nics": [{"interface": "eth0", "cpus": "1"}, {"pci": "p", "cpus": "2"}]}
    assert updated_spec(kept, {"nics": [{"interface": "eth0", "cpus": "3"}]}) == {"nics": [{"pci": "p", "cpus": "2"}, {"interface": "eth0", "cpus": "3"}]}


def test_what_a_task_leaves_out_stays() -> None:
    assert updated_spec({"isolated": "4-7"}, options_given({"isolated": None, "housekeeping": "0-3"})) == {"isolated": "4-7", "housekeeping": "0-3"}


@given(SPECS)
def test_saying_the_same_again_changes_nothing(spec: dict[str, Any]) -> None:
    once = updated_spec({}, spec)
    assert updated_spec(once, spec) == once


def test_options_left_out_go_and_nulls_of_the_user_stay() -> None:
    assert options_given({"nics": [{"interface": "eth0", "pci": None}], "mac": None, "values": {"vm.swappiness": None}}) == {
        "nics": [{"interface": "eth0"}], "values": {"vm.swappiness": None}}
    assert problems(options_given({"values": {"vm.swappiness": None}}))


@pytest.mark.parametrize(("one", "other", "same"), [(1, "1", True), ("4096  8192 1", "4096 8192 1", True), (1, True, False), (0, False, False), (1, 2, False)])
def test_two_parts_agree_by_meaning(one: object, other: object, same: bool) -> None:
    parts = {"a": {"values": {"key": one}}, "b": {"values": {"key": other}}}
    if same:
        assert merged_spec(parts) == {"values": {"key": one}}
    else:
        with pytest.raises(SpecError, match="a wants"):
            merged_spec(parts)


# --- what is kept for the next boot -----------------------------------------------------------------------------------


KEPT = {"ethtool": {"a": {"nics": [{"interface": "eth0", "rings": {"rx": 512}}]}}, "tunables": {"b": {"values": {"x": 1}}}}
NEW = {"ethtool": {"a": {"rings": {"rx": 1}, "nics": [{"interface": "eth0", "rings": {"rx": 9999}}, {"pci": "0000:01:00.0"}, {"interface": "eth9"}]}},
       "irq_affinity": {"c": {"nics": [{"pci": "0000:01:00.0", "cpus": "1"}]}}, "tunables": {"b": {"values": {"x": 2}}}}


def test_where_all_were_served_all_is_kept() -> None:
    assert without_items(NEW, KEPT, frozenset()) == NEW


def test_of_a_nic_that_could_not_be_served_stays_what_was_kept_of_it() -> None:
    found = without_items(NEW, KEPT, frozenset({"eth0", "eth9", "0000:01:00.0"}))
    assert found["ethtool"]["a"] == {"rings": {"rx": 1}, "nics": [{"interface": "eth0", "rings": {"rx": 512}}]}
    assert found["irq_affinity"]["c"] == {"nics": []} and found["tunables"] == NEW["tunables"]
    assert without_items(NEW, {}, frozenset({"eth0"}))["ethtool"]["a"]["nics"] == NEW["ethtool"]["a"]["nics"][1:]


def test_lists_of_other_things_stay_as_they_are() -> None:
    desired = {"units": {"a": {"removed": ["eth0"], "deep": {"nics": [{"interface": "eth0"}]}}}}
    assert without_items(desired, {"units": {"a": {"removed": "x"}}}, frozenset({"eth0"})) == desired


def test_of_nics_that_could_not_be_served_what_was_kept_before_stays_kept() -> None:
    """A wish that was an error is not tried again at every boot."""
    eth0, eth1, new = ({"interface": name, "rings": {"rx": 1}} for name in ("eth0", "eth1", "eth9"))
    desired = {"ethtool": {"a": {"rings": {"tx": 1}, "nics": [eth0, eth1, new]}, "b": {"nics": [eth0]}}, "units": {"a": {"removed": ["x"]}},
               "hugepages": {"a": {"nics": 5}}}
    kept = {"ethtool": {"a": {"nics": [{"interface": "eth0", "rings": {"rx": 7}}]}}}
    assert without_items(desired, kept, frozenset({"eth0", "eth9"})) == {
        "ethtool": {"a": {"rings": {"tx": 1}, "nics": [{"interface": "eth0", "rings": {"rx": 7}}, eth1]}, "b": {"nics": []}},
        "units": {"a": {"removed": ["x"]}}, "hugepages": {"a": {"nics": 5}}}
    assert without_items(desired, kept, frozenset()) == desired == without_items(desired, {}, frozenset({"other"}))
