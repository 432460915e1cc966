# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes the state of test containers and of the machine as text lines. Knows nothing of the collection, writes nothing there."""

from __future__ import annotations

import glob
import os
import subprocess
import sys

# Run inside the container: every file that configuration could be kept in, and every live value that could be set.
HOST = r"""
cd /
find etc usr/local usr/lib/systemd var/lib/lowlatency boot -printf '%p %M %U:%G %l\n' 2>/dev/null | LC_ALL=C sort
find etc usr/local usr/lib/systemd var/lib/lowlatency boot -type f -exec sha256sum {} + 2>/dev/null | LC_ALL=C sort -k2
sysctl -a 2>/dev/null | grep -E '^net\.(core|ipv4|ipv6)\.' | grep -v -E 'conntrack|neigh|stable_secret'
for nic in $(ls /sys/class/net); do ethtool -k "$nic" 2>/dev/null; ip -d -o link show "$nic"; ip -o address show "$nic"; done
ip route
systemctl list-unit-files --no-legend --no-pager | LC_ALL=C sort
systemctl list-units --no-legend --no-pager --plain --state=active --type=service | LC_ALL=C sort
"""
# Values of the machine that move by themselves.
RESTLESS = ("kernel/random/", "kernel/ns_last_pid", "kernel/pty/nr", "kernel/keys/", "kernel/tainted", "vm/stat_refresh")


def host_state(container: str) -> str:
    """The container's files and live values, one a line."""
    command = ["podman", "exec", "-i", container, "sh", "-s"]
    return subprocess.run(command, input=HOST, capture_output=True, text=True, check=True).stdout


def machine_state() -> str:
    """The values that a privileged container shares with the machine, one a line: kernel.*, vm.*, interrupts, and net.* of the machine's own namespace."""
    lines = []
    for top in ("kernel", "vm", "net/core", "net/ipv4"):
        for folder, _folders, names in os.walk(f"/proc/sys/{top}"):
            lines += [f"{folder}/{name} = {_text(folder, name)}" for name in names if not _is_restless(f"{folder}/{name}")]
    for path in [*glob.glob("/proc/irq/*/smp_affinity_list"), "/proc/irq/default_smp_affinity"]:
        lines.append(f"{path} = {_text(path)}")
    for path in ("/sys/devices/virtual/workqueue/cpumask", "/sys/kernel/mm/transparent_hugepage/enabled", "/sys/kernel/mm/ksm/run"):
        lines.append(f"{path} = {_text(path)}")
    return "\n".join(sorted(lines)) + "\n"


def _is_restless(path: str) -> bool:
    return any(part in path for part in RESTLESS) or "/neigh/" in path or "/conf/" in path


def _text(*path: str) -> str:
    try:
        with open(os.path.join(*path), encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except OSError as error:
        return f"({error.strerror})"


def main(folder: str, container: str) -> None:
    """Write the snapshots into a folder: <container>.txt, and machine.txt if it is not there yet."""
    os.makedirs(folder, exist_ok=True)
    _write(os.path.join(folder, f"{container}.txt"), host_state(container))
    if not os.path.exists(os.path.join(folder, "machine.txt")):
        _write(os.path.join(folder, "machine.txt"), machine_state())


def _write(path: str, text: str) -> None:
    with open(f"{path}.{os.getpid()}", "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(f"{path}.{os.getpid()}", path)


if __name__ == "__main__":
    main(*sys.argv[1:])
