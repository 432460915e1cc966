# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel command line: what may be asked for, what of it runs now and what the next boot brings. Pure: no I/O.

Source: Documentation/admin-guide/kernel-parameters.txt, kernel/sched/isolation.c, arch/x86/include/asm/setup.h (COMMAND_LINE_SIZE).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from . import hugepages
from .cpuset import PLANNED, format_cpulist, parse_cpulist
from .setting import ERROR, UNSUPPORTED, Plan, Setting, SpecError, unsupported

Tokens = tuple[str, ...]

# What the core partition gives values for.
PLANNED_KEYS = ("isolcpus", "nohz_full", "rcu_nocbs", "irqaffinity", "workqueue.unbound_cpus", "nosmt")
PRESENT = "present"
HUGEPAGES = "hugepages"
HUGEPAGES_KEYS = ("hugepagesz", "hugepages")
TRIAL_ID = "lowlatency-trial"
TRIAL_MARK = "lowlatency.trial"
SIZE_LIMIT = 2048
WAITS = "waits for a boot"

# Arguments of the installation itself, or of who may do what on it: a mistake here is a host that does not come back.
NEVER = frozenset((
    "root", "ro", "rw", "rootfstype", "rootflags", "rootdelay", "rootwait", "init", "rdinit", "initrd", "noinitrd", "resume", "single", "emergency",
    "rescue", "BOOT_IMAGE", "console", "crashkernel", "panic", "ip", "selinux", "enforcing", "apparmor", "security", "lsm", "lockdown", "module.sig_enforce",
    "mem", "memmap", "maxcpus", "nr_cpus", "possible_cpus", "acpi", "noapic", "nolapic", "nosmp", "pci",
))
NEVER_PREFIXES = ("systemd.", "rd.", "lowlatency.", "luks.", "dracut.")

# These trade safety for speed: asked for one by one, with the id of who allowed it.
SAFETY = {
    "mitigations": ("auto", "auto,nosmt"), "audit": ("1", "on"), "mce": ("ignore_ce", "bootlog", "nobootlog"),
    **dict.fromkeys(("nopti", "nospectre_v1", "nospectre_v2", "no_stf_barrier", "mds", "tsx_async_abort", "l1tf", "mmio_stale_data", "retbleed", "srbds",
                     "spectre_v2", "spectre_v2_user", "spec_store_bypass_disable", "spec_rstack_overflow", "gather_data_sampling", "pti", "tsx",
                     "nosmep", "nosmap", "page_poison", "init_on_alloc", "randomize_kstack_offset", "kvm.nx_huge_pages"), ()),
}

_SAFE = re.compile(r"[A-Za-z0-9_.,:/+@%^~-]+")
_KEY = re.compile(r"[A-Za-z0-9_.-]+")
_MODULE_PARAMETER = re.compile(r"[a-z0-9_]+\.[a-z0-9_]+")
_ISOLCPUS_FLAGS = ("nohz", "domain", "managed_irq")


@dataclass(frozen=True)
class Argument:
    """What one argument takes: ``kind`` is ``flag``, ``number``, ``cpulist``, ``isolcpus``, ``choice`` or ``text``.

    ``bare`` says whether it may also stand without a value.
    """

    kind: str
    choices: tuple[str, ...] = ()
    low: int = 0
    high: int = 2**31 - 1
    bare: bool = False


_FLAG = Argument("flag")
_SWITCH = Argument("choice", ("on", "off"))
_BIT = Argument("number", high=1)
_PAGES = Argument("text")

# In the order in which they are written. Module parameters (MODULE.NAME) that are not listed are taken as text.
ARGUMENTS: dict[str, Argument] = {
    "isolcpus": Argument("isolcpus"),
    "nohz_full": Argument("cpulist"),
    "rcu_nocbs": Argument("cpulist"),
    "rcu_nocb_poll": _FLAG,
    "irqaffinity": Argument("cpulist"),
    "workqueue.unbound_cpus": Argument("cpulist"),
    "nosmt": Argument("choice", ("force",), bare=True),
    "skew_tick": _BIT,
    "nohz": _SWITCH,
    "tsc": Argument("choice", ("reliable", "noirqtime", "unstable", "nowatchdog", "recalibrate", "watchdog")),
    "clocksource": Argument("choice", ("tsc", "hpet", "acpi_pm", "kvm-clock")),
    "hpet": Argument("choice", ("disable", "force")),
    "nmi_watchdog": _BIT,
    "nowatchdog": _FLAG,
    "nosoftlockup": _FLAG,
    "idle": Argument("choice", ("poll", "halt", "nomwait")),
    "intel_idle.max_cstate": Argument("number", high=9),
    "processor.max_cstate": Argument("number", high=9),
    "intel_pstate": Argument("choice", ("disable", "passive", "active", "force", "no_hwp", "hwp_only", "per_cpu_perf_limits", "support_acpi_ppc")),
    "amd_pstate": Argument("choice", ("disable", "passive", "active", "guided")),
    "cpufreq.default_governor": Argument("choice", ("performance", "powersave", "schedutil", "ondemand", "conservative", "userspace")),
    "transparent_hugepage": Argument("choice", ("always", "madvise", "never")),
    "numa_balancing": Argument("choice", ("enable", "disable")),
    "iommu": Argument("text"),
    "intel_iommu": Argument("text"),
    "amd_iommu": Argument("text"),
    "pcie_aspm": Argument("choice", ("off", "force")),
    "audit": Argument("choice", ("0", "1", "on", "off")),
    "mitigations": Argument("choice", ("auto", "auto,nosmt", "off")),
    "mce": Argument("text"),
    "rcupdate.rcu_normal_after_boot": _BIT,
    "rcutree.nohz_full_patience_delay": Argument("number", high=5000),
    "preempt": Argument("choice", ("none", "voluntary", "full", "lazy")),
    "psi": Argument("choice", ("0", "1", "on", "off")),
    "split_lock_detect": Argument("choice", ("off", "warn", "fatal")),
    "noirqdebug": _FLAG,
    "threadirqs": _FLAG,
    "nopti": _FLAG, "nospectre_v1": _FLAG, "nospectre_v2": _FLAG, "no_stf_barrier": _FLAG, "nosmep": _FLAG, "nosmap": _FLAG,
    **{key: Argument("text") for key in SAFETY if key not in ("mitigations", "audit", "mce") and not key.startswith("no")},
    "default_hugepagesz": Argument("choice", hugepages.SIZES),
}


@dataclass(frozen=True)
class Cpus:
    """The CPUs a command line speaks of: online ones, their siblings, and what else decides whether an argument makes sense.

    ``flags`` are those of /proc/cpuinfo, None where it does not tell.
    """

    online: frozenset[int] = frozenset()
    siblings: Mapping[int, frozenset[int]] = field(default_factory=dict)
    vendor: str = ""
    flags: frozenset[str] | None = None
    clocksource: str = ""


@dataclass(frozen=True)
class NextBoot:
    """What the next boot brings: the arguments of the entry that boots by default, and those that ``file`` says are ours.

    ``said`` are the words in the loader's other files, None where there are no such files; ``where`` names these files.
    ``problem`` says why all that could not be told, ``silent`` that nobody could be asked; ``repeats`` whether the loader's tool can hold one key twice.
    """

    tokens: Tokens = ()
    owned: Tokens = ()
    file: str = ""
    said: frozenset[str] | None = None
    where: str = ""
    problem: str = ""
    repeats: bool = True
    silent: bool = False


@dataclass(frozen=True)
class Trial:
    """A command line on trial: ``state`` is empty (there is none), ``armed`` (for the next boot), ``booted`` (and not
    confirmed) or ``failed``; ``story`` tells in words what happened to it."""

    state: str = ""
    owned: Tokens = ()
    story: str = ""


@dataclass(frozen=True)
class CmdlineState:
    """What runs, what boots next, what the kernel made of it. ``isolated`` and ``nohz_full`` are None where it has no such file."""

    running: Tokens = ()
    boot: NextBoot = NextBoot()
    cpus: Cpus = Cpus()
    isolated: str | None = None
    nohz_full: str | None = None
    kernel: str = ""
    container: str = ""
    trial: Trial = Trial()


def split(text: str) -> Tokens:
    """The arguments of a command line; double quotes hold blanks together (next_arg in lib/cmdline.c)."""
    return tuple(re.findall(r'(?:[^\s"]|"[^"]*")+', text))


def key_of(token: str) -> str:
    """``isolcpus`` of ``isolcpus=2-3``. The kernel takes ``-`` and ``_`` in names as the same."""
    return token.partition("=")[0].replace("-", "_")


# --- what is asked for ------------------------------------------------------------------------------------------------


def problems(spec: Mapping[str, Any]) -> list[str]:
    """What is wrong with the arguments asked for on any host: argument, rule and remedy, one sentence each."""
    found = []
    waiver = str(spec.get("security_waiver") or "")
    for key, value in sorted((spec.get("arguments") or {}).items()):
        if value == PLANNED:
            found += [] if key in PLANNED_KEYS else [f"argument {key}: nothing plans it; planned are {', '.join(PLANNED_KEYS)}, give its value"]
        else:
            found += _problem(str(key), value, waiver)
    for key, value in sorted((spec.get("planned") or {}).items()):
        found += _problem(str(key), value, "") if value else []
    found += hugepages.problems({"pages": spec.get("hugepages") or []})
    return found or _contradictions(spec)


def _problem(key: str, value: object, waiver: str) -> list[str]:
    shown = f"argument {key}={value!r:.80}"
    if not _KEY.fullmatch(key):
        return [f"{shown}: not the name of a kernel argument; write it like isolcpus, the value apart from it"]
    if key in HUGEPAGES_KEYS:
        return [f"{shown}: huge pages are stated per node, in lowlatency_hugepages; take the argument out"]
    if key in NEVER or key.startswith(NEVER_PREFIXES):
        return [f"{shown}: belongs to the installation of the host and is never set here; take it out (R9)"]
    argument = argument_of(key)
    if argument is None:
        return [f"{shown}: not an argument this collection knows; known are {', '.join(ARGUMENTS)} and MODULE.PARAMETER (R9)"]
    try:
        text = text_of(key, value)
    except SpecError as error:
        return [str(error)]
    if text is None:
        return []
    if key in SAFETY and text not in SAFETY[key] and not waiver:
        return [f"{shown}: takes a protection away; name who allowed it in security_waiver (kernel_cmdline_security_waiver), or take it out (R18)"]
    return _value_problem(argument, text, shown)


def argument_of(key: str) -> Argument | None:
    """What the argument takes; None for one that is not known."""
    known = _PAGES if key == HUGEPAGES else ARGUMENTS.get(key)
    return known or (Argument("text") if _MODULE_PARAMETER.fullmatch(key) else None)


def text_of(key: str, value: object) -> str | None:
    """The value as it stands on the command line, ``PRESENT`` for an argument without one, None for one that is not wanted.

    YAML turns ``on``, ``off``, ``yes`` and ``no`` into truth values: they mean presence, or on and off where the argument has them.
    Raises ``SpecError``.
    """
    argument = argument_of(key) or _FLAG
    if value is None:
        return None
    if isinstance(value, bool) or value in ("True", "False"):
        true = str(value) == "True"
        if "on" in argument.choices or "off" in argument.choices:
            return "on" if true and "on" in argument.choices else "off" if not true else _no_truth(key, value)
        if argument.kind == "flag" or argument.bare:
            return PRESENT if true else None
        return _no_truth(key, value)
    text = str(value)
    if isinstance(value, float) or not isinstance(value, (str, int)):
        return _no_truth(key, value)
    return PRESENT if text in ("", PRESENT) and (argument.bare or argument.kind == "flag") else text


def _no_truth(key: str, value: object) -> str:
    raise SpecError(f"argument {key}={value!r:.80}: not a value of this argument; write a text or a number, in quotes where YAML would change it")


def _value_problem(argument: Argument, text: str, shown: str) -> list[str]:
    if text == PRESENT:
        return []
    if not _SAFE.fullmatch(text):
        return [f"{shown}: blanks, quotes, line breaks and characters that the boot loader reads itself cannot stand here; "
                "allowed are letters, digits and _.,:/+@%^~- (R9)"]
    if argument.kind == "flag":
        return [f"{shown}: takes no value; write true"]
    if argument.kind == "choice" and text not in argument.choices:
        return [f"{shown}: takes one of {', '.join(argument.choices)}"]
    if argument.kind == "number" and not (text.isdecimal() and text.isascii() and argument.low <= int(text) <= argument.high):
        return [f"{shown}: takes a whole number from {argument.low} to {argument.high}"]
    try:
        if argument.kind in ("cpulist", "isolcpus") and not _cpus(argument.kind, text):
            return [f"{shown}: names no CPU; give a cpulist, or take the argument out"]
    except SpecError as error:
        return [f"{shown}: {error}"]
    return []


def _cpus(kind: str, text: str) -> frozenset[int]:
    """The CPUs of an argument; raises ``SpecError``."""
    return parse_cpulist(text.partition("isolcpus=")[2] or (_without_flags(text) if kind == "isolcpus" else text))


def _without_flags(text: str) -> str:
    words = text.split(",")
    while words and words[0] and not words[0][0].isdigit():
        if words[0] not in _ISOLCPUS_FLAGS:
            raise SpecError(f"isolcpus flag {words[0]!r}: the kernel knows {', '.join(_ISOLCPUS_FLAGS)}; use those")
        words = words[1:]
    return ",".join(words)


def _contradictions(spec: Mapping[str, Any]) -> list[str]:
    """Sets that must agree with each other on any host (R5, R7)."""
    sets = {key: _cpus(_kind(key), value) for key, value in wanted(spec).items() if _kind(key) in ("cpulist", "isolcpus")}
    isolated = sets.get("isolcpus")
    found = []
    for key in ("nohz_full", "rcu_nocbs"):
        if isolated and key in sets and sets[key] != isolated:
            found.append(f"argument {key}={format_cpulist(sets[key])}: is another set than isolcpus ({format_cpulist(isolated)}); make them the same (R5)")
    for key in ("irqaffinity", "workqueue.unbound_cpus"):
        both = (isolated or sets.get("nohz_full") or frozenset()) & sets.get(key, frozenset())
        if both:
            found.append(f"argument {key}: CPUs {format_cpulist(both)} are isolated; give housekeeping CPUs only (R7)")
    return found


def _kind(key: str) -> str:
    argument = argument_of(key)
    return argument.kind if argument else ""


def wanted(spec: Mapping[str, Any]) -> dict[str, str]:
    """``{argument: value}`` in the order of writing; ``hugepages`` stands for all pairs of huge page arguments."""
    planned = spec.get("planned") or {}
    said = {}
    for key, value in (spec.get("arguments") or {}).items():
        text = text_of(key, planned.get(key) or None) if value == PLANNED else text_of(key, value)
        if text is not None:
            said[key] = text
    if planned.get("nosmt") and "nosmt" not in said:
        said["nosmt"] = PRESENT
    order = {key: number for number, key in enumerate(ARGUMENTS)}
    found = {key: said[key] for key in sorted(said, key=lambda key: (order.get(key, len(order) - 2), key))}
    pages = hugepages.boot_tokens(spec.get("hugepages") or [])
    return {**found, HUGEPAGES: " ".join(pages)} if pages else found


# --- what a command line holds ----------------------------------------------------------------------------------------


def value_in(tokens: Sequence[str], key: str) -> str | None:
    """What a command line says of an argument, CPU lists in their shortest form; several values with blanks between them."""
    if key == HUGEPAGES:
        return " ".join(token for token in tokens if key_of(token) in HUGEPAGES_KEYS) or None
    found = [_canonical(key, token.partition("=")[2]) if "=" in token else PRESENT for token in tokens if key_of(token) == key]
    return " ".join(found) or None


def _canonical(key: str, value: str) -> str:
    kind = _kind(key)
    if kind not in ("cpulist", "isolcpus"):
        return value
    try:
        bare = _without_flags(value) if kind == "isolcpus" else value
        flags = value[: len(value) - len(bare)]
        return flags + format_cpulist(parse_cpulist(bare))
    except SpecError:
        return value


def rendered(arguments: Mapping[str, str]) -> Tokens:
    """The arguments as they stand on a command line."""
    return tuple(token for key, value in arguments.items() for token in _rendered(key, value))


def _rendered(key: str, value: str) -> list[str]:
    if key == HUGEPAGES:
        return value.split()
    return [key if value == PRESENT else f"{key}={value}"]


def without(tokens: Sequence[str], ours: Sequence[str]) -> Tokens:
    """A command line without ours, which are appended: the last of two equal ones is ours."""
    left = list(ours)
    found = []
    for token in reversed(tokens):
        if token in left:
            left.remove(token)
        else:
            found.append(token)
    return tuple(reversed(found))


def foreign(boot: NextBoot) -> Tokens:
    """The arguments of the next boot that are not ours, in their order.

    One that we know and that no other file speaks of is left over from a file of ours that is gone.
    """
    return tuple(token for token in without(boot.tokens, boot.owned) if boot.said is None or token in boot.said or argument_of(_group(token)) is None)


def next_own(boot: NextBoot) -> Tokens:
    """The arguments of the next boot that are ours."""
    return without(boot.tokens, foreign(boot))


def to_own(state: CmdlineState, arguments: Mapping[str, str]) -> Tokens:
    """What this collection has to add: the arguments that nobody else sets to the same value."""
    others = foreign(state.boot)
    return rendered({key: value for key, value in arguments.items() if value_in(others, key) != _canonical(key, value)})


def running_own(state: CmdlineState, spec: Mapping[str, Any]) -> Tokens:
    """Of the arguments this collection manages, those that run now and that nobody else sets: what the host is known to boot with."""
    others = foreign(state.boot)
    keys = managed(state, spec)
    return tuple(token for token in state.running if _group(token) in keys and token not in others)


def managed(state: CmdlineState, spec: Mapping[str, Any]) -> list[str]:
    """The arguments that are wanted, and those that this collection set before and that are wanted no longer."""
    now = wanted(spec)
    return [*now, *sorted({_group(token) for token in (*state.boot.owned, *next_own(state.boot))} - set(now))]


def _group(token: str) -> str:
    key = key_of(token)
    return HUGEPAGES if key in HUGEPAGES_KEYS else key


# --- the plan ---------------------------------------------------------------------------------------------------------


def plan(state: CmdlineState, spec: Mapping[str, Any]) -> Plan:
    """One setting an argument, then what the kernel made of the isolation, then a trial that is under way. Raises ``SpecError``."""
    keys = managed(state, spec)
    if not keys and not state.trial.state:
        return Plan()
    if state.container:
        reason = f"the kernel belongs to the machine, not to this container ({state.container})"
        return Plan(tuple(unsupported(f"cmdline.{key}", key, wanted(spec).get(key), reason) for key in keys))
    if state.boot.problem:
        return Plan((Setting("cmdline.loader", "boot loader", None, state=UNSUPPORTED if state.boot.silent else ERROR, reason=state.boot.problem),))
    effective = supported(state, spec)
    _refuse(state, effective)
    settings = [_setting(state, spec, key, effective) for key in keys]
    settings += [setting for setting in (_isolation(state, effective, keys), _tickless(state, effective, keys)) if setting]
    return Plan((*settings, _file(state, effective), *_trial(state, effective)))


def supported(state: CmdlineState, spec: Mapping[str, Any]) -> dict[str, str]:
    """The wanted arguments that this machine has a use for."""
    return {key: value for key, value in wanted(spec).items() if not missing(state, key, value)}


def _setting(state: CmdlineState, spec: Mapping[str, Any], key: str, effective: Mapping[str, str]) -> Setting:
    asked = wanted(spec).get(key)
    reason = missing(state, key, asked) if asked is not None else ""
    if reason and value_in(state.boot.owned, key) is None:
        return unsupported(f"cmdline.{key}", key, asked, reason, value_in(state.running, key))
    desired = _canonical(key, effective[key]) if key in effective else value_in(foreign(state.boot), key)
    waiver = str(spec.get("security_waiver") or "")
    said = f"allowed by {waiver}" if key in SAFETY and waiver and desired is not None else ""
    return Setting(f"cmdline.{key}", key, desired, value_in(state.running, key), value_in(state.boot.tokens, key), reason=said, needs_reboot=True)


def missing(state: CmdlineState, key: str, value: str) -> str:
    """Why this machine has no use for an argument, or nothing."""
    cpus = state.cpus
    if key == "nohz_full" and state.nohz_full is None:
        return "this kernel was built without CONFIG_NO_HZ_FULL"
    if key == "tsc" and value in ("reliable", "nowatchdog"):
        if cpus.clocksource != "tsc":
            return f"the clock source here is {cpus.clocksource or 'unknown'}, not the TSC"
        if cpus.flags is not None and not {"constant_tsc", "nonstop_tsc"} <= cpus.flags:
            return "this CPU does not say that its TSC is constant and never stops"
    maker = re.match(r"(intel|amd)_(?:idle|pstate|iommu)\b", key)
    vendor = {"intel": "GenuineIntel", "amd": "AuthenticAMD"}[maker[1]] if maker else ""
    if vendor and cpus.vendor and cpus.vendor != vendor:
        return f"this CPU is a {cpus.vendor}"
    if key == "default_hugepagesz" and value == "1G" and cpus.flags is not None and "pdpe1gb" not in cpus.flags:
        return "this CPU has no pages of 1 GiB"
    since = {"workqueue.unbound_cpus": (6, 6), "rcutree.nohz_full_patience_delay": (6, 12)}.get(key)
    if since and state.kernel and _version(state.kernel) < since:
        return f"Linux has it since {since[0]}.{since[1]}, this is {state.kernel}"
    return ""


def _version(release: str) -> tuple[int, ...]:
    found = re.match(r"(\d+)\.(\d+)", release)
    return (int(found[1]), int(found[2])) if found else ()


def _isolation(state: CmdlineState, effective: Mapping[str, str], keys: Iterable[str]) -> Setting | None:
    return _kernel_set("isolation.isolated", "isolated CPUs", "isolcpus", state.isolated, state, effective) if "isolcpus" in keys else None


def _tickless(state: CmdlineState, effective: Mapping[str, str], keys: Iterable[str]) -> Setting | None:
    if "nohz_full" not in keys or state.nohz_full is None:
        return None
    return _kernel_set("isolation.nohz_full", "CPUs without a tick", "nohz_full", state.nohz_full, state, effective)


def _kernel_set(control: str, name: str, key: str, current: str | None, state: CmdlineState, effective: Mapping[str, str]) -> Setting:
    def cpus(value: str | None) -> str | None:
        try:
            return format_cpulist(_cpus(_kind(key), value)) or None if value and _leaves_the_scheduler(key, value) else None
        except SpecError:
            return value
    if current is None:
        return unsupported(control, name, cpus(effective.get(key)), "this kernel does not tell")
    return Setting(control, name, cpus(effective.get(key)), current or None, cpus(value_in(state.boot.tokens, key)), needs_reboot=True)


def _file(state: CmdlineState, effective: Mapping[str, str]) -> Setting:
    """What is ours, in the file of which every later boot entry is made."""
    held = _line(state.boot.owned)
    return Setting("cmdline.file", state.boot.file, _line(to_own(state, effective)), held, held)


def _line(tokens: Tokens) -> str | None:
    """A line of arguments in one word to compare, as other files are shown: each argument has a setting of its own."""
    return f"sha256:{hashlib.sha256(' '.join(tokens).encode()).hexdigest()[:12]}" if tokens else None


def _leaves_the_scheduler(key: str, value: str) -> bool:
    """Whether CPUs of ``isolcpus`` are in the kernel's own list: with flags, only those of the flag ``domain`` are."""
    flags = [word for word in value.split(",") if word in _ISOLCPUS_FLAGS]
    return key != "isolcpus" or not flags or "domain" in flags


def _trial(state: CmdlineState, effective: Mapping[str, str]) -> Iterator[Setting]:
    trial = state.trial
    if trial.state:
        desired = trial.state if trial.state == "armed" and trial.owned == to_own(state, effective) else None
        yield Setting("cmdline.trial", TRIAL_ID, desired, trial.state, desired, reason=trial.story)


# --- refusals on this host --------------------------------------------------------------------------------------------


def _refuse(state: CmdlineState, arguments: Mapping[str, str]) -> None:
    found = [*_conflicts(state, arguments), *_wrong_sets(state.cpus, arguments), *_too_long(state, arguments)]
    if not state.boot.repeats and len(arguments.get(HUGEPAGES, "").split()) > 2:
        found.append("huge pages of two sizes at boot: grubby keeps one value a key; allocate one of the sizes at run time (at: runtime)")
    if found:
        raise SpecError("; ".join(found))


def _conflicts(state: CmdlineState, arguments: Mapping[str, str]) -> Iterator[str]:
    others = foreign(state.boot)
    for key, value in arguments.items():
        said = value_in(others, key)
        if said is not None and said != _canonical(key, value):
            yield (f"argument {key}: {said} is set by somebody else ({state.boot.where}), {value} is wanted; remove it there, or leave it out here (R17)")


def _wrong_sets(cpus: Cpus, arguments: Mapping[str, str]) -> Iterator[str]:
    """Sets that must not be on this machine (R1 to R4, R28)."""
    online = format_cpulist(cpus.online)
    for key, value in arguments.items():
        kind = _kind(key)
        if kind not in ("cpulist", "isolcpus") or not cpus.online:
            continue
        named = _cpus(kind, value)
        if named - cpus.online:
            yield f"argument {key}: CPUs {format_cpulist(named - cpus.online)} are not online here; online are {online} (R3)"
        if key in ("irqaffinity", "workqueue.unbound_cpus"):
            continue
        if cpus.online <= named:
            yield f"argument {key}: takes every CPU ({online}); the system needs at least one whole core (R1)"
        elif 0 in named:
            yield f"argument {key}: takes CPU 0, which boots and keeps the time; leave it to the system (R2)"
        elif key == "isolcpus":
            yield from _split_cores(cpus, named, "nosmt" in arguments)


def _split_cores(cpus: Cpus, named: frozenset[int], without_smt: bool) -> Iterator[str]:
    for cpu in sorted(named):
        core = cpus.siblings.get(cpu, frozenset({cpu})) & cpus.online
        if without_smt and cpu != min(core):
            yield f"argument isolcpus: CPU {cpu} is a sibling that nosmt takes offline; name {min(core)} alone (R28)"
        elif not without_smt and not core <= named and cpu == min(core & named):
            yield (f"argument isolcpus: CPUs {format_cpulist(core & named)} without {format_cpulist(core - named)} split a physical core; "
                   "name all of its threads (R4)")


def _too_long(state: CmdlineState, arguments: Mapping[str, str]) -> Iterator[str]:
    by_grub = [token for token in state.running if key_of(token) == "BOOT_IMAGE"]
    size = len(" ".join((*by_grub, *foreign(state.boot), *to_own(state, arguments), f"{TRIAL_MARK}={'0' * 16}", "panic=10")))
    if size > SIZE_LIMIT - 1:
        yield f"the command line would have {size} characters, the kernel takes {SIZE_LIMIT - 1}; take arguments out (R9)"
