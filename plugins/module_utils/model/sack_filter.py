# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""TCP without SACK towards some prefixes: what may be asked for, the table that does it, and the plan. Pure: no I/O.

``net.ipv4.tcp_sack`` is one for all connections of a network namespace. Towards a prefix, a table of nftables takes the option by which the two
sides agree on SACK out of SYN and SYN/ACK, whichever side begins.

Source: nft(8) (EXTENSION HEADER STATEMENT, reset), libnftables-json(5), net/netfilter/nft_exthdr.c, RFC 2018.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Union

from .setting import ERROR, OwnedFile, Plan, Setting, SpecError, unsupported

CONTROL = "tcp.sack_filter"
FAMILY, TABLE = "inet", "lowlatency_sack"
FILE_CONTROL, FILE = "tcp.sack_filter_file", "/etc/lowlatency/sack.nft"
UNIT = "lowlatency-sack.service"
UNIT_CONTROL, UNIT_FILE = "tcp.sack_filter_unit", f"/etc/systemd/system/{UNIT}"
# The second is for a firewall that is started by hand, after it was stopped.
WANTED_BY = ("sysinit.target", "nftables.service")
LINKS = tuple(f"/etc/systemd/system/{target}.wants/{UNIT}" for target in WANTED_BY)
WAN = "wan"

COST = ("the cost: without SACK there is no RACK-TLP, so a lost tail waits for the retransmission timer, 200 ms at least; "
        "connections made before keep what they agreed on")

Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]

UNIT_TEXT = f"""\
# Owned by lowlatency.fleet: rewritten as a whole.
[Unit]
Description=TCP without SACK towards some prefixes
Documentation=file:{FILE}
DefaultDependencies=no
Wants=network-pre.target
Before=network-pre.target shutdown.target
Conflicts=shutdown.target
# Whoever starts or reloads nftables.service flushes all tables, this one too.
After=nftables.service
PartOf=nftables.service
ReloadPropagatedFrom=nftables.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/nft -f {FILE}
ExecReload=/usr/sbin/nft -f {FILE}
ExecStop=-/usr/sbin/nft delete table {FAMILY} {TABLE}

[Install]
WantedBy={" ".join(WANTED_BY)}
"""


@dataclass(frozen=True)
class SackState:
    """What a host has of it: ``table`` in the form of ``filter_text`` (None: no such table), the bytes of the two owned files, and whether
    the unit is enabled and active. ``impossible`` says why it cannot be here, ``unreadable`` why the table could not be read; ``nft`` whether
    the program is installed, ``captured`` whether this is a tree of files, which are judged although no table can be seen."""

    table: str | None = None
    file: bytes | None = None
    unit: bytes | None = None
    enabled: bool = False
    active: bool = False
    nft: bool = True
    impossible: str = ""
    unreadable: str = ""
    captured: bool = False

    @property
    def traces(self) -> bool:
        """Whether anything of ours is here."""
        return self.table is not None or self.file is not None or self.unit is not None or self.enabled


def problems(spec: Mapping[str, Any]) -> list[str]:
    """What is wrong with the prefixes on any host: value, rule and remedy, one sentence each."""
    prefixes = [str(prefix) for prefix in spec.get("prefixes") or []]
    found = [problem for prefix in prefixes for problem in _prefix_problems(prefix)]
    if prefixes and spec.get("traffic") == WAN:
        found.append(f"SACK off towards {', '.join(prefixes)}: refused where packets are lost on the way, as on a WAN (R14); leave it on there")
    if found:
        return found
    whole = [str(network) for network in _merged(prefixes) if network.prefixlen == 0]
    return [f"SACK off towards {network}: covers every address there is; for all connections alike, net.ipv4.tcp_sack is meant (R14)" for network in whole]


def _prefix_problems(prefix: str) -> list[str]:
    try:
        ipaddress.ip_network(prefix)
    except ValueError as error:
        return [f"SACK off towards {prefix!r:.80}: {error}; write a prefix like 10.20.0.0/16 or 2001:db8::/32"]
    return []


def _merged(prefixes: Iterable[str]) -> list[Network]:
    """The fewest networks that cover the same addresses, IPv4 first, in rising order."""
    networks = [ipaddress.ip_network(prefix) for prefix in prefixes]
    four = ipaddress.collapse_addresses(network for network in networks if isinstance(network, ipaddress.IPv4Network))
    six = ipaddress.collapse_addresses(network for network in networks if isinstance(network, ipaddress.IPv6Network))
    return [*four, *six]


def filter_text(prefixes: Iterable[str]) -> str:
    """Prefixes as a value to compare: the fewest that cover the same addresses."""
    return " ".join(str(network) for network in _merged(prefixes))


# {set: (type of its elements, header of their addresses)}, in the order of ``_merged``
_SETS = {"v4": ("ipv4_addr", "ip"), "v6": ("ipv6_addr", "ip6")}
# {hook: field}: what leaves is judged by where it goes, what comes by where it is from. Packets that are only forwarded are not ours.
_HOOKS = {"output": "daddr", "input": "saddr"}


def table_text(prefixes: Iterable[str]) -> bytes:
    """The file that nft takes: the table as a whole, in one transaction, whatever was there before."""
    networks = _merged(prefixes)
    lines = ["# Owned by lowlatency.fleet: rewritten as a whole. Change the inventory instead.",
             f"table {FAMILY} {TABLE}", f"delete table {FAMILY} {TABLE}", f"table {FAMILY} {TABLE} {{"]
    for version, (name, (kind, _header)) in zip((4, 6), _SETS.items()):
        elements = ", ".join(str(network) for network in networks if network.version == version)
        lines += [f"\tset {name} {{", f"\t\ttype {kind}", "\t\tflags interval", *([f"\t\telements = {{ {elements} }}"] if elements else []), "\t}"]
    for hook, where in _HOOKS.items():
        lines += [f"\tchain {hook} {{", f"\t\ttype filter hook {hook} priority mangle; policy accept;"]
        lines += [f"\t\ttcp flags & syn == syn {header} {where} @{name} reset tcp option sack-perm" for name, (_kind, header) in _SETS.items()]
        lines.append("\t}")
    return ("\n".join([*lines, "}"]) + "\n").encode()


def table_from(document: Mapping[str, Any]) -> str:
    """A table that ``nft -j list table`` told, as ``filter_text`` tells it; one whose rules are not ours says so."""
    parts = [entry for entry in document.get("nftables") or [] if isinstance(entry, dict)]
    sets = {entry["set"]["name"]: entry["set"].get("elem") or [] for entry in parts if "set" in entry}
    chains = {(entry["chain"]["name"], entry["chain"].get("hook"), entry["chain"].get("policy")) for entry in parts if "chain" in entry}
    rules = sorted(_rule(entry["rule"]) for entry in parts if "rule" in entry)
    ours = sorted((hook, header, where, f"@{name}", "sack-perm") for hook, where in _HOOKS.items() for name, (_kind, header) in _SETS.items())
    prefixes = filter_text(str(network) for name in _SETS for element in sets.get(name, []) for network in _networks(element))
    if rules == ours and chains == {(hook, hook, "accept") for hook in _HOOKS}:
        return prefixes
    return f"{prefixes} (other rules)".strip()


def _rule(rule: Mapping[str, Any]) -> tuple[str, ...]:
    """Chain, header, field and set of the address, and the option that is reset; more for a rule with other parts."""
    found = [str(rule.get("chain"))]
    for part in rule.get("expr") or []:
        left = part.get("match", {}).get("left", {})
        if "match" in part and left.get("payload", {}).get("field") in _HOOKS.values():
            found += [left["payload"]["protocol"], left["payload"]["field"], str(part["match"].get("right"))]
        elif "reset" in part:
            found.append(str(part["reset"].get("tcp option", {}).get("name")))
        elif "match" not in part or "flags" not in str(left):
            found.append(str(part))
    return tuple(found)


def _networks(element: Any) -> list[Network]:
    """What one element of a set covers: an address, a prefix or a range."""
    if isinstance(element, dict) and "prefix" in element:
        return [ipaddress.ip_network(f"{element['prefix']['addr']}/{element['prefix']['len']}")]
    if isinstance(element, dict) and "range" in element:
        first, last = (ipaddress.ip_address(end) for end in element["range"])
        return list(ipaddress.summarize_address_range(first, last))
    return [ipaddress.ip_network(str(element))]


def plan(state: SackState, spec: Mapping[str, Any]) -> Plan:
    """One setting, and its two files; without prefixes, that what is ours goes, or nothing. Raises ``SpecError`` where the program is missing."""
    prefixes = [str(prefix) for prefix in spec.get("prefixes") or []]
    if not prefixes:
        kept = "in the files" if state.file is not None or state.unit is not None or state.enabled else None
        return Plan((Setting(CONTROL, TABLE, None, state.table, kept),) if state.traces else ())
    desired = filter_text(prefixes)
    files = (OwnedFile(FILE_CONTROL, FILE, table_text(prefixes)), OwnedFile(UNIT_CONTROL, UNIT_FILE, UNIT_TEXT.encode()))
    if state.impossible:
        return Plan((unsupported(CONTROL, TABLE, desired, state.impossible),), files if state.captured else ())
    if not state.nft:
        raise SpecError(f"SACK off towards {desired}: takes nftables, which is not installed; install the package nftables")
    if state.unreadable:
        return Plan((Setting(CONTROL, TABLE, desired, state=ERROR, reason=state.unreadable),))
    lasts = state.enabled and state.active and (state.file, state.unit) == tuple(file.content for file in files)
    persisted = desired if lasts else "otherwise" if state.file is not None else None
    return Plan((Setting(CONTROL, TABLE, desired, state.table, persisted, reason=COST if state.table in (None, desired) else ""),), files)
