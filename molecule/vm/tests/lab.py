# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's hosts as the tests see them: by ssh and by their console, with the system's own tools. Knows nothing of the collection."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import testinfra

NAMES = ("lab-a", "lab-b")
PROJECT = Path(__file__).resolve().parents[3]
STATE = Path(os.environ.get("LOWLATENCY_LAB_STATE", PROJECT / ".cache/lowlatency-vm"))
INVENTORIES = ("-i", str(PROJECT / "inventories/lab"), "-i", str(STATE / "inventory.yml"))
# A boot takes a minute and a half at most on an idle machine; a busy one takes four times that.
BOOT_TIME_LIMIT = 400

# Every file below /etc, /boot and /var/lib with its type, mode, owner, size, time of change and target, and its content's hash.
FILES = r"""
cd / && find etc boot var/lib -printf '%p %y%m %U:%G %s %T@ %l\n' | LC_ALL=C sort
find etc boot var/lib -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
"""
# The values a run could set in the kernel. Interrupts are not among them: irqbalance moves those at any time before it is removed.
VALUES = r"""
cat /proc/sys/kernel/random/boot_id /proc/cmdline
sysctl -a 2>/dev/null | grep -E '^(net\.(core|ipv4)|vm|kernel)\.' | grep -v -E '\.(random|ns_last_pid|pty\.nr|keys|neigh|tainted|stat_refresh)'
for nic in enp65s0 enp129s0 enp0s16; do ethtool -k $nic; ip -o link show $nic; done
grep . /sys/devices/system/node/node*/hugepages/*/nr_hugepages /sys/kernel/mm/transparent_hugepage/enabled /sys/devices/virtual/workqueue/cpumask
systemctl list-unit-files --no-legend --no-pager | grep -v '^session-' | LC_ALL=C sort
"""


@functools.cache
def reach():
    """How each host is reached, as ansible-inventory resolves it."""
    command = ["ansible-inventory", *INVENTORIES, "--list"]
    return json.loads(subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True).stdout)["_meta"]["hostvars"]


@functools.cache
def ssh_config():
    """A configuration file of ssh for these hosts: one connection each, given up soon after its host stops answering."""
    folder = Path(tempfile.mkdtemp(prefix="lab-"))
    lines = []
    for name in NAMES:
        host = reach()[name]
        lines += [
            f"Host {name}", f"HostName {host['ansible_host']}", f"Port {host['ansible_port']}", f"User {host['ansible_user']}",
            f"IdentityFile {host['ansible_ssh_private_key_file']}", "IdentitiesOnly yes", "LogLevel ERROR",
            "StrictHostKeyChecking no", "UserKnownHostsFile /dev/null", "ConnectTimeout 10",
            "ServerAliveInterval 5", "ServerAliveCountMax 6", f"ControlPath {folder}/%C", "ControlMaster auto", "ControlPersist 20",
        ]
    (folder / "config").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "config"


@functools.cache
def guest(name):
    """One host of the lab for testinfra, reached by ssh."""
    return testinfra.get_host(f"ssh://{name}?ssh_config={ssh_config()}")


def run(name, script, *arguments, seconds=120):
    """What a shell script says that is run on a host; raises when it fails."""
    command = ["ssh", "-F", str(ssh_config()), name, "sh", "-s", "--", *arguments]
    result = subprocess.run(command, input=script, capture_output=True, text=True, timeout=seconds, check=False)
    assert result.returncode == 0, f"{name}: {script.strip()[:200]}: exit code {result.returncode}: {result.stdout[-500:]}{result.stderr[-500:]}"
    return result.stdout


def files(name):
    """The files of a host, one line for each and one for its hash."""
    return run(name, FILES)


def values(name):
    """The values in a host's kernel and the state of its units, one a line."""
    return run(name, VALUES)


def hugepages(name, node, size):
    """The huge pages of one size (kB) that a node has."""
    return int(run(name, f"cat /sys/devices/system/node/node{node}/hugepages/hugepages-{size}kB/nr_hugepages"))


def trial_left(name, *, record=True):
    """What is left on a host of a trial boot, empty when nothing is. The record of one that failed may stay to tell of it."""
    return run(name, r"""
grub-editenv list | grep -E '^(next_entry|prev_saved_entry)=.'
grep -l lowlatency-trial /boot/grub/custom.cfg /boot/grub/grub.cfg 2>/dev/null
ls -d /etc/systemd/system/lowlatency-trial.* /etc/systemd/system/*/lowlatency-trial.* 2>/dev/null
ls $1 2>/dev/null
systemctl list-units --all --plain --no-legend 'lowlatency-trial.*'
true
""", *(["/var/lib/lowlatency/trial.json"] if record else ["/nowhere"])).strip()


def boot_id(name):
    return run(name, "cat /proc/sys/kernel/random/boot_id").strip()


def answers(name):
    """Whether a host can be logged in to."""
    command = ["ssh", "-F", str(ssh_config()), "-o", "ControlPath=none", name, "true"]
    try:
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=20, check=False).returncode == 0
    except subprocess.TimeoutExpired:
        return False


def wait(condition, seconds, what):
    """Until a condition holds; its value. Raises ``TimeoutError``."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds} s: {what}")
        time.sleep(2)


def press_reset(name):
    """The reset button, for a host that hangs."""
    subprocess.run([PROJECT / "scripts/lab", "press-reset", name], stdin=subprocess.DEVNULL, check=True)


def wait_ready(name):
    """Until a host answers and has started everything; ssh alone answers before udev has loaded the NICs' driver."""
    wait(lambda: answers(name), BOOT_TIME_LIMIT, f"{name} answers")
    run(name, "systemctl is-system-running --wait || true; udevadm settle --timeout=60", seconds=BOOT_TIME_LIMIT)


class Console:
    """What a host's kernels say from now on. It does not depend on the network, nor on a boot getting as far as that."""

    def __init__(self, name):
        status = subprocess.run([PROJECT / "scripts/lab", "status"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True).stdout
        line = next(line for line in status.splitlines() if line.startswith(f"{name}: runs"))
        self.path = Path(line.rsplit(", ", 1)[1])
        self.start = self.path.stat().st_size

    def text(self):
        with self.path.open("rb") as file:
            file.seek(self.start)
            return file.read().decode(errors="replace")

    def end(self, lines=15):
        """Its last lines, for a message."""
        return "\n".join(self.text().splitlines()[-lines:])

    def boots(self):
        """The command line of every kernel that started, in order."""
        mark = "] Command line: "
        return [line.split(mark, 1)[1].strip() for line in self.text().splitlines() if mark in line]


def main(names):
    """Write down what the hosts are before the collection has run."""
    for name in names:
        (STATE / f"{name}.files").write_text(files(name), encoding="utf-8")
        (STATE / f"{name}.values").write_text(values(name), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
