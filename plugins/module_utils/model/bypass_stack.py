# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sockets stacks in user space (Onload, XLIO, VMA): modules for every kernel that may run, options, order of loading, profiles, AF_XDP, versions. Pure: no I/O.

Source: Xilinx-CNS/onload README.md, scripts/onload, scripts/onload_misc, scripts/onload_profiles, src/driver/linux_resource/sysfs.c;
modprobe.d(5), modules-load.d(5), dkms(8), Documentation/ABI/testing/sysfs-module.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .nic import identity
from .nic_firmware import at_least, fits, number_of, range_of, unknown_keys
from .setting import ERROR, OwnedFile, Plan, Setting, SpecError, unsupported

ONLOAD, XLIO, VMA = "onload", "xlio", "vma"
LIBRARIES = {ONLOAD: "libonload.so", XLIO: "libxlio.so", VMA: "libvma.so"}
# The driver of the NICs that each is made for. It is never unloaded: interfaces go with it (R6).
DRIVERS = {ONLOAD: "sfc", XLIO: "mlx5_core", VMA: "mlx5_core"}
# What each loads, in this order; the driver only where a NIC has it.
LOAD: dict[str, tuple[str, ...]] = {ONLOAD: ("sfc", "sfc_resource", "sfc_char", "onload"), XLIO: (), VMA: ()}
PRESENT, ABSENT = "present", "absent"

BUILT, LOADED, OPTION, AF_XDP = "bypass.built", "bypass.loaded", "bypass.option", "bypass.af_xdp"
FILE, PROFILE = "bypass.file", "bypass.profile"
LIBRARY, VERSION, COMBINATION, SIGNED = "bypass.library", "bypass.version", "bypass.combination", "bypass.signed"
CONTROLS = (BUILT, LOADED, OPTION, AF_XDP, FILE, PROFILE, LIBRARY, VERSION, COMBINATION, SIGNED)

OPTIONS_FILE = "/etc/modprobe.d/80-lowlatency-onload.conf"
LOAD_FILE = "/etc/modules-load.d/80-lowlatency-onload.conf"
PROFILES = "/usr/libexec/onload/profiles"
# Onload's own latency profile, for packages that bring none.
BUILT_IN: dict[str, dict[str, str]] = {
    "latency": {"EF_POLL_USEC": "100000", "EF_TCP_FASTSTART_INIT": "0", "EF_TCP_FASTSTART_IDLE": "0"},
}
OWN_MARK = "# Owned by lowlatency.fleet"
_HEADER = f"{OWN_MARK}: rewritten as a whole. Change the inventory instead.\n"

PARTS = ("library", "driver", "firmware")
_RULES = ("minimum", "maximum", "exact")
_TRUE, _FALSE = ("y", "1", "true", "yes", "on"), ("n", "0", "false", "no", "off")
_MODULE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_PARAMETER = re.compile(r"[A-Za-z0-9_]+")
# What stands in a line of modprobe.d, or is sourced by a shell, as it is.
_WORD = re.compile(r"[A-Za-z0-9_.,:/+@%=-]+")
_PROFILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_EF = re.compile(r"EF_[A-Z0-9_]+")
_HEADERS = {"debian": "linux-headers-{}", "redhat": "kernel-devel-{}", "suse": "kernel-default-devel of {}"}
_TOLD = re.compile(r"^\s*(?:Open)?Onload\s+(\S+)", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True)
class Build:
    """A module's file for one kernel: its version and srcversion (either may be empty), and who signed it (empty: nobody)."""

    version: str = ""
    srcversion: str = ""
    signer: str = ""


@dataclass(frozen=True)
class Kernel:
    """A kernel by its release: the modules asked for that it has, and whether its headers are here."""

    release: str
    builds: Mapping[str, Build] = field(default_factory=dict)
    headers: bool = False


@dataclass(frozen=True)
class Loaded:
    """A module that is loaded. ``users`` are those that hold it, or a module on top of it, and are no module; ``interfaces`` those that it drives."""

    version: str = ""
    srcversion: str = ""
    users: int = 0
    interfaces: tuple[str, ...] = ()
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Port:
    """A NIC of the specification as it is. ``af_xdp`` is the wish for it, ``registered`` whether Onload has it, ``guard`` says why it must
    be left alone, ``unreadable`` why there is none."""

    interface: str
    af_xdp: bool = False
    driver: str = ""
    driver_version: str = ""
    firmware: str = ""
    registered: bool = False
    guard: str = ""
    unreadable: str = ""


@dataclass(frozen=True)
class StackState:
    """What a host has of it: the bytes of ``files`` (owned ones that are there) and of all ``profiles`` by name; the ``running`` kernel and
    the one that boots ``next`` (None, and why in ``next_unknown``); modules that are ``loaded``; the DKMS ``sources`` (``name/version``) by module.

    ``library`` is its path, empty where it is missing, ``told`` what the tool says of the library's version. ``afxdp`` says whether NICs can
    be registered, ``only_signed`` whether the kernel loads signed modules only. ``silent`` says why modules cannot be
    asked at all.
    """

    container: str = ""
    files: Mapping[str, bytes] = field(default_factory=dict)
    profiles: Mapping[str, bytes] = field(default_factory=dict)
    running: Kernel | None = None
    next: Kernel | None = None
    next_unknown: str = ""
    loaded: Mapping[str, Loaded] = field(default_factory=dict)
    sources: Mapping[str, str] = field(default_factory=dict)
    library: str = ""
    told: str = ""
    ports: tuple[Port, ...] = ()
    afxdp: bool = False
    only_signed: bool = False
    family: str = ""
    silent: str = ""


# --- the wish ---------------------------------------------------------------------------------------------------------


def wants(spec: Mapping[str, Any]) -> str:
    """The stack that is wanted, empty where none is."""
    return "" if spec.get("state") == ABSENT else str(spec.get("stack") or "")


def modules_of(spec: Mapping[str, Any]) -> tuple[str, ...]:
    """The modules that the specification speaks of, in the order of loading; the driver of the NICs with them."""
    asked = tuple(str(name) for name in spec.get("load") or ())
    return asked or LOAD.get(str(spec.get("stack") or ""), ())


def problems(spec: Mapping[str, Any]) -> list[str]:
    """What is wrong with it on any host: value, rule and remedy, one sentence each."""
    stack = str(spec.get("stack") or "")
    found = [*_module_problems(spec), *_profile_problems(spec.get("profiles") or {})]
    found += _version_problems(spec.get("versions") or {}) + _combination_problems(spec.get("combinations") or [])
    seen = set()
    for nic in spec.get("nics") or []:
        who = identity(nic)
        if who in seen:
            found.append(f"NIC {who}: named twice; leave one of the two entries out")
        seen.add(who)
        if nic.get("af_xdp") and stack in (XLIO, VMA):
            found.append(f"NIC {who}: af_xdp is Onload's, and the stack is {stack}; leave it out")
    if spec.get("profiles") and stack in (XLIO, VMA):
        found.append(f"profiles: {stack} reads none, it takes all from the environment of its application; leave them out")
    return found


def _module_problems(spec: Mapping[str, Any]) -> Iterator[str]:
    names = [str(name) for name in spec.get("load") or []]
    for name in dict.fromkeys(names):
        if not _MODULE.fullmatch(name):
            yield f"load {name!r}: not the name of a kernel module; write it as lsmod does"
        if names.count(name) > 1:
            yield f"load {name}: named twice; leave one of the two out"
    for module, parameters in (spec.get("options") or {}).items():
        if not _MODULE.fullmatch(str(module)):
            yield f"options of {module!r}: not the name of a kernel module; write it as lsmod does"
        elif not isinstance(parameters, Mapping):
            yield f"options of {module}: {parameters!r} is no mapping; write parameter and value"
        else:
            for name, value in parameters.items():
                if not _PARAMETER.fullmatch(str(name)) or not _WORD.fullmatch(option_text(value)):
                    yield f"options of {module}: {name}={value!r} is not one word; modprobe takes no quotes or blanks here, write it without"


def _profile_problems(profiles: Mapping[str, Any]) -> list[str]:
    found = []
    for name in profiles:
        try:
            profile_settings(str(name), profiles)
        except SpecError as error:
            found.append(str(error))
    return found


def _version_problems(versions: Mapping[str, Any]) -> list[str]:
    found = unknown_keys("versions", versions, PARTS)
    for part in PARTS:
        rule = versions.get(part) or {}
        if not isinstance(rule, Mapping):
            found.append(f"versions: {part}: {rule!r} is no mapping; its keys are {', '.join(_RULES)}")
            continue
        found += unknown_keys(f"versions: {part}", rule, _RULES)
        for key in _RULES:
            found += _text_problems(f"versions: {part}: {key}", rule.get(key), number=key != "exact")
    return found


def _combination_problems(combinations: Iterable[Any]) -> list[str]:
    found = []
    for number, one in enumerate(combinations, 1):
        who = f"combination {number}"
        found += unknown_keys(who, one, PARTS)
        if not any(one.get(part) for part in PARTS):
            found.append(f"{who}: says nothing; give {', '.join(PARTS)} that were measured together")
        for part in PARTS:
            found += _text_problems(f"{who}: {part}", one.get(part), number=True)
    return found


def _text_problems(who: str, value: Any, *, number: bool) -> list[str]:
    if value in (None, ""):
        return []
    if not isinstance(value, str):
        # YAML reads 8.10 as the number 8.1
        return [f"{who} {value!r} is not text; put the version between quotes"]
    return [f"{who} {value!r} begins with no version number; write it like 8.1.2.26"] if number and number_of(value) is None else []


def profile_settings(name: str, site_profiles: Mapping[str, Any]) -> dict[str, str]:
    """``{EF_X: value}`` of a profile: the site's of that name, else the one built in. Raises ``SpecError`` for an unknown one or a bad setting."""
    if not _PROFILE.fullmatch(name):
        raise SpecError(f"profile {name!r}: not a name; take letters, digits, dots and dashes")
    settings = site_profiles.get(name, BUILT_IN.get(name))
    if settings is None:
        raise SpecError(f"profile {name}: there is none; there are: {', '.join(sorted({*site_profiles, *BUILT_IN}))}")
    if not isinstance(settings, Mapping):
        raise SpecError(f"profile {name}: {settings!r} is no mapping; write EF_ names and their values")
    for key, value in settings.items():
        if not _EF.fullmatch(str(key)):
            raise SpecError(f"profile {name}: {key!r} is no setting of Onload; they begin with EF_, in capitals")
        if isinstance(value, bool) or not _WORD.fullmatch(str(value)):
            raise SpecError(f"profile {name}: {key} {value!r} is not one word; write a number or a word, 1 and 0 for yes and no")
    return {str(key): str(value) for key, value in settings.items()}


def option_text(value: Any) -> str:
    """A module parameter as modprobe takes it."""
    return str(int(value)) if isinstance(value, bool) else str(value)


# --- the files --------------------------------------------------------------------------------------------------------


def options_text(options: Mapping[str, Mapping[str, Any]], load: Iterable[str]) -> bytes:
    """The file for modprobe: options of modules, and that each is loaded after the one before it. Empty where there is nothing to say."""
    lines = [f"options {module} {' '.join(f'{name}={option_text(value)}' for name, value in sorted(parameters.items()))}"
             for module, parameters in sorted(options.items()) if parameters]
    names = list(load)
    lines += [f"softdep {after} pre: {before}" for before, after in zip(names, names[1:])]
    return (_HEADER + "\n".join(lines) + "\n").encode() if lines else b""


def load_text(load: Iterable[str]) -> bytes:
    """The file for systemd-modules-load: what every boot loads, in this order. Empty where it loads nothing."""
    names = list(load)
    return (_HEADER + "\n".join(names) + "\n").encode() if names else b""


def profile_text(settings: Mapping[str, str]) -> bytes:
    """A profile as ``onload --profile`` sources it."""
    return (_HEADER + "".join(f"onload_set {key} {value}\n" for key, value in sorted(settings.items()))).encode()


def profile_path(name: str) -> str:
    """Where ``onload --profile=NAME`` looks for a profile."""
    return f"{PROFILES}/{name}.opf"


def is_ours(content: bytes) -> bool:
    """Whether this collection wrote a file."""
    return content.startswith(OWN_MARK.encode())


def _files(state: StackState, spec: Mapping[str, Any]) -> tuple[OwnedFile, ...]:
    """The files that are wanted; raises ``SpecError`` for a profile whose name a package has taken."""
    load = _load(state, spec)
    files = [OwnedFile(FILE, path, text) for path, text in
             ((OPTIONS_FILE, options_text(spec.get("options") or {}, load)), (LOAD_FILE, load_text(load))) if text]
    profiles = spec.get("profiles") or {}
    for name in profiles:
        if not is_ours(state.profiles.get(name, OWN_MARK.encode())):
            raise SpecError(f"profile {name}: {profile_path(name)} is a package's own; give yours another name")
    # those of the collection only beside a library that has none of its own
    more = [name for name in BUILT_IN if wants(spec) == ONLOAD and state.library and is_ours(state.profiles.get(name, OWN_MARK.encode()))]
    wanted = {name: profile_settings(name, profiles) for name in (*profiles, *more)}
    return (*files, *(OwnedFile(PROFILE, profile_path(name), profile_text(settings)) for name, settings in sorted(wanted.items())))


def _gone(state: StackState, kept: Iterable[OwnedFile]) -> Iterator[Setting]:
    """Files that this collection wrote earlier, and that nothing wants any more."""
    paths = {file.path for file in kept}
    ours = [(FILE, path) for path in state.files] + [(PROFILE, profile_path(name)) for name, content in state.profiles.items() if is_ours(content)]
    for control, path in sorted(ours):
        if path not in paths:
            yield Setting(control, path, None, "there", "there")


# --- the plan ---------------------------------------------------------------------------------------------------------


def plan(state: StackState, spec: Mapping[str, Any]) -> Plan:
    """Modules built, then loaded, options, AF_XDP, then findings; without a stack, that what is ours goes. Raises ``SpecError``."""
    stack = wants(spec)
    if not stack:
        return Plan((*_unloaded(state, spec), *_gone(state, ())))
    settings = (*_built(state, spec), *_loaded(state, spec), *_options(state, spec), *_registered(state, spec), *_findings(state, spec))
    reason = f"belongs to the machine, not to this container ({state.container})" if state.container else _without_nic(state, stack) or state.silent
    if reason:
        told = tuple(unsupported(setting.control, setting.name, setting.desired, reason) for setting in settings)
        return Plan(told, _files(state, spec) if reason == state.silent else ())
    files = _files(state, spec)
    return Plan((*settings, *_gone(state, files)), files)


def _load(state: StackState, spec: Mapping[str, Any]) -> tuple[str, ...]:
    """The modules to be loaded, in order: those of the site, else those of the stack; its driver only where a NIC has it."""
    if spec.get("load"):
        return modules_of(spec)
    driver = DRIVERS[wants(spec)]
    return tuple(name for name in modules_of(spec) if name != driver or any(port.driver == driver for port in state.ports))


def _without_nic(state: StackState, stack: str) -> str:
    """Why no NIC here can run the stack, or nothing."""
    if any(port.driver == DRIVERS[stack] for port in state.ports):
        return ""
    if stack == ONLOAD and any(port.af_xdp for port in state.ports):
        return ""
    told = ", ".join(f"{port.interface} has {port.driver or 'none'}" for port in state.ports)
    other = " and none is given to AF_XDP (af_xdp)" if stack == ONLOAD else ""
    return f"no NIC of the list has the driver {DRIVERS[stack]}{other}: {told or 'the list is empty'}"


def _kernels(state: StackState) -> list[Kernel]:
    kernels = [kernel for kernel in (state.running, state.next) if kernel is not None]
    return list({kernel.release: kernel for kernel in kernels}.values())


def built_name(module: str, release: str) -> str:
    """The name of the setting that a module is there for a kernel."""
    return f"{module} for {release}"


def built_parts(name: str) -> tuple[str, str]:
    """Module and release of such a name."""
    module, _for, release = name.partition(" for ")
    return module, release


def headers_package(family: str, release: str) -> str:
    """The package with the headers of a kernel."""
    return _HEADERS.get(family, "the headers of kernel {}").format(release)


def _built(state: StackState, spec: Mapping[str, Any]) -> Iterator[Setting]:
    """Whether each module is there for the kernel that runs and for the one that boots next."""
    for kernel in _kernels(state):
        when = "which runs" if kernel is state.running else "which boots next"
        for module in _load(state, spec):
            there = "built" if module in kernel.builds else "missing"
            setting = Setting(BUILT, built_name(module, kernel.release), "built", there, there)
            yield setting if there == "built" else _missing(state, spec, setting, kernel, when)
    if state.next is None and state.next_unknown and _load(state, spec):
        yield unsupported(BUILT, "the next boot", "built", f"which kernel boots next cannot be told: {state.next_unknown}")


def _missing(state: StackState, spec: Mapping[str, Any], setting: Setting, kernel: Kernel, when: str) -> Setting:
    """A module that a kernel has not: to be built, or why that cannot be."""
    module = built_parts(setting.name)[0]
    if not kernel.headers and not spec.get("prebuilt"):
        return replace(setting, state=ERROR, reason=f"kernel {kernel.release}, {when}, has no module {module}, and no headers to build it with: "
                                                    f"install {headers_package(state.family, kernel.release)}")
    if module not in state.sources:
        return replace(setting, reason=f"no DKMS source here has {module}; a package for kernel {kernel.release}, {when}, has to bring it (onload_packages)")
    return replace(setting, reason=f"{state.sources[module]} is not built for the kernel {when}")


def _loaded(state: StackState, spec: Mapping[str, Any]) -> Iterator[Setting]:
    """Whether each module is loaded, from the very file that is on disk. One that is in use is only told, and what stands on it with it:
    no command line waits for that boot."""
    waiting = ""
    for module in _load(state, spec):
        now, build = state.loaded.get(module), state.running.builds.get(module) if state.running else None
        stale = now is not None and build is not None and _differ(now, build)
        current = "not loaded" if now is None else _stale_text(now, build) if stale and build else "loaded"
        setting = Setting(LOADED, module, "loaded", current)
        if build and not build.signer and state.only_signed and (stale or now is None):
            yield unsupported(LOADED, module, "loaded", "the file on disk is not signed, and this kernel loads signed modules only (R29)", current)
        elif stale and now and busy(now):
            waiting = waiting or module
            yield replace(setting, finding=True, reason=f"{busy(now)}: it waits for a boot, which loads the one on disk")
        elif waiting and current != "loaded":
            yield replace(setting, finding=True, reason=f"it is loaded after {waiting}, which waits for a boot")
        else:
            yield setting


def _differ(now: Loaded, build: Build) -> bool:
    """Whether another build is loaded than the one on disk, as far as that tells what it is; a driver of the kernel's tree often tells nothing."""
    return bool(build.srcversion and now.srcversion != build.srcversion) or bool(build.version and now.version != build.version)


def _stale_text(now: Loaded, build: Build) -> str:
    if build.version and now.version != build.version:
        return f"loaded from {now.version or 'another build'}, {build.version} is on disk"
    return "loaded from another build than the one on disk"


def busy(now: Loaded) -> str:
    """Why a module stays where it is, or nothing."""
    told = [f"it drives {', '.join(now.interfaces)}"] if now.interfaces else []
    return "; ".join([*told, *([f"it is held {now.users} times"] if now.users else [])])


def _unloaded(state: StackState, spec: Mapping[str, Any]) -> Iterator[Setting]:
    """Modules of a stack that is to go, the last one first. The driver of the NICs stays: only a boot brings the kernel's own without a loss (R6)."""
    if spec.get("state") != ABSENT or state.container:
        return
    for module in reversed(modules_of(spec)):
        now = state.loaded.get(module)
        if now is None or module in DRIVERS.values():
            continue
        why = busy(now)
        yield Setting(LOADED, module, None, "loaded", finding=bool(why), reason=f"{why}: stop what runs with it, or let a boot do it" if why else "")


def _options(state: StackState, spec: Mapping[str, Any]) -> Iterator[Setting]:
    """Parameters of modules that are loaded: what they were loaded with. Only told: what is in the file counts from the next load on."""
    for module, parameters in sorted((spec.get("options") or {}).items()):
        now = state.loaded.get(str(module))
        for name, value in sorted(parameters.items()) if now else ():
            desired, current = option_text(value), (now.parameters.get(str(name)) if now else None)
            if current is None:
                yield unsupported(OPTION, f"{module}.{name}", desired, f"module {module} shows no such parameter")
            elif _same(current, desired):
                yield Setting(OPTION, f"{module}.{name}", desired, desired)
            else:
                yield Setting(OPTION, f"{module}.{name}", desired, current, finding=True, reason=f"{module} takes it when it is loaded: it waits for a boot")


def _same(current: str, desired: str) -> bool:
    """Whether a parameter has the value asked for; the kernel shows a switch as Y or N."""
    if current in ("Y", "N"):
        return desired.lower() in (_TRUE if current == "Y" else _FALSE)
    return current == desired


def _registered(state: StackState, spec: Mapping[str, Any]) -> Iterator[Setting]:
    """NICs that Onload is to use by AF_XDP."""
    loaded = all(module in state.loaded for module in _load(state, spec))
    waits = any(setting.finding for setting in _loaded(state, spec))
    for port in state.ports:
        if not port.af_xdp:
            continue
        why = port.unreadable or port.guard
        if why:
            yield Setting(AF_XDP, port.interface, "registered", state=ERROR, reason=why)
        elif port.driver == DRIVERS[ONLOAD]:
            yield unsupported(AF_XDP, port.interface, "registered", f"it has the driver {port.driver}, which Onload uses without AF_XDP")
        elif waits and not port.registered:
            yield Setting(AF_XDP, port.interface, "registered", "not registered", finding=True, reason="Onload's modules wait for a boot")
        elif loaded and not state.afxdp:
            yield unsupported(AF_XDP, port.interface, "registered", "this build of Onload has no AF_XDP (no afxdp/register of sfc_resource)")
        else:
            yield Setting(AF_XDP, port.interface, "registered", "registered" if port.registered else "not registered")


# --- what is only told ------------------------------------------------------------------------------------------------


def tool_versions(text: str) -> str:
    """The library's version in what ``onload --version`` prints; empty where it tells none."""
    match = _TOLD.search(text)
    return match.group(1) if match else ""


def library_version(state: StackState) -> str:
    """The version of the library: what the tool tells, else what its file name ends in."""
    return state.told or state.library.partition(".so.")[2]


def _driver_version(state: StackState, stack: str) -> str:
    """The version of the driver that the library talks to: Onload's own module, else the NICs' driver."""
    if stack != ONLOAD:
        return next((port.driver_version for port in state.ports if port.driver == DRIVERS[stack]), "")
    if ONLOAD in state.loaded:
        return state.loaded[ONLOAD].version
    return (state.running.builds.get(ONLOAD) or Build()).version if state.running else ""


def _findings(state: StackState, spec: Mapping[str, Any]) -> Iterator[Setting]:
    """Library, versions against each other and against those of the site, and signatures."""
    stack = wants(spec)
    library, driver = library_version(state), _driver_version(state, stack)
    yield Setting(LIBRARY, LIBRARIES[stack], "installed", "installed" if state.library else "missing", finding=True,
                  reason="" if state.library else "its package brings it (onload_packages)")
    if stack == ONLOAD and library and driver:
        yield Setting(VERSION, "library and driver", f"driver {library}", f"driver {driver}", finding=True, reason="" if library == driver else
                      f"library {library} does not talk to driver {driver}: build and load the driver of the same package")
    firmwares = {port.interface: port.firmware for port in state.ports if port.driver == DRIVERS[stack]}
    yield from _against_rules({"library": library, "driver": driver}, firmwares, spec.get("versions") or {})
    if spec.get("combinations"):
        for interface, firmware in firmwares.items() or [("", "")]:
            yield _combination({"library": library, "driver": driver, "firmware": firmware}, interface or stack, spec["combinations"])
    yield from _signatures(state, spec)


def _against_rules(versions: Mapping[str, str], firmwares: Mapping[str, str], rules: Mapping[str, Any]) -> Iterator[Setting]:
    named = [(part, text, rules.get(part) or {}) for part, text in versions.items()]
    named += [(f"{interface} firmware", text, rules.get("firmware") or {}) for interface, text in firmwares.items()]
    for name, text, rule in named:
        wanted = range_of(rule)
        if not wanted:
            continue
        right = fits(text, rule) if text else None
        if right is None:
            yield unsupported(VERSION, name, wanted, "it tells no version to compare", text or None)
        else:
            yield Setting(VERSION, name, text if right else wanted, text, finding=True,
                          reason="" if right else "install what the site allows (onload_packages), or allow what it has (onload_versions)")


def _combination(have: Mapping[str, str], name: str, allowed: Iterable[Mapping[str, Any]]) -> Setting:
    """Library, driver and firmware of one NIC against those that were measured together."""
    current = _words(have)
    if any(all(_begins(have[part], str(one.get(part) or "")) for part in PARTS) for one in allowed):
        return Setting(COMBINATION, name, current, current, finding=True)
    return Setting(COMBINATION, name, " or ".join(_words(one) for one in allowed), current, finding=True,
                   reason="the site allows no such combination (onload_combinations)")


def _words(versions: Mapping[str, Any]) -> str:
    return ", ".join(f"{part} {versions[part]}" for part in PARTS if versions.get(part)) or "nothing told"


def _begins(have: str, wanted: str) -> bool:
    """Whether a version is the one of a combination, as far as that names it: 8.1 allows 8.1.2.26."""
    there, asked = number_of(have), number_of(wanted)
    if not wanted:
        return True
    return there is not None and asked is not None and at_least(there, asked) and at_least(asked, there[:len(asked)])


def _signatures(state: StackState, spec: Mapping[str, Any]) -> Iterator[Setting]:
    """Modules on disk that a kernel with Secure Boot or lockdown does not load (R29)."""
    for kernel in _kernels(state) if state.only_signed else ():
        for module in _load(state, spec):
            build = kernel.builds.get(module)
            if build is not None:
                yield Setting(SIGNED, built_name(module, kernel.release), "signed", "signed" if build.signer else "not signed", finding=True,
                              reason="" if build.signer else "this kernel loads signed modules only: enrol the key that DKMS signs with "
                                                             "(mokutil --import), or turn Secure Boot off (R29)")
