# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Turns what ethtool prints, of any version, into a NIC's settings as they are recorded: ``{group: {name: (value, maximum)}}``.

A value is a number, on and off are 1 and 0, and a maximum is None where there is none. What prints ``n/a``, or no number at all, is left out. A group is None
where its command failed. Features are ``{bit: (active, fixed)}`` by the kernel's own names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Optional

Values = Optional[dict[str, tuple[int, Optional[int]]]]
Features = Optional[dict[str, tuple[bool, bool]]]

# What ethtool says instead of, or before, an answer.
_FAILED = re.compile(r"^(?:Cannot |ethtool: |ethtool version |Usage:|netlink error: |no \w+ parameters changed|No data available)", re.MULTILINE)
_SWITCH = {"on": 1, "off": 0}

_SIDES = ("usecs", "frames", "usecs-irq", "frames-irq", "usecs-low", "frames-low", "usecs-high", "frames-high")
COALESCE = frozenset(
    [f"{way}-{what}" for way in ("rx", "tx") for what in _SIDES]
    + ["pkt-rate-low", "pkt-rate-high", "sample-interval", "stats-block-usecs", "tx-aggr-max-bytes", "tx-aggr-max-frames", "tx-aggr-time-usecs"])
RINGS = {"RX": "rx", "RX Mini": "rx-mini", "RX Jumbo": "rx-jumbo", "TX": "tx", "RX Buf Len": "rx-buf-len", "CQE Size": "cqe-size", "TX Push": "tx-push",
         "RX Push": "rx-push", "TX push buff len": "tx-push-buf-len", "HDS thresh": "hds-thresh"}
CHANNELS = {"RX": "rx", "TX": "tx", "Other": "other", "Combined": "combined"}
PAUSE = {"Autonegotiate": "autoneg", "RX": "rx", "TX": "tx"}

# Features that ethtool -k calls otherwise than the kernel, and its sums of several bits, which are no bits (ethtool's off_flag_def).
FEATURES = {
    "generic-receive-offload": "rx-gro",
    "generic-segmentation-offload": "tx-generic-segmentation",
    "large-receive-offload": "rx-lro",
    "ntuple-filters": "rx-ntuple-filter",
    "receive-hashing": "rx-hashing",
    "rx-checksumming": "rx-checksum",
    "rx-vlan-offload": "rx-vlan-hw-parse",
    "tx-vlan-offload": "tx-vlan-hw-insert",
    "udp-fragmentation-offload": "tx-udp-fragmentation",
}
SUMS = ("scatter-gather", "tcp-segmentation-offload", "tx-checksumming")


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    """``(name, value)`` of each line that has a colon."""
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            yield name.strip(), value.strip()


def _number(word: str) -> int | None:
    return int(word) if re.fullmatch(r"\d+", word) else _SWITCH.get(word)


def _answered(text: str, heading: str) -> bool:
    """Whether a command answered at all: with its heading, and without an error."""
    return bool(re.search(rf"^{heading} for ", text, re.MULTILINE)) and not _FAILED.search(text)


def coalesce(text: str) -> Values:
    """Of ``ethtool -c``."""
    if not _answered(text, "Coalesce parameters"):
        return None
    found: dict[str, tuple[int, int | None]] = {}
    for way, rx, tx in re.findall(r"^(Adaptive|CQE mode)\s+RX:\s*(\S+)\s+TX:\s*(\S+)", text, re.MULTILINE):
        mode = "adaptive" if way == "Adaptive" else "cqe-mode"
        found.update({f"{mode}-{side}": (_SWITCH[word], None) for side, word in (("rx", rx), ("tx", tx)) if word in _SWITCH})
    for name, word in _pairs(text):
        name = re.sub(r"-frame-(low|high)$", r"-frames-\1", name)  # as older versions misspell it
        value = _number(word)
        if name in COALESCE and value is not None:
            found[name] = (value, None)
    return found


def _limited(text: str, heading: str, names: Mapping[str, str]) -> Values:
    """Of a command that prints maximums first and current settings then."""
    if not _answered(text, heading):
        return None
    maximums, _title, current = text.partition("Current hardware settings")
    limits = {names[name]: _number(word) for name, word in _pairs(maximums) if name in names}
    values = {names[name]: _number(word) for name, word in _pairs(current) if name in names}
    return {name: (value, limits.get(name)) for name, value in values.items() if value is not None}


def rings(text: str) -> Values:
    """Of ``ethtool -g``. A kind of ring that a NIC has not is ``(0, 0)`` where ethtool prints 0 for it."""
    return _limited(text, "Ring parameters", RINGS)


def channels(text: str) -> Values:
    """Of ``ethtool -l``."""
    return _limited(text, "Channel parameters", CHANNELS)


def pause(text: str) -> Values:
    """Of ``ethtool -a``; what was negotiated with the other side is no setting."""
    if not _answered(text, "Pause parameters"):
        return None
    return {PAUSE[name]: (_SWITCH[word], None) for name, word in _pairs(text) if name in PAUSE and word in _SWITCH}


def private_flags(text: str) -> Values:
    """Of ``ethtool --show-priv-flags``."""
    if not _answered(text, "Private flags"):
        return None
    return {name: (_SWITCH[word], None) for name, word in _pairs(text) if word in _SWITCH}


def features(text: str) -> Features:
    """Of ``ethtool -k``."""
    if not _answered(text, "Features"):
        return None
    found = {}
    for name, words in _pairs(text):
        match = re.fullmatch(r"(on|off)(?: \[([^\]]*)\])?", words)
        if match and name not in SUMS:
            found[FEATURES.get(name, name)] = (match.group(1) == "on", "fixed" in (match.group(2) or "").split(", "))
    return found


def driver(text: str) -> dict[str, str]:
    """Of ``ethtool -i``: driver, version, firmware-version, bus-info and so on; empty where the command failed."""
    return {name: value for name, value in _pairs(text) if re.fullmatch(r"[a-z-]+", name)} if not _FAILED.search(text) else {}


def indirection(text: str) -> list[int] | None:
    """Of ``ethtool -x``: the queue of each entry of the indirection table."""
    if not _answered(text, "RX flow hash indirection table"):
        return None
    rows = (re.fullmatch(r"\s*\d+:((?:\s+\d+)+)\s*", line) for line in text.partition("RSS hash key")[0].splitlines())
    return [int(word) for row in rows if row for word in row.group(1).split()]


GROUPS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "coalesce": ("-c", coalesce),
    "rings": ("-g", rings),
    "channels": ("-l", channels),
    "pause": ("-a", pause),
    "private_flags": ("--show-priv-flags", private_flags),
    "features": ("-k", features),
}


def recorded(outputs: Mapping[str, str]) -> dict[str, Any]:
    """The settings of one NIC from ``{option of ethtool: what it printed}``; a group whose command is not among them is None."""
    return {group: read(outputs[option]) if option in outputs else None for group, (option, read) in GROUPS.items()}
