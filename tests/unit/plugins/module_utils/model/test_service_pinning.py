# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Services on their CPUs: what is wrong on any host, what a drop-in says, what live threads tell."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.service_pinning import (
    ALONE,
    BYPASS,
    CPUS,
    GONE,
    LOADED,
    MANAGER,
    MEMORY,
    RUNNING,
    ServicesState,
    Thread,
    Unit,
    drop_in,
    drop_in_text,
    manager_text,
    plan,
    problems,
)
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.setting import (
    DRIFTED,
    OK,
    UNSUPPORTED,
    Setting,
    judged,
)

NAME = "feed.service"
FEED: dict[str, Any] = {"unit": NAME, "cpus": "4-5", "memory_nodes": "1"}


def cpus(*numbers: int) -> frozenset[int]:
    return frozenset(numbers)


def unit(*threads: Thread, **changes: Any) -> Unit:
    return replace(Unit(active="active", drop_in=drop_in_text(FEED), threads=threads or (Thread(70, "feed", cpus(4, 5)),)), **changes)


def found(state: Unit | None, service: dict[str, Any] | None = None, others: tuple[Thread, ...] = (), **spec: Any) -> dict[str, Setting]:
    wanted = {"services": [FEED if service is None else service], **spec}
    units = {} if state is None else {NAME: state}
    return {setting.control: judged(setting) for setting in plan(ServicesState(units, others=others, manager=cpus(0, 1)), wanted).settings}


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"unit": "feed"}, "not the name of a systemd service"), ({"unit": "../x.service"}, "not the name"), ({"cpus": ""}, "give a list of CPUs"),
     ({"cpus": "5-4"}, "give a list of CPUs"), ({"memory_nodes": "one"}, "give a list of nodes"), ({"environment": {"A B": "x"}}, "no name of a variable"),
     ({"environment": {"A": "x\ny"}}, "no single line"), ({"environment": {"A": ["x"]}}, "no single line"), ({"memlock": "lots"}, "give infinity"),
     ({"scheduling_policy": "real"}, "there are: other"), ({"scheduling_priority": 5}, "belongs to fifo and rr"),
     ({"scheduling_policy": "fifo", "scheduling_priority": 99}, "give 1 to 98")])
def test_what_is_wrong_on_any_host(changes: dict[str, Any], words: str) -> None:
    wrong = problems({"services": [{**FEED, **changes}]})
    assert len(wrong) == 1 and words in wrong[0]


def test_no_two_services_share_a_cpu() -> None:
    [wrong] = problems({"services": [FEED, {"unit": "orders.service", "cpus": "5-6"}]})
    assert wrong == "service orders.service: cpus 5-6 are feed.service's in part; no two services share a CPU"
    assert "is there twice" in problems({"services": [FEED, {**FEED, "cpus": "6"}]})[0]
    assert problems({"manager_cpus": "x"})[0].startswith("manager_cpus 'x'")
    assert problems({"services": [FEED, {"unit": "orders.service", "cpus": "6"}], "manager_cpus": "0-3", "application_cpus": "4-7"}) == []


def test_a_drop_in_says_all_that_is_wanted_and_escapes_what_systemd_would_read() -> None:
    text = drop_in_text({**FEED, "control_group": True, "scheduling_policy": "fifo", "scheduling_priority": 7, "memlock": "infinity",
                         "environment": {"B": '100% "a" \\', "A": "-l 4,5"}}).decode()
    assert text.splitlines()[1:] == [
        "[Service]", "CPUAffinity=", "CPUAffinity=4-5", "NUMAPolicy=bind", "NUMAMask=1", "AllowedCPUs=4-5", "AllowedMemoryNodes=1",
        "CPUSchedulingPolicy=fifo", "CPUSchedulingPriority=7", "LimitMEMLOCK=infinity", 'Environment="A=-l 4,5"', 'Environment="B=100%% \\"a\\" \\\\"']
    assert drop_in_text({"unit": NAME, "cpus": "1,4-5"}).decode().splitlines()[2:] == ["CPUAffinity=", "CPUAffinity=1 4-5"]


def test_a_service_that_runs_where_it_is_planned_is_right() -> None:
    settings = found(unit(Thread(70, "feed", cpus(4, 5)), Thread(70, "feed-rx", cpus(5))), application_cpus="4-7")
    assert {setting.state for setting in settings.values()} == {OK} and set(settings) == {LOADED, CPUS, ALONE}


def test_a_service_started_with_another_mask_is_found_and_not_restarted() -> None:
    state = unit(Thread(70, "feed", cpus(4, 5)), Thread(70, "feed-log", cpus(0, 1, 2, 3)))
    setting = found(state)[CPUS]
    assert (setting.state, setting.current, setting.finding) == (DRIFTED, "0-3", True)
    assert "feed-log (70)" in setting.reason and "systemctl restart feed.service" in setting.reason
    assert found(state, {**FEED, "restart": True})[CPUS].live_drift, "where it may be restarted, it is"


def test_a_file_that_changed_since_it_was_loaded_is_loaded_again() -> None:
    assert found(unit(reload=True))[LOADED].live_drift
    assert found(unit(drop_in=None))[LOADED].live_drift, "also one that is only about to be written"


@pytest.mark.parametrize(
    ("state", "current"), [(None, "not installed"), (Unit("not-found"), "not installed"), (Unit(active="failed", result="exit-code"), "failed (exit-code)")])
def test_a_service_that_cannot_run_is_told(state: Unit | None, current: str) -> None:
    setting = found(state)[RUNNING]
    assert (setting.state, setting.current, setting.finding) == (DRIFTED, current, True)


def test_of_a_service_that_does_not_run_only_its_file_is_judged() -> None:
    assert set(found(Unit(drop_in=drop_in_text(FEED)))) == {LOADED}


def test_memory_is_judged_where_a_control_group_holds_it() -> None:
    service = {**FEED, "control_group": True}
    state = unit(Thread(70, "feed", cpus(4), cpus(0, 1)), drop_in=drop_in_text(service))
    assert (found(state, service)[MEMORY].state, found(state, service)[MEMORY].current) == (DRIFTED, "0-1")
    assert MEMORY not in found(state)


def test_a_service_without_its_bypass_is_found() -> None:
    service = {**FEED, "library": "libonload.so", "ports": ["0000:81:00.0"]}
    settings = plan(ServicesState({NAME: unit()}), {"services": [service]}).settings
    missing = [judged(setting) for setting in settings if setting.control == BYPASS]
    assert [(setting.state, setting.desired, setting.current) for setting in missing] == [
        (DRIFTED, "libonload.so", "the kernel's stack"), (DRIFTED, "open", "not open")]
    there = unit(libraries=frozenset(("libonload.so.1",)), ports=frozenset(("0000:81:00.0",)))
    assert {judged(setting).state for setting in plan(ServicesState({NAME: there}), {"services": [service]}).settings if setting.control == BYPASS} == {OK}


@pytest.mark.parametrize(
    ("other", "alone"),
    [(Thread(9, "cron", cpus(0, 1), last=5), False), (Thread(9, "pinned", cpus(5), last=-1), False), (Thread(9, "cron", cpus(*range(8)), last=0), True),
     (Thread(9, "neighbour", cpus(6), last=6), True), (Thread(70, "feed", cpus(4), last=4), True)])
def test_who_else_was_placed_there_is_told(other: Thread, alone: bool) -> None:
    setting = found(unit(), others=(other,), application_cpus="4-7")[ALONE]
    assert (setting.state == OK) is alone and (alone or setting.current == f"{other.name} (9)")


def test_many_others_are_told_in_short() -> None:
    others = tuple(Thread(number, "w", cpus(5), last=5) for number in range(100, 109))
    assert str(found(unit(), others=others, application_cpus="4-7")[ALONE].current).endswith("w (104) and 4 more")


def test_on_cpus_that_are_not_isolated_nobody_is_foreign() -> None:
    assert ALONE not in found(unit(), others=(Thread(9, "cron", cpus(4), last=4),), application_cpus="6-7")


def test_what_an_earlier_plan_left_goes() -> None:
    [setting] = plan(ServicesState(left=("old.service",)), {}).settings
    assert (setting.control, setting.name, setting.desired, setting.current) == (GONE, "old.service", None, drop_in("old.service"))
    assert judged(setting).live_drift


def test_systemd_keeps_to_its_cpus_now_and_at_boot() -> None:
    spec = {"services": [], "manager_cpus": "0-3"}
    drifted = plan(ServicesState(manager=cpus(*range(8))), spec)
    assert [(setting.control, setting.desired, setting.current, setting.persisted) for setting in drifted.settings] == [(MANAGER, "0-3", "0-7", None)]
    assert drifted.files[0].content == manager_text("0-3") and b"CPUAffinity=0-3\n" in manager_text("0-3")
    right = plan(ServicesState(manager=cpus(0, 1, 2, 3), manager_file=manager_text("0-3")), spec)
    assert judged(right.settings[0]).state == OK


def test_without_a_service_manager_nothing_is_wanted() -> None:
    settings = plan(ServicesState(without="systemd does not run here"), {"services": [FEED]}).settings
    assert [(setting.control, setting.state) for setting in settings] == [(CPUS, UNSUPPORTED)]
