# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Services: which names are refused, and what gone for good means."""

from __future__ import annotations

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.setting import (
    DRIFTED,
    OK,
    UNSUPPORTED,
    Setting,
    judged,
)
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.units import (
    KEPT,
    Unit,
    UnitsState,
    full_name,
    plan,
    problems,
)


def one(unit: Unit | None, name: str = "irqbalance") -> Setting:
    state = UnitsState({full_name(name): unit} if unit else {})
    settings = plan(state, {"removed": [name]}).settings
    assert len(settings) == 1
    return judged(settings[0])


@pytest.mark.parametrize(
    ("unit", "state", "current", "persisted"),
    [
        (Unit("loaded", "active", "enabled"), DRIFTED, "active", "enabled"),
        (Unit("loaded", "activating", "enabled"), DRIFTED, "activating", "enabled"),
        (Unit("loaded", "inactive", "enabled"), DRIFTED, "removed", "enabled"),
        (Unit("loaded", "inactive", "disabled"), DRIFTED, "removed", "disabled"),
        (Unit("loaded", "inactive", "static"), DRIFTED, "removed", "static"),
        (Unit("masked", "active", "masked"), DRIFTED, "active", "removed"),
        (Unit("masked", "inactive", "masked"), OK, "removed", "removed"),
        (Unit("masked", "failed", "masked"), OK, "removed", "removed"),
        (Unit("not-found", "inactive", ""), OK, "removed", "removed"),
        (Unit("not-found", "active", ""), DRIFTED, "active", "not-found"),
        (None, OK, "removed", "removed"),
    ],
)
def test_gone_is_stopped_and_masked(unit: Unit | None, state: str, current: str, persisted: str) -> None:
    setting = one(unit)
    assert (setting.state, setting.current, setting.persisted) == (state, current, persisted)
    assert (setting.control, setting.name) == ("svc.irqbalance", "irqbalance.service")


def test_where_systemd_does_not_run_nothing_is_claimed() -> None:
    settings = plan(UnitsState({}, "systemd does not run here"), {"removed": ["irqbalance"]}).settings
    assert [(setting.state, setting.reason) for setting in settings] == [(UNSUPPORTED, "systemd does not run here")]


def test_names_are_sorted_and_one_unit_is_one_setting() -> None:
    settings = plan(UnitsState({}), {"removed": ["numad", "irqbalance.service", "irqbalance", "apt-daily.timer"]}).settings
    assert [setting.name for setting in settings] == ["apt-daily.timer", "irqbalance.service", "numad.service"]


@pytest.mark.parametrize("name", [*KEPT, "sshd.service", "ssh.socket", "systemd-udevd.service"])
def test_what_keeps_a_host_reachable_is_never_removed(name: str) -> None:
    found = problems({"removed": [name]})
    assert len(found) == 1 and name in found[0] and "take it off the list" in found[0]


@pytest.mark.parametrize("name", ["", "--now", "a b", "a;b", "a/b", "a\nb", "*"])
def test_what_is_no_unit_name_is_refused(name: str) -> None:
    found = problems({"removed": [name]})
    assert len(found) == 1 and "write it like irqbalance.service" in found[0]


@pytest.mark.parametrize("name", ["irqbalance", "getty@tty1.service", "apt-daily.timer", "dev-disk\\x2d1.path"])
def test_unit_names_are_accepted(name: str) -> None:
    assert problems({"removed": [name]}) == []


@pytest.mark.parametrize(("name", "full"), [("ksm", "ksm.service"), ("ssh.socket", "ssh.socket"), ("a.b", "a.b.service"), ("x.target", "x.target")])
def test_full_names(name: str, full: str) -> None:
    assert full_name(name) == full
