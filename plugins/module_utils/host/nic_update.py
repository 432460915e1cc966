# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Loads a driver anew, writes firmware with the vendor's own tool and resets a NIC. Decides nothing.

Source: devlink-dev(8), mstflint(1), mstfwreset(1), modprobe(8), modinfo(8), Documentation/admin-guide/module-signing.rst.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
from collections.abc import Mapping
from typing import Any

from ..model.nic_firmware import Card, Driver
from ..model.nic_update import DEVLINK, FIRMWARE_FOLDER, MSTFLINT, same_board
from .kernel_modules import holders
from .links import NET, pci_of
from .machine import Host
from .memory import remember, remembered
from .nic_firmware import PCI, module_of
from .programs import ProgramFailed, output_of

FLASHED = "/run/lowlatency/flashed.json"
FLASH_LIMIT, RESET_LIMIT, COMEBACK = 3600, 300, 60
_STEP = 0.5


def flashed(host: Host) -> dict[str, str]:
    """``{device: sha256}`` of what was written since the last boot, which forgets it."""
    return {device: str(sha256) for device, sha256 in remembered(host, FLASHED).items()}


def board_guard(host: Host, card: Card, protected: Mapping[str, str]) -> str:
    """Why the board of a NIC must be left alone, or nothing: one of its ports, or of its virtual functions, keeps this host reachable."""
    for interface in host.names(NET):
        if interface not in protected:
            continue
        address = pci_of(host, interface) or ""
        address = host.link_name(f"{PCI}/{address}/physfn") or address if address else ""
        if interface == card.interface or same_board(address, card.pci):
            return f"{interface} {protected[interface]}" + ("" if interface == card.interface else " and is on the same board")
    return ""


def driver_guard(host: Host, interface: str, protected: Mapping[str, str]) -> str:
    """Why the driver of an interface must not be unloaded, or nothing."""
    module = module_of(host, interface)
    modules = {module, *holders(host, module)}
    found = next((name for name in host.names(NET) if name in protected and module_of(host, name) in modules), "")
    return f"{found} {protected[found]} and has the same driver" if found else ""


def sha256_of(host: Host, name: str) -> str:
    """The checksum of a file; raises ``OSError``."""
    digest = hashlib.sha256()
    with open(host.path(name), "rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def unflashable(host: Host, card: Card, image: Mapping[str, Any]) -> str:
    """Why an image that is on the host cannot be written to a NIC, or nothing: another file, no tool, no device that the tool knows."""
    file, tool = str(image["file"]), str(image.get("tool") or DEVLINK)
    try:
        held = sha256_of(host, file)
    except OSError as error:
        return f"{file}: {error.strerror}"
    if held != image["sha256"]:
        return f"{file}: its sha256 is {held}, wanted {image['sha256']}; it is another file than the site named"
    if shutil.which(tool) is None:
        return f"{tool} is not installed; its package is {'iproute2' if tool == DEVLINK else 'mstflint'}"
    if tool == DEVLINK and not file.startswith(FIRMWARE_FOLDER + "/"):
        return f"{file}: the kernel reads images for devlink from {FIRMWARE_FOLDER} only; put it there"
    if not (card.device if tool == DEVLINK else card.pci):
        return f"{card.interface} is no device that {tool} knows"
    return ""


def flash(host: Host, card: Card, image: Mapping[str, Any]) -> None:
    """Write an image to a NIC; raises ``ProgramFailed``. The tool has a session of its own: it is never stopped half-way."""
    file = str(image["file"])
    if image.get("tool") == MSTFLINT:
        _matching_board(card, image)
        command = ["mstflint", "-d", card.pci, "-i", host.path(file), "-y", "burn"]
    else:
        component = ["component", str(image["component"])] if image.get("component") else []
        command = ["devlink", "dev", "flash", card.device, "file", os.path.relpath(file, FIRMWARE_FOLDER), *component]
    output_of("setsid", "--wait", *command, time_limit=FLASH_LIMIT)
    remember(host, FLASHED, {**flashed(host), card.device: image["sha256"]})


def _matching_board(card: Card, image: Mapping[str, Any]) -> None:
    """Raises ``ProgramFailed`` where the board is not the one that the image names; mstflint itself compares it with the image."""
    told = queried(card.pci).get("PSID", "")
    if image.get("psid") and told != image["psid"]:
        raise ProgramFailed(f"mstflint -d {card.pci} q: the board is {told or 'unknown'}, the image is for {image['psid']}")


def queried(pci: str) -> dict[str, str]:
    """What ``mstflint q`` tells of a card, by its own words (``FW Version``, ``PSID``); raises ``ProgramFailed``."""
    lines = output_of("mstflint", "-d", pci, "q").splitlines()
    return {name.strip(): value.strip() for name, _colon, value in (line.partition(":") for line in lines) if value.strip()}


def reset(host: Host, card: Card, image: Mapping[str, Any]) -> None:
    """Have a NIC run what is stored, and wait for its interface; raises ``ProgramFailed`` where that takes a reboot."""
    if image.get("tool") == MSTFLINT:
        output_of("mstfwreset", "-d", card.pci, "-y", "reset", time_limit=RESET_LIMIT)
    else:
        output_of("devlink", "dev", "reload", card.device, "action", "fw_activate", time_limit=RESET_LIMIT)
    wait_for(host, [card])


def wait_for(host: Host, cards: list[Card]) -> None:
    """Wait until NICs have their interfaces again; raises ``ProgramFailed``."""
    deadline = time.monotonic() + COMEBACK
    missing = cards
    while missing and time.monotonic() < deadline:
        missing = [card for card in missing if not _is_back(host, card)]
        if missing:
            time.sleep(_STEP)
    if missing:
        names = ", ".join(card.interface for card in missing)
        raise ProgramFailed(f"{names}: not back after {COMEBACK} s; look at the kernel's messages")


def _is_back(host: Host, card: Card) -> bool:
    """Whether the interface has its name again: udev gives it some time after the kernel made it."""
    return host.exists(f"{NET}/{card.interface}") and (pci_of(host, card.interface) or "") == card.pci


# --- drivers ----------------------------------------------------------------------------------------------------------


def on_disk(host: Host, card: Card) -> tuple[Driver, bool]:
    """The driver that a reload would bring, and whether it is signed; raises ``ProgramFailed``."""
    module = module_of(host, card.interface)
    if not module:
        return card.driver, True
    lines = (line.partition(":") for line in output_of("modinfo", "--", module).splitlines())
    told: dict[str, str] = {}
    for name, _colon, value in lines:
        told.setdefault(name.strip(), value.strip())
    return Driver(card.driver.name, told.get("version") or os.uname().release, told.get("intree") != "Y"), bool(told.get("signer"))


def reload(host: Host, cards: list[Card]) -> None:
    """Unload the driver of these NICs with all that uses it, and load what is on disk; raises ``ProgramFailed``."""
    module = module_of(host, cards[0].interface)
    modules = [*holders(host, module), module]
    try:
        output_of("modprobe", "-r", "--", *modules, time_limit=RESET_LIMIT)
    except ProgramFailed:
        with contextlib.suppress(ProgramFailed):
            output_of("modprobe", "-a", "--", *reversed(modules), time_limit=RESET_LIMIT)
        raise
    output_of("modprobe", "-a", "--", *reversed(modules), time_limit=RESET_LIMIT)
    wait_for(host, cards)
