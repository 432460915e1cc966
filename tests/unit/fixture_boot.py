# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines with a boot loader as file trees, and small stand-ins for the programs of GRUB and for grubby that edit these trees."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.host import bootloader, files, trial
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.machine import Host
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.programs import ProgramFailed
from ansible_collections.lowlatency.fleet.tests.unit.fixture_grub import ROOT, debian, grubenv
from ansible_collections.lowlatency.fleet.tests.unit.fixture_machine import two_sockets

BOOT_ID = "0c9b1f6e-5b7d-4c39-8ad0-3f8a5f0c1d2e"
FOLDERS = ("boot/grub", "boot/grub2", "etc/default/grub.d", "etc/lowlatency", "etc/systemd/system/sysinit.target.wants", "run/lowlatency", "var/lib/lowlatency")
DROP_IN, GRUB_CFG, CUSTOM_CFG = (name[1:] for name in (bootloader.DROP_IN, bootloader.GRUB_CFG, bootloader.CUSTOM_CFG))
MACHINE_ID = "5ee0c3e3f5d64f1f9b1a0b7b6c3b2f10"
NEW, OLD, RESCUE = f"{MACHINE_ID}-5.14.0-70.el9.x86_64", f"{MACHINE_ID}-5.14.0-9.el9.x86_64", f"{MACHINE_ID}-0-rescue"


class BootMachine:
    """A machine below ``root`` whose programs are imitated; ``ran`` has their names, in order.

    ``failing`` programs say no, and ``before`` is called with each command: what it raises happens instead of the program.
    ``refused`` files cannot be written, with the errno that is given for them.
    """

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.files = two_sockets(root)
        self.ran: list[str] = []
        self.failing: set[str] = set()
        self.refused: dict[str, int] = {}
        self.before: Callable[[str], None] = lambda command: None
        self.abstraction, self.filesystem = "", "ext2"
        for folder in FOLDERS:
            (root / folder).mkdir(parents=True, exist_ok=True)
        self.files.write("proc/sys/kernel/random/boot_id", BOOT_ID + "\n").write("proc/sys/kernel/osrelease", "6.12.9-amd64\n")
        self.files.write("sys/devices/system/cpu/isolated", "\n").write("sys/devices/system/cpu/nohz_full", "(null)\n")
        self.files.write("proc/cpuinfo", "processor\t: 0\nvendor_id\t: GenuineIntel\nflags\t\t: fpu constant_tsc nonstop_tsc pdpe1gb\n\n")
        self.files.write("sys/devices/system/clocksource/clocksource0/current_clocksource", "tsc\n")
        real = files.write_whole

        def write_whole(host: Host, name: str, text: bytes, mode: int) -> None:
            if name in self.refused:
                raise OSError(self.refused[name], os.strerror(self.refused[name]), name)
            real(host, name, text, mode)

        monkeypatch.setattr(os, "fsync", lambda descriptor: None)
        monkeypatch.setattr(os, "sync", lambda: None)
        monkeypatch.setattr(bootloader, "write_whole", write_whole)
        monkeypatch.setattr(trial, "write_whole", write_whole)
        monkeypatch.setattr(bootloader, "output_of", self.output_of)
        monkeypatch.setattr(trial, "output_of", self.output_of)

    @property
    def host(self) -> Host:
        return Host(str(self.root))

    def read(self, name: str) -> str:
        return (self.root / name).read_text()

    def running(self, *tokens: str) -> None:
        """Say what the kernel was started with."""
        self.files.write("proc/cmdline", " ".join(("BOOT_IMAGE=/boot/vmlinuz", *tokens)) + "\n")

    def output_of(self, *command: str, time_limit: float | None = None) -> str:
        line = " ".join(command)
        self.before(line)
        self.ran.append(line)
        if command[0] in self.failing or line in self.failing:
            raise ProgramFailed(f"{line}: exit code 1: it said no")
        return self.program(*command)

    def program(self, *command: str) -> str:
        raise NotImplementedError(command)

    def probe(self, target: str) -> str:
        return self.abstraction if target == "--target=abstraction" else self.filesystem + "\n"

    def environment(self, name: str) -> dict[str, str]:
        return dict(line.split("=", 1) for line in self.read(name).splitlines() if "=" in line and not line.startswith("#"))

    def set_environment(self, name: str, **variables: str | None) -> None:
        held = {**self.environment(name), **variables}
        self.files.write(name, grubenv(**{key: value for key, value in held.items() if value is not None}))


class DebianMachine(BootMachine):
    """GRUB with /etc/default/grub.d, and a grub.cfg made of it."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(root, monkeypatch)
        self.files.write("usr/sbin/grub-mkconfig", "#!/bin/sh\n").write("boot/grub/grubenv", grubenv())
        self.files.write("etc/default/grub", 'GRUB_DEFAULT=0\nGRUB_TIMEOUT=5\nGRUB_CMDLINE_LINUX_DEFAULT="quiet"\nGRUB_CMDLINE_LINUX=""\n')
        self.update_grub()
        (root / GRUB_CFG).chmod(0o444)
        self.running(*self.tokens())

    def tokens(self, *more: str) -> tuple[str, ...]:
        return (f"root={ROOT}", "ro", "quiet", *more)

    def update_grub(self) -> None:
        self.files.write(GRUB_CFG, self.program("grub-mkconfig"))

    def program(self, *command: str) -> str:
        if command == ("grub-mkconfig",):
            return debian(self._default_arguments())
        if command[0] == "grub-script-check":
            bootloader.entries(self.read(command[1][1:]))
        elif command[0] == "grub-reboot":
            self.set_environment("boot/grub/grubenv", next_entry=command[1])
        elif command == ("grub-editenv", "list"):
            return "".join(f"{name}={value}\n" for name, value in self.environment("boot/grub/grubenv").items())
        elif command == ("grub-editenv", "/boot/grub/grubenv", "unset", "next_entry"):
            self.set_environment("boot/grub/grubenv", next_entry=None)
        elif command[0] == "grub-probe" and command[2] == "/boot/grub":
            return self.probe(command[1])
        else:
            raise AssertionError(f"no program for {command}")
        return ""

    def _default_arguments(self) -> str:
        """``GRUB_CMDLINE_LINUX_DEFAULT`` as a shell that reads the files in their order has it in the end."""
        value = ""
        for path in (self.root / "etc/default/grub", *sorted((self.root / "etc/default/grub.d").glob("*.cfg"))):
            for said in re.findall(r'^GRUB_CMDLINE_LINUX_DEFAULT="(.*)"$', path.read_text(), re.MULTILINE):
                value = said.replace("$GRUB_CMDLINE_LINUX_DEFAULT", value)
        return value


class ElMachine(BootMachine):
    """Boot loader specification entries, and grubby."""

    OPTIONS = ("root=/dev/sda2", "ro", "crashkernel=1G-4G:192M")

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(root, monkeypatch)
        self.files.write("usr/sbin/grubby", "#!/bin/sh\n").write("boot/grub2/grubenv", grubenv(saved_entry=NEW, kernelopts="quiet"))
        self.spoil: Callable[[str, list[str]], list[str]] = lambda name, tokens: tokens
        for name in (NEW, OLD, RESCUE):
            version = name.partition("-")[2]
            options = " ".join(self.OPTIONS)
            self.files.write(self.path(name), f"title Rocky Linux ({version})\nversion {version}\nlinux /vmlinuz-{version}\ninitrd /initramfs-{version}.img\n"
                             f"options {options} $kernelopts\ngrub_arg --unrestricted\n")
        self.running(*self.tokens())

    @staticmethod
    def path(name: str) -> str:
        return f"boot/loader/entries/{name}.conf"

    def tokens(self, *more: str) -> tuple[str, ...]:
        return (*self.OPTIONS, "quiet", *more)

    def options(self, name: str) -> list[str]:
        return next(line.split()[1:] for line in self.read(self.path(name)).splitlines() if line.startswith("options "))

    def set_options(self, name: str, options: list[str]) -> None:
        self.files.write(self.path(name), re.sub(r"^options .*$", "options " + " ".join(options), self.read(self.path(name)), flags=re.MULTILINE))

    def program(self, *command: str) -> str:
        if command[0] == "grubby":
            assert command[1] == "--update-kernel=ALL", command
            self._grubby(dict(word.split("=", 1) for word in command[2:]))
        elif command[0] == "grub2-reboot":
            self.set_environment("boot/grub2/grubenv", next_entry=command[1])
        elif command == ("grub2-editenv", "-", "unset", "next_entry"):
            self.set_environment("boot/grub2/grubenv", next_entry=None)
        elif command[0] == "grub2-probe" and command[2] == "/boot/grub2":
            return self.probe(command[1])
        else:
            raise AssertionError(f"no program for {command}")
        return ""

    def _grubby(self, options: dict[str, str]) -> None:
        """As grubby does: an argument that is removed goes by its name, one that is added takes the place of those of its name."""
        assert set(options) <= {"--args", "--remove-args"}, options
        added = options.get("--args", "").split()
        gone = {token.partition("=")[0] for token in (*added, *options.get("--remove-args", "").split())}
        for path in sorted((self.root / "boot/loader/entries").glob("*.conf")):
            kept = [token for token in self.options(path.stem) if token.partition("=")[0] not in gone]
            self.set_options(path.stem, self.spoil(path.stem, [*kept, *added]))


def no_space(machine: BootMachine, name: str) -> None:
    """From now on the file cannot be written: the disk is full."""
    machine.refused[name] = errno.ENOSPC
