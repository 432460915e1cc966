# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What may be wanted of a firmware, and whose menus are known. What is said of machines is tested by whole trees (host/test_bios.py)."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.model import bios, bios_menus
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.partition import SMT_POLICIES


@pytest.mark.parametrize(("key", "value", "remedy"), [
    ("hyperthreading", "off", "there are: smt"), ("smt", "half", "siblings-idle"), ("smt", True, "siblings-idle"), ("turbo", "maybe", "neither on nor off"),
    ("nodes_per_socket", 0, "1 or more"), ("nodes_per_socket", True, "1 or more"), ("idle_latency_us", -1, "0 or more"), ("smis", "none", "0 or more"),
    ("governor", 1, "no word"), ("clocksource", "", "no word"), ("machine", "virtual", "say bare-metal"), ("tsc", True, "say reliable"),
    ("memory", "full", "say balanced"), ("microcode", "0x1", "no mapping"), ("microcode", {"Xeon": "0x1"}, "no signature"),
    ("microcode", {"06-55-07": "new"}, "no revision"), ("firmware", "2.1", "no mapping"), ("firmware", {"R650": "2.1"}, "give minimum"),
    ("firmware", {"R650": {}}, "give minimum"), ("firmware", {"R650": {"maximum": "1"}}, "maximum; give minimum"),
    ("firmware", {"R650": {"minimum": "latest"}}, "no number"), ("firmware", {"R650": {"not_before": "01/02/2024"}}, "no date")])
def test_what_is_refused(key: str, value: Any, remedy: str) -> None:
    found = bios.problems({"policy": {key: value}})
    assert len(found) == 1 and found[0].startswith(f"bios policy {key}: ") and remedy in found[0]


def test_a_wrong_cpulist_is_refused() -> None:
    assert "application_cpus" in bios.problems({"application_cpus": "2-"})[0]


def test_what_is_taken() -> None:
    for policy in SMT_POLICIES:
        assert bios.problems({"policy": {"smt": policy}}) == []
    assert bios.problems({"policy": {"smt": False, "turbo": True, "iommu": "on", "smis": "0", "microcode": None, "firmware": {"R650": {"exact": 2}}}}) == []


@pytest.mark.parametrize(("vendor", "maker"), [
    ("Dell Inc.", "Dell"), ("HPE", "HPE"), ("HP", "HPE"), ("Hewlett-Packard", "HPE"), ("LENOVO", "Lenovo"), ("Supermicro", "Supermicro"),
    ("Super Micro Computer, Inc.", "Supermicro"), ("QEMU", ""), ("", "")])
def test_vendors_by_what_dmi_says(vendor: str, maker: str) -> None:
    assert bios_menus.maker_of(vendor) == maker


def test_every_vendor_has_a_menu_for_everything() -> None:
    for maker, items in bios_menus.MENUS.items():
        assert set(items) == set(bios_menus.ANY), maker
        assert all(bios_menus.menu(item, maker).startswith(f"BIOS ({maker}): ") for item in items)
    assert bios_menus.menu(bios_menus.SMT, "").startswith("BIOS: Hyper-Threading")


@pytest.mark.parametrize(("text", "iso"), [("07/14/2022", "2022-07-14"), ("2022-07-14", ""), ("", ""), ("7/14/22", "")])
def test_dates(text: str, iso: str) -> None:
    assert bios.iso_date(text) == iso
