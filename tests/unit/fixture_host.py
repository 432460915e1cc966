# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine of ordinary files that can be tuned, what is wanted of it, and ways to see and to disturb every write."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils import runner
from ansible_collections.lowlatency.fleet.plugins.module_utils.host import (
    deployment,
    files,
    hugepages,
    irq,
    memory,
    nic_queues,
    tunables,
)
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.machine import Host
from ansible_collections.lowlatency.fleet.tests.unit.fixture_machine import FixtureMachine, two_sockets

PROGRAM = b"#!/usr/bin/python3\nthe agent\n"
NIC = "0000:01:00.0"
VENDOR_FILE = "usr/lib/sysctl.d/50-vendor.conf"

SYSCTL = {
    "vm.swappiness": "60",
    "kernel.numa_balancing": "1",
    "net.ipv4.tcp_sack": "0",
    "net.ipv4.tcp_dsack": "1",
    "net.ipv4.tcp_rmem": "4096\t131072\t6291456",
}
KERNEL_PART = {"values": {"vm.swappiness": 10, "kernel.numa_balancing": 0}}
TCP_PART = {"values": {"net.ipv4.tcp_sack": 1, "net.ipv4.tcp_dsack": 1, "net.ipv4.tcp_rmem": "4096 131072 16777216", "net.ipv4.tcp_nosuch": 1}}
IRQ_PART = {"isolated": "2-3,6-7", "housekeeping": "0-1,4-5", "nics": [{"pci": NIC, "cpus": "4-5"}]}
WANTED = {"tunables": {"kernel_tunables": KERNEL_PART, "tcp_tuning": TCP_PART}, "irq_affinity": {"irq_affinity": IRQ_PART}}

Tree = dict[str, tuple[str, int, int, bytes]]


def sysctl_path(root: Path, key: str) -> Path:
    return root / "proc/sys" / key.replace(".", "/")


def tunable_machine(root: Path) -> FixtureMachine:
    """Two sockets of two cores with two threads; NIC eth0 with two queues; everything drifted but tcp_dsack."""
    machine = two_sockets(root)
    for key, value in SYSCTL.items():
        machine.write(f"proc/sys/{key.replace('.', '/')}", value + "\n")
    for number, action, affinity in ((40, "eth0", "0-7"), (41, "eth0-TxRx-0", "0-7"), (42, "eth0-TxRx-1", "7"), (9, "acpi", "2"), (8, "rtc0", "0")):
        machine.write(f"proc/irq/{number}/smp_affinity_list", affinity + "\n").write(f"proc/irq/{number}/effective_affinity_list", affinity + "\n")
        (root / f"proc/irq/{number}/{action}").mkdir()
    machine.write("proc/irq/7/smp_affinity_list", "0-7\n")
    machine.write("proc/irq/default_smp_affinity", "ff\n")
    for number in (40, 41, 42):
        machine.write(f"sys/devices/pci0000:00/{NIC}/msi_irqs/{number}", "msix\n")
    for interface, address in (("eth0", NIC), ("eth1", "0000:02:00.0")):
        machine.link(f"sys/class/net/{interface}", f"../../devices/pci0000:00/{address}/net/{interface}")
        machine.link(f"sys/devices/pci0000:00/{address}/net/{interface}/device", "../../../" + address)
    machine.write(VENDOR_FILE, "vm.swappiness = 30\n")
    for folder in ("etc/sysctl.d", "etc/systemd/system", "run", "usr/local/sbin", "var/lib"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    return machine


def tree(root: Path) -> Tree:
    """Every file, folder and link: kind, mode, time of its last change, and content."""
    found = {}
    for path in sorted([root, *root.rglob("*")]):
        status = path.lstat()
        content = os.fsencode(os.readlink(path)) if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        found[str(path.relative_to(root))] = (stat.filemode(status.st_mode), status.st_uid, status.st_mtime_ns, content)
    return found


def content(root: Path, *, but: tuple[str, ...] = ()) -> dict[str, bytes]:
    """What all files hold, without those named."""
    return {name: entry[3] for name, entry in tree(root).items() if name not in but}


def begun(root: Path, documents: Any = None, program: bytes | None = PROGRAM) -> runner.Transaction:
    return runner.begin(Host(str(root)), WANTED if documents is None else documents, program)


class Writes:
    """Stands in for kernel and service manager: remembers each write, and refuses or forgets those it is told to.

    ``before`` is called with the name of what is about to be written; what it raises happens instead of the write.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: list[str] = []
        self.refused: dict[str, int] = {}
        self.forgotten: set[str] = set()
        self.before: Callable[[str], None] = lambda name: None
        real_kernel, real_whole = files.write_kernel_file, files.write_whole

        def write_kernel_file(host: Host, name: str, text: str) -> None:
            self._about_to(name)
            if name in self.refused:
                raise OSError(self.refused[name], os.strerror(self.refused[name]))
            if name not in self.forgotten:
                real_kernel(host, name, text)
                if name.endswith("/smp_affinity_list"):
                    real_kernel(host, name.replace("smp_", "effective_"), text)

        def write_whole(host: Host, name: str, content: bytes, mode: int) -> None:
            self._about_to(name)
            if name in self.refused:
                raise OSError(self.refused[name], os.strerror(self.refused[name]))
            real_whole(host, name, content, mode)

        def output_of(*command: str) -> str:
            self._about_to(" ".join(word for word in command if not word.startswith("--root=")))
            root = next(word.partition("=")[2] for word in command if word.startswith("--root="))
            link, unit = ((deployment.WATCH_ENABLED, deployment.WATCH_FILE) if command[-1] == deployment.WATCH
                          else (deployment.ENABLED, deployment.UNIT_FILE))
            Path(root + link).parent.mkdir(exist_ok=True)
            if not os.path.lexists(root + link):
                Path(root + link).symlink_to(unit)
            return ""

        monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # the speed of this machine's disk is not what is tested
        monkeypatch.setattr(tunables, "write_kernel_file", write_kernel_file)
        monkeypatch.setattr(hugepages, "write_kernel_file", write_kernel_file)
        monkeypatch.setattr(irq, "write_kernel_file", write_kernel_file)
        monkeypatch.setattr(nic_queues, "write_kernel_file", write_kernel_file)
        monkeypatch.setattr(memory, "write_whole", write_whole)
        monkeypatch.setattr(runner, "write_whole", write_whole)
        monkeypatch.setattr(deployment, "output_of", output_of)

    def _about_to(self, name: str) -> None:
        self.before(name)
        self.done.append(name)
