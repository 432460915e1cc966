# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading machines: whole ones, odd ones, broken ones, and every captured one that lies next to the repository."""

from __future__ import annotations

import errno
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.machine import Host
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.topology import read_topology
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.topology import Memory, Topology, TopologyError
from ansible_collections.lowlatency.fleet.tests.unit.fixture_machine import CPU, NODE, FixtureMachine, two_sockets

CAPTURES = Path(__file__).resolve().parents[6] / "shared" / "captures"
TRUTHS = sorted((CAPTURES / "truth").glob("*.json")) if CAPTURES.is_dir() else []


def read(machine: FixtureMachine) -> Topology:
    return read_topology(Host(str(machine.root)))


def plain(machine: FixtureMachine) -> dict[str, Any]:
    return read(machine).to_dict()


def test_a_whole_machine(tmp_path: Path) -> None:
    topology = read(two_sockets(tmp_path))
    result = topology.to_dict()
    assert result["cpus_online"] == "0-7"
    assert result["cpus_offline"] == ""
    assert result["nodes"] == {"0": "0-1,4-5", "1": "2-3,6-7"}
    assert result["siblings"] == {"0": "0,4", "1": "1,5", "2": "2,6", "3": "3,7", "4": "0,4", "5": "1,5", "6": "2,6", "7": "3,7"}
    assert result["sockets"] == {"0": "0-1,4-5", "1": "2-3,6-7"}
    assert result["l3"]["5"] == "0-1,4-5"
    assert result["distances"] == {"0": {"0": 10, "1": 21}, "1": {"0": 21, "1": 10}}
    assert topology.memory == {0: Memory(1000, 500), 1: Memory(2000, 1000)}
    assert result["memory_nodes"] == "0-1"
    assert result["nr_cpus"] == 8
    assert result["gaps"] == []
    assert [(nic.pci, nic.numa_node, nic.local_cpulist, nic.queues) for nic in topology.nics] == [
        ("0000:01:00.0", 0, "0-1,4-5", 2),
        ("0000:02:00.0", 1, "2-3,6-7", 2),
    ]


def test_masks_of_old_kernels_tell_the_same(tmp_path: Path) -> None:
    new = plain(two_sockets(tmp_path / "new"))
    old = plain(two_sockets(tmp_path / "old", masks=True))
    assert old == new


def test_a_nic_with_everything(tmp_path: Path) -> None:
    machine = two_sockets(tmp_path)
    folder = "sys/devices/pci0000:00/0000:01:00.0"
    for name, text in {
        "current_link_width": "4", "max_link_width": "8", "current_link_speed": "5.0 GT/s PCIe", "max_link_speed": "8.0 GT/s PCIe",
        "msi_irqs/101": "msix", "msi_irqs/33": "msix",
    }.items():
        machine.write(f"{folder}/{name}", text + "\n")
    machine.link(f"{folder}/driver", "../../../bus/pci/drivers/igb")
    nic = read(machine).nics[0]
    assert (nic.driver, nic.interfaces, nic.mac) == ("igb", ("eth0",), "02:00:00:00:00:01")
    assert (nic.link_width, nic.link_width_max, nic.link_speed, nic.link_speed_max) == (4, 8, "5.0 GT/s PCIe", "8.0 GT/s PCIe")
    assert nic.interrupts == (33, 101)
    assert (nic.pci_class, nic.pci_id) == ("0200", "8086:1521")


def test_interfaces_behind_virtio_and_of_old_kernels_are_found(tmp_path: Path) -> None:
    machine = two_sockets(tmp_path)
    virtio = machine.nic("0000:03:00.0", -1, None)
    machine.write(f"{virtio}/virtio3/net/ens3/address", "02:00:00:00:00:03\n").write(f"{virtio}/virtio3/net/ens3/queues/rx-0/x", "")
    old = machine.nic("0000:04:00.0", -1, None)
    machine.write(f"{old}/net:eth4/address", "02:00:00:00:00:04\n")
    nics = {nic.pci: nic for nic in read(machine).nics}
    assert (nics["0000:03:00.0"].interfaces, nics["0000:03:00.0"].mac, nics["0000:03:00.0"].queues) == (("ens3",), "02:00:00:00:00:03", 1)
    assert (nics["0000:04:00.0"].interfaces, nics["0000:04:00.0"].mac) == (("eth4",), "02:00:00:00:00:04")


def test_other_network_classes_count_when_they_drive_wired_ethernet(tmp_path: Path) -> None:
    machine = two_sockets(tmp_path)
    machine.nic("0000:10:00.0", 0, "0", interface="ens1", pci_class="0x028000")
    wifi = machine.nic("0000:11:00.0", 0, "0", interface="wlan0", pci_class="0x028000")
    machine.write(f"{wifi}/net/wlan0/phy80211/name", "phy0\n")
    infiniband = machine.nic("0000:12:00.0", 0, "0", interface="ib0", pci_class="0x020700")
    machine.write(f"{infiniband}/net/ib0/type", "32\n")
    machine.nic("0000:13:00.0", 0, "0", pci_class="0x010802")
    assert [nic.pci for nic in read(machine).nics] == ["0000:01:00.0", "0000:02:00.0", "0000:10:00.0"]


def test_an_unknown_node_is_minus_one_and_says_nothing_of_locality(tmp_path: Path) -> None:
    machine = two_sockets(tmp_path)
    machine.nic("0000:05:00.0", -1, None)
    machine.nic("0000:06:00.0", 1, None)
    machine.nic("0000:07:00.0", 9, None)
    topology = read(machine)
    nics = {nic.pci: (nic.numa_node, nic.local_cpulist) for nic in topology.nics}
    assert nics["0000:05:00.0"] == (-1, "")
    assert nics["0000:06:00.0"] == (1, "2-3,6-7")
    assert nics["0000:07:00.0"] == (9, "")
    assert [gap for gap in topology.gaps if "node 9" in gap]


def test_the_device_itself_knows_best_what_is_local(tmp_path: Path) -> None:
    machine = two_sockets(tmp_path)
    machine.nic("0000:05:00.0", -1, "0-7")
    folder = machine.nic("0000:06:00.0", 0, None)
    machine.write(f"{folder}/local_cpus", "0000,000000c0\n")
    nics = {nic.pci: (nic.numa_node, nic.local_cpulist) for nic in read(machine).nics}
    assert nics["0000:05:00.0"] == (-1, "0-7")
    assert nics["0000:06:00.0"] == (0, "6-7")


def test_unknown_link_values_are_not_taken_for_values(tmp_path: Path) -> None:
    machine = two_sockets(tmp_path)
    folder = "sys/devices/pci0000:00/0000:01:00.0"
    machine.write(f"{folder}/current_link_width", "255\n").write(f"{folder}/current_link_speed", "Unknown speed\n")
    nic = read(machine).nics[0]
    assert (nic.link_width, nic.link_speed) == (0, "")


def test_offline_cpus_are_in_no_set(tmp_path: Path) -> None:
    machine = two_sockets(tmp_path).lists("0-3,5-7", "0-7", "0-15")
    result = plain(machine)
    assert (result["cpus_online"], result["cpus_offline"], result["nr_cpus"]) == ("0-3,5-7", "4", 16)
    assert result["nodes"] == {"0": "0-1,5", "1": "2-3,6-7"}
    assert result["siblings"]["0"] == "0"
    assert "4" not in result["siblings"]
    assert result["sockets"]["0"] == result["l3"]["0"] == "0-1,5"
    assert result["nics"][0]["local_cpulist"] == "0-1,5"


@pytest.mark.parametrize("blank", [None, "", "\n", "\0" * 4096, "0-", "\x7fELF\x02\xff", "0-99999999999"])
def test_without_usable_lists_the_folders_tell(tmp_path: Path, blank: str | None) -> None:
    machine = two_sockets(tmp_path)
    for name in ("online", "present", "possible"):
        machine.remove(f"{CPU}/{name}")
        if blank is not None:
            machine.write(f"{CPU}/{name}", blank)
    machine.write(f"{CPU}/cpu4/online", "0\n").write(f"{CPU}/cpu5/online", "1\n")
    topology = read(machine)
    assert topology.online == frozenset({0, 1, 2, 3, 5, 6, 7})
    assert topology.offline == frozenset({4})
    assert topology.nr_cpus == 8
    assert any(gap.startswith(f"/{CPU}/online") for gap in topology.gaps) == (blank is not None)


def test_an_online_list_cut_short_is_contradicted_by_the_cpus(tmp_path: Path) -> None:
    machine = two_sockets(tmp_path)
    machine.write(f"{CPU}/online", "0-3")
    for cpu in range(1, 8):
        machine.write(f"{CPU}/cpu{cpu}/online", "1\n")
    topology = read(machine)
    assert topology.online == frozenset(range(8))
    assert [gap for gap in topology.gaps if "4-7" in gap]


def test_holes_in_the_numbering(tmp_path: Path) -> None:
    machine = FixtureMachine(tmp_path)
    machine.core([3, 11], 7, 0, [3, 11]).core([40], 9, 0, [40]).lists("3,11,40", possible="0-63")
    machine.node(4, "3,11", 10, "10 20").node(33, "40", 10, "20 10")
    result = plain(machine)
    assert result["siblings"] == {"3": "3,11", "11": "3,11", "40": "40"}
    assert result["sockets"] == {"7": "3,11", "9": "40"}
    assert result["distances"]["33"] == {"4": 20, "33": 10}
    assert (result["nr_cpus"], result["gaps"]) == (64, [])


def test_nodes_without_cpus_and_nodes_without_memory(tmp_path: Path) -> None:
    machine = two_sockets(tmp_path)
    machine.node(0, "0-1,4-5", 0, "10 21 17").node(1, "2-3,6-7", 1000, "21 10 28").node(2, "", 5000, "17 28 10")
    machine.write(f"{NODE}/has_memory", "1-2\n")
    topology = read(machine)
    assert topology.nodes[2] == frozenset()
    assert topology.memory_nodes == {1, 2}
    assert topology.gaps == ()
    machine.remove(f"{NODE}/has_memory")
    assert read(machine).memory_nodes == {1, 2}


def test_a_kernel_without_numa_and_without_topology(tmp_path: Path) -> None:
    machine = FixtureMachine(tmp_path).lists("0-1").write(f"{CPU}/cpu0/uevent", "").write(f"{CPU}/cpu1/uevent", "")
    topology = read(machine)
    assert (topology.nodes, topology.sockets, topology.memory, topology.nics) == ({}, {}, {}, ())
    assert topology.siblings == {0: frozenset({0}), 1: frozenset({1})}
    assert [gap for gap in topology.gaps if "of CPU 0-1" in gap and "core of its own" in gap]


def test_more_than_1024_cpus(tmp_path: Path) -> None:
    result = plain(two_sockets(tmp_path, cores=300))
    assert result["cpus_online"] == "0-1199"
    assert result["siblings"]["1199"] == "599,1199"
    assert result["gaps"] == []


def test_packages_without_numbers_are_counted(tmp_path: Path) -> None:
    machine = FixtureMachine(tmp_path).lists("0-3")
    machine.core([0], -1, -1, [0, 1]).core([1], -1, -1, [0, 1]).core([2], -1, -1, [2, 3]).core([3], -1, -1, [2, 3])
    assert plain(machine)["sockets"] == {"?0": "0-1", "?1": "2-3"}


def test_package_numbers_used_twice_do_not_join_sockets(tmp_path: Path) -> None:
    machine = FixtureMachine(tmp_path).lists("0-1").core([0], 0, 0, [0]).core([1], 0, 0, [1])
    assert plain(machine)["sockets"] == {"0": "0", "?1": "1"}


def test_numbers_tell_where_lists_are_missing(tmp_path: Path) -> None:
    machine = two_sockets(tmp_path)
    for cpu in range(8):
        machine.remove(f"{CPU}/cpu{cpu}/topology/core_cpus_list").remove(f"{CPU}/cpu{cpu}/topology/package_cpus_list")
    result = plain(machine)
    assert result["siblings"]["6"] == "2,6"
    assert result["sockets"] == {"0": "0-1,4-5", "1": "2-3,6-7"}
    assert result["gaps"] == []


def test_a_core_list_cut_short_never_splits_a_core(tmp_path: Path) -> None:
    machine = two_sockets(tmp_path)
    machine.write(f"{CPU}/cpu0/topology/core_cpus_list", "0").write(f"{CPU}/cpu0/topology/package_cpus_list", "0-1")
    topology = read(machine)
    assert topology.siblings[0] == topology.siblings[4] == {0, 4}
    assert topology.sockets == {"0": frozenset({0, 1, 4, 5}), "1": frozenset({2, 3, 6, 7})}
    assert [gap for gap in topology.gaps if "disagree about their cores" in gap]
    assert [gap for gap in topology.gaps if "disagree about their sockets" in gap]


DAMAGES: dict[str, Callable[[Path], None]] = {
    "empty": lambda path: path.write_bytes(b""),
    "nul bytes": lambda path: path.write_bytes(b"\0" * 65536),
    "binary": lambda path: path.write_bytes(b"\x7fELF\xff\xfe\x80"),
    "cut short": lambda path: path.write_bytes(b"0-"),
    "huge": lambda path: path.write_bytes(b"9" * 3_000_000),
    "folder": lambda path: path.mkdir(),
    "dangling": lambda path: path.symlink_to("/nowhere/at/all"),
    "loop": lambda path: path.symlink_to(path.name),
    "pipe": os.mkfifo,
}
DAMAGED = [
    f"{CPU}/online", f"{CPU}/possible", f"{CPU}/cpu0/topology/core_cpus_list", f"{CPU}/cpu0/topology/package_cpus_list",
    f"{CPU}/cpu0/topology/physical_package_id", f"{CPU}/cpu0/cache/index3/level", f"{CPU}/cpu0/cache/index3/shared_cpu_list",
    f"{NODE}/node0/cpulist", f"{NODE}/node0/meminfo", f"{NODE}/node0/distance", f"{NODE}/has_memory",
    "sys/devices/pci0000:00/0000:01:00.0/class", "sys/devices/pci0000:00/0000:01:00.0/numa_node",
    "sys/devices/pci0000:00/0000:01:00.0/local_cpulist", "sys/devices/pci0000:00/0000:01:00.0/net/eth0/address",
]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", DAMAGED)
def test_one_damaged_file_is_a_gap_and_the_rest_stays(tmp_path: Path, name: str, damage: str) -> None:
    machine = two_sockets(tmp_path).remove(name)
    DAMAGES[damage](tmp_path / name)
    topology = read(machine)
    assert topology.online == frozenset(range(8))
    assert topology.siblings[4] == {0, 4}
    assert all(len(gap) < 500 for gap in topology.gaps)
    if damage in ("binary", "cut short") and not name.endswith(("/class", "/address", "/level", "/physical_package_id")):
        assert [gap for gap in topology.gaps if name.rpartition("/")[2] in gap], topology.gaps
    if damage in ("empty", "nul bytes", "folder", "loop", "pipe"):
        assert [gap for gap in topology.gaps if name.rpartition("/")[2] in gap], topology.gaps
    assert Topology.from_dict(json.loads(json.dumps(topology.to_dict()))) == topology


@pytest.mark.parametrize("folder", [CPU + "/cpu0/topology", NODE + "/node0", NODE, "sys/bus/pci/devices", "sys/devices/pci0000:00/0000:01:00.0"])
def test_a_file_where_a_folder_should_be(tmp_path: Path, folder: str) -> None:
    machine = two_sockets(tmp_path)
    (tmp_path / folder).rename(tmp_path / "away")
    machine.write(folder, "no folder\n")
    topology = read(machine)
    assert topology.siblings[4] == {0, 4}
    assert topology.gaps


def test_what_may_not_be_read_is_a_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = two_sockets(tmp_path)
    real = os.open

    def guarded(path: str, *arguments: Any, **options: Any) -> int:
        if str(path).endswith(("node1/cpulist", "cpu0/topology/core_cpus_list")):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return real(path, *arguments, **options)

    monkeypatch.setattr(os, "open", guarded)
    topology = read(machine)
    assert topology.siblings[0] == {0, 4}
    assert topology.nodes[1] == frozenset()
    assert sum("Permission denied" in gap for gap in topology.gaps) == 2


def test_many_cpus_with_the_same_fault_are_one_line(tmp_path: Path) -> None:
    machine = two_sockets(tmp_path)
    for cpu in range(8):
        machine.write(f"{CPU}/cpu{cpu}/topology/core_cpus_list", "")
    gaps = read(machine).gaps
    assert gaps == (f"/{CPU}/cpuN/topology/core_cpus_list of CPU 0-7: empty",)


@pytest.mark.parametrize("make", [lambda root: None, lambda root: (root / CPU).mkdir(parents=True), lambda root: (root / "sys").write_text("")])
def test_a_tree_without_cpus_is_refused_with_path_rule_and_remedy(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path)
    with pytest.raises(TopologyError) as refusal:
        read_topology(Host(str(tmp_path)))
    assert str(tmp_path / CPU) in str(refusal.value)
    assert "begins with the CPUs" in str(refusal.value)
    assert "sysroot" in str(refusal.value)


def test_absolute_links_stay_inside_the_tree(tmp_path: Path) -> None:
    machine = two_sockets(tmp_path / "machine")
    outside = FixtureMachine(tmp_path).write("outside/node/node0/cpulist", "0-1023\n")
    folder = machine.pci("0000:09:00.0", {"class": "0x020000", "numa_node": "1"}, absolute=True)
    machine.write(f"{folder}/vendor", "0x8086\n")
    machine.link(f"{folder}/local_cpulist", str(outside.root / "outside/node/node0/cpulist"))
    topology = read(machine)
    nic = next(nic for nic in topology.nics if nic.pci == "0000:09:00.0")
    assert (nic.numa_node, nic.local_cpulist) == (1, "2-3,6-7")


@pytest.mark.parametrize("target", ["{tmp}/outside", "../" * 40 + "{tmp}/outside"])
def test_no_link_of_a_folder_leads_out_of_the_tree(tmp_path: Path, target: str) -> None:
    machine = two_sockets(tmp_path / "machine")
    (tmp_path / "machine" / NODE).rename(tmp_path / "outside")
    machine.link(NODE, target.format(tmp=tmp_path))
    assert read(machine).nodes == {}


def test_absolute_links_are_followed_below_the_root(tmp_path: Path) -> None:
    machine = two_sockets(tmp_path)
    (tmp_path / NODE).rename(tmp_path / "elsewhere")
    machine.link(NODE, "/elsewhere")
    assert read(machine).nodes == {0: frozenset({0, 1, 4, 5}), 1: frozenset({2, 3, 6, 7})}


def test_a_nic_whose_pci_link_loops(tmp_path: Path) -> None:
    machine = two_sockets(tmp_path).link("sys/bus/pci/devices/0000:77:00.0", "0000:77:00.0")
    topology = read(machine)
    assert len(topology.nics) == 2
    assert [gap for gap in topology.gaps if "0000:77:00.0" in gap]


@pytest.mark.skipif(not TRUTHS, reason="no captures next to the repository")
@pytest.mark.parametrize("truth_file", TRUTHS, ids=lambda path: path.stem)
def test_a_captured_machine_agrees_with_lstopo_and_lscpu(tmp_path: Path, truth_file: Path) -> None:
    truth = json.loads(truth_file.read_text())
    with tarfile.open(CAPTURES / truth["tarball"]) as tarball:
        # The default of newer Pythons refuses the absolute links of a real machine.
        tarball.extraction_filter = lambda member, path: member
        tarball.extractall(tmp_path)
    try:
        topology = read_topology(Host(str(tmp_path)))
    except TopologyError as error:
        assert not truth["reference_available"], error
        return
    result = topology.to_dict()
    for name in ("cpus_online", "cpus_offline", "nodes", "siblings"):
        assert truth[name] is None or result[name] == truth[name], name
    if truth["sockets"] is not None:
        assert sorted(result["sockets"].values()) == sorted(truth["sockets"].values())
    if truth["nics"] is not None:
        assert [nic["pci"] for nic in result["nics"]] == [nic["pci"] for nic in truth["nics"]]
    for ours, theirs in zip(result["nics"], truth["nics"] or []):
        for name in ("class", "id", "numa_node", "local_cpulist"):
            assert theirs[name] is None or ours[name] == theirs[name], (ours["pci"], name)
    if not truth["reference_available"]:
        assert topology.gaps
    assert Topology.from_dict(json.loads(json.dumps(result))) == topology
