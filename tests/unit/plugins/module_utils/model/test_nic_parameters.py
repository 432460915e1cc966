# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers and switches of a driver: names, values that are right on no NIC, and what a wish comes to on one."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.nic_parameters import (
    CHANNELS,
    COALESCE,
    EEE,
    NAMES,
    PAUSE,
    PRIVATE_FLAGS,
    RINGS,
    SWITCHES,
    Parameter,
    control_of,
    is_switch,
    name_problems,
    resolved,
    shown,
    switched,
    value_problems,
)
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.setting import SpecError
from hypothesis import given
from hypothesis import strategies as st

COMBINED = {"combined": Parameter(8, 64)}
APART = {"rx": Parameter(4, 16), "tx": Parameter(4, 8)}


def refusal(group: str, wanted: dict[str, Any], held: dict[str, Parameter], irq_cpus: str = "") -> str:
    with pytest.raises(SpecError) as caught:
        resolved(group, wanted, held, irq_cpus)
    return str(caught.value)


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("group", sorted(NAMES))
def test_every_name_is_known_in_its_group(group: str) -> None:
    assert name_problems(group, dict.fromkeys(NAMES[group])) == []


@pytest.mark.parametrize(
    ("group", "name", "hint"),
    [
        (COALESCE, "rx_usecs", "write rx-usecs"),
        (COALESCE, "adaptive_rx", "write adaptive-rx"),
        (RINGS, "tx_push_buf_len", "write tx-push-buf-len"),
        (COALESCE, "rx-usec", "there are: adaptive-rx, adaptive-tx, cqe-mode-rx, cqe-mode-tx, rx-usecs"),
        (CHANNELS, "queue", "there are: combined, rx, tx, other, queues"),
        (RINGS, "queues", "there are: rx, rx-mini"),
        (PAUSE, "autonegotiate", "there are: autoneg, rx, tx"),
        (EEE, "eee", "there are: enabled, tx-lpi, tx-timer"),
    ],
)
def test_a_name_that_no_driver_has_comes_with_the_one_meant(group: str, name: str, hint: str) -> None:
    [problem] = name_problems(group, {name: 1, **dict.fromkeys(NAMES[group][:1], 1)})
    assert problem.startswith(f"{group}: no parameter {name!r}; ") and hint in problem


def test_private_flags_have_names_of_their_drivers() -> None:
    assert name_problems(PRIVATE_FLAGS, {"legacy-rx": "on", "Anything At All": "off"}) == []


def test_queues_is_a_name_of_channels_alone() -> None:
    assert name_problems(CHANNELS, {"queues": 4}) == [] and name_problems(RINGS, {"queues": 4}) != []


@pytest.mark.parametrize(
    ("group", "name", "control"),
    [(COALESCE, "rx-usecs", "net.coalesce.rx_usecs"), (COALESCE, "adaptive-rx", "net.coalesce.adaptive"), (COALESCE, "adaptive-tx", "net.coalesce.adaptive"),
     (COALESCE, "cqe-mode-rx", "net.coalesce.cqe_mode_rx"), (RINGS, "rx", "net.ring.rx_tx"), (CHANNELS, "combined", "net.channels"),
     (PAUSE, "tx", "net.pause"), (EEE, "enabled", "net.eee"), (PRIVATE_FLAGS, "legacy-rx", "net.private_flag")],
)
def test_the_id_of_each_kind(group: str, name: str, control: str) -> None:
    assert control_of(group, name) == control


# --- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "on"), [("on", True), ("off", False), (True, True), (False, False)])
def test_yaml_s_on_and_off_are_what_they_say(value: object, on: bool) -> None:
    assert switched(value) is on


@pytest.mark.parametrize("value", [0, 1, "yes", "no", "ON", "true", "", None, 1.0, ["on"]])
@pytest.mark.parametrize("group", [PAUSE, PRIVATE_FLAGS])
def test_anything_else_is_neither_on_nor_off(value: object, group: str) -> None:
    assert switched(value) is None
    [problem] = value_problems(group, {"rx": value})
    assert f"{group}: rx: {value!r} is neither on nor off" in problem


@pytest.mark.parametrize("value", ["", "-1", -1, "1.5", 1.5, None, True, "on", "many", [1], "\u00b2", " 5"])
@pytest.mark.parametrize(("group", "name"), [(RINGS, "rx"), (CHANNELS, "rx"), (COALESCE, "rx-usecs"), (EEE, "tx-timer")])
def test_what_is_no_number_is_refused(group: str, name: str, value: object) -> None:
    [problem] = value_problems(group, {name: value})
    assert problem == f"{group}: {name}: {value!r} is not a number"


@pytest.mark.parametrize("value", [0, 1, "4096", 4294967295])
def test_numbers_may_be_written_as_text(value: object) -> None:
    assert value_problems(RINGS, {"rx": value}) == []


@pytest.mark.parametrize(
    ("group", "value", "right"),
    [(RINGS, "max", True), (CHANNELS, "max", True), (CHANNELS, "irq-cpus", True), (RINGS, "irq-cpus", False), (COALESCE, "max", False)],
)
def test_words_instead_of_numbers_where_they_mean_something(group: str, value: str, right: bool) -> None:
    assert (value_problems(group, {"rx" if group != COALESCE else "rx-usecs": value}) == []) is right


@pytest.mark.parametrize("name", ["combined", "queues"])
@pytest.mark.parametrize("value", [0, "0"])
def test_a_nic_without_queues_is_refused(name: str, value: object) -> None:
    [problem] = value_problems(CHANNELS, {name: value})
    assert "would leave the NIC without queues; give 1 at least" in problem


def test_queues_are_given_alone() -> None:
    [problem] = value_problems(CHANNELS, {"queues": 4, "combined": 4})
    assert "give it alone" in problem
    assert value_problems(CHANNELS, {"queues": 4}) == [] == value_problems(CHANNELS, {"rx": 1, "tx": 1, "other": 1})


@pytest.mark.parametrize("way", ["rx", "tx"])
@pytest.mark.parametrize("zero", [0, "0"])
def test_no_time_and_no_frames_together_would_never_raise_an_interrupt(way: str, zero: object) -> None:
    [problem] = value_problems(COALESCE, {f"{way}-usecs": zero, f"{way}-frames": zero})
    assert problem.endswith("(R13)") and f"{way}-usecs 0 and {way}-frames 0" in problem and f"give {way}-frames 1" in problem


@pytest.mark.parametrize("wanted", [{"rx-usecs": 0, "rx-frames": 1}, {"rx-usecs": 0}, {"rx-frames": 0}, {"rx-usecs": 0, "tx-frames": 0}])
def test_either_alone_is_right(wanted: dict[str, int]) -> None:
    assert value_problems(COALESCE, wanted) == []


@pytest.mark.parametrize("group", sorted(NAMES))
def test_switches_are_shown_as_words_and_all_else_as_numbers(group: str) -> None:
    for name in NAMES[group]:
        switch = name in SWITCHES.get(group, ())
        assert is_switch(group, name) is switch
        assert (shown(group, name, 0), shown(group, name, 1)) == (("off", "on") if switch else ("0", "1"))
    assert shown(PRIVATE_FLAGS, "any", 1) == "on"


# --- what a wish comes to on one NIC ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("group", "wanted", "held", "numbers"),
    [
        (RINGS, {"rx": "max", "tx": "512"}, {"rx": Parameter(256, 4096), "tx": Parameter(256, 4096)}, {"rx": 4096, "tx": 512}),
        (RINGS, {"rx": "max"}, {"rx": Parameter(256)}, {"rx": 256}),  # a driver that tells no maximum has what it has
        (RINGS, {"rx": "max"}, {}, {"rx": 0}),
        (RINGS, {"rx": 9000}, {}, {"rx": 9000}),
        (RINGS, {"tx-push": "on"}, {"tx-push": Parameter(0)}, {"tx-push": 1}),
        (PAUSE, {"rx": False, "tx": "on"}, {"rx": Parameter(1), "tx": Parameter(0)}, {"rx": 0, "tx": 1}),
        (COALESCE, {"rx-usecs": 0, "rx-frames": "1"}, {"rx-usecs": Parameter(3)}, {"rx-usecs": 0, "rx-frames": 1}),
        (CHANNELS, {"combined": "max"}, COMBINED, {"combined": 64}),
        (CHANNELS, {"combined": 64}, COMBINED, {"combined": 64}),
        (CHANNELS, {"combined": 4}, {}, {"combined": 4}),
        (PRIVATE_FLAGS, {"legacy-rx": "on"}, {"legacy-rx": Parameter(0)}, {"legacy-rx": 1}),
    ],
)
def test_what_a_wish_comes_to(group: str, wanted: dict[str, Any], held: dict[str, Parameter], numbers: dict[str, int]) -> None:
    assert resolved(group, wanted, held, "") == numbers


@pytest.mark.parametrize(
    ("held", "numbers"),
    [(COMBINED, {"combined": 3}), (APART, {"rx": 3, "tx": 3}), ({**COMBINED, **APART}, {"combined": 3}), ({}, {"combined": 3}),
     ({"rx": Parameter(2, 2), "tx": Parameter(1, 1)}, {"rx": 2, "tx": 1})],
    ids=["combined", "apart", "both", "none", "fewer than CPUs"],
)
def test_queues_are_what_the_driver_has(held: dict[str, Parameter], numbers: dict[str, int]) -> None:
    assert resolved(CHANNELS, {"queues": "irq-cpus"}, held, "2,4-5") == numbers


def test_as_many_channels_as_cpus_for_the_interrupts_and_no_more_than_there_can_be() -> None:
    assert resolved(CHANNELS, {"combined": "irq-cpus"}, COMBINED, "0-99") == {"combined": 64}
    assert resolved(CHANNELS, {"combined": "irq-cpus"}, {"combined": Parameter(8)}, "0-99") == {"combined": 100}
    assert "irq_cpus: " in refusal(CHANNELS, {"combined": "irq-cpus"}, COMBINED, "3-")


def test_a_size_over_the_maximum_is_refused_with_the_maximum() -> None:
    held = {"rx": Parameter(512, 4096), "tx": Parameter(512, 2048)}
    assert refusal(RINGS, {"rx": 8192, "tx": 2048}, held) == "rings: rx 8192 is more than the 4096 this NIC can have"
    both = refusal(RINGS, {"rx": 4097, "tx": 2049}, held)
    assert "rx 4097" in both and "tx 2049 is more than the 2048" in both, "all that is wrong at once"
    assert "combined 65 is more than the 64" in refusal(CHANNELS, {"queues": 65}, COMBINED)


@pytest.mark.parametrize(
    ("wanted", "held", "way"),
    [({"rx": 0}, APART, "rx"), ({"tx": 0}, APART, "tx"), ({"queues": "irq-cpus"}, COMBINED, "rx"),
     ({"combined": 0, "rx": 4}, {"combined": Parameter(4, 4), "rx": Parameter(0, 4), "tx": Parameter(0, 4)}, "tx")],
)
def test_channels_that_would_leave_no_queue_of_a_kind_are_refused(wanted: dict[str, Any], held: dict[str, Parameter], way: str) -> None:
    assert refusal(CHANNELS, wanted, held) == f"channels: this would leave the NIC without {way} queues; give 1 at least"


def test_no_combined_channels_beside_some_of_each_kind_are_right() -> None:
    held = {"combined": Parameter(4, 4), "rx": Parameter(0, 4), "tx": Parameter(0, 4)}
    wanted = {"combined": 0, "rx": 2, "tx": 2}
    assert resolved(CHANNELS, wanted, held, "") == wanted
    assert value_problems(CHANNELS, {"rx": 2, "tx": 2, "other": 0}) == []


PARAMETERS = st.builds(Parameter, st.integers(0, 100), st.none() | st.integers(1, 100))
WISHES = st.integers(0, 120) | st.sampled_from(["max", "irq-cpus", "7"])


@given(st.dictionaries(st.sampled_from(NAMES[CHANNELS]), WISHES), st.dictionaries(st.sampled_from(NAMES[CHANNELS]), PARAMETERS),
       st.sampled_from(["", "1", "0-9"]))
def test_whatever_is_wished_no_nic_is_asked_for_more_than_it_can_have(wanted: dict[str, Any], held: dict[str, Parameter], cpus: str) -> None:
    try:
        numbers = resolved(CHANNELS, wanted, held, cpus)
    except SpecError:
        return
    assert set(numbers) == set(wanted)
    for name, parameter in held.items():
        assert parameter.maximum is None or numbers.get(name, 0) <= parameter.maximum
    after = {name: numbers.get(name, parameter.value) for name, parameter in held.items()}
    assert not held or min(after.get("combined", 0) + after.get(way, 0) for way in ("rx", "tx")) > 0


ANY_NAMES = st.text(max_size=12) | st.sampled_from(sum(NAMES.values(), ()))


@given(st.sampled_from(sorted(NAMES)), st.dictionaries(ANY_NAMES, st.none() | st.booleans() | st.text(max_size=3) | st.integers()))
def test_what_has_no_problems_can_be_resolved(group: str, wanted: dict[str, Any]) -> None:
    if name_problems(group, wanted) or value_problems(group, wanted):
        return
    assert all(isinstance(number, int) and number >= 0 for number in resolved(group, wanted, {}, "1").values())
