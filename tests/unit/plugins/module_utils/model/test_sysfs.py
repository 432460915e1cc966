# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Switches below /sys: what is refused, and what is said of a host."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.setting import (
    DRIFTED,
    ERROR,
    UNSUPPORTED,
    Setting,
    judged_live,
)
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.sysfs import (
    SWITCHES,
    SysfsState,
    plan,
    problems,
)


@pytest.mark.parametrize(("name", "value", "remedy"), [
    ("transparent_hugepage", "off", "the kernel takes always, madvise, never"), ("transparent_hugepage", True, "YAML boolean"), ("ksm", 3, "0, 1, 2"),
    ("workqueue_cpumask", "planned", "give housekeeping"), ("workqueue_cpumask", "ff", "ff"), ("workqueue_cpumask", "", "no CPU"),
    ("thp", "never", "there are: transparent_hugepage")])
def test_what_is_refused(name: str, value: Any, remedy: str) -> None:
    found = problems({"values": {name: value}})
    assert len(found) == 1 and remedy in found[0] and name in found[0]


def test_every_word_of_a_switch_is_taken() -> None:
    assert [problems({"values": {name: word}}) for name, switch in SWITCHES.items() for word in switch.words if problems({"values": {name: word}})] == []
    assert problems({"values": {"ksm": 0, "workqueue_cpumask": "planned"}, "housekeeping": "0-1,4-5"}) == []


def one(name: str, value: Any, text: str | None, container: str = "", **unreadable: str) -> Setting:
    (setting,) = plan(SysfsState({name: text}, unreadable, container), {"values": {name: value}, "housekeeping": "0-1,4-5"}).settings
    return judged_live(setting, "")


@pytest.mark.parametrize(("name", "value", "text", "current"), [
    ("transparent_hugepage", "never", "always madvise [never]", "never"), ("transparent_hugepage", "never", "[always] madvise never", "always"),
    ("transparent_hugepage_defrag", "never", "always defer [defer+madvise] madvise never", "defer+madvise"), ("ksm", 0, "1\n", "1"),
    ("workqueue_cpumask", "planned", "33\n", "0-1,4-5"), ("workqueue_cpumask", "0,1,4,5", "00000000,000000ff\n", "0-7")])
def test_what_runs_is_compared_in_one_form(name: str, value: Any, text: str, current: str) -> None:
    setting = one(name, value, text)
    assert setting.current == current
    assert (setting.state == DRIFTED) == (setting.current != setting.desired)
    assert setting.desired == ("0-1,4-5" if name == "workqueue_cpumask" else str(value))


def test_what_a_host_has_not_is_said() -> None:
    assert one("ksm", 0, None).state == UNSUPPORTED
    inside = one("ksm", 0, "1", "podman")
    assert inside.state == UNSUPPORTED and "belongs to the machine" in inside.reason
    assert one("ksm", 0, None, ksm="Permission denied").state == ERROR
    assert one("workqueue_cpumask", "0", "nonsense").state == ERROR
