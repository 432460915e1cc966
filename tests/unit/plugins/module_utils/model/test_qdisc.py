# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Queueing disciplines: what is refused, whose a tree is, what is compared, and a line that becomes a tree again."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.qdisc import (
    CONTROL,
    FQ,
    FQ_CODEL,
    MOST,
    MQ,
    NOQUEUE,
    OPTIONS,
    PFIFO_FAST,
    Link,
    Qdisc,
    QdiscState,
    codel_time,
    codel_time_told,
    plan,
    problems,
    tree_from,
    tree_text,
    wanted_of,
)
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.setting import (
    DRIFTED,
    ERROR,
    OK,
    UNSUPPORTED,
    Setting,
    SpecError,
    judged_live,
)
from hypothesis import given
from hypothesis import strategies as st

ALL = frozenset({FQ, FQ_CODEL, PFIFO_FAST})
WITH_FQ = {"kind": "fq"}


def under_mq(*kinds: str, handle: int = 0x80010000) -> Link:
    return Link("eth0", 2, True, Qdisc(MQ, handle), {number: Qdisc(kind, handle and 0x80020000) for number, kind in enumerate(kinds, 1)})


def single(kind: str, handle: int = 0, **options: int) -> Link:
    return Link("eth0", 2, False, Qdisc(kind, handle, options))


def planned(link: Link, wanted: dict[str, Any], kinds: frozenset[str] | None = ALL, container: str = "", **nic: Any) -> Setting:
    spec = {"qdisc": wanted, "nics": [{"interface": "eth0", **nic}]}
    settings = plan(QdiscState((link,), kinds, "6.1.0", container), spec).settings
    assert len(settings) == 1 and settings[0].key == (CONTROL, "eth0")
    return judged_live(settings[0], "")


# --- what is wanted ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "words"),
    [({"kind": "htb"}, "there are: fq, fq_codel, pfifo_fast"), ({"kind": "fq", "limits": 1}, "no such key limits"), ("fq", "no mapping"),
     ({"options": {"limit": 1}}, "without a kind"), ({"kind": "fq", "options": {"target": "5ms"}}, "no such option"),
     ({"kind": "pfifo_fast", "options": {"limit": 1}}, "there are: none"), ({"kind": "fq", "options": {"limit": "many"}}, "a whole number"),
     ({"kind": "fq", "options": {"limit": -1}}, "a whole number"), ({"kind": "fq", "options": {"limit": MOST + 1}}, "give less"),
     ({"kind": "fq", "options": {"maxrate": "40gbit"}}, "give less"), ({"kind": "fq", "options": {"maxrate": "5 apples"}}, "a rate"),
     ({"kind": "fq", "options": {"buckets": 1000}}, "a power of two"), ({"kind": "fq", "options": {"horizon": "5 h"}}, "a time"),
     ({"kind": "fq", "options": {"pacing": True}}, "between quotes"), ({"kind": "fq", "replace": "yes"}, "true or false"),
     ({"kind": "fq", "options": ["limit"]}, "no mapping")],
)
def test_what_cannot_be_right_is_told_of_all_nics_and_of_one(wanted: Any, words: str) -> None:
    found = problems({"qdisc": wanted, "nics": []})
    assert len(found) == 1 and words in found[0]
    if isinstance(wanted, dict) and "kind" in wanted:
        setting = planned(single(PFIFO_FAST), {}, qdisc=wanted)
        assert setting.state == ERROR and words in setting.reason


def test_a_nic_without_a_name_is_refused() -> None:
    assert problems({"nics": [{"qdisc": WITH_FQ}]}) == ["a NIC of the list has no name; give interface, pci or mac"]


@pytest.mark.parametrize(
    ("general", "own", "wanted"),
    [({}, {}, {}), (WITH_FQ, {}, WITH_FQ), ({"options": {}}, {}, {}), ({}, WITH_FQ, WITH_FQ),
     ({"kind": "fq", "options": {"limit": 1}}, {"kind": "pfifo_fast"}, {"kind": "pfifo_fast"}),
     ({"kind": "fq", "options": {"limit": 1}}, {"replace": True}, {"kind": "fq", "options": {"limit": 1}, "replace": True}),
     ({"kind": "fq", "options": {"limit": 1}}, {"options": {"quantum": 2}}, {"kind": "fq", "options": {"quantum": 2}})],
)
def test_a_nic_s_own_words_are_over_those_for_all(general: dict[str, Any], own: dict[str, Any], wanted: dict[str, Any]) -> None:
    assert wanted_of({"qdisc": general}, {"interface": "eth0", "qdisc": own}) == wanted


# --- the plan ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("link", "wanted", "desired", "current"),
    [
        (under_mq(FQ, FQ), WITH_FQ, "mq + fq", "mq + fq"),
        (under_mq(FQ, FQ, handle=0), WITH_FQ, "mq + fq", "mq + fq"),
        (under_mq(FQ_CODEL, FQ_CODEL, handle=0), WITH_FQ, "mq + fq", "mq + fq_codel"),
        (under_mq(FQ, PFIFO_FAST), WITH_FQ, "mq + fq", "mq + fq | pfifo_fast"),
        (Link("eth0", 2, True, Qdisc(FQ, 0x10000)), WITH_FQ, "mq + fq", "fq"),
        (single(NOQUEUE), WITH_FQ, "fq", "noqueue"),
        (single(FQ, 0x10000), WITH_FQ, "fq", "fq"),
        (single("cake", 0), WITH_FQ, "fq", "cake"),
        (single(FQ, 0x10000, limit=10000, maxrate=MOST), {"kind": "fq", "options": {"limit": 10000}}, "fq limit=10000", "fq limit=10000"),
        (single(FQ, 0x10000, limit=10000, maxrate=MOST), {"kind": "fq", "options": {"maxrate": "1gbit", "limit": "10000"}},
         "fq limit=10000 maxrate=1000000000bit", "fq limit=10000 maxrate=unlimited"),
        (single(FQ, 0x10000, maxrate=125 * 10**6), {"kind": "fq", "options": {"maxrate": "1000mbit"}},
         "fq maxrate=1000000000bit", "fq maxrate=1000000000bit"),
        (single(FQ_CODEL, 0x10000, target=codel_time_told(4999), ecn=1), {"kind": "fq_codel", "options": {"target": "5ms", "ecn": "off"}},
         "fq_codel target=5000us ecn=off", "fq_codel target=5000us ecn=on"),
        (single(FQ, 0x10000, buckets=1024, pacing=1, horizon=10**7), {"kind": "fq", "options": {"buckets": 1024, "pacing": "on", "horizon": "10s"}},
         "fq pacing=on buckets=1024 horizon=10000000us", "fq pacing=on buckets=1024 horizon=10000000us"),
    ],
)
def test_every_queue_is_compared_and_only_options_that_are_named(link: Link, wanted: dict[str, Any], desired: str, current: str) -> None:
    setting = planned(link, wanted)
    assert (setting.desired, setting.current, setting.state) == (desired, current, OK if desired == current else DRIFTED)


@pytest.mark.parametrize(
    "link", [single("htb", 0x10000), single("tbf", 0x50000), single("prio", 0x10000), under_mq(FQ, "htb"), single("cake", 0x10000)])
def test_a_tree_of_the_site_stays_unless_it_is_named(link: Link) -> None:
    setting = planned(link, WITH_FQ)
    assert setting.state == ERROR and "replace: true" in setting.reason
    assert planned(link, {**WITH_FQ, "replace": True}).state == DRIFTED


def test_a_management_nic_is_left_alone_unless_it_is_named() -> None:
    link = Link("eth0", 2, False, Qdisc(FQ_CODEL), guard="eth0 carries the default route")
    setting = planned(link, WITH_FQ)
    assert setting.state == ERROR and "management: true" in setting.reason
    assert planned(link, WITH_FQ, management=True).state == DRIFTED


def test_a_kernel_without_the_kind_is_an_error_of_a_machine_and_no_failure_of_a_container() -> None:
    without = frozenset({PFIFO_FAST})
    machine = planned(single(PFIFO_FAST), WITH_FQ, without)
    assert machine.state == ERROR and "kernel 6.1.0 has no fq (module sch_fq)" in machine.reason
    assert planned(single(PFIFO_FAST), WITH_FQ, without, "podman").state == UNSUPPORTED
    assert planned(single(PFIFO_FAST), WITH_FQ, None).state == DRIFTED, "where nothing tells, the attempt shows it"


def test_a_nic_that_is_named_twice_is_an_error_of_both_entries() -> None:
    spec = {"qdisc": WITH_FQ, "nics": [{"interface": "eth0"}, {"pci": "0000:01:00.0", "qdisc": {"kind": "pfifo_fast"}}]}
    settings = plan(QdiscState((single(FQ), single(FQ)), ALL), spec).settings
    assert [(setting.state, setting.name) for setting in settings] == [(ERROR, "eth0"), (ERROR, "0000:01:00.0")]
    assert all("named by several entries" in setting.reason for setting in settings)


def test_nothing_is_said_of_a_nic_of_which_nothing_is_wanted() -> None:
    state = QdiscState((Link("eth0", unreadable="no such interface"),))
    assert plan(state, {"nics": [{"interface": "eth0"}]}).settings == ()


# --- a line that becomes a tree again ---------------------------------------------------------------------------------


def test_an_original_becomes_the_tree_it_was() -> None:
    root, leaves = tree_from("mq + fq limit=5 maxrate=unlimited | pfifo_fast")
    assert (root.kind, [leaf.kind for leaf in leaves], dict(leaves[0].options)) == (MQ, [FQ, PFIFO_FAST], {"limit": 5, "maxrate": MOST})
    assert tree_from("noqueue") == (Qdisc(NOQUEUE), [])
    with pytest.raises(SpecError, match="htb: was a site's own"):
        tree_from("htb")


def values(name: str) -> st.SearchStrategy[int]:
    """Numbers that the kernel tells of an option."""
    if name in ("target", "interval"):
        return st.integers(0, 10**7).map(codel_time)
    return st.sampled_from([0, 1] if name in ("pacing", "ecn") else [1, 1024] if name == "buckets" else [1, 1024, MOST])


LEAVES = st.sampled_from([FQ, FQ_CODEL]).flatmap(
    lambda kind: st.fixed_dictionaries({name: values(name) for name in OPTIONS[kind]}).map(lambda options: Qdisc(kind, options=options)))


@given(st.lists(LEAVES, min_size=1, max_size=4))
def test_every_tree_comes_back_from_its_line(leaves: list[Qdisc]) -> None:
    names = [name for options in OPTIONS.values() for name in options]
    link = Link("eth0", 2, True, Qdisc(MQ), dict(enumerate(leaves, 1)))
    text = tree_text(link, names)
    root, found = tree_from(text)
    again = Link("eth0", 2, True, root, dict(enumerate(found if len(found) == len(leaves) else found * len(leaves), 1)))
    assert tree_text(again, names) == text


@given(st.integers(1, 10**7))
def test_what_codel_was_given_is_what_it_tells_in_spite_of_its_rounding(microseconds: int) -> None:
    kept = microseconds * 1000 >> 10  # nla_get_u32() * NSEC_PER_USEC >> CODEL_SHIFT
    told = (kept << 10) // 1000  # codel_time_to_us()
    assert codel_time_told(told) == codel_time(microseconds)
    assert codel_time(codel_time(microseconds)) == codel_time(microseconds), "an original that is put back is what it was"
