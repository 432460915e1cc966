# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From a host to a report elsewhere: scripts/capture takes what is read and no secrets, and playbooks/audit_offline.yml judges it."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.lowlatency.fleet.plugins.module_utils import runner
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.facts import host_facts
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.machine import Host
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.topology import read_topology
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.setting import Setting
from ansible_collections.lowlatency.fleet.plugins.plugin_utils import captures
from ansible_collections.lowlatency.fleet.tests.unit.fixture_host import WANTED, tree, tunable_machine
from ansible_collections.lowlatency.fleet.tests.unit.fixture_machine import FixtureMachine

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPT = REPOSITORY / "scripts" / "capture"
# Literals of the code that no capture has, and why.
NOT_CAPTURED = {
    "live hosts only": (
        "/dev/cpu/0/msr", "/dev/vfio/*", "/proc/interrupts", "/sys/fs/cgroup*", "/proc/self/ns/net", "/proc/{}/environ", "/proc/{}/fd*", "/proc/{}/maps",
        "/proc/{}/ns/net", "/proc/{}/stat", "/proc/{}/task*", "/proc/1/status", "/etc/iproute2/rt_tables", "/usr/share/iproute2/rt_tables",
        "/var/lib/dkms", "/usr/lib/{}-linux-gnu", "/usr/local/lib64"),
    "written, never read in an audit": (
        "/run/lowlatency.lock", "/run/lowlatency/grub.cfg", "/run/lowlatency/nics", "/var/lib/lowlatency/journal.jsonl", "/var/lib/lowlatency/revert.pyz",
        "/lib/firmware", "/usr/src", "/var/cache/lowlatency", "/run/lowlatency/flashed.json"),
    "mount points that are refused by their names": (
        "/dev", "/dev/hugepages", "/dev/mqueue", "/dev/pts", "/dev/shm", "/lib32", "/libx32", "/opt", "/run/lock", "/run/user", "/usr", "/var", "/var/cache",
        "/var/lib", "/var/log", "/var/run", "/var/spool", "/var/tmp"),
    "a part of a path": ("/devices/virtual/",),
    "made by the script itself": ("/proc/self/ns/pid", "/proc/1/environ", "/proc/{}/comm", "/proc/{}/status", "/proc/{}", "/boot{}", "/proc/sys/",
                                  "/lib/modules/{}/{}"),
}
SECRETS = ("hunter2-psk", "hunter2-shadow", "hunter2-key", "hunter2-cron", "hunter2-fastopen", "hunter2-boot", "hunter2-environ", "hunter2-script")


def listed(function: str) -> list[str]:
    """The patterns that a function of the script prints."""
    text = re.search(rf"^{function}\(\) \{{$(.*?)^\}}$", SCRIPT.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert text
    here = re.search(r"<<'[A-Z]+'\n(.*?)\n[A-Z]+\n", text[1], re.DOTALL)
    assert here
    places = re.search(r"for place in (.*); do", text[1])
    rest = [pattern.replace("$place", place) for place in places[1].split() for pattern in re.findall(r'echo "(.*)"', text[1])] if places else []
    return [*here[1].splitlines(), *rest]


def literals() -> Iterator[tuple[str, str]]:
    """Every absolute path in the code that runs on hosts, with its file; what a path is made of is ``{}``."""
    for path in sorted((REPOSITORY / "plugins/module_utils").rglob("*.py")):
        parsed = ast.parse(path.read_text(encoding="utf-8"))
        parts = {id(part) for node in ast.walk(parsed) if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in ast.walk(parsed):
            text = ""
            if isinstance(node, ast.JoinedStr):
                text = "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
                text = node.value
            if re.fullmatch(r"/(?:\.dockerenv|vmlinuz|(?:proc|sys|etc|run|boot|var|usr|lib|lib64|lib32|libx32|dev|opt|sbin|devices)\b[^\s:;\\]*)", text):
                yield path.name, text


def is_captured(name: str, patterns: list[str]) -> bool:
    """Whether a pattern takes a path, or something below it."""
    wanted = name.strip("/").replace("{}", "*").split("/")
    return any(len(parts) >= len(wanted) and all(fnmatchcase(part, ours) or fnmatchcase(ours, part) for part, ours in zip(parts, wanted))
               for parts in (pattern.split("/") for pattern in patterns))


def test_all_that_the_code_reads_is_captured_or_said_to_be_left_out() -> None:
    patterns = [*listed("files"), *listed("marks"), *listed("texts"), *("proc/sys" + "/*" * depth for depth in range(1, 5))]
    left_out = [pattern for kind in NOT_CAPTURED.values() for pattern in kind]
    missing = {(file, name) for file, name in literals() if not is_captured(name, patterns)
               and not any(fnmatchcase(name, pattern) or name == pattern for pattern in left_out)}
    assert sorted(missing) == []


def captured(root: Path, place: Path, *, arguments: tuple[str, ...] = ()) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The tree that a capture of ``root`` unpacks to."""
    packed = place / "host1.tar.gz"
    done = subprocess.run(["sh", str(SCRIPT), "-r", str(root), "-o", str(packed), *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL,
                          cwd=place, check=False)
    assert done.returncode == 0, done.stderr
    return Path(captures.opened(captures.Capture("host1", str(packed)), str(place / "unpacked"))), done


@pytest.fixture
def machine(tmp_path: Path) -> FixtureMachine:
    """A machine with something of every kind that is read, with secrets beside it, and with files that must not stop a capture."""
    made = tunable_machine(tmp_path / "machine")
    for folder in ("run/systemd/system", "run/NetworkManager"):
        (made.root / folder).mkdir(parents=True)
    made.write("proc/cmdline", "root=/dev/sda1 iscsi.password=hunter2-boot quiet\n").write("proc/mounts", "sysfs /sys sysfs rw 0 0\n")
    made.write("proc/sys/kernel/osrelease", "6.1.0-30-amd64\n").write("proc/sys/kernel/hostname", "host1\n")
    made.write("proc/sys/net/ipv4/tcp_fastopen_key", "hunter2-fastopen\n").write("proc/1/environ", "PASSWORD=hunter2-environ\0container=lxc\0")
    made.write("proc/net/route", "Iface\tDestination\teth0\n").write("proc/self/comm", "x").link("proc/self/ns/pid", "pid:[4026531836]")
    made.write("proc/4711/comm", "irqbalance\n").write("proc/4711/status", "Name:\tirqbalance\nNSpid:\t4711\n").write("usr/sbin/irqbalance", "ELF")
    made.write("etc/os-release", 'ID=debian\nVERSION_ID="12"\n').write("etc/shadow", "root:hunter2-shadow").write("etc/group", "root:x:0:\n")
    made.write("etc/ssh/ssh_host_key", "hunter2-key").write("etc/sysctl.conf", "vm.swappiness = 5\n").link("etc/sysctl.d/99-sysctl.conf", "../sysctl.conf")
    made.write("etc/NetworkManager/system-connections/wifi.nmconnection", "[connection]\ninterface-name=eth0\n[wifi-security]\npsk=hunter2-psk\n[ethtool]\n"
               "feature-gro=true\n")
    made.write("etc/crontab", "API_TOKEN=hunter2-cron\n@reboot root /usr/local/bin/tune\n")
    made.write("usr/local/bin/tune", "#!/bin/sh\ncurl --password hunter2-script\nethtool -K eth0 gro on\nsysctl -w vm.swappiness=70\n")
    (made.root / "usr/local/bin/tune").chmod(0o755)
    made.write("boot/grub/grub.cfg", "menuentry 'x' {\n linux /vmlinuz root=/dev/sda1\n}\npassword_pbkdf2 root hunter2-boot\n")
    made.write("etc/default/grub", "").write("usr/sbin/grub-mkconfig", "ELF").write("etc/systemd/system/odd name.service", "[Service]\nExecStart=/bin/true\n")
    made.write("etc/udev/rules.d/90-big.rules", "#" * 600_000).link("etc/systemd/system/multi-user.target.wants/irqbalance.service",
                                                                    "/usr/lib/systemd/system/irqbalance.service")
    os.mkfifo(made.root / "etc/sysctl.d/pipe.conf")
    return made


def audited(root: Path) -> tuple[Setting, ...]:
    nic = {"nics": [{"interface": "eth0"}], "features": {"gro": "off"}}
    documents = {**WANTED, "ethtool": {"site": nic}, "kernel_cmdline": {"site": {"arguments": {"skew_tick": "1"}}}}
    return runner.audit(runner.begin(Host(str(root), captured=True), documents, b"#!/usr/bin/python3\nthe agent\n")).settings


def test_a_captured_machine_is_judged_as_the_machine_itself(machine: FixtureMachine, tmp_path: Path) -> None:
    before = tree(machine.root)
    unpacked, _done = captured(machine.root, tmp_path)
    os.unlink(machine.root / "etc/sysctl.d/pipe.conf")
    assert {key: value for key, value in before.items() if "pipe.conf" not in key and key != "etc/sysctl.d"} == {
        key: value for key, value in tree(machine.root).items() if key != "etc/sysctl.d"}, "nothing is written"
    there, here = audited(machine.root), audited(unpacked)
    assert here == there
    said = " ".join(f"{setting.control} {setting.name} {setting.current} {setting.reason}" for setting in here)
    looked_for = ("irqbalance", "/usr/local/bin/tune", "wifi.nmconnection")
    assert [name for name in looked_for if name not in said] == []
    assert [setting.persisted for setting in here if setting.name == "vm.swappiness"] == ["5"], "by the link to sysctl.conf"
    assert read_topology(Host(str(unpacked))) == read_topology(Host(str(machine.root)))
    told = host_facts(Host(str(unpacked)))
    assert told.cmdline == "root=/dev/sda1 iscsi.password=(left-out) quiet"
    assert replace(told, cmdline="") == replace(host_facts(Host(str(machine.root))), cmdline="")


def test_no_secret_is_captured(machine: FixtureMachine, tmp_path: Path) -> None:
    unpacked, _done = captured(machine.root, tmp_path)
    held = {path: path.read_bytes() for path in unpacked.rglob("*") if path.is_file() and not path.is_symlink()}
    assert [(str(path), secret) for path, content in held.items() for secret in SECRETS if secret.encode() in content] == []
    names = {str(path.relative_to(unpacked)) for path in held}
    assert not names & {"etc/shadow", "etc/ssh/ssh_host_key", "etc/udev/rules.d/90-big.rules", "proc/sys/net/ipv4/tcp_fastopen_key"}
    assert (unpacked / "proc/1/environ").read_text() == "container=lxc\n"
    assert "gro=true" in (unpacked / "etc/NetworkManager/system-connections/wifi.nmconnection").read_text()
    assert (unpacked / "usr/sbin/irqbalance").read_bytes() == b"", "only that it is there"


def test_this_very_machine_is_captured_by_any_user_in_a_small_archive(tmp_path: Path) -> None:
    unpacked, done = captured(Path("/"), tmp_path)
    assert (tmp_path / "host1.tar.gz").stat().st_size < 2_000_000, done.stdout
    with tarfile.open(tmp_path / "host1.tar.gz") as packed:
        assert all(member.isreg() or member.isdir() or member.issym() for member in packed)
    there, here = read_topology(Host()), read_topology(Host(str(unpacked)))
    assert (here.online, here.siblings, here.sockets, here.nodes, here.nics) == (there.online, there.siblings, there.sockets, there.nodes, there.nics)
    assert host_facts(Host(str(unpacked))).interfaces == host_facts(Host()).interfaces


@pytest.mark.parametrize("arguments", [["-x"], ["more"]])
def test_what_it_does_not_know_is_refused(tmp_path: Path, arguments: list[str]) -> None:
    done = subprocess.run(["sh", str(SCRIPT), *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL, cwd=tmp_path, check=False)
    assert done.returncode == 2 and "usage: capture" in done.stderr


# --- the playbook -----------------------------------------------------------------------------------------------------


def played(place: Path, inventory: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    link = place / "ansible_collections" / "lowlatency" / "fleet"
    link.parent.mkdir(parents=True)
    link.symlink_to(REPOSITORY)
    (place / "ansible.cfg").write_text("[defaults]\ncallbacks_enabled = lowlatency.fleet.audit_report\nforce_valid_group_names = ignore\n")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")},
        "ANSIBLE_CONFIG": str(place / "ansible.cfg"), "ANSIBLE_COLLECTIONS_PATH": str(place), "ANSIBLE_HOME": str(place / "home"),
        "ANSIBLE_LOCAL_TEMP": str(place / "tmp"), "ANSIBLE_REMOTE_TEMP": str(place / "remote"), "ANSIBLE_NOCOLOR": "1", "LC_ALL": "C.UTF-8"}
    return subprocess.run([sys.executable, "-m", "ansible", "playbook", "-i", inventory, *arguments, "lowlatency.fleet.audit_offline"],
                          cwd=place, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


def test_captures_are_audited_by_the_roles_of_their_groups(machine: FixtureMachine, tmp_path: Path) -> None:
    folder = tmp_path / "captures"
    folder.mkdir()
    unpacked, _done = captured(machine.root, tmp_path)
    (tmp_path / "host1.tar.gz").rename(folder / "host1.tar.gz")
    unpacked.rename(folder / "host2")
    before = tree(folder)
    host = {"ansible_host": "192.0.2.1", "ansible_user": "nobody", "lowlatency_nics": [{"interface": "eth0", "carries": "market_data"}],
            "preflight_isolate": False, "preflight_housekeeping_cores": 1, "preflight_irq_cores": 1}
    inventory: dict[str, Any] = {"all": {"children": {
        "md-gateways": {"hosts": {"host1": host, "elsewhere": {"ansible_host": "192.0.2.9"}}},
        "wan-gateways": {"hosts": {"host2": {**host, "ansible_connection": "ssh", "lowlatency_nics": []}}}}}}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(inventory))
    done = played(tmp_path, str(tmp_path / "hosts.yml"), "-e", f"lowlatency_captures={folder}")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    assert re.search(r"^host1: .*drifted", done.stdout, re.MULTILINE) and re.search(r"^host2: .*drifted", done.stdout, re.MULTILINE)
    assert "elsewhere" not in done.stdout
    assert "net.ipv4.tcp_sack" in done.stdout and "captured tree" in done.stdout
    assert tree(folder) == before
    assert not list((tmp_path / "tmp").glob("*/lowlatency-captures")), "what was unpacked is gone with the run"


def test_a_capture_without_an_inventory_takes_a_profile(machine: FixtureMachine, tmp_path: Path) -> None:
    packed = ("-e", f"lowlatency_captures={tmp_path / 'host1.tar.gz'}")
    captured(machine.root, tmp_path)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    done = played(tmp_path / "a", "localhost,", *packed)
    assert done.returncode == 2 and "host1: the inventory has no host of this name in md-gateways" in done.stdout
    done = played(tmp_path / "b", "localhost,", *packed, "-e", "lowlatency_profile=risk_engine", "-e", "preflight_housekeeping_cores=1")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    assert re.search(r"^host1: .*drifted", done.stdout, re.MULTILINE)
