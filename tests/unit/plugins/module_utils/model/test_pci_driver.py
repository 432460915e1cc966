# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ports for user space: which may be taken from the kernel, what waits for a boot, what goes back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.pci_driver import (
    ACCESS,
    BIFURCATED,
    DRIVER,
    RECORD,
    RULES,
    SUPPORTED,
    VFIO,
    Device,
    PciState,
    plan,
    problems,
)
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.setting import (
    DRIFTED,
    OK,
    UNSUPPORTED,
    SpecError,
    judged,
)

PORT, OTHER = "0000:81:00.0", "0000:81:00.1"
FREE = Device(PORT, driver="igb", interfaces=("enp129s0",), group="14")
TAKEN = Device(PORT, driver=VFIO, group="14", node="root alone")
STATE = PciState({PORT: FREE}, iommu=True)
SPEC: dict[str, Any] = {"devices": [{"pci": PORT}], "group": "dpdk"}


def with_port(**changes: Any) -> PciState:
    return replace(STATE, devices={PORT: replace(FREE, **changes)})


@pytest.mark.parametrize(
    ("spec", "words"),
    [({"devices": [{"pci": "81:00.0"}]}, "is no PCI address"), ({"devices": [{"pci": "0000:81:00.0\n"}]}, "is no PCI address"),
     ({"devices": [{"pci": PORT}, {"pci": PORT}]}, "is there twice"), ({"devices": [{"pci": PORT, "driver": "uio"}]}, "there is vfio-pci"),
     ({"group": "a b"}, "no name of a group"), ({"noiommu_waiver": " "}, "id of the decision")])
def test_what_is_wrong_on_any_host(spec: dict[str, Any], words: str) -> None:
    found = problems(spec)
    assert len(found) == 1 and words in found[0]


def test_what_is_right_on_some_host() -> None:
    assert problems({**SPEC, "noiommu_waiver": "CHG-1"}) == problems({}) == []


def test_a_free_port_is_taken_and_the_rule_and_the_record_say_so() -> None:
    found = plan(STATE, SPEC)
    assert [(setting.control, setting.name, setting.desired, setting.current, setting.needs_reboot) for setting in found.settings] == [
        (DRIVER, PORT, VFIO, "igb", False)]
    files = {file.path: file.content.decode() for file in found.files}
    assert files[RECORD].splitlines()[-1] == PORT
    assert files[RULES].splitlines()[-1] == 'SUBSYSTEM=="vfio", GROUP="dpdk", MODE="0660"'


def test_a_port_that_is_taken_is_opened_to_the_group() -> None:
    state = replace(STATE, devices={PORT: TAKEN})
    driver, access = plan(state, SPEC).settings
    assert driver.current == VFIO and (access.control, access.desired, access.current) == (ACCESS, "group dpdk", "root alone")
    assert judged(replace(driver, persisted=VFIO)).state == OK
    assert [setting.control for setting in plan(state, {"devices": [{"pci": PORT}]}).settings] == [DRIVER], "no group, no wish"


@pytest.mark.parametrize(
    ("changes", "words"),
    [({"present": False}, "no such PCI device"), ({"kind": "0x010802"}, r"no network controller \(class 0x010802\)"),
     ({"management": "enp129s0 carries the default route"}, r"carries the default route; the management NIC .*\(R6\)"),
     ({"used": ("enp129s0 is part of bond0 (bond, bridge or team)",)}, "part of bond0.*take it out of that first"),
     ({"used": ("enp129s0 is used by the route 10.1.0.0/16",)}, "route 10.1.0.0/16"), ({"functions": 4}, "has 4 virtual functions"),
     ({"driver": "mlx5_core"}, "beside the kernel, which keeps the port"), ({"driver": "r8169"}, "not known to have a driver for NICs of r8169"),
     ({"neighbours": ("0000:81:00.1", "0000:00:1f.3")}, "IOMMU group 14 has 0000:81:00.1, 0000:00:1f.3 too")])
def test_what_must_not_be_taken(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        plan(with_port(**changes), SPEC)


def test_all_that_is_wrong_is_told_at_once() -> None:
    with pytest.raises(SpecError, match=r"virtual functions.*default route|default route.*virtual functions"):
        plan(with_port(functions=2, management="it carries the default route"), SPEC)


def test_neighbours_that_are_wanted_too_are_no_obstacle() -> None:
    state = replace(STATE, devices={PORT: replace(FREE, neighbours=(OTHER,)), OTHER: replace(FREE, pci=OTHER, neighbours=(PORT,))})
    both = {"devices": [{"pci": PORT}, {"pci": OTHER}]}
    assert [setting.name for setting in plan(state, both).settings] == [PORT, OTHER]


def test_a_site_may_know_of_more_drivers() -> None:
    state = with_port(driver="r8169")
    assert plan(state, {"devices": [{"pci": PORT, "supported": True}]}).settings[0].current == "r8169"
    assert not SUPPORTED & BIFURCATED


def test_a_port_that_user_space_has_is_not_judged_again() -> None:
    state = PciState({PORT: replace(TAKEN, functions=2, neighbours=(OTHER,))}, iommu=False)
    assert plan(state, SPEC).settings[0].current == VFIO


def test_without_a_module_or_an_iommu_it_is_refused_before_anything_is_written() -> None:
    with pytest.raises(SpecError, match="no module vfio-pci"):
        plan(replace(STATE, module=False), SPEC)
    with pytest.raises(SpecError, match="no IOMMU at work, and the firmware tells of none; turn it on in the BIOS"):
        plan(replace(STATE, iommu=False), SPEC)


def test_an_iommu_that_a_boot_brings_is_waited_for() -> None:
    setting = plan(replace(STATE, iommu=False, table="DMAR"), SPEC).settings[0]
    assert setting.needs_reboot and judged(setting).waits and "until the next boot" in setting.reason


def test_without_an_iommu_only_by_name() -> None:
    setting = plan(replace(STATE, iommu=False), {**SPEC, "noiommu_waiver": "CHG-7"}).settings[0]
    assert not setting.needs_reboot and judged(setting).state == DRIFTED


def test_what_is_no_longer_wanted_goes_back_and_nothing_else_does() -> None:
    state = PciState({PORT: TAKEN, OTHER: replace(TAKEN, pci=OTHER, driver="igb")}, iommu=True, record=(PORT, OTHER))
    found = plan(state, {"devices": []})
    assert [(setting.name, setting.desired, setting.current) for setting in found.settings] == [(PORT, None, VFIO)]
    assert judged(found.settings[0]).state == DRIFTED
    files = {file.path: file.content.decode() for file in found.files}
    assert PORT not in files[RECORD] and "GROUP" not in files[RULES]
    assert [file.path for file in plan(PciState(record=()), {}).files] == [RULES, RECORD], "what was written once stays owned"
    with pytest.raises(SpecError, match=r"0000:81:00.0: goes back to the kernel, but testpmd \(process 7\) has it open"):
        plan(replace(state, devices={PORT: replace(TAKEN, holders=("testpmd (process 7)",))}), {"devices": []})


def test_a_host_that_never_had_a_port_gets_no_file() -> None:
    found = plan(PciState(), {"group": "dpdk"})
    assert found.settings == () and found.files == ()


def test_in_a_container_all_of_it_is_the_machine_s() -> None:
    found = plan(PciState(container="podman"), SPEC)
    assert [setting.state for setting in found.settings] == [UNSUPPORTED] and "podman" in found.settings[0].reason and found.files == ()
