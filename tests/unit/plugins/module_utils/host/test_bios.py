# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the firmware decided, read from trees of files and judged: made machines, captured ones, and this one."""

from __future__ import annotations

import json
import os
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.host import bios as reading
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.machine import Host
from ansible_collections.lowlatency.fleet.plugins.module_utils.model import bios as model
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.setting import (
    DRIFTED,
    ERROR,
    OK,
    UNSUPPORTED,
    Setting,
    judged,
)
from ansible_collections.lowlatency.fleet.tests.unit.fixture_machine import CPU, FixtureMachine, two_sockets
from ansible_collections.lowlatency.fleet.tests.unit.plugins.module_utils.model.test_smbios import END, memory, slot

CAPTURES = Path(__file__).resolve().parents[6] / "shared" / "captures"
TRUTHS = sorted((CAPTURES / "truth").glob("*.json")) if CAPTURES.is_dir() else []

DMI = "sys/class/dmi/id"
CLOCK = "sys/devices/system/clocksource/clocksource0"
CPUINFO = ("processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 106\nstepping\t: 6\nmicrocode\t: 0xd0003d1\n"
           "siblings\t: {siblings}\ncpu cores\t: 2\nflags\t\t: fpu x2apic constant_tsc nonstop_tsc{more}\n\nprocessor\t: 1\n")


@pytest.fixture
def machine(tmp_path: Path) -> FixtureMachine:
    """A Dell with hyper-threading on, two sockets of two cores with two threads (0-1,4-5 and 2-3,6-7), and all that it tells."""
    built = two_sockets(tmp_path)
    built.write(f"{CPU}/smt/control", "on\n").write(f"{CPU}/smt/active", "1\n").write(f"{CPU}/isolated", "\n").write("proc/cmdline", "quiet\n")
    built.write("proc/cpuinfo", CPUINFO.format(siblings=4, more=""))
    for name, text in (("sys_vendor", "Dell Inc."), ("product_name", "PowerEdge R650"), ("bios_version", "1.9.2"), ("bios_date", "11/17/2022")):
        built.write(f"{DMI}/{name}", text + "\n")
    for cpu in range(8):
        for number, (state, latency) in enumerate((("POLL", 0), ("C1", 1), ("C6", 170))):
            folder = f"{CPU}/cpu{cpu}/cpuidle/state{number}"
            built.write(f"{folder}/name", state + "\n").write(f"{folder}/latency", f"{latency}\n").write(f"{folder}/disable", "0\n")
        for file, text in (("scaling_driver", "intel_pstate"), ("scaling_governor", "powersave"), ("energy_performance_preference", "balance_performance")):
            built.write(f"{CPU}/cpu{cpu}/cpufreq/{file}", text + "\n")
        built.write(f"{CPU}/cpu{cpu}/microcode/version", "0xd0003a5\n")
    built.write(f"{CPU}/intel_pstate/no_turbo", "0\n").write(f"{CPU}/cpuidle/current_driver", "intel_idle\n")
    built.write(f"{CLOCK}/current_clocksource", "hpet\n").write(f"{CLOCK}/available_clocksource", "hpet acpi_pm \n")
    built.write("sys/class/iommu/.keep", "").remove("sys/class/iommu/.keep").write("sys/firmware/acpi/tables/DMAR", "DMAR")
    built.write("sys/firmware/dmi/tables/DMI", memory(16384, "A1", rated=3200, configured=2933) + memory(16384, "A2", rated=3200, configured=2933)
                + memory(16384, "B1", rated=3200, configured=3200) + memory(0, "B2") + slot("PCIe Slot 3", 0, 1, 0) + END)
    return built


def findings(tree: FixtureMachine, nics: list[dict[str, Any]] | None = None, cpus: str = "", **policy: Any) -> dict[str, Setting]:
    spec = {"policy": policy, "nics": nics or [], "application_cpus": cpus, "smi_seconds": 1}
    assert model.problems(spec) == []
    found = {setting.name: judged(setting) for setting in model.plan(reading.read_bios(Host(str(tree.root)), spec), spec).settings}
    assert all(setting.finding or setting.state == UNSUPPORTED for setting in found.values())
    assert all(setting.reason for setting in found.values() if setting.state != OK)
    return found


# --- hyper-threading --------------------------------------------------------------------------------------------------


def without_siblings(machine: FixtureMachine, control: str) -> FixtureMachine:
    """The machine with the second threads offline, or not there at all."""
    for package in (0, 1):
        for core in (2 * package, 2 * package + 1):
            machine.core([core], package, core, [2 * package, 2 * package + 1])
    machine.lists("0-3", "0-7" if control != "notsupported" else "0-3")
    for cpu in range(4, 8):
        for path in sorted((machine.root / f"{CPU}/cpu{cpu}").rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        (machine.root / f"{CPU}/cpu{cpu}").rmdir()
    for node, cpus in ((0, "0-1"), (1, "2-3")):
        machine.node(node, cpus, 1000)
    return machine.write(f"{CPU}/smt/control", control + "\n").write(f"{CPU}/smt/active", "0\n")


@pytest.mark.parametrize(("control", "wanted", "current", "state"), [
    ("notsupported", "off", "off", OK), ("notsupported", "off-by-kernel", "off", OK), ("notsupported", "siblings-idle", "off", OK),
    ("off", "off", "off-by-kernel", DRIFTED), ("off", "off-by-kernel", "off-by-kernel", OK), ("forceoff", "siblings-idle", "off-by-kernel", OK),
    ("on", "off-by-kernel", "off-by-kernel", OK), ("notsupported", "share", "off", OK)])
def test_hyper_threading_that_shows_no_siblings(machine: FixtureMachine, control: str, wanted: str, current: str, state: str) -> None:
    found = findings(without_siblings(machine, control), smt=wanted)["smt"]
    assert (found.current, found.state) == (current, state)
    assert found.desired == (current if state == OK else wanted)


def test_a_bios_that_still_has_it_on_is_told_with_its_menu(machine: FixtureMachine) -> None:
    machine = without_siblings(machine, "off").write("proc/cmdline", "quiet nosmt\n")
    found = findings(machine, smt="off")["smt"]
    assert "nosmt" in found.reason and "Logical Processor" in found.reason and "off-by-kernel" in found.reason
    machine.write("proc/cmdline", "quiet mitigations=auto,nosmt\n")
    assert "mitigations=auto,nosmt" in findings(machine, smt="off-by-kernel")["smt"].reason


def test_hyper_threading_that_is_on(machine: FixtureMachine) -> None:
    found = findings(machine, smt="off")["smt"]
    assert (found.current, found.desired, found.state) == ("on", "off", DRIFTED)
    assert "BIOS (Dell)" in found.reason and "nosmt" in found.reason and "leaves siblings idle" in found.reason
    assert "nosmt" in findings(machine, smt="off-by-kernel")["smt"].reason
    assert findings(machine, smt="share")["smt"].state == findings(machine)["smt"].state == OK


@pytest.mark.parametrize(("isolated", "state", "reason"), [("3,7", OK, ""), ("", DRIFTED, "no CPU is isolated"), ("2-3,7", DRIFTED, "6 are siblings")])
def test_siblings_are_idle_where_whole_cores_are_isolated(machine: FixtureMachine, isolated: str, state: str, reason: str) -> None:
    found = findings(machine.write(f"{CPU}/isolated", isolated + "\n"), smt="siblings-idle")["smt"]
    assert (found.state, found.current) == (state, "siblings-idle" if state == OK else "on")
    assert reason in found.reason


def test_old_kernels_without_the_control_file(machine: FixtureMachine) -> None:
    machine = without_siblings(machine, "notsupported").remove(f"{CPU}/smt/control").remove(f"{CPU}/smt/active")
    assert findings(machine, smt="off")["smt"].current == "off-by-kernel", "cpuinfo knows of threads that are not online"
    assert findings(machine.write("proc/cpuinfo", CPUINFO.format(siblings=2, more="")), smt="off")["smt"].current == "off"


# --- the rest ---------------------------------------------------------------------------------------------------------


def test_what_a_machine_tells_where_nothing_is_wanted(machine: FixtureMachine) -> None:
    found = findings(machine)
    assert [name for name, setting in found.items() if setting.state not in (OK, UNSUPPORTED)] == []
    assert {name: found[name].current for name in model.FINDINGS} == {
        "machine": "bare-metal", "firmware": "Dell Inc. PowerEdge R650 1.9.2 (2022-11-17)", "microcode": "0xd0003a5 (06-6a-06)", "smt": "on",
        "numa": "2 nodes on 2 sockets", "memory": "3 of 4 slots: 2 x 16 GiB at 2933 MT/s, 1 x 16 GiB at 3200 MT/s",
        "idle_states": "POLL 0 us, C1 1 us, C6 170 us", "frequency_driver": "intel_pstate", "governor": "powersave",
        "energy_performance_preference": "balance_performance", "turbo": "on", "iommu": "off", "x2apic": None, "tsc": "unreliable", "clocksource": "hpet",
        "smis": None}
    assert "captured tree" in found["x2apic"].reason and "captured tree" not in found["machine"].reason


@pytest.mark.parametrize(("name", "wish", "words"), [
    ("nodes_per_socket", 2, "NUMA Nodes Per Socket"), ("memory", "balanced", "different speeds"), ("memory", "balanced", "slower than they can: A1, A2"),
    ("memory", "balanced", "sockets have different amounts: A 32 GiB, B 16 GiB"), ("memory", "balanced", "nodes have different amounts"),
    ("idle_latency_us", 2, "C6 takes 170 us to leave, on CPUs 0-7"), ("frequency_driver", "acpi-cpufreq", "OS DBPM"), ("governor", "performance", "cpu_power"),
    ("energy_performance_preference", "performance", "cpu_power"), ("turbo", False, "Turbo Boost"), ("iommu", True, "intel_iommu=on"),
    ("tsc", "reliable", "Marking TSC unstable"), ("clocksource", "tsc", "hpet, acpi_pm"), ("microcode", {"06-6a-06": "0xd0003d1"}, "intel-microcode"),
    ("firmware", {"PowerEdge R650": {"minimum": "1.10"}}, "update the BIOS"), ("firmware", {"PowerEdge R650": {"not_before": "2024-01-01"}}, "update")])
def test_what_is_not_as_wanted_is_a_finding_with_its_remedy(machine: FixtureMachine, name: str, wish: Any, words: str) -> None:
    place = {"nodes_per_socket": "numa", "idle_latency_us": "idle_states"}.get(name, name)
    found = findings(machine, **{name: wish})[place]
    assert found.state == DRIFTED and words in found.reason and found.current != found.desired


@pytest.mark.parametrize(("name", "wish"), [
    ("nodes_per_socket", 1), ("idle_latency_us", 170), ("frequency_driver", "intel_pstate"), ("turbo", True), ("turbo", "on"), ("iommu", "off"),
    ("clocksource", "hpet"), ("microcode", {"06-6a-06": "0xd0003a5"}), ("microcode", {"06-55-07": "0xffffffff"}), ("machine", "bare-metal"),
    ("firmware", {"PowerEdge R650": {"minimum": "1.9"}}), ("firmware", {"PowerEdge R650": {"exact": "1.9.2", "not_before": "2022-11-17"}}),
    ("firmware", {"PowerEdge R750": {"exact": "9"}})])
def test_what_is_as_wanted_is_right(machine: FixtureMachine, name: str, wish: Any) -> None:
    assert [setting.name for setting in findings(machine, **{name: wish}).values() if setting.state not in (OK, UNSUPPORTED)] == []


def test_idle_states_count_on_the_application_s_cpus_and_where_they_are_on(machine: FixtureMachine) -> None:
    for cpu in (3, 7):
        machine.write(f"{CPU}/cpu{cpu}/cpuidle/state2/disable", "1\n")
    assert findings(machine, None, "3,7", idle_latency_us=2)["idle_states"].state == OK
    assert "on CPUs 2" in findings(machine, None, "2-3,7", idle_latency_us=2)["idle_states"].reason
    assert findings(machine, None, "3,7", idle_latency_us=0)["idle_states"].state == DRIFTED


def test_cpus_that_differ_are_told_apart(machine: FixtureMachine) -> None:
    machine.write(f"{CPU}/cpu3/cpufreq/scaling_governor", "performance\n").write(f"{CPU}/cpu7/microcode/version", "0xd0003d1\n")
    found = findings(machine, governor="performance")
    assert found["governor"].current == "powersave on 0-2,4-7, performance on 3" and found["governor"].state == DRIFTED
    assert found["microcode"].state == DRIFTED and "0xd0003d1 on 7" in str(found["microcode"].current), "one revision, whatever the policy"


def test_sockets_without_nodes_of_their_own_are_told(machine: FixtureMachine) -> None:
    machine.node(0, "0-7", 4000)
    for path in sorted((machine.root / "sys/devices/system/node/node1").iterdir()):
        path.unlink()
    (machine.root / "sys/devices/system/node/node1").rmdir()
    found = findings(machine)["numa"]
    assert (found.state, found.current) == (DRIFTED, "1 node on 2 sockets") and "Node Interleaving" in found.reason


def test_an_iommu_that_works_and_one_that_is_not_offered(machine: FixtureMachine) -> None:
    machine.write("sys/class/iommu/dmar0/x", "")
    assert findings(machine, iommu="on")["iommu"].state == OK
    assert findings(machine, iommu="off")["iommu"].state == DRIFTED
    machine.remove("sys/class/iommu/dmar0/x").remove("sys/firmware/acpi/tables/DMAR")
    (machine.root / "sys/class/iommu/dmar0").rmdir()
    assert "does not offer it" in findings(machine, iommu="on")["iommu"].reason


def test_hpe_names_a_family_where_others_have_a_version(machine: FixtureMachine) -> None:
    machine.write(f"{DMI}/sys_vendor", "HPE\n").write(f"{DMI}/product_name", "ProLiant DL360 Gen10\n").write(f"{DMI}/bios_version", "U32\n")
    machine.write(f"{DMI}/bios_release", "2.68\n")
    assert findings(machine, firmware={"ProLiant DL360 Gen10": {"minimum": "2.60"}})["firmware"].state == OK
    found = findings(machine, smt="off", firmware={"ProLiant DL360 Gen10": {"minimum": "2.70"}})
    assert found["firmware"].state == DRIFTED and "U32 2.68" in str(found["firmware"].current)
    assert "RBSU" in found["smt"].reason


# --- slots ------------------------------------------------------------------------------------------------------------


def test_the_slot_of_each_nic_by_the_kernel_s_name_or_the_bios_s(machine: FixtureMachine) -> None:
    machine.write("sys/bus/pci/slots/7/address", "0000:02:00\n")
    nics = [{"pci": "0000:01:00.0", "application_cpus": "1,5"}, {"pci": "0000:02:00.0", "application_cpus": "1,5"}, {"interface": "eth9"}]
    found = findings(machine, nics)
    # two_sockets has no link from the interface to its device: they are found by their place
    assert found["0000:01:00.0.pci_slot"].current == "slot PCIe Slot 3, on node 0"
    far = found["0000:02:00.0.pci_slot"]
    assert far.state == DRIFTED and str(far.current).startswith("slot 7, on node 1") and "move the card to a slot of node 0" in far.reason
    assert found["eth9.pci_slot"].state == ERROR


# --- machines that are none, and broken ones --------------------------------------------------------------------------


def test_in_a_container_nothing_is_told(machine: FixtureMachine) -> None:
    found = findings(machine.write("run/systemd/container", "podman\n"), smt="off", smis=0, memory="balanced")
    assert set(found) == set(model.FINDINGS)
    assert {setting.state for setting in found.values()} == {UNSUPPORTED} and found["smt"].desired == "off"
    assert {setting.reason for setting in found.values()} == {"belongs to the machine, not to this container (podman)"}


def test_in_a_virtual_machine_the_hypervisor_s_part_is_not_judged(machine: FixtureMachine) -> None:
    machine.write(f"{DMI}/sys_vendor", "QEMU\n").write("proc/cpuinfo", CPUINFO.format(siblings=4, more=" hypervisor"))
    found = findings(machine, smt="off", smis=0, memory="balanced", firmware={"x": {"exact": "1"}}, microcode={"06-6a-06": "0xffffffff"}, tsc="reliable",
                     clocksource="tsc", nodes_per_socket=4, machine="bare-metal")
    assert [name for name, setting in found.items() if setting.state == DRIFTED] == ["machine", "smt"]
    assert "hypervisor (kvm)" in found["smt"].reason and "virtual (kvm)" in found["memory"].reason


def test_a_tree_without_cpus_is_an_error(tmp_path: Path) -> None:
    (setting,) = findings(FixtureMachine(tmp_path)).values()
    assert setting.state == ERROR and "no online CPU" in setting.reason


def test_files_that_are_garbage_fail_nothing(machine: FixtureMachine) -> None:
    for path in sorted(machine.root.rglob("*")):
        if path.is_file() and not path.is_symlink() and "topology" not in path.parts and path.name not in ("online", "present", "possible"):
            path.write_bytes(b"\xff\xfe\x00[=\x80\n")
    found = findings(machine, smt="off", idle_latency_us=1, smis=0, memory="balanced", turbo="on")
    assert found["smt"].current == "on" and found["turbo"].state == UNSUPPORTED and found["idle_states"].state == UNSUPPORTED


def test_the_table_is_for_root(machine: FixtureMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_host: Host, _name: str) -> bytes:
        raise PermissionError(13, "Permission denied")
    monkeypatch.setattr(Host, "read_bytes", refused)
    assert reading._table(Host(str(machine.root))) == (b"", "/sys/firmware/dmi/tables/DMI is for root only")


# --- counting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("counts", "allowed", "state"), [((0, 0), 0, OK), ((0, 3), 0, DRIFTED), ((2, 3), 3, OK)])
def test_interrupts_of_the_firmware_are_counted(
        machine: FixtureMachine, monkeypatch: pytest.MonkeyPatch, counts: tuple[int, int], allowed: int, state: str) -> None:
    machine.write("sys/bus/event_source/devices/msr/type", "10\n").write("sys/bus/event_source/devices/msr/events/smi", "event=0x04\n")
    waiting, opened = list(counts), []

    def counter(kind: int, config: int, cpu: int) -> int:
        opened.append((kind, config, cpu))
        ends = os.pipe()
        os.write(ends[1], waiting.pop(0).to_bytes(8, "little"))
        os.close(ends[1])
        return ends[0]
    monkeypatch.setattr(reading, "_perf_event", counter)
    monkeypatch.setattr(Host, "live", property(lambda self: True))
    monkeypatch.setattr(Host, "followed", lambda self, name: os.path.join(self.root, name.lstrip("/")))
    host = Host(str(machine.root))
    counting = reading._SmiCount(host, reading.read_topology(host), 0.05)
    smis, problem = counting.read()
    assert opened == [(10, 4, 0), (10, 4, 2)] and problem == "" and smis == max(counts)
    told = replace(reading.read_bios(Host(str(machine.root)), {}), smis=smis, smi_seconds=0.05, virtual="none")
    found = next(judged(setting) for setting in model.plan(told, {"policy": {"smis": allowed}}).settings if setting.name == "smis")
    assert found.state == state and f"{max(counts)} in 0.05 s" in (found.reason if state == OK else str(found.current))


def test_this_machine_s_own_counters_count() -> None:
    kind = Host().read_if_there("/sys/bus/event_source/devices/msr/type")
    if kind is None or not Host().exists("/sys/bus/event_source/devices/msr/events/tsc"):
        pytest.skip("this machine has no counters of registers")
    try:
        descriptor = reading._perf_event(int(kind), 0, 0)  # the TSC, which always goes on
    except OSError as error:
        pytest.skip(f"perf_event_open: {error.strerror}")
    one, other = (int.from_bytes(os.read(descriptor, 8), "little") for _reading in range(2))
    os.close(descriptor)
    assert 0 < one < other
    with pytest.raises(OSError, match="Invalid argument"):
        reading._perf_event(int(kind), 1 << 20, 0)


def test_an_audit_of_this_machine_fails_nothing() -> None:
    spec = {"policy": {"smt": "off", "smis": 0}, "smi_seconds": 0.01}
    assert len(model.plan(reading.read_bios(Host(), spec), spec).settings) == len(model.FINDINGS)


# --- real machines ----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not TRUTHS, reason="no captured machines at hand")
@pytest.mark.parametrize("path", TRUTHS, ids=lambda path: path.stem)
def test_captured_machines_show_what_lstopo_and_lscpu_saw(path: Path, tmp_path: Path) -> None:
    truth = json.loads(path.read_text())
    with tarfile.open(CAPTURES / truth["tarball"]) as tarball:
        tarball.extraction_filter = lambda member, path: member
        tarball.extractall(tmp_path)
    spec = {"policy": {"smt": "off"}}
    state = reading.read_bios(Host(str(tmp_path)), spec)
    found = {setting.name: judged(setting) for setting in model.plan(state, spec).settings}
    if "topology" in found:
        assert found["topology"].state == ERROR and not truth["reference_available"]
        return
    assert set(found) == set(model.FINDINGS) and all(setting.state != ERROR for setting in found.values())
    if truth["siblings"] is not None:
        shared = len(set(truth["siblings"].values())) < len(truth["siblings"])
        assert (found["smt"].current in ("on", "siblings-idle")) == shared
        assert (found["smt"].state == OK) == (found["smt"].current == "off")
    if truth["nodes"]:
        nodes = sum(1 for cpus in truth["nodes"].values() if cpus)
        assert str(found["numa"].current).startswith(f"{nodes} node"), found["numa"].current
