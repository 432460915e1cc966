# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What else on a host sets the NICs and interrupts that this collection sets: who it is, what it sets, and the remedy. Pure: no I/O.

Source: systemd.link(5), nm-settings-keyfile(5), udev(7), interfaces(5), Debian's if-up.d/ethtool, and the files of their kind.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from .ini import entries, joined_lines
from .nic_commands import IRQ, NIC, Command, commands, concerning, names_one, suspicious
from .setting import Setting, judged
from .tuned import TunedUnit, irq_settings, net_settings

OWN_MARK = "Owned by lowlatency.fleet"
IRQBALANCE = "irqbalance.service"

_COMMANDS_SHOWN = 3


@dataclass(frozen=True)
class Competitor:
    """One thing that sets what this collection sets. ``control`` says of what, ``name`` is a file or a unit, ``sets`` and ``remedy`` are words."""

    control: str
    name: str
    sets: str
    remedy: str


@dataclass(frozen=True)
class Port:
    """One of our interfaces as other tools tell it apart. ``properties`` are those of udev's database, empty where there is none.

    ``renamed``: it does not have the name that the kernel gave it, and what that was is not known.
    """

    interface: str
    mac: str = ""
    driver: str = ""
    pci: str = ""
    kind: str = "ether"
    virtual: bool = False
    renamed: bool = False
    properties: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> frozenset[str]:
        """Its name, and those that udev made for it, which ethtool takes as well."""
        return frozenset((self.interface, *(value for key, value in self.properties.items() if key.startswith("ID_NET_NAME") and value)))

    @property
    def kernel_names(self) -> tuple[str, ...]:
        """What its name may have been when udev saw it first: an interface that was renamed before the root file system came keeps its new one."""
        return (self.interface, *(f"eth{number}" for number in range(10))) if self.renamed else (self.interface,)

    @property
    def path(self) -> str:
        """Its persistent path (udev's ID_PATH)."""
        return self.properties.get("ID_PATH", f"pci-{self.pci}" if self.pci else "")


def findings(competitors: Iterable[Competitor]) -> list[Setting]:
    """One finding for each thing and kind of setting, in sorted order: ``none`` is what is wanted, what it sets is what is."""
    said: dict[tuple[str, str], list[Competitor]] = {}
    for competitor in competitors:
        said.setdefault((competitor.control, competitor.name), []).append(competitor)
    return [judged(Setting(control, name, "none", "; ".join(dict.fromkeys(one.sets for one in these)), finding=True,
                           reason="; ".join(dict.fromkeys(one.remedy for one in these))))
            for (control, name), these in sorted(said.items())]


def _on(ports: Iterable[Port]) -> str:
    """Interfaces in words."""
    return "on " + ", ".join(port.interface for port in ports)


def _names(ports: Iterable[Port]) -> frozenset[str]:
    return frozenset(name for port in ports for name in port.names)


def _base(path: str) -> str:
    return path.rpartition("/")[2]


# tuned, irqbalance


def tuned_competitors(units: Iterable[TunedUnit], ports: Iterable[Port], active: str, dynamic: str) -> list[Competitor]:
    """What the sections of the active profiles set. The net plugin leaves virtual interfaces alone."""
    found = []
    for unit in units:
        driven = [port for port in ports if not port.virtual and unit.drives(port.interface)]
        nic, irq = net_settings(unit, dynamic), irq_settings(unit)
        section = f"tuned profile {active}: plugin {unit.plugin} (section [{unit.name}]) sets"
        remedy = f"choose a profile without section [{unit.name}] (tuned-adm profile NAME), or stop and mask tuned.service"
        if nic and driven:
            found.append(Competitor(NIC, "tuned.service", f"{section} {nic} {'on all interfaces' if unit.devices == '*' else _on(driven)}", remedy))
        if irq:
            found.append(Competitor(IRQ, "tuned.service", f"{section} {irq}", remedy))
    return found


def irqbalance_competitor(*, running: bool, enabled: bool) -> list[Competitor]:
    """irqbalance where it runs, or will after the next boot."""
    how = [word for word, is_so in (("runs", running), ("starts at boot", enabled)) if is_so]
    remedy = "stop, disable and mask it: noisy_services_removed: [irqbalance]"
    return [Competitor(IRQ, IRQBALANCE, f"irqbalance {' and '.join(how)}: it moves interrupts", remedy)] if how else []


# NetworkManager


_NM_PREFIXES = ("channels-", "coalesce-", "eee-", "feature-", "pause-", "ring-")


def keyfile_competitors(path: str, text: str, ports: Sequence[Port]) -> list[Competitor]:
    """The ``[ethtool]`` settings of one NetworkManager connection that may be used on one of our interfaces."""
    said: dict[tuple[str, str], str] = {(section, key): value for section, key, value in entries(text)}
    sets = [f"{key}={value}" for (section, key), value in said.items() if section == "ethtool" and key.startswith(_NM_PREFIXES) and value]
    concerned = [port for port in ports if _connection_fits(said, port)]
    if not sets or not concerned:
        return []
    name = said.get(("connection", "id")) or _base(path).partition(".")[0]
    return [Competitor(NIC, path, f"NetworkManager connection {name} sets {', '.join(sets)} {_on(concerned)}",
                       f"take it out: nmcli connection modify '{name}' remove ethtool")]


def _connection_fits(said: Mapping[tuple[str, str], str], port: Port) -> bool:
    if said.get(("connection", "interface-name")):
        return said["connection", "interface-name"] == port.interface
    if said.get(("connection", "type"), "ethernet") not in ("ethernet", "802-3-ethernet"):
        return False
    for section in ("ethernet", "802-3-ethernet"):
        wanted = said.get((section, "mac-address"))
        if wanted and _mac(wanted) != port.mac:
            return False
        if port.mac and port.mac in (_mac(word) for key in ("mac-address-blacklist", "mac-address-denylist") for word in _list(said.get((section, key)))):
            return False
    facts = {"interface-name": port.interface, "driver": port.driver, "path": port.path}
    return all(_list_fits(_list(said.get(("match", key))), fact) for key, fact in facts.items())


def _list(text: str | None) -> list[str]:
    return re.split(r"[;,\s]+", text.strip("; ")) if text and text.strip("; ") else []


def _list_fits(rules: list[str], fact: str) -> bool:
    """As NetworkManager's ``[match]``: ``!`` excludes, ``&`` is mandatory, one of the others has to fit."""
    plain = [rule.lstrip("|&") for rule in rules]
    wanted = [rule for rule in plain if not rule.startswith("!")]
    unwanted = [rule[1:] for rule in plain if rule.startswith("!")]
    return (not wanted or any(fnmatchcase(fact, rule) for rule in wanted)) and not any(fnmatchcase(fact, rule) for rule in unwanted)


def _mac(text: str) -> str:
    """A hardware address as the kernel writes it."""
    digits = re.sub(r"[^0-9a-f]", "", text.lower())
    return ":".join(digits[index:index + 2] for index in range(0, len(digits), 2))


def ifcfg_competitors(path: str, text: str, ports: Sequence[Port]) -> list[Competitor]:
    """The ``ETHTOOL_OPTS`` of an ifcfg file (network-scripts, NetworkManager, wicked) of one of our interfaces."""
    found = re.finditer(r"^[ \t]*(?:export[ \t]+)?(\w+)=(\"[^\"\n]*\"|'[^'\n]*'|[^\s#]*)", text, re.MULTILINE)
    said = {match.group(1): match.group(2).strip("\"'") for match in found}
    device = said.get("DEVICE") or ("" if said.get("HWADDR") else path.rpartition("/ifcfg-")[2])
    concerned = [port for port in ports if (port.interface == device if device else _mac(said.get("HWADDR", "")) == port.mac)]
    if not concerned:
        return []
    options = [part for key, value in said.items() if key.startswith(("ETHTOOL_OPTS", "ETHTOOL_OPTIONS")) for part in value.split(";")]
    sets = [command.words for option in options for command in commands(f"ethtool {option.strip()}")]
    return [Competitor(NIC, path, f"runs {_some(sets)} {_on(concerned)}", "take the option out of ETHTOOL_OPTS")] if sets else []


# systemd.link


# Keys of [Link] that set what a NIC does with packets and interrupts. The name, MTU, speed and wake-on-LAN are nobody's here.
_LINK_SETS = re.compile(r".*Offload\w*|.*Coalesc\w*|\w*BufferSize|\w*Channels|\w*FlowControl|NTupleFilter|\w*HardwareAcceleration"
                        r"|ReceivePacketSteering\w*")
_LINK_IRQ = re.compile(r"IRQAffinity\w*")
DEFAULT_LINK = "99-default.link"


@dataclass(frozen=True)
class LinkFile:
    """A .link file with its drop-ins: the conditions of ``[Match]`` and ``(file, section, key, value)`` of all else, in their order."""

    path: str
    match: tuple[tuple[str, str], ...] = ()
    settings: tuple[tuple[str, str, str, str], ...] = ()

    @property
    def names_the_port(self) -> bool:
        """Whether it says how the interface is named."""
        return any(section == "Link" and key in ("Name", "NamePolicy") and value for _path, section, key, value in self.settings)


def link_file(path: str, texts: Sequence[tuple[str, str]]) -> LinkFile:
    """A .link file from ``(path, text)`` of itself and of its drop-ins."""
    match, settings = [], []
    for origin, text in texts:
        for section, key, value in entries(text):
            if section == "Match":
                match.append((key, value))
            else:
                settings.append((origin, section, key, value.strip("\"")))
    return LinkFile(path, tuple(match), tuple(settings))


def link_applies(link: LinkFile, port: Port) -> bool | None:
    """Whether a .link file matches an interface; None where that hangs on something that files do not tell."""
    lists: dict[str, list[str]] = {}
    for key, value in link.match:
        lists[key] = [*lists.get(key, []), *value.split()] if value else []
    verdicts = [_link_condition(key, rules, port) for key, rules in lists.items() if rules]
    return False if False in verdicts else None if None in verdicts else True


def _link_condition(key: str, rules: list[str], port: Port) -> bool | None:
    if key in ("MACAddress", "PermanentMACAddress"):
        return port.mac in (_mac(rule) for rule in rules)
    if key == "Property":
        pairs = [rule.strip("\"").lstrip("!").partition("=")[::2] for rule in rules]
        return (all(port.properties.get(name) == value for name, value in pairs) != rules[0].startswith("!")) if port.properties else None
    if key == "Kind":
        return None if port.virtual else rules[0].startswith("!")
    facts = {"OriginalName": port.kernel_names, "Path": (port.path,), "Driver": (port.driver,), "Type": (port.kind,)}.get(key, ())
    fits = {any(fnmatchcase(fact, rule.lstrip("!")) for rule in rules) != rules[0].startswith("!") for fact in facts}
    return fits.pop() if len(fits) == 1 else None


def link_competitors(links: Sequence[LinkFile], ports: Sequence[Port]) -> list[Competitor]:
    """What the .link files set of our interfaces; of each, the first in the order of their names that matches is the one that is used."""
    found: list[Competitor] = []
    for port in ports:
        for link in sorted(links, key=lambda link: _base(link.path)):
            applies = link_applies(link, port)
            if applies is None and _base(port.properties.get("ID_NET_LINK_FILE", "")) == _base(link.path):
                applies = True
            if applies is not False:
                found += _link_settings(link, port, "" if applies else " (where its [Match] fits)")
            if applies:
                found += _lost_name(link, port)
                break
    return found


def _link_settings(link: LinkFile, port: Port, where: str) -> Iterator[Competitor]:
    last = {(section, key): (origin, value) for origin, section, key, value in link.settings}
    for control, pattern in ((NIC, _LINK_SETS), (IRQ, _LINK_IRQ)):
        sets: dict[str, list[str]] = {}
        for (section, key), (origin, value) in last.items():
            ours = pattern.fullmatch(key) if section == "Link" else section == "EnergyEfficientEthernet" and control == NIC
            if ours and value:
                sets.setdefault(origin, []).append(f"{key}={value}")
        for origin, pairs in sets.items():
            source = "its source below /etc/netplan" if "netplan" in origin else "the file"
            yield Competitor(control, origin, f"udev sets {', '.join(pairs)} on {port.interface} when it appears{where}", f"take these lines out of {source}")


def _lost_name(link: LinkFile, port: Port) -> Iterator[Competitor]:
    """A file that takes the place of the one that named the interface, and names it not: the next boot would rename the interface."""
    now = port.properties.get("ID_NET_LINK_FILE", "")
    if port.renamed and now and _base(now) != _base(link.path) != DEFAULT_LINK and not link.names_the_port:
        yield Competitor(NIC, link.path, f"takes the place of {now} and does not name {port.interface}: after the next boot it has the kernel's name",
                         f"add NamePolicy= as in {DEFAULT_LINK}, or Name={port.interface}")


# ifupdown


_IFUPDOWN_OPTIONS = ("ethernet-pause-", "hardware-dma-ring-", "hardware-irq-coalesce-", "offload-", "ethtool-coalesce-", "ethtool-dma-ring-",
                     "ethtool-offload-", "ethtool-pause-")
_IFUPDOWN2_OPTIONS = ("gro-offload", "gso-offload", "lro-offload", "rx-offload", "tso-offload", "tx-offload", "ufo-offload")
_IFUPDOWN_RUNS = ("down", "post-down", "post-up", "pre-down", "pre-up", "up")
_STANZAS = ("auto", "iface", "mapping", "no-auto-down", "no-scripts", "rename", "source", "source-directory", "source-dir", "template")


@dataclass(frozen=True)
class Stanza:
    """One ``iface`` of an interfaces file: its logical name, the stanza it inherits from, and its options in their order."""

    path: str
    name: str
    inherits: str = ""
    options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Interfaces:
    """What an interfaces file says: its stanzas, which logical names interfaces get (``auto eth0=office``), and what else it reads."""

    stanzas: tuple[Stanza, ...] = ()
    logical: tuple[tuple[str, str], ...] = ()
    sources: tuple[tuple[str, str], ...] = ()


def interfaces_file(path: str, text: str) -> Interfaces:
    """The text of one file as ifupdown reads it. ``sources`` has ``(source, pattern)`` and ``(source-directory, pattern)``."""
    stanzas: list[Stanza] = []
    logical, sources = [], []
    open_stanza = False
    for line in joined_lines(text):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if words[0] in _STANZAS or words[0].startswith("allow-"):
            open_stanza = words[0] == "iface" and len(words) > 1
            if open_stanza:
                stanzas.append(Stanza(path, words[1], words[words.index("inherits") + 1] if "inherits" in words[:-1] else ""))
            elif words[0].startswith("source"):
                sources += [("source" if words[0] == "source" else "source-directory", pattern) for pattern in words[1:]]
            else:
                logical += [(physical.lstrip("/"), name) for physical, equals, name in (word.partition("=") for word in words[1:]) if equals]
        elif open_stanza:
            last = stanzas[-1]
            stanzas[-1] = Stanza(path, last.name, last.inherits, (*last.options, (words[0], " ".join(words[1:]))))
    return Interfaces(tuple(stanzas), tuple(logical), tuple(sources))


def ifupdown_competitors(files: Sequence[Interfaces], ports: Sequence[Port], others: Collection[str]) -> list[Competitor]:
    """What the ``iface`` stanzas of our interfaces set, by options or by commands, and commands of other stanzas that name ours."""
    stanzas = [stanza for file in files for stanza in file.stanzas]
    logical = [pair for file in files for pair in file.logical]
    base = {stanza.name: stanza for stanza in stanzas}
    ours = _names(ports)
    found: list[Competitor] = []
    for stanza in stanzas:
        names = {stanza.name.partition(":")[0], *(pattern for pattern, name in logical if name == stanza.name)}
        concerned = [port for port in ports if any(fnmatchcase(port.interface, name) for name in names)]
        for origin in _with_parents(stanza, base) if concerned else [stanza]:
            sets = [f"{key} {value}" for key, value in origin.options if concerned and value and _sets_nic(key)]
            run = [command for key, value in origin.options if key in _IFUPDOWN_RUNS for command in commands(value, tc=True)]
            mine = [command for command in run if names_one(command, ours) or (concerned and not command.device and not names_one(command, others))]
            found += _stanza_competitors(origin, concerned, sets, mine)
    return found


def _sets_nic(option: str) -> bool:
    return option.startswith(_IFUPDOWN_OPTIONS) or option in _IFUPDOWN2_OPTIONS


def _with_parents(stanza: Stanza, base: Mapping[str, Stanza]) -> list[Stanza]:
    """A stanza and those it inherits from, each once."""
    chain = [stanza]
    while chain[-1].inherits in base and base[chain[-1].inherits] not in chain:
        chain.append(base[chain[-1].inherits])
    return chain


def _stanza_competitors(stanza: Stanza, concerned: Sequence[Port], sets: list[str], run: list[Command]) -> Iterator[Competitor]:
    remedy = f"take it out of the stanza iface {stanza.name}"
    if sets:
        yield Competitor(NIC, stanza.path, f"iface {stanza.name} sets {', '.join(sets)} {_on(concerned)}", remedy)
    for control in (NIC, IRQ):
        words = [command.words for command in run if command.control == control]
        if words:
            yield Competitor(control, stanza.path, f"iface {stanza.name} runs {_some(words)}", remedy)


# scripts, units, rules


def script_competitors(path: str, text: str, ports: Iterable[Port], others: Collection[str], how: str = "") -> list[Competitor]:
    """The commands of a script, unit or crontab that set our interfaces, or interrupts; ``how`` says who runs it."""
    if not suspicious(text):
        return []
    ours = _names(ports)
    return _by_control(path, concerning(commands(text), text, ours, others), how or "runs", "take the command out, or the file away")


_RULE_PAIR = re.compile(r"(\w+)(\{[^}]*\})?\s*(==|!=|\+=|-=|:=|=)\s*e?\"((?:[^\"\\]|\\.)*)\"")


def rules_competitors(path: str, text: str, ports: Sequence[Port], others: Collection[str]) -> list[Competitor]:
    """The rules of a udev rules file that set our interfaces, or interrupts, when a device appears."""
    found: list[Command] = []
    for line in joined_lines(text) if suspicious(text) else ():
        pairs = [] if line.lstrip().startswith("#") else _RULE_PAIR.findall(line)
        concerned = [port for port in ports if _rule_fits(pairs, port)]
        ours = _names(concerned)
        for key, attribute, operator, value in pairs if concerned else ():
            if key in ("RUN", "PROGRAM", "IMPORT"):
                found += concerning(commands(value), value, ours, others)
            elif key == "ATTR" and operator != "==" and re.search(r"rps_cpus|xps_cpus|xps_rxqs", attribute):
                found.append(Command(NIC, f"ATTR{attribute}=\"{value}\""))
    return _by_control(path, found, "udev runs", "take the rule out, or the file away")


def _rule_fits(pairs: Sequence[tuple[str, str, str, str]], port: Port) -> bool:
    """Whether a rule may be used for an interface; conditions that files do not tell are taken to be met."""
    facts = {"NAME": port.interface, "ENV{INTERFACE}": port.interface, "ATTR{address}": port.mac, "ATTRS{address}": port.mac,
             "DRIVERS": port.driver, "ENV{ID_NET_DRIVER}": port.driver, "KERNELS": port.pci, "ENV{ID_PATH}": port.path}
    if ("SUBSYSTEM", "", "==", "queues") not in pairs:
        facts["KERNEL"] = port.interface
    for key, attribute, operator, value in pairs:
        fact = facts.get(key + attribute)
        if operator not in ("==", "!=") or not fact or (key == "KERNEL" and port.renamed and value.startswith("eth")):
            continue
        if any(fnmatchcase(fact, rule) for rule in value.split("|")) != (operator == "=="):
            return False
    return True


def _by_control(path: str, found: Iterable[Command], how: str, remedy: str) -> list[Competitor]:
    grouped: dict[str, list[str]] = {}
    for command in found:
        grouped.setdefault(command.control, []).append(command.words)
    return [Competitor(control, path, f"{how} {_some(words)}", remedy) for control, words in grouped.items()]


def _some(words: Iterable[str]) -> str:
    """The first few of many words."""
    words = list(dict.fromkeys(words))
    return "; ".join(words[:_COMMANDS_SHOWN]) + (f" and {len(words) - _COMMANDS_SHOWN} more" if len(words) > _COMMANDS_SHOWN else "")


_PROGRAM = re.compile(r"(?<![\w./-])(/(?:usr/local|opt|etc|root|srv|home)/[\w./@+-]+)")


def program_paths(text: str) -> list[str]:
    """The files of the site (not of the distribution) that a script or a crontab names, or a unit runs, and so may run what they hold."""
    unit = "[Service]" in text
    lines = [line.strip() for line in joined_lines(text)]
    runs = [line for line in lines if (line.startswith("Exec") if unit else not line.startswith("#"))]
    return list(dict.fromkeys(path for line in runs for path in _PROGRAM.findall(line)))[:20]


_OPENIB = {"RUN_AFFINITY_TUNER": (IRQ,), "RUN_MLNX_TUNE": (NIC, IRQ)}


def openib_competitors(path: str, text: str, ports: Iterable[Port]) -> list[Competitor]:
    """What the boot script of NVIDIA's driver package (openibd) is told to tune, where one of our interfaces is a NIC of theirs."""
    driven = [port for port in ports if port.driver.startswith("mlx")]
    return [Competitor(control, path, f"{key}=yes: openibd tunes {_on(driven)} at boot", f"set {key}=no")
            for _section, key, value in entries(text) if driven and value.strip("\"'").lower() == "yes" for control in _OPENIB.get(key, ())]
