# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each profile on each driver of the tables, and on what ethtool printed of real NICs: what is there is planned, what is not is unsupported alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.lowlatency.fleet.plugins.module_utils.model import nic_parameters
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.nic import (
    PARAMETER_GROUPS,
    EthtoolState,
    Feature,
    NicState,
    plan,
)
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.setting import ERROR, UNSUPPORTED, Setting
from ansible_collections.lowlatency.fleet.tests.unit.fixture_nic_drivers import recorded, tables
from ansible_collections.lowlatency.fleet.tests.unit.fixture_nic_text import recorded as recorded_text
from ansible_collections.lowlatency.fleet.tests.unit.test_nic_text import CAPTURES as TEXT

PROFILES = sorted((Path(__file__).resolve().parents[2] / "profiles").glob("*.yml"))
DRIVERS = sorted(tables()["drivers"])
# Drivers whose channels are rx and tx of their own.
APART = {name for name, driver in tables()["drivers"].items() if driver["channels"] and "combined" not in driver["channels"]}


def state_of(driver: str, held: Mapping[str, Any]) -> NicState:
    """What ``recorded`` tells of a NIC, as the host side would have read it."""
    groups = {group: {name: nic_parameters.Parameter(value, most) for name, (value, most) in held[group].items() if most != 0}
              for group in PARAMETER_GROUPS if held.get(group)}
    features = {bit: Feature(active=active, fixed=fixed) for bit, (active, fixed) in (held.get("features") or {}).items()}
    return NicState("eth0", driver, features, parameters=groups, napi=dict.fromkeys(("napi_defer_hard_irqs", "gro_flush_timeout", "threaded"), "0"),
                    queues={("rx-0", file): "" for file in ("rps_cpus", "rps_flow_cnt")})


def planned(driver: str, held: Mapping[str, Any], profile: Path) -> tuple[Mapping[str, Any], tuple[Setting, ...]]:
    wanted = yaml.safe_load(profile.read_text(encoding="utf-8"))["nic_tuning"]
    spec = {**wanted, "nics": [{"interface": "eth0", "irq_cpus": "2-3"}]}
    return wanted, plan(EthtoolState((state_of(driver, held),), spec), spec).settings


@pytest.mark.parametrize("profile", PROFILES, ids=lambda path: path.stem)
@pytest.mark.parametrize("driver", DRIVERS)
def test_what_a_driver_has_is_planned_and_what_it_has_not_is_unsupported_alone(driver: str, profile: Path) -> None:
    held = recorded(driver)
    wanted, settings = planned(driver, held, profile)
    assert [setting for setting in settings if setting.state == ERROR] == []
    missing = {setting.name.partition(".")[2] for setting in settings if setting.state == UNSUPPORTED}
    for group in ("coalesce", "rings", "pause"):
        for name in wanted.get(group) or {}:
            assert (f"{nic_parameters.LABELS[group]}{name}" in missing) == (name not in (held[group] or {})), f"{group} {name}"
    assert all(setting.reason for setting in settings if setting.state == UNSUPPORTED)


@pytest.mark.parametrize("driver", DRIVERS)
def test_queues_are_combined_channels_or_both_kinds_as_the_driver_has_them(driver: str) -> None:
    md_gateway = next(path for path in PROFILES if path.stem == "md_gateway")
    _wanted, settings = planned(driver, recorded(driver), md_gateway)
    names = {setting.name: setting.desired for setting in settings if setting.control == "net.channels"}
    expected = {"eth0.channels-rx": "2", "eth0.channels-tx": "2"} if driver in APART else {"eth0.channels-combined": "2"}
    assert names == expected
    assert "veth" in APART and "igb" not in APART


@pytest.mark.skipif(not TEXT.is_dir(), reason="the shared captures are not there")
@pytest.mark.parametrize("profile", PROFILES, ids=lambda path: path.stem)
@pytest.mark.parametrize("option", ["-c", "-g", "-l", "-a", "-k", "--show-priv-flags"])
def test_whatever_ethtool_printed_of_real_nics_can_be_planned_on(option: str, profile: Path) -> None:
    """Malformed output too: nothing is read out of it, so all that it does not tell is unsupported."""
    files = sorted((TEXT / f"ethtool-{option.strip('-')}").iterdir())
    assert files
    for path in files:
        held = recorded_text({option: path.read_text(encoding="utf-8", errors="replace")})
        _wanted, settings = planned("?", held, profile)
        for setting in settings:
            assert setting.state != ERROR or "more than the" in setting.reason or "without" in setting.reason, f"{path.name}: {setting}"
