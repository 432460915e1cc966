# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PCI devices in a tree of files: what is read of them, and what is written in which order."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.host import pci_driver
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.machine import Host
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.pci_driver import read_pci, write_pci
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.pci_driver import (
    ACCESS,
    DRIVER,
    RECORD,
    VFIO,
    Device,
    PciState,
)
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.setting import Setting

PORT, OTHER, BRIDGE = "0000:81:00.0", "0000:81:00.1", "0000:80:01.0"
SPEC = {"devices": [{"pci": PORT}], "group": "dpdk"}


def put(root: Path, name: str, text: str = "") -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def link(root: Path, name: str, target: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two ports and their bridge in IOMMU group 14; the first has interface feed0."""
    for pci, kind, driver in ((PORT, "0x020000", "igb"), (OTHER, "0x020000", "igb"), (BRIDGE, "0x060400", "pcieport")):
        put(tmp_path, f"sys/bus/pci/devices/{pci}/class", f"{kind}\n")
        put(tmp_path, f"sys/bus/pci/devices/{pci}/driver_override", "(null)\n")
        put(tmp_path, f"sys/bus/pci/drivers/{driver}/unbind")
        link(tmp_path, f"sys/bus/pci/devices/{pci}/driver", f"../../drivers/{driver}")
        link(tmp_path, f"sys/bus/pci/devices/{pci}/iommu_group", "/sys/kernel/iommu_groups/14")
        put(tmp_path, f"sys/kernel/iommu_groups/14/devices/{pci}")
    (tmp_path / f"sys/bus/pci/devices/{PORT}/net/feed0").mkdir(parents=True)
    (tmp_path / "sys/class/net/feed0").mkdir(parents=True)
    put(tmp_path, "sys/bus/pci/drivers_probe")
    put(tmp_path, "proc/net/route", "Iface\tDestination\tGateway\tFlags\n")
    put(tmp_path, "proc/sys/kernel/osrelease", "6.1.0-1\n")
    put(tmp_path, "lib/modules/6.1.0-1/modules.dep", "kernel/drivers/vfio/pci/vfio-pci.ko: kernel/drivers/vfio/vfio.ko\n")
    return tmp_path


def port(root: Path) -> Device:
    return read_pci(Host(str(root)), SPEC).devices[PORT]


def test_a_port_is_read(root: Path) -> None:
    state = read_pci(Host(str(root)), SPEC)
    assert state.iommu and state.module and not state.table
    assert state.devices[PORT] == Device(PORT, kind="0x020000", driver="igb", interfaces=("feed0",), group="14", neighbours=(OTHER,))


def test_what_counts_on_its_interface_is_read(root: Path) -> None:
    link(root, "sys/class/net/feed0/master", "../bond0")
    link(root, "sys/class/net/feed0/upper_bond0", "../bond0")
    link(root, "sys/class/net/feed0/upper_feed0.5", "../feed0.5")
    put(root, "proc/net/route", "Iface\tDestination\tGateway\tFlags\nfeed0\t0000010A\t00000000\t0001\n")
    put(root, f"sys/bus/pci/devices/{PORT}/sriov_numvfs", "2\n")
    found = port(root)
    assert found.used == ("feed0 is part of bond0 (bond, bridge or team)", "feed0.5 lies on feed0", "feed0 is used by the route 0000010A")
    assert found.functions == 2


def test_the_interface_of_the_default_route_is_management(root: Path) -> None:
    put(root, "proc/net/route", "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\nfeed0\t00000000\t01000A0A\t0003\t0\t0\t0\t00000000\n")
    assert port(root).management == "feed0 carries the default route"


def test_a_kernel_without_iommu_or_module_says_so(root: Path) -> None:
    (root / "sys/kernel/iommu_groups").rename(root / "sys/kernel/nothing")
    (root / "lib/modules/6.1.0-1/modules.dep").write_text("")
    put(root, "sys/firmware/acpi/tables/DMAR", "DMAR")
    state = read_pci(Host(str(root)), SPEC)
    assert (state.iommu, state.table, state.module) == (False, "DMAR", False)
    put(root, "lib/modules/6.1.0-1/modules.builtin", "kernel/drivers/vfio/pci/vfio-pci.ko\n")
    assert read_pci(Host(str(root)), SPEC).module


def test_what_is_not_there_is_told(root: Path) -> None:
    assert read_pci(Host(str(root)), {"devices": [{"pci": "0000:99:00.0"}]}).devices["0000:99:00.0"] == Device("0000:99:00.0", present=False)
    assert read_pci(Host(str(root)), {}) == PciState()


def test_who_may_open_a_port_is_read(root: Path) -> None:
    put(root, "etc/group", "root:x:0:\nfeed:x:12345:\n")
    put(root, "dev/vfio/14")
    os.chmod(root / "dev/vfio/14", 0o600)
    assert port(root).node == "root alone"
    os.chmod(root / "dev/vfio/14", 0o660)
    if os.geteuid() == 0:
        os.chown(root / "dev/vfio/14", 0, 12345)
        assert port(root).node == "group feed"


def test_the_record_names_what_was_ours_and_who_has_it_open(root: Path) -> None:
    put(root, RECORD[1:], f"# ours\n{PORT}\n")
    put(root, "proc/77/comm", "feed\n")
    link(root, "proc/77/fd/5", "/dev/vfio/14")
    state = read_pci(Host(str(root)), {})
    assert state.record == (PORT,) and state.devices[PORT].holders == ("feed (process 77)",)
    assert read_pci(Host(str(root)), SPEC).devices[PORT].holders == (), "of what stays nobody asks"


def test_a_port_is_given_to_user_space_in_the_kernel_s_order(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = recorded(monkeypatch)
    write_pci(Host(str(root)), PciState(), Setting(DRIVER, PORT, VFIO, "igb"))
    assert written == [(f"/sys/bus/pci/devices/{PORT}/driver_override", VFIO), (f"/sys/bus/pci/devices/{PORT}/driver/unbind", PORT),
                       ("/sys/bus/pci/drivers_probe", PORT)]


@pytest.mark.parametrize("desired", [None, "igb"])
def test_a_port_goes_back_to_whatever_the_kernel_has_for_it(root: Path, monkeypatch: pytest.MonkeyPatch, desired: str | None) -> None:
    (root / f"sys/bus/pci/devices/{PORT}/driver").unlink()
    link(root, f"sys/bus/pci/devices/{PORT}/driver", f"../../drivers/{VFIO}")
    written = recorded(monkeypatch)
    write_pci(Host(str(root)), PciState(), Setting(DRIVER, PORT, desired, VFIO))
    assert written[0] == (f"/sys/bus/pci/devices/{PORT}/driver_override", "\n") and written[-1] == ("/sys/bus/pci/drivers_probe", PORT)
    put(root, "proc/77/comm", "feed\n")
    link(root, "proc/77/fd/5", "/dev/vfio/14")
    with pytest.raises(OSError, match=r"feed \(process 77\) has 0000:81:00.0 open"):
        write_pci(Host(str(root)), PciState(), Setting(DRIVER, PORT, desired, VFIO))


def test_without_an_iommu_the_kernel_is_told_first(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "sys/kernel/iommu_groups").rename(root / "sys/kernel/nothing")
    written = recorded(monkeypatch)
    write_pci(Host(str(root)), PciState(), Setting(DRIVER, PORT, VFIO, "igb"))
    assert written[0] == ("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "Y")


def test_a_group_that_is_not_there_is_named(root: Path) -> None:
    put(root, "dev/vfio/14")
    with pytest.raises(OSError, match=r"no-such-group.*the role dpdk makes the group"):
        write_pci(Host(str(root)), PciState(), Setting(ACCESS, PORT, "group no-such-group"))


def recorded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    written: list[tuple[str, str]] = []
    monkeypatch.setattr(pci_driver, "write_kernel_file", lambda host, name, text: written.append((name, text)))
    return written
