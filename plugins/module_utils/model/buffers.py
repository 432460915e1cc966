# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sizes of socket buffers: what a long path needs of them, and the small ones that are only set by name. Pure: no I/O.

Source: Documentation/networking/ip-sysctl.rst (tcp_rmem, tcp_wmem, tcp_adv_win_scale), socket(7).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .setting import Setting, SpecError, judged

RMEM, WMEM = "net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"
RMEM_MAX, WMEM_MAX = "net.core.rmem_max", "net.core.wmem_max"
RMEM_DEFAULT, WMEM_DEFAULT = "net.core.rmem_default", "net.core.wmem_default"
SACK = "net.ipv4.tcp_sack"
LARGEST = 2**31 - 1

MARKET_DATA, BULK, WAN = "market_data", "bulk", "wan"
TRAFFIC = (MARKET_DATA, "orders", "compute", BULK, WAN)

# Maxima that bound what is in flight on a path, and which word of each it is.
MAXIMA = {RMEM_MAX: 0, WMEM_MAX: 0, RMEM: 2, WMEM: 2}

CONTROL = "tcp.small_buffers"
SMALL = {RMEM_DEFAULT: "8192", WMEM_DEFAULT: "8192", RMEM: "4096 8192 16384"}
# Which word of each is judged: what a socket begins with, and how far it may grow.
_JUDGED = {RMEM_DEFAULT: ((0, 8192),), WMEM_DEFAULT: ((0, 8192),), RMEM: ((1, 8192), (2, 16384))}
# Measured: docs/decisions/0018-small-buffers.md.
COST = ("the cost, measured on Linux 6.18: a socket that asks for no buffer holds 6 datagrams of 200 bytes instead of 166, what comes while the application "
        "is away is lost; a TCP connection is offered a window of 9 KB at most, which moved 1.8 Gbit/s over loopback instead of 10.1 and is 2.4 Mbit/s at a "
        "round trip of 30 ms; leave small_buffers out, and let the applications that need small buffers set SO_RCVBUF")

_UNITS = {"kbit": 10**3, "mbit": 10**6, "gbit": 10**9}


def path_problems(paths: Sequence[Mapping[str, Any]], values: Mapping[str, str], overrides: Mapping[str, str]) -> list[str]:
    """What is wrong with paths, or with what the site says of buffers beside them. ``values`` holds ``overrides`` already."""
    try:
        need = needed(paths)
    except SpecError as error:
        return [str(error)]
    if not need:
        return []
    if need > LARGEST:
        return [f"paths: twice bandwidth x delay is {need} bytes, more than a socket buffer can have ({LARGEST}); "
                "several connections have to share the path (R11)"]
    missing = sorted(set(MAXIMA) - set(values))
    found = [f"paths: {', '.join(missing)} must be among the values, since paths raise their maxima"] if missing else []
    for key in sorted(set(MAXIMA) & set(overrides)):
        most = _word(overrides[key], MAXIMA[key])
        if most is not None and most < need:
            found.append(f"tunable {key}: {overrides[key]!r}: at most {most} bytes, the paths need {need} (twice bandwidth x delay); "
                         "raise it or leave it out (R11)")
    return found


def needed(paths: Sequence[Mapping[str, Any]]) -> int:
    """Bytes of buffer that the longest path needs: twice bandwidth x delay, since up to half of a buffer is the kernel's own. 0 without paths."""
    return max((_needed(path) for path in paths), default=0)


def _needed(path: Mapping[str, Any]) -> int:
    text, delay = str(path.get("bandwidth")), path.get("round_trip_ms")
    number = next((text[:-len(unit)] for unit in _UNITS if text.endswith(unit)), "")
    factor = next((factor for unit, factor in _UNITS.items() if text.endswith(unit)), 0)
    try:
        bits, milliseconds = float(number) * factor, float(str(delay))
    except ValueError:
        bits = milliseconds = 0.0
    if not 0 < bits < 10**13 or not 0 < milliseconds < 10**5:
        raise SpecError(f"paths: bandwidth {text!r}, round_trip_ms {delay!r}: write them like 10gbit (kbit, mbit, gbit) and 67.5")
    return int(2 * bits / 8 * milliseconds / 1000)


def raised(values: Mapping[str, str], need: int) -> dict[str, str]:
    """The values with maxima of ``need`` bytes where they have less."""
    found = dict(values)
    for key, index in MAXIMA.items():
        most = _word(values.get(key, ""), index)
        if most is not None and most < need:
            found[key] = " ".join([*values[key].split()[:index], str(need)])
    return found


def small_buffer_problems(values: Mapping[str, str], traffic: str, *, small_buffers: bool) -> list[str]:
    """Why small buffers, or no SACK, are refused on hosts with such traffic (R30, R14). ``values`` are those that will be set."""
    if traffic and traffic not in TRAFFIC:
        return [f"traffic: {traffic!r}: there are {', '.join(TRAFFIC)}"]
    found = []
    if small_buffers and traffic in (WAN, BULK):
        found.append(f"small_buffers: true: never on hosts that carry {traffic}, a long path or a large transfer would crawl; leave it out (R30)")
    elif not small_buffers and traffic in (MARKET_DATA, BULK, WAN):
        found += [f"tunable {key}: {values[key]!r}: too small for hosts that carry {traffic}; raise it"
                  f"{', or say small_buffers: true' if traffic == MARKET_DATA else ''} (R30)" for key in sorted(_JUDGED) if _is_small(key, values.get(key, ""))]
    if traffic == WAN and values.get(SACK) == "0":
        found.append(f"tunable {SACK}: 0: on a path that loses packets each loss beyond the first costs a round trip; leave it on (R14)")
    return found


def _is_small(key: str, value: str) -> bool:
    words = {index: _word(value, index) for index, _limit in _JUDGED[key]}
    return any(words[index] is not None and words[index] <= limit for index, limit in _JUDGED[key])  # type: ignore[operator]


def finding() -> Setting:
    """What is said, each time, of a host whose buffers are small by name."""
    return judged(Setting(CONTROL, "small buffers", "off", "on", finding=True, reason=COST))


def _word(value: str, index: int) -> int | None:
    """One word of a value as a number; None where there is no such number."""
    words = value.split()
    return int(words[index]) if index < len(words) and words[index].isdecimal() and words[index].isascii() else None
