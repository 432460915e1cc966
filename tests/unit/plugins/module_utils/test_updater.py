# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Flashing and loading drivers on a tree with stand-in programs: what is done, what is refused, what is left alone, what is read back."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils import updater
from ansible_collections.lowlatency.fleet.plugins.module_utils.host import nic_update as doing
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.files import LOCK
from ansible_collections.lowlatency.fleet.tests.unit.fixture_host import content
from ansible_collections.lowlatency.fleet.tests.unit.fixture_nic import (
    FILE,
    IMAGE,
    NEW,
    OLD,
    PORTS,
    SHA256,
    NicMachine,
    image,
    maintenance,
)

P0, P1 = (f"pci/{address}" for address in PORTS)
FLASH = f"devlink dev flash {P0} file lowlatency/image.bin"
RELOAD = f"devlink dev reload {P0} action fw_activate"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NicMachine:
    return NicMachine(tmp_path, monkeypatch)


def updated(machine: NicMachine, *interfaces: str, check: bool = False, **more: Any) -> updater.Update:
    return updater.update(machine.host, maintenance(*(interfaces or ("p0",)), **more), check=check)


def told(machine: NicMachine) -> dict[str, tuple[str, str]]:
    return {device: (versions["running"], versions["stored"]) for device, versions in json.loads((machine.root / "told.json").read_text()).items()}


# --- what is done -----------------------------------------------------------------------------------------------------


def test_a_nic_is_flashed_reset_and_read_again(machine: NicMachine) -> None:
    report = updated(machine)
    assert machine.ran() == [FLASH, RELOAD]
    assert report.done == [f"p0 was flashed from {OLD} to {NEW} by devlink", "p0 was reset"]
    assert (report.waits, report.left, report.wrong, report.needed) == ([], [], [], [])
    assert {setting.control: setting.current for setting in report.settings}["nic.firmware"] == NEW
    assert updated(machine).done == [] and len(machine.ran()) == 2, "a second run has nothing to do"


def test_two_ports_of_one_board_are_flashed_once(machine: NicMachine) -> None:
    report = updated(machine, "p0", "p1")
    assert machine.ran() == [FLASH, RELOAD] and report.wrong == [] and told(machine) == {P0: (NEW, NEW), P1: (NEW, NEW)}


def test_mstflint_asks_for_the_board_and_resets_with_its_own_tool(machine: NicMachine) -> None:
    report = updated(machine, images=[image(tool="mstflint", psid="MT_0000000359")])
    assert machine.ran() == [f"mstflint -d {PORTS[0]} q", f"mstflint -d {PORTS[0]} -i {machine.root}{FILE} -y burn", f"mstfwreset -d {PORTS[0]} -y reset"]
    assert report.wrong == [] and told(machine)[P0] == (NEW, NEW)


def test_a_component_is_passed_on(machine: NicMachine) -> None:
    updated(machine, images=[image(component="fw.mgmt")])
    assert machine.ran()[0] == FLASH + " component fw.mgmt"


def test_a_nic_that_cannot_be_reset_waits_for_a_reboot_and_is_not_flashed_twice(machine: NicMachine) -> None:
    machine.failing("devlink-reload")
    report = updated(machine)
    assert report.done == [f"p0 was flashed from {OLD} to {NEW} by devlink"] and report.wrong == []
    assert len(report.waits) == 2 and "it said no" in report.waits[0] and f"p0 firmware is {OLD}, {NEW} is stored" in report.waits
    again = updated(machine)
    assert machine.ran().count(FLASH) == 1 and again.done == [] and again.wrong == [] and f"p0 firmware is {OLD}, {NEW} is stored" in again.waits


def test_an_image_may_ask_for_a_reboot_instead_of_a_reset(machine: NicMachine) -> None:
    report = updated(machine, images=[image(activate="reboot")])
    assert machine.ran() == [FLASH] and report.waits == [f"p0 firmware is {OLD}, {NEW} is stored"] and report.wrong == []


def test_a_device_that_tells_nothing_of_what_is_stored_is_not_flashed_twice_in_one_boot(machine: NicMachine) -> None:
    machine.tell(P0, stored="")
    machine.failing("devlink-reload")
    program = machine.root / "bin/devlink"
    program.write_text(program.read_text().replace('versions["stored"] = ', "unheard = "))
    for _time in range(2):
        report = updated(machine)
        assert machine.ran().count(FLASH) == 1 and report.wrong == []
        assert f"p0 firmware is {OLD}, another one was flashed since the last boot" in report.waits
    os.unlink(machine.root / doing.FLASHED[1:])  # a boot
    assert updated(machine, verify=True).wrong == [f"p0: after the boot its firmware is still {OLD}; a power cycle may bring it"]
    assert machine.ran().count(FLASH) == 1


def test_an_older_image_goes_back(machine: NicMachine) -> None:
    machine.tell(P0, running="22.99.1", stored="22.99.1")
    assert updated(machine).done == [], "it is at least what is wanted"
    policy = {"mlx5_core": {"firmware": {"exact": NEW}}}
    assert updated(machine, policy=policy).done[0] == f"p0 was flashed from 22.99.1 to {NEW} by devlink"


# --- what is not done -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "more", [{"flash": False}, {"maintenance": False}, {"images": []}, {"policy": {}}, {"policy": {"mlx5_core": {"firmware": {"minimum": OLD}}}},
             {"images": [image(driver="ice")]}, {"images": [image(pci_id="15b3:ffff")]}, {"images": [image(psid="MT_1")]}],
    ids=lambda more: str(sorted(more)),
)
def test_without_a_switch_a_source_or_a_need_nothing_is_flashed(machine: NicMachine, more: dict[str, Any]) -> None:
    before = content(machine.root)
    report = updated(machine, **more)
    assert machine.ran() == [] and (report.done, report.waits, report.wrong) == ([], [], [])
    assert content(machine.root) == before


def test_check_mode_starts_no_program_and_writes_nothing(machine: NicMachine) -> None:
    before = content(machine.root)
    report = updated(machine, check=True)
    assert report.done == [f"p0 would be flashed from {OLD} to {NEW} by devlink"] and report.needed == []
    assert machine.ran() == [] and content(machine.root) == before


def test_an_image_that_is_not_there_is_asked_for_and_nothing_is_done(machine: NicMachine) -> None:
    os.unlink(machine.root / FILE[1:])
    report = updated(machine)
    assert [needed["file"] for needed in report.needed] == [FILE] and machine.ran() == [] and report.done == []


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"images": [image(version=OLD)]}, f"holds firmware {OLD}, the policy wants {NEW} or later"),
        ({"images": [image(), image(pci_id="15b3:101d")]}, "both .* fit it; say pci_id .15b3:101d. or psid .MT_0000000359."),
        ({"images": [image(sha256="")]}, "no sha256"), ({"images": [image(sha256="abc")]}, "not 64 hexadecimal digits"),
        ({"images": [image(version="new")]}, "begins with no number"),
        ({"images": [image(sha256="0" * 64)]}, f"its sha256 is {SHA256}, wanted 000"),
        ({"images": [image(file="/srv/image.bin")]}, "reads images for devlink"),
        ({"policy": {"mlx5_core": {"firmware": {"minimum": 22.4}}}}, "put the version between quotes"),
    ],
)
def test_what_is_refused_before_anything_is_done(machine: NicMachine, more: dict[str, Any], words: str) -> None:
    machine.files.write("srv/image.bin", IMAGE)
    with pytest.raises(updater.Refused, match=words):
        updated(machine, **more)
    assert machine.ran() == []


def test_a_tool_that_is_not_installed_is_named_with_its_package(machine: NicMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(updater.Refused, match="mstflint is not installed; its package is mstflint"):
        updated(machine, images=[image(tool="mstflint")])


# --- the management NIC -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("route", "words"),
    [("p0", "p0: p0 carries the default route; it is not flashed (R6)"),
     ("p1", "p0: p1 carries the default route and is on the same board; it is not flashed (R6)")],
)
def test_a_board_with_the_management_nic_is_left_alone(machine: NicMachine, route: str, words: str) -> None:
    machine.default_route(route)
    report = updated(machine)
    assert report.left == [words] and machine.ran() == [] and report.done == [] and report.wrong == []


def test_so_is_a_board_whose_virtual_function_is_the_management_nic(machine: NicMachine) -> None:
    machine.card("0000:3b:10.2", "v0", "mlx5_vf", node=0)
    machine.files.link("sys/devices/pci0000:00/0000:3b:10.f/0000:3b:10.2/physfn", f"../../0000:3b:00.f/{PORTS[0]}")
    machine.default_route("v0")
    assert "v0 carries the default route and is on the same board" in updated(machine).left[0] and machine.ran() == []


def test_a_host_that_does_not_tell_how_it_is_reached_is_refused(machine: NicMachine) -> None:
    machine.files.write("proc/net/route", "Iface\n")
    with pytest.raises(updater.Refused, match="which interface keeps this host reachable cannot be told"):
        updated(machine)
    assert machine.ran() == []


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_a_tool_that_fails_ends_it_with_its_words(machine: NicMachine) -> None:
    machine.card("0000:5e:00.0", "q0", "mlx5_core", node=1)
    machine.tell(P0, P1, "pci/0000:5e:00.0")
    machine.failing("devlink-flash")
    report = updated(machine, "p0", "q0")
    assert len(report.wrong) == 1 and "it said no" in report.wrong[0] and report.done == []
    assert machine.ran() == [FLASH], "the first failure ends it"


def test_a_device_that_does_not_hold_what_was_flashed_is_an_error(machine: NicMachine) -> None:
    program = machine.root / "bin/devlink"
    program.write_text(program.read_text().replace(repr(NEW), repr(OLD)))
    assert updated(machine).wrong == [f"p0: its firmware is {OLD}, {OLD} stored, wanted {NEW} or later; it was flashed and does not hold it"]


def test_a_board_of_another_kind_is_not_burned(machine: NicMachine) -> None:
    program = machine.root / "bin/mstflint"
    program.write_text(program.read_text().replace('versions["psid"]', '"MT_OTHER"'))
    report = updated(machine, images=[image(tool="mstflint", psid="MT_0000000359")])
    assert "the board is MT_OTHER, the image is for MT_0000000359" in report.wrong[0] and len(machine.ran()) == 1


def test_a_nic_that_does_not_come_back_is_told(machine: NicMachine) -> None:
    program = machine.root / "bin/devlink"
    program.write_text(program.read_text() + f'if "reload" in words:\n    os.unlink({str(machine.root / "sys/class/net/p0")!r})\n')
    report = updated(machine)
    assert any("p0: not back after" in line for line in report.waits) and report.settings[0].state == "error"
    assert len(report.wrong) == 1 and "p0: no such interface on this host" in report.wrong[0] and "it was there before" in report.wrong[0]


def test_a_nic_that_is_gone_after_the_boot_for_its_firmware_is_an_error(machine: NicMachine) -> None:
    assert "it was there before" in updated(machine, "p9", verify=True).wrong[0]


def test_a_nic_that_was_never_there_stops_no_other(machine: NicMachine) -> None:
    report = updated(machine, "p9", "p0")
    assert "p9: no such interface" in report.left[0] and report.wrong == [] and FLASH in machine.ran()


def test_another_run_that_is_writing_is_not_disturbed(machine: NicMachine) -> None:
    with open(machine.root / LOCK[1:], "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(OSError, match="another run is writing"):
            updated(machine)
    assert machine.ran() == []


def test_a_record_of_flashes_that_cannot_be_read_is_none(machine: NicMachine) -> None:
    for text in ("{", "[]", ""):
        machine.files.write(doing.FLASHED[1:], text)
        assert doing.flashed(machine.host) == {}


# --- drivers ----------------------------------------------------------------------------------------------------------

VENDOR = {"mlx5_core": {"driver": {"kind": "vendor", "minimum": "24.10"}}}
ON_DISK = "filename: /lib/modules/x/updates/dkms/mlx5_core.ko\nversion:        24.10-1.1.4\nsigner:         DKMS\n"


def reloaded(machine: NicMachine, *interfaces: str, check: bool = False, **more: Any) -> updater.Update:
    return updated(machine, *interfaces, check=check, **{"policy": VENDOR, "images": [], "flash": False, "reload": True, **more})


@pytest.fixture
def driver(machine: NicMachine) -> NicMachine:
    """The in-tree mlx5_core is loaded and mlx5_ib uses it; the vendor's is on disk."""
    machine.files.write("modinfo", ON_DISK)
    machine.files.write("sys/module/mlx5_core/holders/mlx5_ib/x", "").write("sys/module/mlx5_ib/holders/rdma_x/x", "")
    return machine


def test_a_driver_is_loaded_anew_with_what_uses_it(driver: NicMachine) -> None:
    report = reloaded(driver, "p0", "p1")
    assert driver.ran() == ["modinfo -- mlx5_core"] * 2 + ["modprobe -r -- rdma_x mlx5_ib mlx5_core", "modprobe -a -- mlx5_core mlx5_ib rdma_x"]
    assert report.done == ["driver mlx5_core loaded anew"] and report.wrong == []


def test_a_driver_that_is_not_unloaded_is_loaded_again_and_told(driver: NicMachine) -> None:
    driver.failing("modprobe")
    report = reloaded(driver)
    assert "it said no" in report.wrong[0] and report.done == []
    assert driver.ran()[-1] == "modprobe -a -- mlx5_core mlx5_ib rdma_x"


@pytest.mark.parametrize(
    ("more", "disk"),
    [({"reload": False}, ON_DISK), ({"policy": {}}, ON_DISK), ({"policy": {"mlx5_core": {"driver": {"minimum": "1"}}}}, ON_DISK), ({}, "intree:         Y\n"),
     ({}, ON_DISK.replace("24.10", "24.07"))],
    ids=["no switch", "no policy", "already right", "on disk is the kernel's", "on disk is too old"],
)
def test_no_driver_is_unloaded_without_need(driver: NicMachine, more: dict[str, Any], disk: str) -> None:
    driver.files.write("modinfo", disk)
    assert reloaded(driver, **more).done == [] and not [line for line in driver.ran() if line.startswith("modprobe")]


def test_a_driver_that_is_not_on_disk_is_left_alone_and_told(driver: NicMachine) -> None:
    os.unlink(driver.root / "modinfo")
    report = reloaded(driver)
    assert len(report.left) == 1 and "it is not loaded anew" in report.left[0] and report.wrong == []
    assert not [line for line in driver.ran() if line.startswith("modprobe")]


def test_check_mode_unloads_nothing(driver: NicMachine) -> None:
    assert reloaded(driver, check=True).done == ["mlx5_core would be loaded anew"]
    assert not [line for line in driver.ran() if line.startswith("modprobe")]


def test_the_driver_of_a_management_nic_is_never_unloaded(driver: NicMachine) -> None:
    driver.card("0000:5e:00.0", "q0", "mlx5_core", node=1)
    driver.default_route("q0")
    report = reloaded(driver)
    assert report.left == ["driver mlx5_core: q0 carries the default route and has the same driver; it is not loaded anew (R6)"]
    assert not [line for line in driver.ran() if line.startswith("modprobe")]


@pytest.mark.parametrize(("name", "text"), [("sys/module/module/parameters/sig_enforce", "Y"),
                                            ("sys/kernel/security/lockdown", "none [integrity] confidentiality")])
def test_an_unsigned_driver_is_refused_where_it_would_not_load(driver: NicMachine, name: str, text: str) -> None:
    driver.files.write(name, text + "\n")
    assert reloaded(driver, check=True).wrong == []
    driver.files.write("modinfo", ON_DISK.replace("signer", "author"))
    with pytest.raises(updater.Refused, match="R29"):
        reloaded(driver)
    assert not [line for line in driver.ran() if line.startswith("modprobe")]
