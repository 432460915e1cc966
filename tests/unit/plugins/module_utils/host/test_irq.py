# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading and moving interrupts of machines made of files."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.host import irq as host_irq
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.irq import IMMOVABLE, read_irqs, write_irq
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.machine import Host
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.irq import DEFAULT, NIC, IrqState
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.nic import QUEUE_CONTROL
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.setting import Setting, Unsupported
from ansible_collections.lowlatency.fleet.tests.unit import fixture_host
from ansible_collections.lowlatency.fleet.tests.unit.fixture_host import tunable_machine
from ansible_collections.lowlatency.fleet.tests.unit.fixture_machine import FixtureMachine


@pytest.fixture
def machine(tmp_path: Path) -> FixtureMachine:
    return tunable_machine(tmp_path)


def read(machine: FixtureMachine, *nics: dict[str, Any]) -> IrqState:
    return read_irqs(Host(str(machine.root)), {"nics": list(nics)})


def test_interrupts_in_use_and_those_of_the_nic(machine: FixtureMachine) -> None:
    state = read(machine, {"pci": fixture_host.NIC})
    assert [(irq.number, irq.action) for irq in state.irqs] == [(8, "rtc0"), (9, "acpi"), (40, "eth0"), (41, "eth0-TxRx-0"), (42, "eth0-TxRx-1")]
    assert state.nic_irqs == ((40, 41, 42),)
    assert {irq.number: irq.affinity for irq in state.irqs}[42] == {7}
    assert state.default == state.online == frozenset(range(8))


@pytest.mark.parametrize("nic", [{"interface": "eth0"}, {"pci": fixture_host.NIC}, {"mac": "02:00:00:00:00:AA"}, {"mac": "02:00:00:00:00:aa"}])
def test_a_nic_is_found_by_each_of_its_names(machine: FixtureMachine, nic: dict[str, str]) -> None:
    machine.write(f"sys/devices/pci0000:00/{fixture_host.NIC}/net/eth0/address", "02:00:00:00:00:aa\n")
    assert read(machine, nic).nic_irqs == ((40, 41, 42),)


@pytest.mark.parametrize("nic", [{"interface": "eth9"}, {"pci": "0000:99:00.0"}, {"mac": "02:00:00:00:00:99"}, {"interface": "../net/eth0"}])
def test_a_nic_that_is_not_there(machine: FixtureMachine, nic: dict[str, str]) -> None:
    assert read(machine, nic).nic_irqs == (None,)


def test_a_pci_address_may_be_written_in_capitals(machine: FixtureMachine) -> None:
    machine.nic("0000:0a:00.0", 0, "0-1")
    assert read(machine, {"pci": "0000:0A:00.0"}).nic_irqs == ((),)


def test_a_virtual_interface_has_no_interrupts(machine: FixtureMachine) -> None:
    machine.write("sys/class/net/bond0/address", "02:00:00:00:00:02\n")
    assert read(machine, {"interface": "bond0"}).nic_irqs == ((),)


def test_a_virtio_nic_has_the_interrupts_of_its_parent(machine: FixtureMachine) -> None:
    folder = machine.nic("0000:03:00.0", 0, "0-1")
    machine.write(f"{folder}/virtio1/net/eth2/address", "02:00:00:00:00:03\n").write(f"{folder}/msi_irqs/50", "msix\n")
    machine.link("sys/class/net/eth2", "../../devices/pci0000:00/0000:03:00.0/virtio1/net/eth2")
    machine.link(f"{folder}/virtio1/net/eth2/device", "../../../virtio1")
    assert read(machine, {"interface": "eth2"}).nic_irqs == ((50,),)


def test_links_of_a_captured_machine_mean_that_machine(machine: FixtureMachine) -> None:
    folder = machine.nic("0000:04:00.0", 0, "0-1", interface="eth3")
    machine.write(f"{folder}/msi_irqs/51", "msix\n").link("sys/class/net/eth3", f"/{folder}/net/eth3").link(f"{folder}/net/eth3/device", f"/{folder}")
    assert read(machine, {"interface": "eth3"}).nic_irqs == ((51,),)


@pytest.mark.parametrize(("legacy", "numbers"), [("11\n", (11,)), ("0\n", ()), ("x\n", ())])
def test_a_nic_without_msi(machine: FixtureMachine, legacy: str, numbers: tuple[int, ...]) -> None:
    machine.write("sys/devices/pci0000:00/0000:02:00.0/irq", legacy)
    assert read(machine, {"interface": "eth1"}).nic_irqs == (numbers,)


def test_an_affinity_that_nobody_may_write_is_managed(machine: FixtureMachine) -> None:
    (machine.root / "proc/irq/9/smp_affinity_list").chmod(0o444)
    assert "managed by the kernel" in {irq.number: irq.immovable for irq in read(machine).irqs}[9]


def test_an_interrupt_without_affinity(machine: FixtureMachine) -> None:
    machine.remove("proc/irq/9/smp_affinity_list").write("proc/irq/8/smp_affinity_list", "garbage\n")
    irqs = {irq.number: irq for irq in read(machine).irqs}
    assert irqs[9].immovable == "has no affinity file"
    assert irqs[8].affinity == frozenset()


def test_interrupts_belong_to_the_machine(machine: FixtureMachine) -> None:
    machine.write("run/systemd/container", "docker\n")
    assert "not to this container (docker)" in read(machine).without


def test_a_kernel_without_proc_irq(tmp_path: Path) -> None:
    assert read(FixtureMachine(tmp_path)).without == "this kernel has no /proc/irq"


# --- writing ----------------------------------------------------------------------------------------------------------


def test_one_interrupt_moves(machine: FixtureMachine) -> None:
    state = read(machine)
    write_irq(Host(str(machine.root)), state, Setting(NIC, "eth0-TxRx-0", "1,3"))
    assert (machine.root / "proc/irq/41/smp_affinity_list").read_text() == "1,3"


def test_of_two_with_one_name_the_one_meant_moves(machine: FixtureMachine) -> None:
    (machine.root / "proc/irq/8/rtc0").rmdir()
    (machine.root / "proc/irq/8/acpi").mkdir()
    write_irq(Host(str(machine.root)), read(machine), Setting(NIC, "acpi #9", "3"))
    assert (machine.root / "proc/irq/9/smp_affinity_list").read_text() == "3"
    assert (machine.root / "proc/irq/8/smp_affinity_list").read_text() == "0\n"


@pytest.mark.parametrize(
    ("possible", "cpulist", "mask"),
    [("0-7", "0-1,4-5", "33"), ("0-63", "0,63", "80000000,00000001"), ("0-127", "64-67", "00000000,0000000f,00000000,00000000"), ("0-255", "200", None)],
)
def test_the_default_mask_is_as_wide_as_the_machine(machine: FixtureMachine, possible: str, cpulist: str, mask: str | None) -> None:
    machine.write("sys/devices/system/cpu/possible", possible + "\n").write("sys/devices/system/cpu/online", possible + "\n")
    state = read(machine)
    write_irq(Host(str(machine.root)), state, Setting(DEFAULT, "default_smp_affinity", cpulist))
    text = (machine.root / "proc/irq/default_smp_affinity").read_text()
    assert mask is None or text == mask
    value = int(text.replace(",", ""), 16)
    again = read(machine).default
    assert again == {cpu for cpu in range(256) if value >> cpu & 1} and again


@pytest.mark.parametrize("code", [errno.EIO, errno.EPERM, errno.EACCES])
def test_what_the_kernel_does_not_let_go_is_unsupported_until_the_next_boot(machine: FixtureMachine, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(host: Host, name: str, text: str) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(host_irq, "write_kernel_file", refuse)
    state = read(machine)
    for name in ("acpi", "rtc0"):
        with pytest.raises(Unsupported, match=errno.errorcode[code]):
            write_irq(Host(str(machine.root)), state, Setting(NIC, name, "0"))
    assert {irq.action for irq in read(machine).irqs if irq.immovable} == {"acpi", "rtc0"}
    assert IMMOVABLE.startswith("/run/"), "the kernel forgets at boot, and so do we"


def test_another_interrupt_with_the_same_number_is_tried_again(machine: FixtureMachine) -> None:
    machine.write(IMMOVABLE[1:], json.dumps({"9 acpi": "cannot be moved", "41 eth7-TxRx-0": "cannot be moved"}))
    assert {irq.number: irq.immovable for irq in read(machine).irqs if irq.immovable} == {9: "cannot be moved"}


@pytest.mark.parametrize("text", ["", "{", "[]", "5"])
def test_a_broken_note_of_refusals_is_no_note(machine: FixtureMachine, text: str) -> None:
    machine.write(IMMOVABLE[1:], text)
    assert not [irq for irq in read(machine).irqs if irq.immovable]


# --- transmit queues and counts ---------------------------------------------------------------------------------------

TX = f"sys/devices/pci0000:00/{fixture_host.NIC}/net/eth0/queues"


def test_transmit_queues_are_read_as_cpus(machine: FixtureMachine) -> None:
    machine.write(f"{TX}/tx-0/xps_cpus", "03\n").write(f"{TX}/tx-1/xps_cpus", "00000001,00000000\n").write(f"{TX}/tx-10/xps_cpus", "00\n")
    expected = ("eth0", {0: frozenset({0, 1}), 1: frozenset({32}), 10: frozenset()})
    assert read(machine, {"pci": fixture_host.NIC}, {"interface": "eth0"}).xps == (expected, expected)


def test_the_one_queue_of_a_nic_that_has_only_one_is_left_out(machine: FixtureMachine) -> None:
    """The kernel has the file there, and answers ENOENT to whoever reads it."""
    (machine.root / TX / "tx-0").mkdir(parents=True)
    machine.link(f"{TX}/tx-0/xps_cpus", "nowhere").write(f"{TX}/tx-1/xps_cpus", "garbage\n")
    assert read(machine, {"interface": "eth0"}).xps == (("eth0", {}),)


def test_a_nic_without_an_interface_has_no_transmit_queues(machine: FixtureMachine) -> None:
    assert read(machine, {"pci": "0000:99:00.0"}, {"interface": "eth9"}).xps == (("", {}), ("", {}))


def test_a_transmit_queue_gets_its_cpus_as_a_mask(machine: FixtureMachine) -> None:
    machine.write(f"{TX}/tx-0/xps_cpus", "00\n").write(f"{TX}/tx-1/xps_cpus", "00\n")
    write_irq(Host(str(machine.root)), read(machine), Setting(QUEUE_CONTROL, "eth0.tx-1.xps_cpus", "1,4-5"))
    assert (machine.root / TX / "tx-1/xps_cpus").read_text() == "32" and (machine.root / TX / "tx-0/xps_cpus").read_text() == "00\n"
    with pytest.raises(FileNotFoundError):
        write_irq(Host(str(machine.root)), read(machine), Setting(QUEUE_CONTROL, "eth0.tx-7.xps_cpus", "1"))


def test_a_captured_tree_is_not_watched(machine: FixtureMachine) -> None:
    machine.write("proc/interrupts", "  CPU0\n 9:  5  acpi\n")
    assert read_irqs(Host(str(machine.root)), {"nics": [], "watch_seconds": 60}).counted is None


class Watched:
    """A live host with one text of /proc/interrupts after the other."""

    live = True

    def __init__(self, *texts: str | None) -> None:
        self.texts = list(texts)

    def read_if_there(self, name: str) -> str | None:
        assert name == "/proc/interrupts"
        return self.texts.pop(0)


def test_a_host_is_watched_for_as_long_as_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(host_irq.time, "sleep", slept.append)
    watched: Any = Watched("CPU0 CPU1\n 9:  5  7  acpi", "CPU0 CPU1\n 9:  5  9  acpi\n 10:  1  0  eth0")
    assert host_irq._counted(watched, 3) == {9: {0: 0, 1: 2}, 10: {0: 1, 1: 0}} and slept == [3]
    assert host_irq._counted(watched, 0) is None and slept == [3]
    unreadable: Any = Watched(None, None)
    assert host_irq._counted(unreadable, 1) == {}
