# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Arguments of DPDK's environment abstraction layer (EAL) for a service: cores, memory of each node, ports. Pure: no I/O.

Source: https://doc.dpdk.org/guides/linux_gsg/linux_eal_parameters.html
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .cpuset import format_cpulist
from .hugepages import SIZE_KIB, SIZES
from .setting import SpecError

DPDK = "dpdk"
VARIABLE = "DPDK_EAL_ARGS"
EAL_KEYS = ("variable", "memory_mib", "page_size", "lcores", "options")


def mount_of(size: str) -> str:
    """Where the pages of one size are mounted for DPDK: whoever may open the ports may take them."""
    return f"/mnt/huge-{size}"


@dataclass(frozen=True)
class Claim:
    """What a service wants of DPDK: what its entry says (``EAL_KEYS``), its ports, its CPUs and the nodes of the ports."""

    unit: str
    said: Mapping[str, Any]
    ports: tuple[str, ...]
    cpus: frozenset[int]
    nodes: frozenset[int]


class PageBudget:
    """The huge pages of a host, shared among services so that none is given twice."""

    def __init__(self, pages: Iterable[Mapping[str, Any]]) -> None:
        self._pages = {(str(page["size"]), int(page["node"])): int(page["count"]) for page in pages}

    def size_for(self, claim: Claim) -> str:
        """The size of pages that a service takes: what it says, or the largest that its nodes have. Raises ``SpecError``."""
        said = claim.said.get("page_size")
        if said is not None and said not in SIZES:
            raise SpecError(f"service {claim.unit}: eal page_size {said!r:.40}; pages come in {' and '.join(SIZES)}")
        for size in [said] if said else reversed(SIZES):
            if all(self._pages.get((size, node)) for node in claim.nodes):
                return str(size)
        nodes = format_cpulist(claim.nodes)
        raise SpecError(f"service {claim.unit}: no huge pages{f' of {said}' if said else ''} are planned on node {nodes}, where its ports are; "
                        f"ask for some (lowlatency_hugepages: size, node {nodes}, buffers and buffer_bytes or count)")

    def shares(self, claims: Iterable[Claim]) -> dict[str, dict[int, int]]:
        """``{unit: {node: MiB}}``: what a service says, and equal parts of the rest for those that say nothing, in whole pages."""
        claims = list(claims)
        sizes = {claim.unit: self.size_for(claim) for claim in claims}
        found: dict[str, dict[int, int]] = {claim.unit: {} for claim in claims}
        for size, node in sorted(self._pages):
            here = [claim for claim in claims if sizes[claim.unit] == size and node in claim.nodes]
            page = SIZE_KIB[size] // 1024
            left = self._pages[size, node]
            for claim in [claim for claim in here if claim.said.get("memory_mib") is not None]:
                wanted = -(-_number(claim, "memory_mib") // page)
                if wanted > left:
                    raise SpecError(f"service {claim.unit}: {wanted} huge pages of {size} on node {node}, where {left} of {self._pages[size, node]} are free; "
                                    "ask for more pages (lowlatency_hugepages), or for less memory_mib")
                left -= wanted
                found[claim.unit][node] = wanted * page
            silent = [claim for claim in here if claim.said.get("memory_mib") is None]
            for claim in silent:
                each = left // len(silent)
                if not each:
                    raise SpecError(f"service {claim.unit}: no huge page of {size} on node {node} is left for it; ask for more pages (lowlatency_hugepages)")
                found[claim.unit][node] = each * page
        return found


def eal_arguments(claim: Claim, memory: Mapping[int, int], size: str) -> tuple[str, str]:
    """The name of the variable and the arguments in it; ``memory`` is MiB by node, of pages of ``size``. Raises ``SpecError``."""
    options = claim.said.get("options") or []
    if not isinstance(options, list) or not all(isinstance(option, str) for option in options):
        raise SpecError(f"service {claim.unit}: eal options {options!r:.80}; give a list of texts, one an argument")
    by_node = ",".join(str(memory.get(node, 0)) for node in range(max(memory) + 1))
    arguments = [*_cores(claim), f"--socket-mem={by_node}", f"--huge-dir={mount_of(size)}",
                 f"--file-prefix={claim.unit.rpartition('.')[0] or claim.unit}", *(word for port in claim.ports for word in ("-a", port)), *options]
    spaced = next((argument for argument in arguments if shlex.quote(argument) != argument and " " in argument), None)
    if spaced:
        raise SpecError(f"service {claim.unit}: eal option {spaced!r:.80} has a blank in it, which the variable cannot carry; write it without one")
    return str(claim.said.get("variable") or VARIABLE), " ".join(arguments)


def _cores(claim: Claim) -> list[str]:
    """One lcore a CPU; where more are asked for, they share the CPUs in turn."""
    cpus = sorted(claim.cpus)
    wanted = _number(claim, "lcores") if claim.said.get("lcores") is not None else len(cpus)
    if wanted < len(cpus):
        raise SpecError(f"service {claim.unit}: eal lcores is {wanted} on {len(cpus)} CPUs; each CPU has at least one, leave lcores out or give it less cores")
    if wanted == len(cpus):
        return ["-l", format_cpulist(cpus)]
    return ["--lcores=" + ",".join(f"{lcore}@{cpus[lcore % len(cpus)]}" for lcore in range(wanted))]


def _number(claim: Claim, key: str) -> int:
    value = claim.said[key]
    try:
        if not isinstance(value, bool) and int(value) > 0:
            return int(value)
    except (TypeError, ValueError):
        pass
    raise SpecError(f"service {claim.unit}: eal {key} {value!r:.40}; give a whole number of at least 1")
