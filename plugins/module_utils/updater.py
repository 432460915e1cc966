# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The way of NICs to the wanted driver and firmware: plan, refuse, load, flash, reset, read again.

Beside the transaction, not in it: what it does cannot be taken back, so it happens only in a maintenance run of its own switches.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .host import nic_update as doing
from .host.files import locked
from .host.kernel_modules import only_signed
from .host.links import management_interfaces
from .host.machine import Host
from .host.nic_firmware import read_nic_firmware
from .host.programs import ProgramFailed
from .model.nic import CONTROL
from .model.nic_firmware import DRIVER, FIRMWARE, Card, driver_rule, plan, problems
from .model.nic_update import (
    FLASH,
    REBOOT,
    Step,
    driver_fits,
    firmware_step,
    firmware_verdict,
    image_problems,
    wants_reload,
)
from .model.setting import Setting, SpecError


class Refused(Exception):
    """Nothing was written: the wish cannot be right here, or the NIC keeps this host reachable."""


@dataclass
class Update:
    """What was done (in check mode: would be), what waits for a reboot, what was left alone and why, and what went wrong.

    ``needed`` has the images that have to be put on the host first; where there are any, nothing was done.
    """

    done: list[str] = field(default_factory=list)
    waits: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    needed: list[Mapping[str, Any]] = field(default_factory=list)
    settings: tuple[Setting, ...] = ()


@dataclass(frozen=True)
class _Work:
    """What is to be done on a host: drivers to load anew with the NICs of each, and steps for firmware."""

    drivers: tuple[tuple[Card, ...], ...]
    steps: tuple[Step, ...]


def update(host: Host, spec: Mapping[str, Any], *, check: bool = False) -> Update:
    """Bring the NICs of ``spec`` to their driver (where it says ``reload``) and firmware (where it says ``flash`` and ``maintenance``).

    Raises ``Refused`` before anything is written.
    """
    wrong = [*problems(spec), *image_problems(spec.get("images") or [])]
    if wrong:
        raise Refused("; ".join(wrong))
    report = Update()
    work = _work(host, spec, report)
    if spec.get("verify"):
        report.wrong = [f"{step.card.interface}: after the boot its firmware is still {step.before}; a power cycle may bring it" for step in work.steps]
    elif check:
        report.done = [*(f"{cards[0].driver.name} would be loaded anew" for cards in work.drivers), *(_told(step, "would be") for step in work.steps)]
    else:
        report.needed = [step.image for step in work.steps if step.kind == FLASH and not host.exists(str(step.image["file"]))]
    if (work.drivers or work.steps) and not (check or spec.get("verify") or report.needed):
        with locked(host):
            _refuse_unflashable(host, work)
            _do(host, spec, work, report)
    _judge(host, spec, report)
    return report


def _work(host: Host, spec: Mapping[str, Any], report: Update) -> _Work:
    """What is to be done; what must be left alone is told. Raises ``Refused``."""
    found = read_nic_firmware(host, spec).cards
    if not spec.get("verify"):
        report.left += [f"{card.interface}: {card.unreadable}" for card in found if card.unreadable]
    cards = [card for card in found if not card.unreadable]
    policy, images, written = spec.get("policy") or {}, spec.get("images") or [], doing.flashed(host)
    protected = management_interfaces(host)
    try:
        drivers = _drivers(host, cards, policy, report) if spec.get("reload") else {}
        flashing = spec.get("flash") and spec.get("maintenance")
        steps = [step for step in (firmware_step(card, policy, images, written) for card in cards) if step] if flashing else []
    except SpecError as error:
        raise Refused(str(error)) from error
    if (drivers or steps) and not protected:
        raise Refused("which interface keeps this host reachable cannot be told (no default route): no NIC is reset (R6)")
    kept_drivers, kept_steps = [], []
    for name, users in drivers.items():
        why = next(filter(None, (doing.driver_guard(host, card.interface, protected) for card in users)), "")
        (report.left.append(f"driver {name}: {why}; it is not loaded anew (R6)") if why else kept_drivers.append(tuple(users)))
    for step in steps:
        why = doing.board_guard(host, step.card, protected)
        (report.left.append(f"{step.card.interface}: {why}; it is not flashed (R6)") if why else kept_steps.append(step))
    return _Work(tuple(kept_drivers), tuple(kept_steps))


def _drivers(host: Host, cards: list[Card], policy: Mapping[str, Any], report: Update) -> dict[str, list[Card]]:
    """The NICs of each driver that has to be loaded anew; raises ``Refused`` for one that the kernel would not take (R29)."""
    found: dict[str, list[Card]] = {}
    for card in cards:
        if driver_fits(card.driver, driver_rule(policy, card.driver.name)):
            continue
        try:
            available, signed = doing.on_disk(host, card)
        except ProgramFailed as error:
            report.left.append(f"driver {card.driver.name}: {error}; it is not loaded anew")
            continue
        if wants_reload(card.driver, available, policy):
            if not signed and only_signed(host):
                raise Refused(f"driver {card.driver.name} {available.version} is not signed and this kernel loads signed ones only: "
                              "enrol its key, or turn Secure Boot off (R29)")
            found.setdefault(card.driver.name, []).append(card)
    return found


def _refuse_unflashable(host: Host, work: _Work) -> None:
    wrong = [why for why in (doing.unflashable(host, step.card, step.image) for step in work.steps if step.kind == FLASH) if why]
    if wrong:
        raise Refused("; ".join(wrong))


def _do(host: Host, spec: Mapping[str, Any], work: _Work, report: Update) -> None:
    """Drivers first, since the tools go through them; then each board once. The first failure ends it."""
    try:
        for cards in work.drivers:
            doing.reload(host, list(cards))
            report.done.append(f"driver {cards[0].driver.name} loaded anew")
        for planned in work.steps:
            step = _now(host, spec, planned)
            if step is None:
                continue
            if step.kind == FLASH:
                doing.flash(host, step.card, step.image)
                report.done.append(_told(step, "was"))
            if step.image.get("activate") != REBOOT:
                _reset(host, step, report)
    except (ProgramFailed, OSError, SpecError) as error:
        report.wrong.append(str(error))


def _now(host: Host, spec: Mapping[str, Any], planned: Step) -> Step | None:
    """The step as it is due now: another port of the same board may have brought it already."""
    nics = [{"pci": planned.card.pci} if planned.card.pci else {"interface": planned.card.interface}]
    card = read_nic_firmware(host, {"nics": nics}).cards[0]
    if card.unreadable:
        raise SpecError(f"{planned.card.interface}: {card.unreadable}")
    return firmware_step(card, spec.get("policy") or {}, spec.get("images") or [], doing.flashed(host))


def _reset(host: Host, step: Step, report: Update) -> None:
    """A NIC that cannot be reset while the host runs waits for a reboot; that is no failure."""
    try:
        doing.reset(host, step.card, step.image)
    except ProgramFailed as error:
        report.waits.append(f"{step.card.interface} was not reset: {error}")
        return
    report.done.append(f"{step.card.interface} was reset")


def _judge(host: Host, spec: Mapping[str, Any], report: Update) -> None:
    """Read again: what holds now is what counts. After a boot for it (``verify``) nothing may be left to be done."""
    state = read_nic_firmware(host, spec)
    report.settings = tuple(setting for setting in plan(state, spec).settings if setting.control in (CONTROL, DRIVER, FIRMWARE))
    written = doing.flashed(host)
    for card in state.cards:
        if card.unreadable and not any(line.startswith(f"{card.interface}: ") for line in report.left):
            report.wrong.append(f"{card.interface}: {card.unreadable}; it was there before")
        if card.unreadable or card.device not in written:
            continue
        waits, wrong = firmware_verdict(card, spec.get("policy") or {}, written)
        report.waits += [waits] if waits else []
        report.wrong += [f"{wrong}; it was flashed and does not hold it"] if wrong else []


def _told(step: Step, tense: str) -> str:
    if step.kind == FLASH:
        return f"{step.card.interface} {tense} flashed from {step.before} to {step.image['version']} by {step.image.get('tool') or 'devlink'}"
    return f"{step.card.interface} {tense} reset for {step.image['version']}"
