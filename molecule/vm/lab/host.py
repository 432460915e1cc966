# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A lab host's life: started on an overlay disk, waited for, put back, ended. Only processes named in its own pid files."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import image
import machine
from tools import LabError, run

NAMES = ("lab-a", "lab-b")
RUN = image.CACHE / "hosts"
PORTS_FILE = RUN / "ports.json"
FRESH = "fresh"
POWER_DOWN_TIME_LIMIT = 90


def directory(name: str) -> Path:
    return RUN / name


def pid(name: str) -> int | None:
    """The host's QEMU, if it is one: a pid file may outlive its process and the number be another's by now."""
    try:
        number = int((directory(name) / "qemu.pid").read_text(encoding="ascii"))
        arguments = Path(f"/proc/{number}/cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    return number if f"{directory(name)}/qemu.pid".encode() in arguments else None


def running() -> list[str]:
    return [name for name in NAMES if pid(name)]


def ports() -> dict[str, dict]:
    """Loopback ports of every host (ssh, and one wire for each NIC), chosen once and kept while a host runs."""
    if running():
        return json.loads(PORTS_FILE.read_text(encoding="utf-8"))
    chosen = {}
    with contextlib.ExitStack() as held:
        for name in NAMES:
            wires = [free_port(held, socket.SOCK_DGRAM) for _nic in machine.NIC_NODES]
            chosen[name] = {"ssh": free_port(held, socket.SOCK_STREAM), "wires": wires}
    RUN.mkdir(parents=True, exist_ok=True)
    PORTS_FILE.write_text(json.dumps(chosen), encoding="utf-8")
    return chosen


def free_port(held: contextlib.ExitStack, kind: int) -> int:
    """A port nobody has; held open until all are chosen, so that no two are the same."""
    listener = held.enter_context(socket.socket(socket.AF_INET, kind))
    listener.bind(("127.0.0.1", 0))
    return listener.getsockname()[1]


def start(name: str, base: Path, accelerator: str, *, iommu: bool, threads: int) -> None:
    home, known = directory(name), ports()
    home.mkdir(parents=True, exist_ok=True)
    overlay = home / "disk.qcow2"
    if not overlay.exists():
        run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(base / "disk.raw"), str(overlay))
    peer = NAMES[1 - NAMES.index(name)]
    command = [
        *("qemu-system-x86_64", "-name", name, *machine.machine(accelerator, iommu=iommu, threads=threads), *machine.disk(overlay)),
        *machine.management_nic(name, known[name]["ssh"]),
        *machine.data_nics(name, known[name]["wires"], known[peer]["wires"]),
        *("-serial", f"file:{home}/console.log", "-qmp", f"unix:{home}/qmp.sock,server=on,wait=off"),
        *("-pidfile", f"{home}/qemu.pid", "-daemonize"),
    ]
    (home / "command.json").write_text(json.dumps(command), encoding="utf-8")
    run(*command)


def wait_ready(name: str, seconds: float) -> None:
    """Until ssh answers, systemd has nothing left to start and udev no device; the console's end is in the error."""
    deadline = time.monotonic() + seconds
    while not ssh_speaks(ports()[name]["ssh"]):
        if not pid(name):
            raise LabError(f"{name} ended before ssh answered; its console ends with:\n{console_tail(name)}")
        if time.monotonic() > deadline:
            raise LabError(f"{name} did not answer in {seconds:.0f} s; its console ends with:\n{console_tail(name)}")
        time.sleep(1)
    become = f"echo {name} > /etc/hostname; hostname {name}"
    settle = "systemctl is-system-running --wait; udevadm settle --timeout=60"
    run(*ssh_command(name, f"{become}; {settle} || true"))


def ssh_speaks(port: int) -> bool:
    """True when an ssh server greets. QEMU accepts connections from the start, so that alone says nothing."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.settimeout(10)
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def ssh_options() -> list[str]:
    """Every new lab is a new host behind a port of loopback: its key is neither known nor worth remembering."""
    options = ("StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "IdentitiesOnly=yes")
    return [word for option in options for word in ("-o", option)]


def ssh_command(name: str, *command: str) -> list[str]:
    target = ["-i", str(image.KEY), "-p", str(ports()[name]["ssh"]), "root@127.0.0.1"]
    alive = ("-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=8")
    return ["ssh", *ssh_options(), *alive, *target, *command]


def console_tail(name: str, lines: int = 30) -> str:
    try:
        text = (directory(name) / "console.log").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "(no console yet)"
    return "\n".join(text.splitlines()[-lines:])


def has_fresh(name: str) -> bool:
    return any(snapshot["name"] == FRESH for snapshot in snapshots(name))


def snapshots(name: str) -> list[dict]:
    disks = qmp(name, "query-block")
    return [snapshot for disk in disks for snapshot in disk["inserted"]["image"].get("snapshots", [])]


def save_fresh(name: str) -> None:
    """The running host as it is now, memory and disk, kept in its overlay."""
    monitor(name, f"savevm {FRESH}")


def reset(name: str) -> None:
    """Back to the host that had just started for the first time, without a boot; only its clock knows better.

    In a new process: QEMU never lets the TSC of a running one go back, so the guest would see its clock leap ahead.
    """
    if not pid(name):
        raise LabError(f"{name} does not run")
    end(name)
    run(*json.loads((directory(name) / "command.json").read_text(encoding="utf-8")), "-loadvm", FRESH)
    run(*ssh_command(name, f"date -s @{time.time():.0f}"))


def press_reset(name: str) -> None:
    """The reset button: the host boots from its disk, whatever it was doing."""
    if not pid(name):
        raise LabError(f"{name} does not run")
    qmp(name, "system_reset")


def monitor(name: str, line: str) -> None:
    """One line for QEMU's human monitor; it answers only when something is wrong."""
    answer = qmp(name, "human-monitor-command", {"command-line": line})
    if answer:
        raise LabError(f"{name}: {line}: {answer.strip()}")


def qmp(name: str, command: str, arguments: dict | None = None) -> object:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(directory(name) / "qmp.sock"))
        stream = connection.makefile("rw", encoding="utf-8")
        stream.readline()
        for request in ({"execute": "qmp_capabilities"}, {"execute": command, "arguments": arguments or {}}):
            stream.write(json.dumps(request) + "\n")
            stream.flush()
            answer = next(reply for reply in replies(stream) if "return" in reply or "error" in reply)
    if "error" in answer:
        raise LabError(f"{name}: {command}: {answer['error'].get('desc')}")
    return answer["return"]


def replies(stream) -> Iterator[dict]:
    for line in stream:
        yield json.loads(line)
    raise LabError("QEMU closed its monitor")


def power_down(name: str) -> None:
    """The power button, for a host whose disk is kept; forced only when nobody reacts."""
    if pid(name):
        qmp(name, "system_powerdown")
        if not wait_gone(name, POWER_DOWN_TIME_LIMIT):
            print(f"lab: {name} ignored its power button for {POWER_DOWN_TIME_LIMIT} s", flush=True)
            end(name)


def end(name: str) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        process = pid(name)
        if process is None:
            return
        os.kill(process, number)
        wait_gone(name, 10)


def wait_gone(name: str, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while pid(name):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def forget(name: str) -> None:
    """The disk and everything else of a host that does not run."""
    if not pid(name) and directory(name).is_dir():
        for path in directory(name).iterdir():
            path.unlink()
        directory(name).rmdir()


def inventory(names: list[str], groups: list[str]) -> str:
    """An Ansible inventory (YAML) that says only how to reach the hosts."""
    common = json.dumps(shlex.join(ssh_options()))
    lines = ["all:", "  vars:", f"    ansible_ssh_common_args: {common}", "  hosts:" if names else "  hosts: {}"]
    for name in names:
        lines += [
            f"    {name}:",
            "      ansible_host: 127.0.0.1",
            f"      ansible_port: {ports()[name]['ssh']}",
            "      ansible_user: root",
            f"      ansible_ssh_private_key_file: {json.dumps(str(image.KEY))}",
            "      ansible_python_interpreter: /usr/bin/python3",
        ]
    lines += ["  children:"]
    for group in groups:
        lines += [f"    {group}:", "      hosts:", *(f"        {name}:" for name in names)]
    return "\n".join(lines) + "\n"


def ssh(name: str, command: list[str]) -> int:
    return subprocess.run(ssh_command(name, *command), check=False).returncode
