# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The machine a lab host is, as QEMU arguments: two sockets, SMT, two NUMA nodes, igb NICs on both. Starts nothing."""

from __future__ import annotations

from pathlib import Path

CPU_MODEL = "Skylake-Server"
NODES = (0, 1)
# The node of each igb NIC: one on each node for the kernel, and one more for kernel bypass.
NIC_NODES = (0, 1, 1)
NODE_MEMORY = "2G"
REMOTE_DISTANCE = 21
PXB_BUSES = (64, 128)


def machine(accelerator: str, *, iommu: bool, threads: int = 2) -> list[str]:
    """The same machine under every accelerator; without disks and NICs. 8 CPUs, whether a core has one of them or two."""
    arguments = [
        *("-nodefaults", "-display", "none", "-accel", accelerator, "-cpu", CPU_MODEL),
        *("-machine", "q35,kernel-irqchip=split" if iommu else "q35"),
        *("-smp", f"8,sockets=2,cores={4 // threads},threads={threads}", "-m", f"{len(NODES) * int(NODE_MEMORY[:-1])}G"),
    ]
    for node in NODES:
        arguments += ["-object", f"memory-backend-ram,id=ram{node},size={NODE_MEMORY}"]
        arguments += ["-numa", f"node,nodeid={node},memdev=ram{node}"]
        arguments += ["-numa", f"cpu,node-id={node},socket-id={node}"]
    arguments += ["-numa", f"dist,src=0,dst=1,val={REMOTE_DISTANCE}"]
    if iommu:
        arguments += ["-device", "intel-iommu,intremap=on"]
    for node, bus in zip(NODES, PXB_BUSES):
        arguments += ["-device", f"pxb-pcie,id=pxb{node},bus=pcie.0,bus_nr={bus},numa_node={node}"]
    for nic, node in enumerate(NIC_NODES):
        arguments += ["-device", f"pcie-root-port,id=port{nic},bus=pxb{node},chassis={nic + 1}"]
    return arguments


def disk(overlay: Path) -> list[str]:
    return [
        *("-drive", f"file={overlay},format=qcow2,if=none,id=disk,cache=unsafe,discard=unmap"),
        *("-device", "virtio-blk-pci,bus=pcie.0,addr=0x11,drive=disk"),
    ]


def management_nic(name: str, ssh_port: int) -> list[str]:
    return [
        *("-netdev", f"user,id=management,hostfwd=tcp:127.0.0.1:{ssh_port}-:22"),
        *("-device", f"virtio-net-pci,bus=pcie.0,addr=0x10,romfile=,netdev=management,mac={mac(name, 'ff')}"),
    ]


def data_nics(name: str, local: list[int], peer: list[int]) -> list[str]:
    """The igb NICs. A wire is a pair of UDP ports on loopback, so either end may come and go like a real one."""
    arguments = []
    for nic in range(len(NIC_NODES)):
        arguments += [
            "-netdev",
            f"dgram,id=wire{nic},local.type=inet,local.host=127.0.0.1,local.port={local[nic]}"
            f",remote.type=inet,remote.host=127.0.0.1,remote.port={peer[nic]}",
            "-device",
            f"igb,bus=port{nic},romfile=,netdev=wire{nic},mac={mac(name, f'{nic:02x}')}",
        ]
    return arguments


def mac(name: str, nic: str) -> str:
    """lab-a's second NIC is 52:54:00:4c:0a:01; the image's network files go by these."""
    return f"52:54:00:4c:0{name[-1]}:{nic}"
