# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looking for what else on a host sets its NICs and interrupts: configuration files, units and scripts; nothing is run, nothing is written."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

from ..model import tuned
from ..model.competitors import (
    IRQBALANCE,
    OWN_MARK,
    Competitor,
    Interfaces,
    Port,
    ifcfg_competitors,
    ifupdown_competitors,
    interfaces_file,
    irqbalance_competitor,
    keyfile_competitors,
    link_competitors,
    link_file,
    openib_competitors,
    program_paths,
    rules_competitors,
    script_competitors,
    tuned_competitors,
)
from ..model.nic_commands import IRQ, NIC
from .links import NET, pci_of
from .machine import Host

SIZE_LIMIT = 256 * 1024
FILES_LIMIT = 400  # of one folder
UNITS = "/etc/systemd/system"
# The first has the last word on a name.
VENDOR_AND_ADMIN = ("/etc", "/run", "/usr/local/lib", "/usr/lib", "/lib")
TUNED = ("/etc/tuned/profiles", "/etc/tuned", "/usr/lib/tuned/profiles", "/usr/lib/tuned")
TABLES = ("/etc/cron.d", "/var/spool/cron/crontabs", "/var/spool/cron", "/etc/tmpfiles.d", "/etc/sysfs.d")
HOOKS = ("/etc/network/if-pre-up.d", "/etc/network/if-up.d", "/etc/NetworkManager/dispatcher.d", "/etc/NetworkManager/dispatcher.d/pre-up.d",
         "/etc/NetworkManager/dispatcher.d/no-wait.d", "/etc/networkd-dispatcher/configuring.d", "/etc/networkd-dispatcher/configured.d",
         "/etc/networkd-dispatcher/carrier.d", "/etc/networkd-dispatcher/degraded.d", "/etc/networkd-dispatcher/routable.d",
         "/etc/cron.hourly", "/etc/cron.daily")
BOOT_SCRIPTS = ("/etc/rc.local", "/etc/rc.d/rc.local", "/etc/init.d/boot.local", "/etc/init.d/after.local")
# How Debian's package ethtool obeys the options of /etc/network/interfaces, which are looked at themselves.
IFUPDOWN_ITSELF = ("/etc/network/if-pre-up.d/ethtool", "/etc/network/if-up.d/ethtool")


def read_competitors(host: Host, interfaces: Sequence[str], *, nic: bool = True, irq: bool = True) -> tuple[Competitor, ...]:
    """What else sets the NICs ``interfaces``, or interrupts, sorted by what it is.

    ``nic`` and ``irq`` say which of both is asked for: without ``irq`` irqbalance is nobody's concern. What cannot be read is left out.
    """
    ports = [_port(host, name) for name in interfaces]
    others = frozenset(host.names(NET)) - {"lo", "bonding_masters"} - {name for port in ports for name in port.names}
    booted = booted_units(host)
    found = [*_tuned(host, ports, booted), *_links(host, ports), *_ifupdown(host, ports, others), *_rules(host, ports, others),
             *_scripts(host, ports, others, booted), *_openib(host, ports)]
    if nic:
        found += [*_network_manager(host, ports, booted), *_ifcfg(host, ports)]
    if irq:
        found += _irqbalance(host, booted)
    wanted = {control for control, asked in ((NIC, nic), (IRQ, irq)) if asked}
    return tuple(sorted({one for one in found if one.control in wanted}, key=lambda one: (one.control, one.name, one.sets)))


def _port(host: Host, name: str) -> Port:
    """What tells an interface from others (Documentation/ABI/testing/sysfs-class-net; udev's database)."""
    folder = f"{NET}/{name}"
    index = host.read_if_there(f"{folder}/ifindex") or ""
    database = host.read_if_there(f"/run/udev/data/n{index}") if index.isdigit() else None
    properties = dict(line[2:].partition("=")[::2] for line in (database or "").splitlines() if line.startswith("E:"))
    kind = re.search(r"^DEVTYPE=(.+)$", host.read_if_there(f"{folder}/uevent") or "", re.MULTILINE)
    return Port(name, (host.read_if_there(f"{folder}/address") or "").lower(), host.link_name(f"{folder}/device/driver") or "", pci_of(host, name) or "",
                kind.group(1) if kind else "ether", "/devices/virtual/" in os.path.realpath(host.followed(folder)),
                host.read_if_there(f"{folder}/name_assign_type") == "4", properties)


def _text(host: Host, name: str) -> str:
    """The text of an ordinary file of bearable size that this collection does not own; empty for anything else."""
    try:
        descriptor = os.open(host.followed(name), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > SIZE_LIMIT:
            return ""
        data = os.read(descriptor, SIZE_LIMIT)
    except OSError:
        return ""
    finally:
        os.close(descriptor)
    if b"\0" in data or OWN_MARK.encode() in data.partition(b"\n")[0]:
        return ""
    return data.decode("utf-8", "replace")


def _names(host: Host, folder: str, ending: str = "") -> list[str]:
    return [name for name in host.names(folder)[:FILES_LIMIT] if name.endswith(ending)]


def _executable(host: Host, name: str) -> bool:
    try:
        return bool(os.stat(host.followed(name)).st_mode & 0o111)
    except OSError:
        return False


def booted_units(host: Host) -> dict[str, str]:
    """``{unit: folder of the link}`` of the units that a boot starts because they were enabled, without those that are masked."""
    folders = (UNITS, "/usr/lib/systemd/system")
    masked = {unit for unit in ("tuned.service", IRQBALANCE, "NetworkManager.service") for folder in (UNITS, "/run/systemd/system")
              if host.link_name(f"{folder}/{unit}") == "null"}
    return {unit: f"{folder}/{wants}" for folder in folders for wants in host.names(folder) if wants.endswith((".wants", ".requires"))
            for unit in host.names(f"{folder}/{wants}") if unit not in masked}


# tuned, irqbalance


def _tuned(host: Host, ports: Sequence[Port], booted: Mapping[str, str]) -> list[Competitor]:
    units, active, main = active_tuned(host, booted)
    return tuned_competitors(units, ports, active, main.get("dynamic_tuning", "1"))


def active_tuned(host: Host, booted: Mapping[str, str]) -> tuple[tuple[tuned.TunedUnit, ...], str, dict[str, str]]:
    """The sections of the profiles of a tuned that runs or will, their names in words, and tuned-main.conf; empty where there is none."""
    active = " ".join(filter(None, (_text(host, f"/etc/tuned/{name}").strip() for name in ("active_profile", "post_loaded_profile"))))
    if not active or not ("tuned.service" in booted or _alive(host, _text(host, "/run/tuned/tuned.pid").strip())):
        return (), "", {}
    main = tuned.variables_of(_text(host, "/etc/tuned/tuned-main.conf"))
    folders = [*reversed(re.split(r"[\s,;]+", main["profile_dirs"])), *TUNED] if main.get("profile_dirs") else list(TUNED)
    profiles: list[tuned.TunedProfile] = []
    variables: dict[str, str] = {}
    _load(host, tuned.names_of(active), folders, profiles, variables, set())
    by_itself = _text(host, "/etc/tuned/profile_mode").strip() == "auto"
    return tuned.merged(profiles, variables), f"{active} (chosen by tuned itself)" if by_itself else active, main


def _alive(host: Host, pid: str) -> bool:
    """Whether a daemon that left its number is still there; a captured tree is taken at its word."""
    return bool(pid) and (not host.live or (pid.isdigit() and host.exists(f"/proc/{pid}")))


def _load(host: Host, names: Sequence[str], folders: Sequence[str], profiles: list[tuned.TunedProfile], variables: dict[str, str], seen: set[str]) -> None:
    """Append profiles, each after those it includes. A profile may include the next one of its own name, as tuned has it; none is read twice."""
    for name in names:
        path = next((path for path in (f"{folder}/{name}/tuned.conf" for folder in folders) if path not in seen and host.exists(path)), None)
        if path is None or len(seen) > 50:
            continue
        seen.add(path)
        profile = tuned.profile_of(_text(host, path))
        for file in profile.variable_files:
            file = tuned.expanded(file.replace("${i:PROFILE_DIR}", os.path.dirname(path)), variables)
            for key, value in tuned.variables_of(_text(host, os.path.join(os.path.dirname(path), file))).items():
                variables.setdefault(key, value)
        for key, value in profile.variables.items():
            variables.setdefault(key, value)
        _load(host, tuned.names_of(tuned.expanded(profile.include, variables)), folders, profiles, variables, seen)
        profiles.append(profile)


def _irqbalance(host: Host, booted: Mapping[str, str]) -> list[Competitor]:
    """irqbalance where it is installed and runs, or a boot or a timer starts it."""
    if not any(host.exists(f"{folder}/irqbalance") for folder in ("/usr/sbin", "/sbin", "/usr/bin")):
        return []
    sockets = (re.sub(r"\D", "", name) for name in host.names("/run/irqbalance"))
    running = any(_alive(host, pid) for pid in (*sockets, _text(host, "/run/irqbalance.pid").strip())) or _process(host, "irqbalance")
    timers = (_text(host, f"{folder}/{unit}") for unit, folder in booted.items() if unit.endswith(".timer"))
    enabled = IRQBALANCE in booted or "irqbalance.timer" in booted or any(f"Unit={IRQBALANCE}" in text for text in timers)
    return irqbalance_competitor(running=running, enabled=enabled)


def _process(host: Host, name: str) -> bool:
    """Whether a process of this name runs here; those of a container (two numbers in NSpid) are somebody else's."""
    for pid in host.names("/proc"):
        if pid.isdigit() and _text(host, f"/proc/{pid}/comm").strip() == name:
            numbers = re.search(r"^NSpid:(.*)$", _text(host, f"/proc/{pid}/status"), re.MULTILINE)
            if not numbers or len(numbers.group(1).split()) == 1:
                return True
    return False


# NetworkManager, ifcfg, .link files, ifupdown


def _network_manager(host: Host, ports: Sequence[Port], booted: Mapping[str, str]) -> Iterator[Competitor]:
    """Connections of a NetworkManager that runs or will; one in /etc has the last word on a file name."""
    if "NetworkManager.service" not in booted and not host.is_dir("/run/NetworkManager"):
        return
    folders = [f"{place}/NetworkManager/system-connections" for place in ("/etc", "/run", "/usr/lib")]
    for path in _effective(host, folders, ""):
        yield from keyfile_competitors(path, _text(host, path), ports)


def _effective(host: Host, folders: Sequence[str], ending: str) -> list[str]:
    """Of several files of one name that of the first folder, in the order of their names."""
    chosen: dict[str, str] = {}
    for folder in folders:
        for name in _names(host, folder, ending):
            chosen.setdefault(name, f"{folder}/{name}")
    return [chosen[name] for name in sorted(chosen)]


def _ifcfg(host: Host, ports: Sequence[Port]) -> Iterator[Competitor]:
    for folder in ("/etc/sysconfig/network-scripts", "/etc/sysconfig/network"):
        for name in _names(host, folder):
            if name.startswith("ifcfg-") and name != "ifcfg-lo" and not name.endswith((".bak", ".orig", ".rpmsave", ".rpmnew", "~")):
                yield from ifcfg_competitors(f"{folder}/{name}", _text(host, f"{folder}/{name}"), ports)


def _links(host: Host, ports: Sequence[Port]) -> list[Competitor]:
    """An empty .link file, or a link to /dev/null, takes the place of those of its name and is none itself."""
    folders = [f"{place}/systemd/network" for place in VENDOR_AND_ADMIN]
    drop_ins: dict[str, list[str]] = {}
    for folder in folders:
        for name in _names(host, folder, ".link.d"):
            drop_ins.setdefault(name, []).append(f"{folder}/{name}")
    found = []
    for path in _effective(host, folders, ".link"):
        text = _text(host, path)
        more = _effective(host, drop_ins.get(os.path.basename(path) + ".d", []), ".conf")
        if text:
            found.append(link_file(path, [(path, text), *((file, _text(host, file)) for file in more)]))
    return link_competitors(found, ports)


def _ifupdown(host: Host, ports: Sequence[Port], others: Collection[str]) -> list[Competitor]:
    files: list[Interfaces] = []
    _read_interfaces(host, "/etc/network/interfaces", files, set())
    return ifupdown_competitors(files, ports, others)


def _read_interfaces(host: Host, path: str, files: list[Interfaces], seen: set[str]) -> None:
    """Append a file and those that it names, each once."""
    if path in seen or len(seen) > FILES_LIMIT:
        return
    seen.add(path)
    file = interfaces_file(path, _text(host, path))
    files.append(file)
    for kind, pattern in file.sources:
        for name in _matching(host, os.path.normpath(os.path.join("/etc/network", pattern)), inside=kind == "source-directory"):
            _read_interfaces(host, name, files, seen)


def _matching(host: Host, pattern: str, *, inside: bool) -> list[str]:
    """Files that a pattern in the last part of a path names; ``inside`` of a folder only those with plain names, as run-parts has them."""
    folder, last = os.path.split(pattern)
    found = [f"{folder}/{name}" for name in _names(host, folder) if fnmatchcase(name, last)]
    if not inside:
        return found
    return [f"{place}/{name}" for place in found for name in _names(host, place) if re.fullmatch(r"[\w-]+", name)]


# scripts, units, rules


def _rules(host: Host, ports: Sequence[Port], others: Collection[str]) -> Iterator[Competitor]:
    for path in _effective(host, [f"{place}/udev/rules.d" for place in VENDOR_AND_ADMIN], ".rules"):
        yield from rules_competitors(path, _text(host, path), ports, others)


def _scripts(host: Host, ports: Sequence[Port], others: Collection[str], booted: Mapping[str, str]) -> Iterator[Competitor]:
    for path, text, how in texts_that_run(host, booted):
        yield from script_competitors(path, text, ports, others, how)


def texts_that_run(host: Host, booted: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """``(path, text, who runs it)`` of units, boot scripts, hooks of network tools and crontabs, and of the scripts of the site that these run."""
    seen: set[str] = set(IFUPDOWN_ITSELF)
    run_by: dict[str, str] = {}
    for path, text, how in [*_unit_texts(host, booted), *_hook_texts(host), *_table_texts(host)]:
        seen.add(path)
        yield path, text, how
        for program in program_paths(text):
            run_by.setdefault(program, path)
    for program, path in sorted(run_by.items())[:FILES_LIMIT]:
        if program not in seen and (program.endswith(".sh") or _executable(host, program)):
            yield program, _text(host, program), f"run by {path}:"


def _unit_texts(host: Host, booted: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Units of the site, their drop-ins, and what units of others a boot starts; irqbalance's own is looked at for itself."""
    templates = {f"{unit.partition('@')[0]}@.service" for unit in booted if "@" in unit}
    for name in host.names(UNITS)[:FILES_LIMIT]:
        if name.startswith("lowlatency") or name in (*booted, *templates, IRQBALANCE):
            continue
        if name.endswith(".service"):
            yield f"{UNITS}/{name}", _text(host, f"{UNITS}/{name}"), ""
        elif name.endswith(".service.d"):
            yield from ((f"{UNITS}/{name}/{part}", _text(host, f"{UNITS}/{name}/{part}"), "") for part in _names(host, f"{UNITS}/{name}", ".conf"))
    for unit, folder in sorted(booted.items()):
        if unit.endswith(".service") and unit != IRQBALANCE and not unit.startswith("lowlatency"):
            yield _booted_unit(host, unit, folder)


def _booted_unit(host: Host, unit: str, folder: str) -> tuple[str, str, str]:
    """A unit that a boot starts, by the file it really is; what a template calls %i is the name of the instance."""
    name, _dot, suffix = unit.rpartition(".")
    template, at, instance = name.partition("@")
    places = [f"{place}/{template}{at}.{suffix}" for place in (UNITS, "/usr/lib/systemd/system", "/lib/systemd/system")]
    path = next((place for place in places if host.exists(place)), f"{folder}/{unit}")
    text = _text(host, path)
    return path, re.sub(r"%[iIjJ]", lambda match: instance, text) if at else text, f"{unit} runs"


def _hook_texts(host: Host) -> Iterator[tuple[str, str, str]]:
    """Scripts that something runs when they are executable."""
    for path in (*BOOT_SCRIPTS, *(f"{folder}/{name}" for folder in HOOKS for name in _names(host, folder))):
        if path not in IFUPDOWN_ITSELF and _executable(host, path):
            yield path, _text(host, path), ""


def _table_texts(host: Host) -> Iterator[tuple[str, str, str]]:
    """Crontabs; and what sets files of sysfs at every boot: tmpfiles.d(5) and the files of sysfsutils."""
    paths = ["/etc/crontab", "/etc/sysfs.conf"]
    paths += [f"{folder}/{name}" for folder in TABLES for name in _names(host, folder)]
    for path in paths:
        yield path, _text(host, path), "sets" if "tmpfiles" in path or "sysfs" in path else ""


def _openib(host: Host, ports: Sequence[Port]) -> list[Competitor]:
    return openib_competitors("/etc/infiniband/openib.conf", _text(host, "/etc/infiniband/openib.conf"), ports)
