# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CPU sets as the kernel writes them: lists (``0-3,8``) and masks (``f,00000000``), in both directions.

Pure: no I/O. Never turns a text it does not understand into an empty set.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from .setting import SpecError

# Far beyond any kernel's NR_CPUS; a larger number is a mistake that would only exhaust memory.
CPU_LIMIT = 1 << 20
# Stands for what follows from the core partition.
PLANNED = "planned"

_GROUP_BITS = 32
_GROUP_DIGITS = 8
_REGION_LIMIT = 80
_REGION = re.compile(r"([0-9]+)(?:-([0-9]+)(?::([0-9]+)/([0-9]+))?)?")
_SEPARATORS = re.compile(r"[,\s]+")
_MASK = re.compile(r"[0-9A-Fa-f]+|[0-9A-Fa-f]{1,8}(?:,[0-9A-Fa-f]{1,8})+")


class CpusetError(SpecError):
    """A text that is no CPU set, or a set no such text can hold."""


def parse_cpulist(text: str) -> frozenset[int]:
    """The CPUs of a list such as ``0-3,8`` or ``0-10:2/4`` (the first 2 of every 4); empty text is the empty set.

    Accepts what the kernel accepts: ``bitmap_parselist`` in lib/bitmap-str.c, "cpu lists" in
    Documentation/admin-guide/kernel-parameters.rst. Raises ``CpusetError``.
    """
    cpus: set[int] = set()
    for region in _SEPARATORS.split(_text(text, "CPU list")):
        if region:
            cpus.update(_region(region, text))
    return frozenset(cpus)


def format_cpulist(cpus: Iterable[int]) -> str:
    """The shortest list of the CPUs, ascending, as ``%*pbl`` prints it; the empty set is the empty text."""
    parts: list[str] = []
    first = last = -1
    for cpu in _checked(cpus):
        if cpu != last + 1 or first < 0:
            if first >= 0:
                parts.append(_span(first, last))
            first = cpu
        last = cpu
    if first >= 0:
        parts.append(_span(first, last))
    return ",".join(parts)


def planned_cpulist(value: str, housekeeping: str | None) -> str:
    """A cpulist in the kernel's spelling; ``planned`` means the housekeeping CPUs. Raises ``CpusetError`` where no CPU is in it."""
    cpus = parse_cpulist((housekeeping or "") if value == PLANNED else value)
    if not cpus:
        raise CpusetError("no CPU is in it; name those that stay with the system, or give housekeeping where it is planned")
    return format_cpulist(cpus)


def parse_mask(text: str) -> frozenset[int]:
    """The CPUs of a kernel mask: hexadecimal, groups of 32 bits, most significant first, commas between them.

    Accepts what kernels print (``%*pb``, lib/vsprintf.c; Documentation/core-api/irq/irq-affinity.rst) in any width.
    An empty text is no mask. Raises ``CpusetError``.
    """
    mask = _text(text, "CPU mask").strip()
    if not _MASK.fullmatch(mask):
        raise CpusetError(
            f"CPU mask {_shown(text)}: a mask is hexadecimal digits in groups of at most eight with commas between them, no 0x; "
            "write it like 0000000f or 1,00000000"
        )
    if len(mask) * 4 > CPU_LIMIT:
        raise CpusetError(f"CPU mask {_shown(text)}: CPU numbers stay below {CPU_LIMIT}; shorten the mask")
    groups = mask.split(",")
    digits = groups[0] + "".join(group.zfill(_GROUP_DIGITS) for group in groups[1:])
    bits = bin(int(digits, 16))[:1:-1]
    return frozenset(cpu for cpu, bit in enumerate(bits) if bit == "1")


def format_mask(cpus: Iterable[int], nr_cpus: int) -> str:
    """The mask of the CPUs as a kernel with ``nr_cpus`` CPUs prints it (``%*pb``): 36 CPUs, CPU 33 -> ``2,00000000``.

    The leading group has as many digits as its CPUs need, every other one eight. Raises ``CpusetError``.
    """
    if not 0 < nr_cpus <= CPU_LIMIT:
        raise CpusetError(f"nr_cpus {nr_cpus}: a mask is for 1 to {CPU_LIMIT} CPUs; give the highest possible CPU + 1")
    value = 0
    for cpu in _checked(cpus):
        if cpu >= nr_cpus:
            raise CpusetError(f"CPU {cpu}: a mask of {nr_cpus} CPUs holds 0 to {nr_cpus - 1}; remove the CPU or give the right nr_cpus")
        value |= 1 << cpu
    leading_bits = (nr_cpus - 1) % _GROUP_BITS + 1
    groups = (nr_cpus - 1) // _GROUP_BITS
    width = (leading_bits + 3) // 4 + groups * _GROUP_DIGITS
    digits = f"{value:0{width}x}"
    lead = len(digits) - groups * _GROUP_DIGITS
    rest = [digits[start:start + _GROUP_DIGITS] for start in range(lead, len(digits), _GROUP_DIGITS)]
    return ",".join([digits[:lead], *rest])


def _region(region: str, text: str) -> Iterable[int]:
    """The CPUs of one part of a list: ``N``, ``N-M`` or ``N-M:used/group``."""
    match = _REGION.fullmatch(region)
    # int() itself refuses thousands of digits, and then does not say of what.
    if len(region) > _REGION_LIMIT or not match:
        raise CpusetError(f"CPU list {_shown(text)}: {_shown(region)} is no CPU, range or stride; write it like 0-3,8 or 0-10:2/4")
    first = int(match[1])
    last = int(match[2] or match[1])
    used, group = int(match[3] or 1), int(match[4] or 1)
    if last >= CPU_LIMIT:
        raise CpusetError(f"CPU list {_shown(text)}: {_shown(region)}: CPU numbers stay below {CPU_LIMIT}; shorten the range")
    if first > last:
        raise CpusetError(f"CPU list {_shown(text)}: the range {region} runs backwards; write {last}-{first}")
    if group == 0 or used > group:
        raise CpusetError(f"CPU list {_shown(text)}: the stride of {region} must take at most its whole group; write it like 0-10:2/4")
    if used == group:
        return range(first, last + 1)
    return [cpu for cpu in range(first, last + 1) if (cpu - first) % group < used]


def _checked(cpus: Iterable[int]) -> list[int]:
    """The CPUs, ascending, each once, none of them impossible."""
    ordered = sorted(set(cpus))
    if ordered and not 0 <= ordered[0] <= ordered[-1] < CPU_LIMIT:
        wrong = ordered[0] if ordered[0] < 0 else ordered[-1]
        raise CpusetError(f"CPU {wrong}: CPU numbers run from 0 to {CPU_LIMIT - 1}; remove it from the set")
    return ordered


def _text(value: str, what: str) -> str:
    """The value itself; inventories also deliver numbers and lists here, and those are refused by name."""
    if not isinstance(value, str):
        raise CpusetError(f"{what} {_shown(value)}: must be text; put it in quotes, like '0-3,8'")
    return value


def _span(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"


def _shown(value: object) -> str:
    """The value as it is shown in a message, cut where it would fill the screen."""
    shown = repr(value)
    return shown if len(shown) <= 80 else shown[:76] + "..." + shown[-1]
