# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands in scripts, units and rules that set NICs or move interrupts: found by what they call, never run. Pure: no I/O.

Source: ethtool(8), tc(8), Documentation/networking/scaling.rst, Documentation/core-api/irq/irq-affinity.rst, and the tools of NIC vendors by their names.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from .ini import joined_lines

NIC, IRQ = "nic.competitor", "irq.competitor"

# What makes a text worth a closer look; most have none of these.
_HINTS = ("ethtool", "affinity", "mlnx_tune", "ps_cpus", "xps_rxqs", "irqbalance")

_ETHTOOL = re.compile(r"(?<![\w.-])\$?\{?ethtool\}?[\"']?\s([^;&|\n]*)", re.IGNORECASE)
# Options of ethtool that set what a NIC does with packets and interrupts; speed, duplex and wake-on-LAN (-s) are nobody's here.
_ETHTOOL_SETS = frozenset((
    "-A", "--pause", "-C", "--coalesce", "-G", "--set-ring", "-K", "--features", "--offload", "-L", "--set-channels", "-N", "-U", "--config-nfc",
    "--config-ntuple", "-X", "--set-rxfh-indir", "--rxfh", "--set-eee", "--set-priv-flags"))
_PER_QUEUE = ("-Q", "--per-queue")

_VENDOR_TOOLS = (
    (re.compile(r"\bmlnx_tune\b"), (NIC, IRQ)),
    (re.compile(r"\b(?:set_irq_affinity[\w.-]*|mlnx_affinity|sfcirqaffinity|sfcaffinity_config)"), (IRQ,)),
)
_IRQBALANCE = re.compile(
    r"\b(?:systemctl|service|invoke-rc\.d|rc-service)\b(?=[^;&|]*\birqbalance\b)[^;&|]*\b(?:start|restart|try-restart|reload-or-restart|enable|unmask)\b"
    r"|(?:^|[\s;&|=\"'])(?:/usr)?/s?bin/irqbalance(?=\s|$|[\"';])|(?:^|[;&|]\s*)irqbalance(?=\s|$)")
_TC = re.compile(r"\btc\s+(?:-\w+\s+)*(?:qdisc|class|filter)\s+(?:add|replace|change|del|delete)\b[^;&|]*\bdev\s+(\S+)")
_QUEUE_FILES = re.compile(r"\b(?:rps_cpus|xps_cpus|xps_rxqs)\b")
_AFFINITY_FILES = re.compile(r"\bsmp_affinity(?:_list)?\b")
_READS = re.compile(r"^(?:\w+=[\"']?)?(?:\$\(|`)?\s*(?:cat|grep|head|tail|less|ls)\s")
_INTO = re.compile(r"(?:>|\btee\b[^;&|]*)\s*[^\s;&|]*(?:_affinity|_cpus|xps_rxqs)")
_LITERAL = re.compile(r"[A-Za-z][\w.:@-]{0,14}")
_WORD_LIMIT = 100


@dataclass(frozen=True)
class Command:
    """One command that sets something: which kind (``control``), in its own words, and the device it sets.

    ``device`` is empty where the command takes it from a variable, or could name one anywhere.
    """

    control: str
    words: str
    device: str = ""


def suspicious(text: str) -> bool:
    """Whether a text may hold a command that sets NICs or interrupts; a cheap look before the thorough one."""
    lower = text.lower()
    return any(hint in lower for hint in _HINTS)


def commands(text: str, *, tc: bool = False) -> list[Command]:
    """The commands of a script, a crontab, a unit or a rule's RUN that set NICs or interrupts, those of ``tc`` only where they are asked for."""
    found: list[Command] = []
    for line in joined_lines(text):
        line = re.sub(r"(?:^|\s)#.*$", "", line).strip()
        if suspicious(line):
            found += [*_ethtool(line), *_vendor(line), *_files(line)]
        if tc:
            found += [Command(NIC, _short(match.group(0)), _device(match.group(1))) for match in _TC.finditer(line)]
    return list(dict.fromkeys(found))


def _ethtool(line: str) -> Iterator[Command]:
    for match in _ETHTOOL.finditer(line):
        words = [word.strip("\"'`()") for word in match.group(1).split()]
        option = next((index for index, word in enumerate(words) if word in _ETHTOOL_SETS), None)
        if option is not None:
            named = next((index for index, word in enumerate(words) if word in _PER_QUEUE), option) + 1
            yield Command(NIC, _short("ethtool " + " ".join(words)), _device(words[named] if named < len(words) else ""))


def _vendor(line: str) -> Iterator[Command]:
    for pattern, controls in _VENDOR_TOOLS:
        match = pattern.search(line)
        if match:
            words = _short(match.group(0) + re.split(r"[;&|]", line[match.end():])[0].rstrip("\"' "))
            yield from (Command(control, words) for control in controls)
    if _IRQBALANCE.search(line):
        yield Command(IRQ, _short(line))


def _files(line: str) -> Iterator[Command]:
    """Writes to the files of queues and of interrupts; a line that only reads them is none."""
    if _READS.search(line) and not _INTO.search(line):
        return
    if _QUEUE_FILES.search(line):
        place = re.search(r"/net/([^/\s]+)/queues", line)
        yield Command(NIC, _short(line), _device(place.group(1)) if place else "")
    if _AFFINITY_FILES.search(line):
        yield Command(IRQ, _short(line))


def _device(word: str) -> str:
    """The interface a word names; empty for a variable or a pattern."""
    word = word.strip("\"'")
    return word if _LITERAL.fullmatch(word) else ""


def _short(words: str) -> str:
    words = " ".join(words.split())
    return words if len(words) <= _WORD_LIMIT else words[:_WORD_LIMIT - 3] + "..."


def concerning(found: Iterable[Command], text: str, ours: Collection[str], others: Collection[str]) -> list[Command]:
    """The commands that touch one of our interfaces: by its name, or, where they name none, because the text names none but ours.

    ``others`` are the further interfaces of the host. A name in a comment counts for nothing.
    """
    named = _words(text)
    elsewhere = bool(named.intersection(others)) and not named.intersection(ours)
    return [command for command in found
            if names_one(command, ours) or (not command.device and not names_one(command, others) and not elsewhere)]


def names_one(command: Command, interfaces: Collection[str]) -> bool:
    """Whether a command names one of those interfaces."""
    return command.device in interfaces if command.device else not _words(command.words).isdisjoint(interfaces)


def _words(text: str) -> set[str]:
    return set(re.findall(r"[A-Za-z][\w.-]*", "\n".join(re.sub(r"(?:^|\s)#.*$", "", line) for line in text.splitlines())))
