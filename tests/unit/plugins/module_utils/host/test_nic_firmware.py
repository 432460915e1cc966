# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What NICs of a tree tell, answers of devlink as the kernel sends them, and trees of real machines where they are at hand."""

from __future__ import annotations

import json
import os
import struct
import tarfile
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.host import netlink
from ansible_collections.lowlatency.fleet.plugins.module_utils.host import nic_firmware as reading
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.ethtool_ioctl import Ioctl, driver_info
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.machine import Host
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.topology import read_topology
from ansible_collections.lowlatency.fleet.plugins.module_utils.model import nic_firmware as model
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.nic_firmware import Driver, Link
from ansible_collections.lowlatency.fleet.tests.unit.fixture_nic import OLD, PORTS, NicMachine

CAPTURES = Path(__file__).resolve().parents[6] / "shared" / "captures"
TRUTHS = [path for path in sorted((CAPTURES / "truth").glob("*.json")) if json.loads(path.read_text()).get("nics")] if CAPTURES.is_dir() else []


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NicMachine:
    return NicMachine(tmp_path, monkeypatch)


def card(machine: NicMachine, **nic: Any) -> model.Card:
    return reading.read_nic_firmware(machine.host, {"nics": [nic]}).cards[0]


def test_all_that_a_nic_tells(machine: NicMachine) -> None:
    found = card(machine, interface="p0")
    assert (found.interface, found.pci, found.pci_id, found.device, found.node) == ("p0", PORTS[0], "15b3:101d", f"pci/{PORTS[0]}", 0)
    assert found.link == Link(8, 16, 16.0, 16.0, 8, 16.0)
    assert found.driver == Driver("mlx5_core", "6.12.9", vendor=False)
    assert (found.firmware.running, found.psid, found.silent, found.unreadable) == ({"fw.version": OLD}, "MT_0000000359", "", "")
    assert card(machine, pci=PORTS[1].upper()).interface == "p1"
    assert card(machine, interface="eth0").firmware.text == "3.25, 0x800005cf"


def test_a_nic_that_is_not_there_is_told_with_those_that_are(machine: NicMachine) -> None:
    assert card(machine, interface="eth9").unreadable == "no such interface on this host; there are: eth0, p0, p1"


def test_the_nodes_of_the_machine(machine: NicMachine) -> None:
    state = reading.read_nic_firmware(machine.host, {"nics": []})
    assert state.nodes == {0: frozenset(range(4)), 1: frozenset(range(4, 8))} and state.distances[1] == {0: 21, 1: 10}


@pytest.mark.parametrize(("taint", "version", "driver"), [
    ("OE", "24.10-1.1.4", Driver("mlx5_core", "24.10-1.1.4", vendor=True)), ("O", "", Driver("mlx5_core", "6.12.9", vendor=True)),
    ("", "1.0", Driver("mlx5_core", "1.0", vendor=False)), ("E", "", Driver("mlx5_core", "6.12.9", vendor=False)),
])
def test_where_a_driver_is_from(machine: NicMachine, taint: str, version: str, driver: Driver) -> None:
    machine.files.write("sys/module/mlx5_core/taint", taint + "\n").write("sys/module/mlx5_core/version", version + "\n")
    assert card(machine, interface="p0").driver == driver


@pytest.mark.parametrize(
    ("width", "speed", "link"),
    [("0", "Unknown", (0, 0.0)), ("255", "Unknown speed", (0, 0.0)), ("63", "", (0, 0.0)), ("x", "fast", (0, 0.0)), ("4", "8 GT/s", (4, 8.0)),
     ("1", "2.5 GT/s PCIe", (1, 2.5)), ("16", "64.0 GT/s PCIe", (16, 64.0))],
)
def test_how_the_kernel_writes_a_link(machine: NicMachine, width: str, speed: str, link: tuple[int, float]) -> None:
    folder = f"sys/bus/pci/devices/{PORTS[0]}"
    machine.files.write(f"{folder}/current_link_width", width + "\n").write(f"{folder}/current_link_speed", speed + "\n")
    found = card(machine, interface="p0").link
    assert (found.width, found.speed) == link


def test_a_tree_without_links_or_nodes_is_not_guessed_at(machine: NicMachine) -> None:
    folder = machine.root / f"sys/bus/pci/devices/{PORTS[0]}"
    for name in ("current_link_width", "max_link_width", "current_link_speed", "max_link_speed", "numa_node", "vendor"):
        os.unlink(folder / name)
    found = card(machine, interface="p0")
    assert (found.link.width, found.link.width_max, found.link.speed, found.node, found.pci_id) == (0, 0, 0.0, -1, "")


def test_a_captured_tree_asks_this_machine_nothing(machine: NicMachine) -> None:
    found = reading.read_nic_firmware(Host(str(machine.root)), {"nics": [{"interface": "p0"}]}).cards[0]
    assert "captured" in found.silent and found.link.width == 8


def test_a_finding_is_never_written(machine: NicMachine) -> None:
    state = reading.read_nic_firmware(machine.host, {"nics": [{"interface": "p0"}]})
    with pytest.raises(NotImplementedError, match="is a finding"):
        reading.write_nothing(machine.host, state, model.plan(state, {"nics": [{"interface": "p0"}]}).settings[0])


# --- the wire ---------------------------------------------------------------------------------------------------------


def text(kind: int, value: str) -> bytes:
    return netlink.attribute(kind, value.encode() + b"\0")


def version(kind: int, name: str, value: str) -> bytes:
    return netlink.attribute(kind | 0x8000, text(103, name) + text(104, value))


def test_an_answer_of_devlink_with_several_versions_of_one_kind() -> None:
    answer = (text(1, "pci") + text(2, PORTS[0]) + text(98, "ice") + version(100, "board.id", "K1") + version(101, "fw.mgmt", "7.3.4")
              + version(101, "fw.undi", "1.3415.0") + version(102, "fw.mgmt", "7.4.1"))
    assert reading.versions_in(answer) == {100: {"board.id": "K1"}, 101: {"fw.mgmt": "7.3.4", "fw.undi": "1.3415.0"}, 102: {"fw.mgmt": "7.4.1"}}
    assert reading.versions_in(b"") == {100: {}, 101: {}, 102: {}}
    assert reading.versions_in(answer[:-3])[102] == {}


class Kernel:
    """Stands in for generic netlink: remembers what was asked."""

    def __init__(self, answer: bytes | OSError) -> None:
        self.answer, self.asked = answer, []  # type: ignore[var-annotated]

    def request(self, family: int, command: int, version: int, data: bytes) -> list[bytes]:
        self.asked.append((family, command, netlink.attributes(data)))
        if isinstance(self.answer, OSError):
            raise self.answer
        return [self.answer]


@pytest.mark.parametrize(("answer", "running"), [(version(101, "fw", "1.2"), {"fw": "1.2"}), (OSError(19, "no such device"), None)])
def test_devlink_is_asked_for_one_device_and_may_not_know_it(answer: Any, running: Any) -> None:
    asks = reading._Asks.__new__(reading._Asks)
    asks.netlink, asks.devlink = Kernel(answer), 21  # type: ignore[assignment]
    assert asks.info(f"pci/{PORTS[0]}").get(reading.RUNNING) == running
    assert asks.netlink.asked == [(21, 51, {1: b"pci\0", 2: PORTS[0].encode() + b"\0"})]  # type: ignore[union-attr]
    assert asks.info("") == {} and len(asks.netlink.asked) == 1  # type: ignore[union-attr]


def test_drvinfo_is_read_as_the_kernel_lays_it_out(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = struct.pack("=I32s32s32s32s64x", 3, b"igb", b"6.12.9", b"3.25, 0x800005cf ", b"0000:01:00.0")
    monkeypatch.setattr(Ioctl, "ask", lambda link, interface, request: answer)
    asks = reading._Asks.__new__(reading._Asks)
    asks.link = Ioctl()
    assert asks.drvinfo("eth0") == ("igb", "6.12.9", "3.25, 0x800005cf")
    asks.link = None
    assert asks.drvinfo("eth0") == ("", "", "")


def test_a_driver_without_drvinfo_is_named_by_sysfs(machine: NicMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading._Asks, "drvinfo", lambda asks, interface: ("", "", ""))
    assert card(machine, interface="p0").driver.name == "mlx5_core"


def test_this_machine_s_loopback_has_no_device_and_no_firmware() -> None:
    with Ioctl() as link:
        assert driver_info(link, "nosuch0") == ("", "", "")
    found = reading.read_nic_firmware(Host(), {"nics": [{"interface": "lo"}]}).cards[0]
    assert (found.device, found.pci, found.firmware.text, found.node) == ("", "", "", None)


# --- real machines ----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not TRUTHS, reason="no captured machines at hand")
@pytest.mark.parametrize("path", TRUTHS, ids=lambda path: path.stem)
def test_nics_of_captured_machines_are_where_lspci_saw_them(path: Path, tmp_path: Path) -> None:
    truth = json.loads(path.read_text())
    with tarfile.open(CAPTURES / truth["tarball"]) as tarball:
        tarball.extraction_filter = lambda member, path: member
        tarball.extractall(tmp_path)
    host = Host(str(tmp_path))
    nics = {nic.pci: nic for nic in read_topology(host).nics}
    nodes = {nic["pci"]: nic["numa_node"] for nic in truth["nics"]}
    for pci, nic in nics.items():
        link = reading._link(host, pci)
        assert (link.width, link.width_max) == tuple(width if width in reading._LANES else 0 for width in (nic.link_width, nic.link_width_max))
        if nodes.get(pci) is not None:
            assert reading.node_of(host, pci) == nodes[pci]
    state = reading.read_nic_firmware(host, {"nics": [{"pci": pci} for pci in nics]})
    for setting in model.plan(state, {"nics": [{"pci": pci} for pci in nics]}).settings:
        assert setting.state in ("ok", "drifted", "unsupported", "error") and (setting.state == "ok" or setting.reason)
