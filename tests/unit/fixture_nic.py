# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine with NICs that tell of their firmware, and stand-ins for the programs that flash, reset and load drivers."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.host import nic_firmware as reading
from ansible_collections.lowlatency.fleet.plugins.module_utils.host import nic_update as doing
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.machine import Host
from ansible_collections.lowlatency.fleet.tests.unit.fixture_machine import FixtureMachine

OLD, NEW = "22.36.1010", "22.41.1000"
IMAGE = b"the new firmware\n"
SHA256 = hashlib.sha256(IMAGE).hexdigest()
FILE = "/lib/firmware/lowlatency/image.bin"
POLICY = {"mlx5_core": {"firmware": {"minimum": NEW}}}
PORTS = ("0000:3b:00.0", "0000:3b:00.1")

# devlink and mstflint change what the NICs tell of themselves, which is one file; mlx cards store one firmware a board.
PROGRAM = """#!/usr/bin/env python3
import json, os, sys
root = {root!r}
name, words = os.path.basename(sys.argv[0]), sys.argv[1:]
with open(root + "/ran", "a") as log:
    log.write(" ".join([name, *words]) + "\\n")
if os.path.exists(root + "/failing/" + name + "-" + (words[1] if name == "devlink" else words[-1])):
    sys.exit("it said no")
place = root + "/told.json"
told = json.load(open(place))
board = next((word for word in words if word.startswith(("pci/", "0000:"))), "").replace("pci/", "").rpartition(".")[0]
for device, versions in told.items():
    if board and board in device:
        if "flash" in words or "burn" in words:
            versions["stored"] = {new!r}
        if "reload" in words or "reset" in words:
            versions["running"] = versions["stored"]
        if words[-1] == "q":
            print("FW Version:            " + versions["stored"] + "\\nPSID:                  " + versions["psid"])
json.dump(told, open(place, "w"))
"""
MODPROBE = """#!/bin/sh
echo "modprobe $*" >> {root}/ran
if [ -e {root}/failing/modprobe ]; then echo "it said no" >&2; exit 1; fi
"""
MODINFO = """#!/bin/sh
echo "modinfo $*" >> {root}/ran
cat {root}/modinfo
"""


class AnsweringHost(Host):
    """A tree whose kernel answers: to code under test it is the live machine."""

    @property
    def live(self) -> bool:
        return True

    def path(self, name: str) -> str:
        return os.path.join(self.root, name.lstrip("/"))

    def followed(self, name: str) -> str:
        return self.root + self._without_links("/" + name.strip("/"))


class NicMachine:
    """Two sockets; a two-port mlx5 card on node 0 (p0, p1), and eth0 of igb, which carries the default route."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.files = FixtureMachine(root)
        for node, cpus in ((0, "0-3"), (1, "4-7")):
            self.files.node(node, cpus, 1000, "10 21" if node == 0 else "21 10")
        for port, address in enumerate(PORTS):
            self.card(address, f"p{port}", "mlx5_core", node=0)
        self.card("0000:01:00.0", "eth0", "igb", node=0)
        self.default_route("eth0")
        self.tell(*(f"pci/{address}" for address in PORTS))
        self.files.write(FILE[1:], IMAGE)
        (root / "failing").mkdir()
        (root / "run/lowlatency").mkdir(parents=True)
        self.programs(monkeypatch)
        monkeypatch.setattr(reading._Asks, "drvinfo", self.drvinfo)
        monkeypatch.setattr(reading._Asks, "info", self.info)
        monkeypatch.setattr(doing, "COMEBACK", 0.2)
        monkeypatch.setattr(doing, "_STEP", 0.05)

    def card(self, address: str, interface: str, driver: str, node: int) -> None:
        """A PCI NIC below a port of its own, with its driver and module."""
        port = f"sys/devices/pci0000:00/{address[:-1]}f"
        device = f"{port}/{address}"
        if not (self.root / f"sys/bus/pci/devices/{address[:-1]}f").is_symlink():
            self.files.link(f"sys/bus/pci/devices/{address[:-1]}f", f"../../../../{port}")
        self.files.link(f"sys/bus/pci/devices/{address}", f"../../../../{device}")
        for name, text in (("vendor", "0x15b3"), ("device", "0x101d"), ("numa_node", str(node)), ("current_link_width", "8"), ("max_link_width", "16"),
                           ("current_link_speed", "16.0 GT/s PCIe"), ("max_link_speed", "16.0 GT/s PCIe"),
                           ("net/" + interface + "/address", "02:00:00:00:00:01")):
            self.files.write(f"{device}/{name}", text + "\n")
        self.files.write(f"{port}/max_link_width", "8\n").write(f"{port}/max_link_speed", "16.0 GT/s PCIe\n")
        for link, target in ((f"{device}/subsystem", "/sys/bus/pci"), (f"{device}/driver", f"/sys/bus/pci/drivers/{driver}"),
                             (f"{device}/net/{interface}/device", f"../../../{address}"),
                             (f"sys/class/net/{interface}", f"../../../{device}/net/{interface}")):
            self.files.link(link, target)
        if not (self.root / f"sys/bus/pci/drivers/{driver}/module").is_symlink():
            self.files.link(f"sys/bus/pci/drivers/{driver}/module", f"/sys/module/{driver}")
        self.files.write(f"sys/module/{driver}/taint", "\n")

    def default_route(self, interface: str) -> None:
        self.files.write("proc/net/route", f"Iface\tDestination\tGateway\tFlags\n{interface}\t00000000\t0102A8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n")

    def tell(self, *devices: str, running: str = OLD, stored: str = OLD) -> None:
        """What devlink tells of these devices from now on."""
        told = {device: {"running": running, "stored": stored, "psid": "MT_0000000359"} for device in devices}
        (self.root / "told.json").write_text(json.dumps(told))

    def programs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        texts = {name: PROGRAM.format(root=str(self.root), new=NEW) for name in ("devlink", "mstflint", "mstfwreset")}
        texts.update(modprobe=MODPROBE.format(root=self.root), modinfo=MODINFO.format(root=self.root))
        (self.root / "bin").mkdir()
        for name, text in texts.items():
            path = self.root / "bin" / name
            path.write_text(text)
            path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{self.root}/bin:{os.environ['PATH']}")

    def failing(self, name: str) -> None:
        """From now on this program says no: ``devlink-flash``, ``devlink-reload``, ``mstfwreset-reset``, ``modprobe``."""
        (self.root / "failing" / name).touch()

    def ran(self) -> list[str]:
        """The commands that were started, in order."""
        path = self.root / "ran"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def host(self) -> AnsweringHost:
        return AnsweringHost(str(self.root))

    def drvinfo(self, interface: str) -> tuple[str, str, str]:
        driver = os.path.basename(os.readlink(self.root / f"sys/class/net/{interface}/device/driver"))
        return driver, "6.12.9", "3.25, 0x800005cf" if driver == "igb" else "ethtool's text"

    def info(self, device: str) -> Any:
        told = json.loads((self.root / "told.json").read_text()).get(device)
        if told is None:
            return {}
        return {reading.FIXED: {"fw.psid": told["psid"]}, reading.RUNNING: {"fw.version": told["running"]},
                reading.STORED: {"fw.version": told["stored"]} if told["stored"] else {}}


def image(**more: Any) -> dict[str, Any]:
    """The image with the new firmware, as the module takes it."""
    return {"driver": "mlx5_core", "version": NEW, "file": FILE, "sha256": SHA256, **more}


def maintenance(*interfaces: str, **more: Any) -> dict[str, Any]:
    """What a run of maintenance wants of these NICs."""
    return {"nics": [{"interface": name} for name in interfaces], "policy": POLICY, "images": [image()], "flash": True, "maintenance": True, **more}
