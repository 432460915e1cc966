# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stack in user space on machines of ordinary files, through the whole transaction: read, built, loaded, registered, removed, refused.

DKMS, modprobe and the kernel are stand-ins that change the tree as the real ones change a machine.
"""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils import runner
from ansible_collections.lowlatency.fleet.plugins.module_utils.host import bypass_stack as host_stack
from ansible_collections.lowlatency.fleet.plugins.module_utils.host import kernel_modules
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.machine import Host
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.programs import ProgramFailed
from ansible_collections.lowlatency.fleet.plugins.module_utils.model import bypass_stack as model
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.setting import (
    CHANGED,
    DRIFTED,
    ERROR,
    OK,
    UNSUPPORTED,
    Setting,
)
from ansible_collections.lowlatency.fleet.tests.unit.fixture_grub import KERNEL, OLD_KERNEL, debian, grubenv
from ansible_collections.lowlatency.fleet.tests.unit.fixture_host import tree, tunable_machine

PROGRAM = b"#!/usr/bin/python3\nthe agent\n"
SOURCE = "onload/1.0"
# The kernel that runs is the old one: a package upgrade has made the next boot another one's.
SPEC: dict[str, Any] = {"stack": "onload", "state": "present", "load": ["sfc_char", "onload"], "options": {"onload": {"max_packets": 64}},
                        "profiles": {"gateway": {"EF_POLL_USEC": 100000}}, "nics": [{"interface": "eth1", "af_xdp": True}]}
DKMS_CONF = 'PACKAGE_NAME="onload"\nBUILT_MODULE_NAME[0]="sfc_char"\nBUILT_MODULE_NAME[1]=onload\nAUTOINSTALL="yes"\n'


class Machine:
    """Debian with two kernels, both with headers; Onload's package is installed and built for the kernel that runs, and nothing is loaded."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.ran, self.fails = root, [], ""
        self.signed, self.versions = True, {KERNEL: "1.0", OLD_KERNEL: "1.0"}
        self.files = tunable_machine(root).write("etc/os-release", "ID=debian\n").write("proc/sys/kernel/osrelease", OLD_KERNEL + "\n")
        self.files.write("boot/grub/grub.cfg", debian()).write("boot/grub/grubenv", grubenv()).write("etc/default/grub", "")
        self.files.write("usr/sbin/grub-mkconfig", "").write("usr/src/onload-1.0/dkms.conf", DKMS_CONF)
        self.files.write("usr/lib64/libonload.so", "").write("proc/net/route", "Iface\tDestination\neth0\t00000000\t0101010A\t0003\t0\t0\t0\t00000000\n")
        (root / "var/lib/dkms/onload/1.0").mkdir(parents=True)
        self.files.link("var/lib/dkms/onload/1.0/source", "/usr/src/onload-1.0")
        for release in (KERNEL, OLD_KERNEL):
            self.files.write(f"lib/modules/{release}/modules.dep", "kernel/net/veth.ko:\n").write(f"lib/modules/{release}/build/Makefile", "")
        self.build(OLD_KERNEL)
        monkeypatch.setattr(host_stack, "output_of", self.program)
        monkeypatch.setattr(kernel_modules, "output_of", self.program)
        monkeypatch.setattr(host_stack, "write_kernel_file", self.register)

    def build(self, release: str) -> None:
        names = [f"updates/dkms/{name}.ko" for name in ("sfc_char", "onload")]
        self.files.write(f"lib/modules/{release}/modules.dep", "kernel/net/veth.ko:\n" + "".join(f"{name}:\n" for name in names))
        for name in names:
            self.files.write(f"lib/modules/{release}/{name}", "")

    def load(self, name: str, version: str, refcnt: int = 0) -> None:
        folder = f"sys/module/{name}"
        self.files.write(f"{folder}/version", version + "\n").write(f"{folder}/srcversion", f"S{version}\n").write(f"{folder}/refcnt", f"{refcnt}\n")
        if name == "onload":
            self.files.write(f"{folder}/parameters/max_packets", "64\n").write("sys/module/sfc_resource/afxdp/register", "\n")

    def program(self, *command: str, time_limit: float | None = None) -> str:
        if command[0] == "modinfo":
            release = command[-1].partition("lib/modules/")[2].split("/")[0]
            version = self.versions[release]
            return f"filename: x\nversion:        {version}\nsrcversion:     S{version}\n" + ("signer:         the site\n" if self.signed else "")
        self.ran.append(" ".join(command))
        if self.fails and self.fails in self.ran[-1]:
            raise ProgramFailed(f"{self.ran[-1]}: exit code 10: the compiler said no")
        if command[0] == "dkms":
            self.build(command[-1])
        elif command[:2] == ("modprobe", "--"):
            self.load(command[-1], self.versions[OLD_KERNEL])
        elif command[0] == "modprobe":
            for name in command[3:]:
                shutil.rmtree(self.root / "sys/module" / name) if command[1] == "-r" else self.load(name, self.versions[OLD_KERNEL])
        elif command[0] == "rmmod":
            shutil.rmtree(self.root / "sys/module" / command[-1])
        return ""

    def register(self, host: Host, name: str, text: str) -> None:
        assert name == host_stack.REGISTER and text.endswith("\n"), "the driver looks for the end of the line"
        self.ran.append(f"register {text.strip()}")
        if self.fails == "already":
            raise OSError(errno.EALREADY, "Operation already in progress")
        (self.root / "proc/driver/sfc_resource" / text.strip()).mkdir(parents=True)

    def run(self, check: bool = False, **changed: Any) -> dict[str, Setting]:
        spec = {key: value for key, value in {**SPEC, **changed}.items() if value is not None}
        transaction = runner.begin(Host(str(self.root)), {"bypass_stack": {"onload": spec}}, PROGRAM)
        outcome = runner.audit(transaction) if check else runner.apply(transaction)
        return {f"{setting.control} {setting.name}": setting for setting in outcome.settings if setting.control.startswith("bypass")}


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def states(settings: dict[str, Setting]) -> dict[str, str]:
    return {name: setting.state for name, setting in settings.items()}


def test_an_audit_tells_and_writes_nothing(machine: Machine) -> None:
    before = tree(machine.root)
    settings = machine.run(check=True)
    assert states(settings) == {
        f"bypass.built sfc_char for {OLD_KERNEL}": OK, f"bypass.built onload for {OLD_KERNEL}": OK,
        f"bypass.built sfc_char for {KERNEL}": DRIFTED, f"bypass.built onload for {KERNEL}": DRIFTED,
        "bypass.loaded sfc_char": DRIFTED, "bypass.loaded onload": DRIFTED, "bypass.af_xdp eth1": DRIFTED, "bypass.library libonload.so": OK,
        f"bypass.file {model.OPTIONS_FILE}": DRIFTED, f"bypass.file {model.LOAD_FILE}": DRIFTED,
        f"bypass.profile {model.profile_path('gateway')}": DRIFTED, f"bypass.profile {model.profile_path('latency')}": DRIFTED}
    assert machine.ran == [] and tree(machine.root) == before


def test_all_of_it_is_done_in_order_and_right_after_that(machine: Machine) -> None:
    settings = machine.run()
    assert {setting.state for setting in settings.values()} == {OK, CHANGED}, settings
    assert machine.ran == [f"dkms install --force {SOURCE} -k {KERNEL}", "modprobe -- sfc_char", "modprobe -- onload", "register eth1"]
    assert (machine.root / model.LOAD_FILE[1:]).read_text().endswith("\nsfc_char\nonload\n")
    machine.ran.clear()
    assert set(states(machine.run()).values()) == {OK} and machine.ran == []
    assert states(machine.run(check=True))["bypass.option onload.max_packets"] == OK


def test_no_headers_for_the_next_kernel_is_refused_before_anything(machine: Machine) -> None:
    shutil.rmtree(machine.root / f"lib/modules/{KERNEL}/build")
    before = tree(machine.root)
    with pytest.raises(runner.Refused, match=f"kernel {KERNEL}, which boots next, has no module sfc_char.*install linux-headers-{KERNEL}"):
        machine.run()
    assert machine.ran == []
    assert {name: entry for name, entry in tree(machine.root).items() if not name.startswith("run") and name != "."} == {
        name: entry for name, entry in before.items() if not name.startswith("run") and name != "."}
    assert states(machine.run(check=True))[f"bypass.built onload for {KERNEL}"] == ERROR


def test_a_build_that_fails_fails_the_run_with_its_words(machine: Machine) -> None:
    machine.fails = "dkms"
    settings = machine.run()
    assert "the compiler said no" in settings[f"bypass.built onload for {KERNEL}"].reason
    assert settings["bypass.loaded onload"].state == CHANGED, "the kernel that runs has it"


def test_without_any_source_the_package_is_what_is_missing(machine: Machine) -> None:
    shutil.rmtree(machine.root / "var/lib/dkms")
    settings = machine.run()
    found = settings[f"bypass.built onload for {KERNEL}"]
    assert found.state == ERROR and "onload_packages" in found.reason and not [line for line in machine.ran if "dkms" in line]


def test_another_build_is_loaded_anew_and_one_in_use_waits(machine: Machine) -> None:
    machine.build(KERNEL)
    for name in ("sfc_char", "onload"):
        machine.load(name, "0.9")
    machine.files.write("sys/module/sfc_char/holders/onload", "").write("sys/module/sfc_char/refcnt", "1\n")
    assert states(machine.run())["bypass.loaded onload"] == CHANGED
    assert machine.ran[:2] == ["modprobe -r -- onload sfc_char", "modprobe -a -- sfc_char onload"]
    machine.versions[OLD_KERNEL] = "1.1"
    machine.files.write("sys/module/onload/refcnt", "3\n")
    machine.ran.clear()
    settings = machine.run()
    assert settings["bypass.loaded onload"].state == DRIFTED and settings["bypass.loaded onload"].finding
    assert "it is held 3 times" in settings["bypass.loaded onload"].reason and not [line for line in machine.ran if line.startswith("modprobe -r -- onload")]


def test_absent_unloads_and_removes_what_is_ours(machine: Machine) -> None:
    machine.run()
    machine.files.write("usr/libexec/onload/profiles/safe.opf", "onload_set EF_X 1\n")
    machine.ran.clear()
    settings = machine.run(state="absent")
    assert {setting.state for setting in settings.values()} == {CHANGED}, settings
    assert machine.ran == ["rmmod -- onload", "rmmod -- sfc_char"]
    assert os.listdir(machine.root / "usr/libexec/onload/profiles") == ["safe.opf"]
    assert not (machine.root / model.OPTIONS_FILE[1:]).exists() and not (machine.root / model.LOAD_FILE[1:]).exists()
    assert machine.run(state="absent") == {}


def test_a_host_that_wants_none_any_more_keeps_its_modules(machine: Machine) -> None:
    machine.run()
    machine.ran.clear()
    settings = machine.run(stack="", options=None, profiles=None)
    assert len(settings) == 4 and {setting.state for setting in settings.values()} == {CHANGED} and machine.ran == []
    assert machine.run(stack="") == {} and not (machine.root / "usr/libexec/onload").exists()


def test_a_management_nic_is_not_given_to_af_xdp(machine: Machine) -> None:
    with pytest.raises(runner.Refused, match=r"eth0 carries the default route; it is not given to AF_XDP \(R6\)"):
        machine.run(nics=[{"interface": "eth0", "af_xdp": True}])
    assert machine.ran == []


def test_a_nic_that_onload_has_already_is_no_failure(machine: Machine) -> None:
    machine.fails = "already"
    host_stack._register(_with_afxdp(machine), "eth1")
    assert machine.ran == ["register eth1"]


def _with_afxdp(machine: Machine) -> Host:
    machine.files.write("sys/module/sfc_resource/afxdp/register", "\n")
    return Host(str(machine.root))


def test_a_build_without_af_xdp_is_unsupported(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "load", lambda name, version: machine.files.write(f"sys/module/{name}/version", version + "\n"))
    first = machine.run(options=None)
    assert first["bypass.af_xdp eth1"].state == UNSUPPORTED
    again = machine.run(options=None)
    assert again["bypass.af_xdp eth1"].state == UNSUPPORTED and "no AF_XDP" in again["bypass.af_xdp eth1"].reason


def test_unsigned_modules_under_lockdown(machine: Machine) -> None:
    machine.signed = False
    machine.files.write("sys/kernel/security/lockdown", "none [integrity] confidentiality\n")
    settings = machine.run(check=True)
    assert settings["bypass.loaded onload"].state == UNSUPPORTED
    assert settings[f"bypass.signed onload for {OLD_KERNEL}"].finding and "R29" in settings[f"bypass.signed onload for {OLD_KERNEL}"].reason


def test_in_a_container_nothing_is_asked(machine: Machine) -> None:
    machine.files.write("run/systemd/container", "podman\n")
    assert {setting.state for setting in machine.run().values()} == {UNSUPPORTED} and machine.ran == []


def test_a_module_whose_file_is_gone_is_missing(machine: Machine) -> None:
    os.unlink(machine.root / f"lib/modules/{OLD_KERNEL}/updates/dkms/onload.ko")
    assert states(machine.run(check=True))[f"bypass.built onload for {OLD_KERNEL}"] == DRIFTED


def test_a_library_tells_its_version_by_its_name(machine: Machine) -> None:
    machine.files.write("usr/lib/x86_64-linux-gnu/libxlio.so.3.41.2", "").link("usr/lib/x86_64-linux-gnu/libxlio.so", "libxlio.so.3.41.2")
    assert host_stack._library(Host(str(machine.root)), "xlio", "x86_64") == "/usr/lib/x86_64-linux-gnu/libxlio.so.3.41.2"
    assert host_stack._library(Host(str(machine.root)), "vma", "x86_64") == ""


def test_the_tool_is_only_asked_on_the_machine_itself(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.files.write("usr/bin/onload", "")
    host = Host(str(machine.root))
    assert host_stack._told(host) == ""
    monkeypatch.setattr(Host, "live", True)
    monkeypatch.setattr(Host, "exists", lambda host, name: True)
    monkeypatch.setattr(host_stack, "output_of", lambda *command: "Onload 9.0.2.140\nKernel module: 9.0.2.140\n")
    assert host_stack._told(host) == "9.0.2.140"

    def fails(*command: str) -> str:
        raise ProgramFailed("x")

    monkeypatch.setattr(host_stack, "output_of", fails)
    assert host_stack._told(host) == ""


def test_what_holds_a_module_and_whom_it_drives(machine: Machine) -> None:
    machine.load("sfc", "6", refcnt=3)
    machine.load("onload", "1.0", refcnt=2)
    machine.files.write("sys/module/sfc/holders/onload", "").link("sys/class/net/eth1/device/driver", "../../../../bus/pci/drivers/sfc")
    machine.files.link("sys/bus/pci/drivers/sfc/module", "../../../../module/sfc")
    host = Host(str(machine.root))
    assert kernel_modules.users(host, "sfc") == 4 and kernel_modules.users(host, "onload") == 2
    assert kernel_modules.told_of(host, f"/lib/modules/{KERNEL}/x.ko")["signer"] == "the site"


@pytest.mark.parametrize(("text", "modules"), [
    (DKMS_CONF, {"sfc_char", "onload"}), ("PACKAGE_NAME=onload\n", {"onload"}),
    ("BUILT_MODULE_NAME='${PACKAGE_NAME}'\nBUILT_MODULE_NAME[1]=sfc-x\n", {"onload", "sfc_x"}),
])
def test_which_modules_a_source_has(machine: Machine, text: str, modules: set[str]) -> None:
    machine.files.write("usr/src/onload-1.0/dkms.conf", text)
    assert host_stack._sources(Host(str(machine.root))) == dict.fromkeys(modules, SOURCE)
