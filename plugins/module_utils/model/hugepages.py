# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Huge pages by NUMA node: how many a need comes to, what a node can spare, at boot and at run time, and their mounts. Pure: no I/O.

Source: Documentation/admin-guide/mm/hugetlbpage.rst, kernel-parameters.txt (hugepages=, hugepagesz=), systemd.mount(5).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .cpuset import format_cpulist
from .setting import OwnedFile, Plan, Setting, SpecError, unsupported

SIZE_KIB = {"2M": 2048, "1G": 1048576}
SIZES = tuple(SIZE_KIB)
BOOT, RUNTIME = "boot", "runtime"
# A 1 GiB page needs its memory in one piece, which only a boot is sure to find.
USUAL_TIME = {"2M": RUNTIME, "1G": BOOT}
# What a packet buffer takes beside its data: descriptor and headroom, 128 bytes each, as in DPDK.
OVERHEAD_BYTES = 256
NEED_KEYS = ("size", "count", "buffers", "buffer_bytes", "overhead_bytes", "node", "at")
# The share of a node's memory that huge pages may take, and what stays free of it at run time (rule R8).
SHARE = 0.8
RESERVE_KIB, RESERVE_SHARE = 2 << 20, 0.1

UNIT_FOLDER = "/etc/systemd/system"
SYSTEM_MOUNT = "/dev/hugepages"
_SYSTEM_FOLDERS = ("/", "/boot", "/dev", "/etc", "/home", "/lib", "/proc", "/root", "/run", "/sbin", "/bin", "/srv", "/sys", "/tmp", "/usr", "/var", "/opt")
_PATH = re.compile(r"(/[A-Za-z0-9_.-]+)+")
_HEADER = "# Owned by lowlatency.fleet: rewritten as a whole. Change the inventory instead."


@dataclass(frozen=True)
class NodeMemory:
    """Memory of one node in KiB: all of it, and what a run could take now (free, or file pages that can be dropped)."""

    total_kib: int
    available_kib: int = 0


@dataclass(frozen=True)
class Mount:
    """One mount asked for: its page size if it is there, and its unit's text and whether that is enabled."""

    page_size: str | None = None
    unit_text: str | None = None
    enabled: bool = False


@dataclass(frozen=True)
class HugepagesState:
    """``pages``: ``{(size, node): number}`` of the sizes this machine has; ``boot`` the same of the next boot, None where that is not told."""

    pages: Mapping[tuple[str, int], int] = field(default_factory=dict)
    memory: Mapping[int, NodeMemory] = field(default_factory=dict)
    boot: Mapping[tuple[str, int | None], int] | None = None
    mounts: Mapping[str, Mount] = field(default_factory=dict)
    container: str = ""
    without: str = ""


# --- from needs to pages ----------------------------------------------------------------------------------------------


def pages_per_node(needs: Iterable[Mapping[str, Any]], nic_nodes: Iterable[int], memory_kib: Mapping[int, int], *, kernel: str = "") -> list[dict[str, Any]]:
    """``[{size, node, count, at}]``, sorted, for the needs of a site on a machine with this memory. Raises ``SpecError``.

    A ``kernel`` that cannot reserve by node at boot gets its pages at run time.
    """
    found: dict[tuple[str, int], tuple[int, str]] = {}
    for need in needs:
        size, count, at = _need(need)
        for node in _nodes(need, sorted(set(nic_nodes)), memory_kib):
            before, when = found.get((size, node), (0, RUNTIME))
            found[(size, node)] = (before + count, BOOT if BOOT in (at, when) else RUNTIME)
    can_boot = reserves_by_node(kernel)
    pages = [{"size": size, "node": node, "count": count, "at": at if can_boot else RUNTIME} for (size, node), (count, at) in sorted(found.items())]
    refused = starved(pages, memory_kib)
    if refused:
        raise SpecError("; ".join(refused))
    return pages


def _need(need: Mapping[str, Any]) -> tuple[str, int, str]:
    shown = f"huge pages {dict(need)!r:.120}"
    unknown = sorted(set(need) - set(NEED_KEYS))
    if unknown:
        raise SpecError(f"{shown}: no such key {', '.join(unknown)}; there are: {', '.join(NEED_KEYS)}")
    size, at = str(need.get("size")), str(need.get("at") or USUAL_TIME.get(str(need.get("size")), RUNTIME))
    if size not in SIZES:
        raise SpecError(f"{shown}: size is one of {', '.join(SIZES)}")
    if at not in (BOOT, RUNTIME):
        raise SpecError(f"{shown}: at is {BOOT} or {RUNTIME}")
    if (need.get("count") is None) == (need.get("buffers") is None):
        raise SpecError(f"{shown}: give either count, or buffers with buffer_bytes")
    if need.get("count") is not None:
        return size, _number(need["count"], "count", shown), at
    each = _number(need.get("buffer_bytes"), "buffer_bytes", shown) + _number(need.get("overhead_bytes", OVERHEAD_BYTES), "overhead_bytes", shown)
    return size, -(-_number(need["buffers"], "buffers", shown) * each // (SIZE_KIB[size] << 10)), at


def _number(value: object, name: str, shown: str) -> int:
    text = str(value)
    if isinstance(value, bool) or not (text.isdecimal() and text.isascii()) or len(text) > 15:
        raise SpecError(f"{shown}: {name} is a whole number, 0 or more")
    return int(text)


def _nodes(need: Mapping[str, Any], nic_nodes: Sequence[int], memory_kib: Mapping[int, int]) -> list[int]:
    node, shown = str(need.get("node", "nic")), f"huge pages {dict(need)!r:.120}"
    with_memory = sorted(number for number, kib in memory_kib.items() if kib)
    if node == "all":
        return with_memory
    if node == "nic":
        if not nic_nodes:
            raise SpecError(f"{shown}: node is nic, and no PCI NIC is named; name it in lowlatency_nics, or give the node's number, or all")
        return list(nic_nodes)
    if not (node.isdecimal() and node.isascii()):
        raise SpecError(f"{shown}: node is a number, nic or all")
    if int(node) not in with_memory:
        raise SpecError(f"{shown}: no node {node} with memory is here; there are: {format_cpulist(with_memory)}")
    return [int(node)]


def starved(pages: Iterable[Mapping[str, Any]], memory_kib: Mapping[int, int]) -> list[str]:
    """Which nodes these pages would take too much of, in words (R8)."""
    taken: dict[int, int] = {}
    for page in pages:
        taken[int(page["node"])] = taken.get(int(page["node"]), 0) + int(page["count"]) * SIZE_KIB[str(page["size"])]
    return [
        f"huge pages on node {node}: {kib >> 10} MiB of {memory_kib.get(node, 0) >> 10} MiB, at most {int(SHARE * 100)} % may go to them; ask for fewer (R8)"
        for node, kib in sorted(taken.items()) if kib > SHARE * memory_kib.get(node, 0)]


def reserves_by_node(kernel: str) -> bool:
    """Whether a kernel knows ``hugepages=NODE:NUMBER``: Linux 5.16, and EL9's 5.14, which has it too. An unknown one counts as able."""
    found = re.match(r"(\d+)\.(\d+)", kernel)
    return not found or (int(found[1]), int(found[2])) >= (5, 16) or ".el9" in kernel


def boot_tokens(pages: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """The kernel arguments of the pages to be had at boot, smaller size first."""
    found: list[str] = []
    for size in SIZES:
        nodes = sorted((int(page["node"]), int(page["count"])) for page in pages if page["size"] == size and page["at"] == BOOT and int(page["count"]))
        if nodes:
            found += [f"hugepagesz={size}", "hugepages=" + ",".join(f"{node}:{count}" for node, count in nodes)]
    return tuple(found)


def pages_of(tokens: Iterable[str]) -> dict[tuple[str, int | None], int]:
    """``{(size, node): number}`` that a command line reserves; node None where it is left to the kernel.

    As mm/hugetlb.c reads it: a number belongs to the size before it, and the last one of a size counts. What makes no sense is left out.
    """
    tokens = list(tokens)
    default = next((token.partition("=")[2] for token in reversed(tokens) if token.startswith("default_hugepagesz=")), "2M")
    size = default
    found: dict[tuple[str, int | None], int] = {}
    for token in tokens:
        key, _equals, value = token.partition("=")
        if key == "hugepagesz":
            size = value
        elif key == "hugepages" and re.fullmatch(r"\d+(:\d+)?(,\d+:\d+)*", value):
            found = {known: number for known, number in found.items() if known[0] != size}
            for part in value.split(","):
                node, colon, number = part.partition(":")
                found[(size, int(node) if colon else None)] = int(number if colon else node)
    return found


# --- the domain -------------------------------------------------------------------------------------------------------


def problems(spec: Mapping[str, Any]) -> list[str]:
    """What is wrong with the pages and mounts asked for on any host."""
    found = []
    for page in spec.get("pages") or []:
        try:
            if set(page) != {"size", "node", "count", "at"}:
                raise SpecError(f"huge pages {dict(page)!r:.120}: give size, node, count and at")
            _need(page)
            _number(page["node"], "node", f"huge pages {dict(page)!r:.120}")
        except SpecError as error:
            found.append(str(error))
    for mount in spec.get("mounts") or []:
        path, size = str(mount.get("path")), str(mount.get("size"))
        if not _PATH.fullmatch(path) or {".", ".."} & set(path.split("/")) or path in _SYSTEM_FOLDERS:
            found.append(f"mount {path!r:.80}: not a path to mount huge pages on; give a folder of its own, like /dev/hugepages1G")
        if size not in SIZES:
            found.append(f"mount {path!r:.80}: size {size!r:.20} is none of {', '.join(SIZES)}; choose one")
    return found


def plan(state: HugepagesState, spec: Mapping[str, Any]) -> Plan:
    """One setting for the pages of each size and node, one for each mount, and the unit files of the mounts. Raises ``SpecError``."""
    pages, mounts = spec.get("pages") or [], spec.get("mounts") or []
    without = f"memory belongs to the machine, not to this container ({state.container})" if state.container else state.without
    if without:
        return Plan((*(unsupported(f"hugepages.{page['size']}", _name(page), str(page["count"]), without) for page in pages),
                     *(unsupported("hugepages.mount", f"mount {mount['path']}", f"pagesize={mount['size']}", without) for mount in mounts)))
    _refuse_starving(state, pages)
    ordered = sorted(pages, key=lambda page: (str(page["size"]), int(page["node"])))
    settings = [_pages(state, page) for page in ordered]
    settings += [_mount(state.mounts.get(str(mount["path"]), Mount()), str(mount["path"]), str(mount["size"])) for mount in mounts]
    ours = [mount for mount in mounts if not _systemds_own(state.mounts.get(str(mount["path"]), Mount()), str(mount["path"]), str(mount["size"]))]
    return Plan(tuple(settings), tuple(OwnedFile("hugepages.mount_unit", unit_path(str(mount["path"])), unit_text(str(mount["path"]), str(mount["size"])))
                                       for mount in ours))


def _name(page: Mapping[str, Any]) -> str:
    return f"node{page['node']} {page['size']}"


def _pages(state: HugepagesState, page: Mapping[str, Any]) -> Setting:
    size, node, count = str(page["size"]), int(page["node"]), str(page["count"])
    control, at_boot = f"hugepages.{size}", page["at"] == BOOT
    if (size, node) not in state.pages:
        return unsupported(control, _name(page), count, f"node {node} of this machine has no pages of {size}")
    current = str(state.pages[(size, node)])
    if not at_boot:
        return Setting(control, _name(page), count, current)
    if state.boot is None:
        return Setting(control, _name(page), count, current, None, reason="what the next boot brings could not be told", needs_reboot=True)
    return Setting(control, _name(page), count, current, str(state.boot.get((size, node), 0)), needs_reboot=True)


def _refuse_starving(state: HugepagesState, pages: Iterable[Mapping[str, Any]]) -> None:
    pages = list(pages)
    found = starved(pages, {node: memory.total_kib for node, memory in state.memory.items()})
    for node, memory in sorted(state.memory.items()):
        more = sum(max(0, int(page["count"]) - state.pages.get((str(page["size"]), node), 0)) * SIZE_KIB[str(page["size"])]
                   for page in pages if int(page["node"]) == node and page["at"] == RUNTIME)
        spare = SHARE * memory.available_kib - min(RESERVE_KIB, RESERVE_SHARE * memory.total_kib)
        if more and more > spare:
            found.append(f"huge pages on node {node}: {more >> 10} MiB more are wanted, {max(0, int(spare)) >> 10} MiB can be spared now; "
                         "ask for fewer, stop what uses the memory, or have them at boot (at: boot) (R8)")
    if found:
        raise SpecError("; ".join(found))


def _mount(held: Mount, path: str, size: str) -> Setting:
    current = f"pagesize={held.page_size}" if held.page_size else None
    stays = _systemds_own(held, path, size) or (held.enabled and held.unit_text == unit_text(path, size).decode())
    return Setting("hugepages.mount", f"mount {path}", f"pagesize={size}", current, f"pagesize={size}" if stays else None)


def _systemds_own(held: Mount, path: str, size: str) -> bool:
    """Whether this is the mount of the default size that systemd makes by itself (dev-hugepages.mount)."""
    return path == SYSTEM_MOUNT and held.page_size == size and held.unit_text is None


def unit_name(path: str) -> str:
    """``dev-hugepages1G.mount`` of ``/dev/hugepages1G``, escaped as systemd.unit(5) says."""
    escaped = "-".join("".join(char if char.isalnum() or char in "_." else f"\\x{ord(char):02x}" for char in part) for part in path.strip("/").split("/"))
    return f"{escaped}.mount"


def unit_path(path: str) -> str:
    """The unit file of a mount."""
    return f"{UNIT_FOLDER}/{unit_name(path)}"


def unit_text(path: str, size: str) -> bytes:
    """The unit of a mount. Mode 0770: pages are memory that root gave out, and only its group shares them."""
    return (f"{_HEADER}\n[Unit]\nDescription=Huge pages of {size}\nDefaultDependencies=no\nBefore=sysinit.target\n"
            f"ConditionPathExists=/sys/kernel/mm/hugepages\n\n[Mount]\nWhat=hugetlbfs\nWhere={path}\nType=hugetlbfs\n"
            f"Options=pagesize={size},mode=0770\n\n[Install]\nWantedBy=sysinit.target\n").encode()
