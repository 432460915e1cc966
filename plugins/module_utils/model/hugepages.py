# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Huge pages of each NUMA node, at boot and at run time, and hugetlbfs mounts: what is needed, allowed and planned. Pure: no I/O.

Source: Documentation/admin-guide/mm/hugetlbpage.rst, Documentation/admin-guide/kernel-parameters.txt, mm/hugetlb.c, systemd.mount(5).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .setting import OwnedFile, Plan, Setting, SpecError, unsupported

if TYPE_CHECKING:
    from .topology import Topology

SIZES = ("2M", "1G")
SIZE_KIB = {"2M": 2048, "1G": 1048576}
BOOT = "boot"
RUNTIME = "runtime"
# A gigantic page needs memory that only a fresh boot surely has in one piece.
USUAL_AT = {"2M": RUNTIME, "1G": BOOT}

MOUNT = "hugepages.mount"
MOUNT_FILE = "hugepages.mount_file"
ELSEWHERE = "hugepages.elsewhere"
UNITS = "/etc/systemd/system"
TARGET = "local-fs.target"
# systemd mounts the kernel's default size here by itself (dev-hugepages.mount).
SYSTEMD_MOUNT = "/dev/hugepages"

NEED_KEYS = ("size", "count", "buffers", "buffer_bytes", "overhead_bytes", "node", "at")
PAGE_KEYS = ("size", "node", "count", "at")
MOUNT_KEYS = ("path", "size", "group")
# 128 bytes of descriptor and 128 of headroom: a DPDK packet buffer.
OVERHEAD_BYTES = 256
_SHARE = (4, 5)
_RESERVE_KIB = 2 * 1024 * 1024

_SYSTEM_FOLDERS = frozenset(
    ("/", "/dev", "/dev/mqueue", "/dev/pts", "/dev/shm", "/home", "/media", "/mnt", "/opt", "/root", "/run", "/run/lock", "/run/systemd", "/run/user",
     "/srv", "/tmp", "/var", "/var/cache", "/var/lib", "/var/log", "/var/run", "/var/spool", "/var/tmp"))
_SYSTEM_TREES = ("/bin", "/boot", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/proc", "/sbin", "/sys", "/usr")

# hugepages= by node came with Linux 5.16; the enterprise kernel 5.14 of EL 9 has it too.
_PER_NODE_SINCE = (5, 16)


@dataclass(frozen=True)
class Page:
    """The pages of one size on one node: how many, and whether they come ``at`` boot or at run time."""

    size: str
    node: int
    count: int
    at: str

    @property
    def name(self) -> str:
        """The instance of the setting."""
        return f"node{self.node} {self.size}"


@dataclass(frozen=True)
class Node:
    """A node as its kernel shows it, in KiB; ``pages`` has only the sizes it can have."""

    total_kib: int
    free_kib: int = 0
    file_kib: int = 0
    pages: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Mount:
    """What is at a mount point: the file system, its page size and group, the unit file that is there and whether boot wants it."""

    filesystem: str = ""
    size: str = ""
    unit: bytes | None = None
    enabled: bool = False
    group: str = ""


@dataclass(frozen=True)
class HugepagesState:
    """The nodes and mount points asked for. ``boot`` is what the next boot's command line asks for, None where ``boot_unknown`` says why.

    ``sizes`` are those the kernel has, ``default_size`` is its default one; ``without`` says why there is no service manager. A ``captured`` tree
    may not tell what boots next.
    """

    nodes: Mapping[int, Node] = field(default_factory=dict)
    boot: Mapping[tuple[str, int | None], int] | None = None
    boot_unknown: str = ""
    mounts: Mapping[str, Mount] = field(default_factory=dict)
    sizes: frozenset[str] = frozenset()
    default_size: str = ""
    container: str = ""
    without: str = ""
    captured: bool = False


# --- what a site needs ------------------------------------------------------------------------------------------------


def pages_per_node(needs: Iterable[Any], nic_nodes: Iterable[int], topology: Topology, per_node_boot: bool = True) -> list[dict[str, Any]]:
    """``{size, node, count, at}`` of all needs together, sorted; without ``per_node_boot`` what would come at boot comes at run time.

    Raises ``SpecError`` (R8).
    """
    counts: dict[tuple[str, int], int] = {}
    boot: set[tuple[str, int]] = set()
    nics = sorted(set(nic_nodes))
    for need in needs:
        size, at = _size_and_at(need)
        wanted = _needed_pages(need, size)
        for node in _needed_nodes(need, nics, topology):
            counts[size, node] = counts.get((size, node), 0) + wanted
            if at == BOOT and per_node_boot:
                boot.add((size, node))
    pages = [Page(size, node, count, BOOT if (size, node) in boot else RUNTIME) for (size, node), count in counts.items()]
    refuse_starved(pages, {node: memory.total_kib for node, memory in topology.memory.items()})
    return [{"size": page.size, "node": page.node, "count": page.count, "at": page.at} for page in sorted(pages, key=_kernel_order)]


def refuse_starved(pages: Iterable[Page], total_kib: Mapping[int, int]) -> None:
    """Raises ``SpecError`` (R8) where the pages of a node are more than four fifths of its memory."""
    by_node: dict[int, int] = {}
    for page in pages:
        by_node[page.node] = by_node.get(page.node, 0) + page.count * SIZE_KIB[page.size]
    for node, kib in sorted(by_node.items()):
        limit = total_kib[node] * _SHARE[0] // _SHARE[1]
        if kib > limit:
            raise _refusal(f"hugepages: {_mib(kib)} of huge pages on node {node}, which has {_mib(total_kib[node])} of memory; "
                           f"at most four fifths may be huge pages: ask for no more than {_mib(limit)} there")


def per_node_boot(kernel_release: str) -> bool:
    """Whether this kernel takes ``hugepages=<node>:<count>``; a release that tells no version counts as one that does."""
    version = re.match(r"(\d+)\.(\d+)", kernel_release)
    if version is None or re.search(r"\.el9(?!\d)", kernel_release):
        return True
    return (int(version[1]), int(version[2])) >= _PER_NODE_SINCE


def _refusal(message: str) -> SpecError:
    return SpecError(f"{message} (R8)")


def _size_and_at(need: Any) -> tuple[str, str]:
    if not isinstance(need, Mapping):
        raise _refusal(f"hugepages: {need!r:.80} is no mapping; its keys are {', '.join(NEED_KEYS)}")
    unknown = sorted(str(key) for key in need if key not in NEED_KEYS)
    if unknown:
        raise _refusal(f"hugepages: no such key {', '.join(unknown)}; there are: {', '.join(NEED_KEYS)}")
    size, at = need.get("size"), need.get("at")
    if size not in SIZES:
        raise _refusal(f"hugepages: size {size!r:.80}; {_SIZE_REMEDY}")
    if at not in (None, BOOT, RUNTIME):
        raise _refusal(f"hugepages: at {at!r:.80}; {_AT_REMEDY}")
    return str(size), str(at or USUAL_AT[str(size)])


_SIZE_REMEDY = f"pages come in {' and '.join(SIZES)}, spelled so: write one of them"
_AT_REMEDY = f"pages come at {BOOT} or at {RUNTIME}: write one of them"


def _needed_pages(need: Mapping[str, Any], size: str) -> int:
    """How many pages a need is on each of its nodes."""
    given = [key for key in NEED_KEYS if need.get(key) is not None]
    by_buffers = {"buffers", "buffer_bytes"}.intersection(given)
    if "count" in given:
        if by_buffers or "overhead_bytes" in given:
            raise _refusal(f"hugepages: both count and {', '.join(key for key in given if key.startswith(('buffer', 'overhead')))}; say one of the two")
        return _number(need["count"], "count", 0)
    if len(by_buffers) < 2:
        raise _refusal(f"hugepages: {dict(need)!r:.120} says no amount; give count, or buffers and buffer_bytes")
    each = _number(need["buffer_bytes"], "buffer_bytes", 1) + _number(need.get("overhead_bytes", OVERHEAD_BYTES), "overhead_bytes", 0)
    return -(-_number(need["buffers"], "buffers", 1) * each // (SIZE_KIB[size] * 1024))


def _needed_nodes(need: Mapping[str, Any], nics: list[int], topology: Topology) -> list[int]:
    """The nodes a need is for; each has memory, and tells how much."""
    told = sorted(node for node, memory in topology.memory.items() if memory.total_kib > 0)
    known = f"the nodes with memory are: {', '.join(map(str, told)) or 'none'}"
    chosen = need.get("node", "nic")
    if chosen in ("nic", None):
        if not nics:
            raise _refusal(f"hugepages: node nic, but no PCI NIC of this host is tuned; name the node (a number, or all); {known}")
        nodes = nics
    elif chosen == "all":
        if not told:
            raise _refusal("hugepages: node all, but this host tells the memory of no node; leave huge pages out on it")
        nodes = told
    else:
        nodes = [_number(chosen, "node", 0, "nic, all, or ")]
    for node in nodes:
        if node not in told:
            exists = node in topology.nodes or node in topology.memory
            raise _refusal(f"hugepages: node {node} {'has no memory' if exists else 'is no node'} of this host; {known}")
    return nodes


def _number(value: Any, name: str, least: int, besides: str = "") -> int:
    """A whole number, or its text as templates deliver it."""
    try:
        if isinstance(value, (int, str)) and not isinstance(value, bool) and int(value) >= least:
            return int(value)
    except ValueError:
        pass
    raise _refusal(f"hugepages: {name} {value!r:.80}; give {besides}a whole number of at least {least}")


def _mib(kib: int) -> str:
    return f"{kib // 1024} MiB"


def _kernel_order(page: Page) -> tuple[int, int]:
    return (SIZE_KIB[page.size], page.node)


# --- the kernel command line ------------------------------------------------------------------------------------------


def boot_tokens(pages: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """The kernel arguments of the pages that come at boot, sizes ascending: ``hugepagesz=2M``, ``hugepages=0:64,1:256``."""
    at_boot = sorted((page for page in map(_page, pages) if page.at == BOOT and page.count), key=_kernel_order)
    tokens: list[str] = []
    for size in SIZES:
        counts = ",".join(f"{page.node}:{page.count}" for page in at_boot if page.size == size)
        tokens += [f"hugepagesz={size}", f"hugepages={counts}"] if counts else []
    return tuple(tokens)


def pages_of(tokens: Iterable[str]) -> dict[tuple[str, int | None], int]:
    """``{(size, node): count}`` that a kernel reads from its command line; node None where no node is named.

    Other sizes than those of x86 are left out; what the kernel does not understand never raises.
    """
    read = _Arguments()
    for token in tokens:
        if token == "--":
            break  # the rest is for init
        key, _equals, value = token.replace('"', "").partition("=")
        if key == "hugepagesz":
            read.size(value)
        elif key == "default_hugepagesz":
            read.default(value)
        elif key == "hugepages":
            read.counts(value)
    names = {kib: name for name, kib in SIZE_KIB.items()}
    return {(names[kib], node): count for kib, counts in sorted(read.pages().items()) for node, count in counts.items()}


class _Arguments:
    """The state of mm/hugetlb.c while it reads hugepagesz=, default_hugepagesz= and hugepages=, in their order."""

    def __init__(self) -> None:
        self._known: dict[int, dict[int | None, int]] = {}
        self._implied: dict[int | None, int] = {}
        self._default: int | None = None
        self._parsed = 0
        self._valid = True
        self._last: int | None = None

    def size(self, value: str) -> None:
        """hugepagesz_setup(): a size counts once; only a default size without a count may be named again."""
        size = kib_of(value)
        again = size in self._known and (size != self._default or any(self._known[size].values()))
        self._valid = size in SIZE_KIB.values() and not again
        if self._valid:
            self._known.setdefault(size, {})
            self._parsed = size

    def default(self, value: str) -> None:
        """default_hugepagesz_setup(): counts once, and takes over a count that came before any size."""
        size = kib_of(value)
        self._valid = size in SIZE_KIB.values() and self._default is None
        if self._valid:
            if size not in self._known:
                self._known[size], self._parsed = {}, size
            self._default = size
            if any(self._implied.values()):
                self._known[size], self._implied = self._implied, {}

    def counts(self, value: str) -> None:
        """hugepages_setup(): of the size before it; not twice for one, and nothing at all where a part is malformed."""
        if not self._valid:
            self._valid = True
            return
        where = self._parsed if self._known else 0
        if where == self._last:
            return
        target = self._known[where] if self._known else self._implied
        found = _counts(value)
        if found is None:
            target.clear()
        else:
            target.update(found)
            self._last = where

    def pages(self) -> dict[int, dict[int | None, int]]:
        """What is allocated in the end, by size in KiB: where nodes are named, only on them."""
        known = dict(self._known)
        if self._default is None and any(self._implied.values()):
            known[SIZE_KIB["2M"]] = self._implied
        by_node = {size: any(count for node, count in counts.items() if node is not None) for size, counts in known.items()}
        return {size: {node: count for node, count in counts.items() if node is not None or not by_node[size]} for size, counts in known.items()}


def _counts(value: str) -> dict[int | None, int] | None:
    """The counts of one hugepages= argument; None where the kernel calls it invalid."""
    found: dict[int | None, int] = {}
    rest = value
    while rest:
        pair = re.match(r"([0-9]{1,18})(?::([0-9]{1,18}))?", rest)
        if pair is None or rest[pair.end():pair.end() + 1] == ":" or (pair[2] is None and rest != value):
            return None
        if pair[2] is None:
            return {None: int(pair[1])}
        found[int(pair[1])] = int(pair[2])
        if rest[pair.end():pair.end() + 1] != ",":
            break
        rest = rest[pair.end() + 1:]
    return found


def kib_of(text: str) -> int:
    """A size as the kernel writes and reads it (``2M``, ``2048K``, ``1024M``, bytes), in KiB; 0 for no size."""
    match = re.match(r"([1-9][0-9]{0,17})([KkMmGg]?)", text)
    shift = {"": 0, "k": 10, "m": 20, "g": 30}
    return (int(match[1]) << shift[match[2].lower()]) >> 10 if match else 0


def size_of(text: str) -> str:
    """The name of a size however the kernel spells it: ``1024M`` -> ``1G``; a size without a name stays as it is."""
    return next((name for name, kib in SIZE_KIB.items() if kib == kib_of(text)), text)


# --- the domain -------------------------------------------------------------------------------------------------------


def problems(spec: Mapping[str, Any]) -> list[str]:
    """What is wrong with pages and mounts on any host: value, rule and remedy, one sentence each."""
    pages, mounts = list(spec.get("pages") or []), list(spec.get("mounts") or [])
    found = [problem for page in pages for problem in _page_problems(page)] + [problem for mount in mounts for problem in _mount_problems(mount)]
    if found:
        return found
    names = [_page(page).name for page in pages]
    paths = [str(mount["path"]) for mount in mounts]
    return [f"hugepages {name}: is there twice; leave one of the two out" for name in sorted({name for name in names if names.count(name) > 1})] + [
        f"hugepages mount {path}: is there twice; leave one of the two out" for path in sorted({path for path in paths if paths.count(path) > 1})]


def _page_problems(page: Any) -> list[str]:
    if not isinstance(page, Mapping) or any(page.get(key) is None for key in ("size", "node", "count")):
        return [f"hugepages {page!r:.120}: size, node and count belong here; give all three"]
    found = [f"hugepages {page!r:.120}: no such key {key}; there are: {', '.join(PAGE_KEYS)}" for key in page if key not in PAGE_KEYS]
    if page["size"] not in SIZES:
        found.append(f"hugepages: size {page['size']!r:.80}; {_SIZE_REMEDY}")
    if page.get("at") not in (None, BOOT, RUNTIME):
        found.append(f"hugepages: at {page['at']!r:.80}; {_AT_REMEDY}")
    for key in ("node", "count"):
        value = page[key]
        if isinstance(value, bool) or not ((isinstance(value, int) and value >= 0) or (isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value))):
            found.append(f"hugepages: {key} {value!r:.80}; give a whole number of at least 0")
    return found


def _mount_problems(mount: Any) -> list[str]:
    if not isinstance(mount, Mapping) or any(mount.get(key) is None for key in ("path", "size")):
        return [f"hugepages mount {mount!r:.120}: path and size belong here; give both"]
    path, shown = mount["path"], f"hugepages mount {mount['path']!r:.80}"
    found = [f"{shown}: no such key {key}; there are: {', '.join(MOUNT_KEYS)}" for key in mount if key not in MOUNT_KEYS]
    if mount.get("group") is not None and not re.fullmatch(r"[a-z_][a-z0-9_-]{0,31}", str(mount["group"])):
        found.append(f"{shown}: group {mount['group']!r:.80} is no name of a group; write it like dpdk")
    if mount["size"] not in SIZES:
        found.append(f"{shown}: size {mount['size']!r:.80}; {_SIZE_REMEDY}")
    if not isinstance(path, str) or not re.fullmatch(r"/[A-Za-z0-9._+:@/-]*", path):
        return [*found, f"{shown}: a mount point is an absolute path of letters, digits and . _ + : @ -; write it like /mnt/huge1G"]
    if posixpath.normpath(path) != path or path.startswith("//"):
        return [*found, f"{shown}: the path takes detours; write it as {'/' + posixpath.normpath(path).lstrip('/')}"]
    if path in _SYSTEM_FOLDERS or any(path == tree or path.startswith(f"{tree}/") for tree in _SYSTEM_TREES):
        found.append(f"{shown}: is a folder of the system, which a mount would hide; choose one of its own, like /mnt/huge1G")
    return found


def wanted_pages(spec: Mapping[str, Any]) -> list[Page]:
    """The pages of a specification in the order of writing: large ones first, before small ones break memory up."""
    return sorted(map(_page, spec.get("pages") or []), key=lambda page: (-SIZE_KIB[page.size], page.node))


def _page(page: Mapping[str, Any]) -> Page:
    return Page(page["size"], int(page["node"]), int(page["count"]), page.get("at") or USUAL_AT[page["size"]])


def plan(state: HugepagesState, spec: Mapping[str, Any]) -> Plan:
    """Pages of each node, then mounts, and the unit files of those; raises ``SpecError`` (R8) where a node would starve."""
    pages, mounts = wanted_pages(spec), sorted((dict(mount) for mount in spec.get("mounts") or []), key=lambda mount: str(mount["path"]))
    if state.container:
        reason = f"belongs to the machine, not to this container ({state.container})"
        return Plan((*(unsupported(f"hugepages.{page.size}", page.name, str(page.count), reason) for page in pages),
                     *(unsupported(MOUNT, mount["path"], f"pagesize={mount['size']}", reason) for mount in mounts)))
    if state.nodes:
        _refuse_unknown_nodes(state, pages)
        refuse_starved(pages, {node: known.total_kib for node, known in state.nodes.items()})
        _refuse_starved_now(state, pages)
    settings = [*(_page_setting(state, page) for page in pages), *_elsewhere(state, pages)]
    files = []
    for mount in mounts:
        wanted = (mount["path"], mount["size"], str(mount.get("group") or ""))
        settings.append(_mount_setting(state, *wanted))
        if _mountable(state, mount["size"]) == "" and _needs_unit(state, *wanted):
            files.append(OwnedFile(MOUNT_FILE, unit_file(mount["path"]), unit_text(*wanted)))
    return Plan(tuple(settings), tuple(files))


def _elsewhere(state: HugepagesState, pages: list[Page]) -> list[Setting]:
    """Findings: pages of a planned size on nodes for which none are planned, where no application looks for them."""
    planned = {(page.size, page.node) for page in pages}
    there = [(size, node, count) for size in sorted({page.size for page in pages}) for node, known in sorted(state.nodes.items())
             for count in [known.pages.get(size, 0)] if count and (size, node) not in planned]
    return [Setting(ELSEWHERE, f"node{node} {size}", "0", str(count), finding=True,
                    reason="no application is planned on this node; give them back (nr_hugepages of the node, or hugepages= of the command line), or plan them")
            for size, node, count in there]


def _refuse_unknown_nodes(state: HugepagesState, pages: Iterable[Page]) -> None:
    for page in pages:
        if page.node not in state.nodes:
            raise _refusal(f"hugepages: node {page.node} is no node of this host; its nodes are: {', '.join(map(str, sorted(state.nodes)))}")


def _refuse_starved_now(state: HugepagesState, pages: Iterable[Page]) -> None:
    """What has to be added at run time must leave the node its reserve; nothing to add is never refused."""
    added: dict[int, int] = {}
    for page in pages:
        more = page.count - state.nodes[page.node].pages.get(page.size, page.count)
        if page.at == RUNTIME and more > 0:
            added[page.node] = added.get(page.node, 0) + more * SIZE_KIB[page.size]
    for number, kib in sorted(added.items()):
        node = state.nodes[number]
        limit = (node.free_kib + node.file_kib) * _SHARE[0] // _SHARE[1] - min(_RESERVE_KIB, node.total_kib // 10)
        if kib > limit:
            raise _refusal(f"hugepages: {_mib(kib)} more of huge pages on node {number}, which can spare {_mib(max(limit, 0))} now "
                           f"({_mib(node.free_kib)} free, {_mib(node.file_kib)} of file cache); ask for less, or for at: boot")


def _page_setting(state: HugepagesState, page: Page) -> Setting:
    control, desired = f"hugepages.{page.size}", str(page.count)
    if not state.nodes:
        return unsupported(control, page.name, desired, "this kernel shows no NUMA nodes")
    current = state.nodes[page.node].pages.get(page.size)
    if current is None:
        return unsupported(control, page.name, desired, f"this CPU or kernel has no pages of {page.size}")
    if page.at == RUNTIME:
        return Setting(control, page.name, desired, str(current))
    persisted = _at_boot(state, page)
    reason = ""
    if persisted is None and state.captured and str(current) == desired:
        return unsupported(control, page.name, desired, f"a captured tree does not tell what the next boot brings ({state.boot_unknown})", str(current))
    if persisted is None:
        reason = f"what the next boot brings is not known: {state.boot_unknown}"
    elif persisted != desired:
        reason = "the kernel command line of the next boot says otherwise, by hugepagesz= and hugepages="
    return Setting(control, page.name, desired, str(current), persisted, reason=reason, needs_reboot=True)


def _at_boot(state: HugepagesState, page: Page) -> str | None:
    """How many pages the next boot's command line brings; a count without nodes is spread over those with memory, lowest first."""
    if state.boot is None:
        return None
    spread = state.boot.get((page.size, None))
    if spread is None:
        return str(state.boot.get((page.size, page.node), 0))
    nodes = sorted(node for node, known in state.nodes.items() if known.total_kib)
    if page.node not in nodes:
        return "0"
    return str(spread // len(nodes) + (nodes.index(page.node) < spread % len(nodes)))


def _mount_setting(state: HugepagesState, path: str, size: str, group: str) -> Setting:
    desired, mount = _mounted(size, group), state.mounts.get(path, Mount())
    current = _mounted(mount.size, mount.group if group else "") if mount.filesystem == "hugetlbfs" else None
    impossible = _mountable(state, size)
    if impossible:
        return unsupported(MOUNT, path, desired, impossible, current)
    if mount.filesystem and current is None:
        raise SpecError(f"hugepages mount {path}: {mount.filesystem} is mounted there, which a second mount would hide; choose another path, or unmount it")
    lasts = not _needs_unit(state, path, size, group) or (mount.unit == unit_text(path, size, group) and mount.enabled)
    return Setting(MOUNT, path, desired, current, desired if lasts else "not mounted")


def _mounted(size: str, group: str) -> str:
    """A mount in words: its pages, and the group that may take them."""
    return f"pagesize={size}" + (f" group={group}" if group else "")


def _mountable(state: HugepagesState, size: str) -> str:
    """Why pages of this size cannot be mounted by a unit here, or nothing."""
    return f"this CPU or kernel has no pages of {size}" if size not in state.sizes else state.without


def _needs_unit(state: HugepagesState, path: str, size: str, group: str) -> bool:
    """Whether a unit of ours has to mount it; systemd's own does where the default size is wanted in its place, for root alone."""
    mount = state.mounts.get(path, Mount())
    return not (not group and path == SYSTEMD_MOUNT and size == state.default_size == mount.size and mount.unit is None)


def unit_name(path: str) -> str:
    """The unit of a mount point, by systemd's own escaping: ``/dev/hugepages-1G`` -> ``dev-hugepages\\x2d1G.mount``."""
    escaped = "".join(_escaped(byte, first=position == 0) for position, byte in enumerate(path.strip("/").encode()))
    return f"{escaped or '-'}.mount"


def _escaped(byte: int, *, first: bool) -> str:
    char = chr(byte)
    if char == "/":
        return "-"
    plain = char.isascii() and (char.isalnum() or (char in ":_." and not (first and char == ".")))
    return char if plain else f"\\x{byte:02x}"


def unit_file(path: str) -> str:
    """The owned file of a mount point's unit."""
    return f"{UNITS}/{unit_name(path)}"


def wants_link(path: str) -> str:
    """The link that makes boot mount it."""
    return f"{UNITS}/{TARGET}.wants/{unit_name(path)}"


def unit_text(path: str, size: str, group: str = "") -> bytes:
    """The unit that mounts pages of ``size`` at ``path`` before any service starts, for root and ``group``."""
    # 0770: pages are few, and no user but root (and who root lets in) may take them away from the application
    options = f"pagesize={size},mode=0770" + (f",gid={group}" if group else "")
    return f"""\
# Owned by lowlatency.fleet: rewritten as a whole.
[Unit]
Description=Huge pages of {size}
Documentation=https://docs.kernel.org/admin-guide/mm/hugetlbpage.html
ConditionPathExists=/sys/kernel/mm/hugepages/hugepages-{SIZE_KIB[size]}kB

[Mount]
What=hugetlbfs
Where={path}
Type=hugetlbfs
Options={options}

[Install]
WantedBy={TARGET}
""".encode()
