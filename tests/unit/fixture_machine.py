# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds small machines as file trees, for tests; never looks at the machine the tests run on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

CPU = "sys/devices/system/cpu"
NODE = "sys/devices/system/node"


def cpulist(cpus: Iterable[int]) -> str:
    """A CPU list written the long way, so that no code under test makes its own fixtures."""
    return ",".join(str(cpu) for cpu in sorted(cpus))


def mask(cpus: Iterable[int]) -> str:
    value = f"{sum(1 << cpu for cpu in cpus):x}"
    value = value.zfill((len(value) + 7) // 8 * 8)
    return ",".join(value[start:start + 8] for start in range(0, len(value), 8))


class FixtureMachine:
    """A file tree below ``root`` that looks like one machine."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, name: str, text: str | bytes) -> FixtureMachine:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return self

    def remove(self, name: str) -> FixtureMachine:
        (self.root / name).unlink()
        return self

    def link(self, name: str, target: str) -> FixtureMachine:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)
        return self

    def core(self, cpus: Iterable[int], package: int, core_id: int, package_cpus: Iterable[int], *, masks: bool = False) -> FixtureMachine:
        """The topology folders of one core's CPUs, in the new style or (``masks``) that of kernels before 2.6.26."""
        cpus, package_cpus = list(cpus), list(package_cpus)
        for cpu in cpus:
            folder = f"{CPU}/cpu{cpu}/topology"
            self.write(f"{folder}/physical_package_id", f"{package}\n").write(f"{folder}/core_id", f"{core_id}\n")
            if masks:
                self.write(f"{folder}/thread_siblings", mask(cpus) + "\n").write(f"{folder}/core_siblings", mask(package_cpus) + "\n")
            else:
                self.write(f"{folder}/core_cpus_list", cpulist(cpus) + "\n").write(f"{folder}/package_cpus_list", cpulist(package_cpus) + "\n")
        return self

    def lists(self, online: str, present: str | None = None, possible: str | None = None) -> FixtureMachine:
        self.write(f"{CPU}/online", online + "\n").write(f"{CPU}/present", (present or online) + "\n")
        return self.write(f"{CPU}/possible", (possible or present or online) + "\n")

    def node(self, node: int, cpus: str, total_kib: int, distance: str = "10") -> FixtureMachine:
        folder = f"{NODE}/node{node}"
        self.write(f"{folder}/cpulist", cpus + "\n").write(f"{folder}/distance", distance + "\n")
        meminfo = f"Node {node} MemTotal:       {total_kib} kB\nNode {node} MemFree:        {total_kib // 2} kB\n"
        return self.write(f"{folder}/meminfo", meminfo)

    def pci(self, address: str, files: Mapping[str, str], *, absolute: bool = False) -> str:
        """A PCI device with those files; gives its folder."""
        folder = f"sys/devices/pci0000:00/{address}"
        self.link(f"sys/bus/pci/devices/{address}", ("/" if absolute else "../../../../") + folder)
        for name, text in files.items():
            self.write(f"{folder}/{name}", text + "\n")
        return folder

    def nic(self, address: str, node: int, local: str | None, *, interface: str = "", queues: int = 0, pci_class: str = "0x020000") -> str:
        files = {"class": pci_class, "vendor": "0x8086", "device": "0x1521", "numa_node": str(node)}
        if local is not None:
            files["local_cpulist"] = local
        folder = self.pci(address, files)
        if interface:
            self.write(f"{folder}/net/{interface}/address", "02:00:00:00:00:01\n").write(f"{folder}/net/{interface}/type", "1\n")
        for queue in range(queues):
            self.write(f"{folder}/net/{interface}/queues/rx-{queue}/rps_cpus", "0\n")
        return folder


def two_sockets(root: Path, *, cores: int = 2, threads: int = 2, masks: bool = False) -> FixtureMachine:
    """Two sockets, a NUMA node each; siblings are N and N + all cores, as on x86 servers. Two NICs, one on each node."""
    machine = FixtureMachine(root)
    total = 2 * cores
    for package in (0, 1):
        first = range(package * cores, (package + 1) * cores)
        members = [core + total * thread for thread in range(threads) for core in first]
        for number, core in enumerate(first):
            machine.core([core + total * thread for thread in range(threads)], package, number, members, masks=masks)
            for thread in range(threads):
                cache = f"{CPU}/cpu{core + total * thread}/cache/index3"
                machine.write(f"{cache}/level", "3\n").write(f"{cache}/shared_cpu_list", cpulist(members) + "\n")
        machine.node(package, cpulist(members), 1000 * (package + 1), "10 21" if package == 0 else "21 10")
        machine.nic(f"0000:0{package + 1}:00.0", package, cpulist(members), interface=f"eth{package}", queues=2)
    machine.write(f"{NODE}/has_memory", "0-1\n")
    return machine.lists(f"0-{total * threads - 1}")
