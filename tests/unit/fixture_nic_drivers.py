# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables of what NIC drivers take (data/nic_drivers.yml), and the document that is made of them: docs/nic-drivers.md."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

DATA = Path(__file__).with_name("data") / "nic_drivers.yml"
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "nic-drivers.md"

INTRODUCTION = """\
# What NIC drivers take

Which settings each driver has, read from the source of Linux {kernel} and compared with
{compared}.
**No such hardware was driven**, with three exceptions: igb as QEMU emulates it (an 82576), virtio_net under QEMU, and veth. All else is what the
source says, not what a card was seen to do; firmware, module parameters and drivers of the vendors can make a difference. Where it says
"as the device says" the source has no constant.

Not checked for any driver: other kernels than these two, virtual functions, and how long a link is away after a reset.

This file is made of `tests/unit/data/nic_drivers.yml`, and a test compares them: change that, run `scripts/unit tests/unit/test_nic_drivers.py`, and copy
`.cache/results/nic-drivers.md` here. Files are named below `drivers/net` of the kernel's source.

## The core of the kernel

{core}

## At a glance

| driver | coalescing | rings, at most | channels | pause | EEE | RSS table; key | LRO | ntuple |
|---|---|---|---|---|---|---|---|---|
"""


def tables() -> dict[str, Any]:
    """The whole of the tables: ``kernel``, ``compared``, ``core`` and ``drivers``."""
    loaded: dict[str, Any] = yaml.safe_load(DATA.read_text(encoding="utf-8"))
    return loaded


def recorded(driver: str) -> dict[str, Any]:
    """A NIC of this driver as its settings are recorded: ``(value, maximum)`` of what it has, 0 and on for values, None for a group it has not.

    A maximum that the source does not give as one number is 1024.
    """
    has = tables()["drivers"][driver]
    rings = {name: (256, limit if isinstance(limit, int) else 1024) for name, limit in has["rings"].items()}
    pause = dict.fromkeys(("autoneg", "rx", "tx"), (1, None)) if has["pause"] != "no" else None
    flags = dict.fromkeys(has["private_flags"], (0, None))
    features = {bit: (word.startswith("changeable") and name in ("ntuple", "rxhash"), not word.startswith("changeable"))
                for bit, name, word in ((bit, name, has["features"][name]) for bit, name in BITS.items())}
    return {"coalesce": dict.fromkeys(has["coalesce"], (0, None)) or None, "rings": rings or None,
            "channels": {name: (1, 1 if name == "other" else 8) for name in has["channels"]} or None,
            "pause": pause, "private_flags": flags or None, "features": features}


BITS = {"rx-lro": "lro", "rx-gro-hw": "rx-gro-hw", "rx-ntuple-filter": "ntuple", "rx-hashing": "rxhash"}


def document() -> str:
    """What docs/nic-drivers.md has to hold."""
    loaded = tables()
    core = "\n".join(f"- {text.strip()}" for text in loaded["core"])
    lines = [INTRODUCTION.format(kernel=loaded["kernel"], compared=loaded["compared"], core=core).rstrip("\n")]
    lines += [_row(name, driver) for name, driver in loaded["drivers"].items()]
    for name, driver in loaded["drivers"].items():
        lines += _section(name, driver)
    return "\n".join(lines) + "\n"


def _row(name: str, driver: Mapping[str, Any]) -> str:
    rings = ", ".join(f"{ring} {limit}" for ring, limit in driver["rings"].items())
    cells = (f"[{name}](#{name})", ", ".join(driver["coalesce"]), rings, ", ".join(driver["channels"]), driver["pause"], driver["eee"],
             f"{driver['rss']['table']}; {driver['rss']['key']}", driver["features"]["lro"], driver["features"]["ntuple"])
    return "| " + " | ".join(str(cell) or "none" for cell in cells) + " |"


def _section(name: str, driver: Mapping[str, Any]) -> list[str]:
    rss = driver["rss"]
    facts = {
        "driven here": driver["driven"],
        "coalescing": _noted(", ".join(driver["coalesce"]) + (" (also for each queue)" if driver.get("per_queue") else ""), driver["coalesce_note"]),
        "rings": _noted(", ".join(f"{ring} {limit}" for ring, limit in driver["rings"].items()), driver["rings_note"]),
        "channels": _noted(", ".join(driver["channels"]), driver["channels_note"]),
        "pause": driver["pause"],
        "private flags": ", ".join(f"`{flag}`" for flag in driver["private_flags"]) or "none",
        "RSS": f"table {rss['table']}{'' if rss['set'] else ', cannot be set'}; key {rss['key']}" if rss["table"] != "none" else "none",
        "hash fields": driver["hash_fields"],
        "flow rules": driver["rules"],
        "EEE": driver["eee"],
        "features": "; ".join(f"{feature} {word}" for feature, word in driver["features"].items()),
    }
    lines = ["", f"## {name}", "", f"{driver['hardware']}.", "", *(f"- {fact}: {words}" for fact, words in facts.items())]
    for title, key in (("What a change resets", "resets"), ("Traps", "traps")):
        if driver[key]:
            lines += ["", f"{title}:", "", *(f"- {text.strip()}" for text in driver[key])]
    return [*lines, "", "Source: " + ", ".join(f"`{file}`" for file in driver["source"]) + "."]


def _noted(words: str, note: str) -> str:
    return "; ".join(part for part in (words or "none", " ".join(note.split())) if part)
