# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""NICs as the kernel's own interfaces have them: ethtool's netlink family and ioctl, and sysfs. Typed values, one process, no text to parse.

Why not the ethtool program: docs/decisions/0009-ethtool-netlink.md.
"""

from __future__ import annotations

import contextlib
import errno
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from ..model.nic import (
    FEATURES,
    NAPI,
    PARAMETER_GROUPS,
    RPS,
    RSS,
    RULES,
    EthtoolState,
    NicState,
    bits_of,
    group_of,
    identity,
    is_required,
    parameter_of,
    queue_counts,
    required_but,
    subject_of,
    wanted_of,
)
from ..model.nic_parameters import CHANNELS, COALESCE, EEE, PAUSE, Parameter, is_switch, switched
from ..model.setting import Setting, SpecError, Unsupported
from ..model.steering import parse_rule, rule_from, table_from
from . import ethtool_ioctl as ioctl
from .competitors import read_competitors
from .ethtool_ioctl import Ioctl
from .ethtool_netlink import FAMILY, read_group, write_group
from .links import NET, guard, interface_of, management_interfaces, not_an_interface
from .machine import Host
from .memory import remember, remembered
from .netlink import Netlink
from .nic_queues import napi_values, queue_values, write_napi, write_queue

_NOT_THERE = (errno.EOPNOTSUPP, errno.ENOTTY)
CARRIER_SECONDS = 15
REFUSED = "/run/lowlatency/refused.json"
_Answer = TypeVar("_Answer")


def read_ethtool(host: Host, spec: Mapping[str, Any]) -> EthtoolState:
    """Every NIC of ``spec['nics']``, in that order, as far as something is wanted of it; what is wrong with one is told in its state."""
    protected, nics = management_interfaces(host), spec.get("nics") or []
    others = read_competitors(host, [name for name in (interface_of(host, nic) for nic in nics) if name], irq=False)
    with contextlib.ExitStack() as stack:
        # of a captured tree, this machine's own kernel has nothing to say
        old, new = (stack.enter_context(Ioctl()), stack.enter_context(_netlink())) if not host.captured else (None, None)
        return EthtoolState(tuple(_nic_state(host, spec, nic, protected, old, new) for nic in nics), spec, others)


@contextlib.contextmanager
def _netlink() -> Iterator[Netlink | None]:
    """The ethtool family of this kernel; None where it has none (before 5.6)."""
    with contextlib.ExitStack() as stack:
        try:
            link = stack.enter_context(Netlink())
            link.family(FAMILY)
        except OSError:
            yield None
            return
        yield link


def _nic_state(host: Host, spec: Mapping[str, Any], nic: Mapping[str, Any], protected: Mapping[str, str], old: Ioctl | None,
               new: Netlink | None) -> NicState:
    interface = interface_of(host, nic)
    if interface is None:
        return NicState(identity(nic), unreadable=not_an_interface(host, nic))
    if old is None or not host.live:
        return _captured_nic(host, interface, protected)
    driver, version, firmware = ioctl.driver_info(old, interface)
    refused = remembered(host, REFUSED).get(f"{interface} {driver} {version}", {})
    wanted = wanted_of(spec, nic)
    state = NicState(interface, driver, guard=guard(host, interface, protected), version=version, firmware=firmware,
                     refused=refused, carrier=_has_carrier(host, interface), queues=queue_values(host, interface), napi=napi_values(host, interface))
    try:
        state = replace(state, features=_answer(lambda: ioctl.features(old, interface)), **_parameters(new, interface, driver))
        return replace(state, **_steering(old, interface, wanted.mappings[RSS], asked=bool(wanted.rules or wanted.only_these_rules)))
    except OSError as error:
        return NicState(interface, driver, unreadable=f"{error.strerror or error} while it was read")


def _captured_nic(host: Host, interface: str, protected: Mapping[str, str]) -> NicState:
    """What files tell of a NIC: RPS, RFS and NAPI. All else takes a kernel that answers."""
    driver, silent = host.link_name(f"{NET}/{interface}/device/driver") or "", "a captured tree does not hold what ethtool tells of a NIC"
    return NicState(interface, driver, guard=guard(host, interface, protected), queues=queue_values(host, interface), napi=napi_values(host, interface),
                    missing=dict.fromkeys(PARAMETER_GROUPS, silent), silent=silent)


def _has_carrier(host: Host, interface: str) -> bool:
    return host.read_if_there(f"{NET}/{interface}/carrier") == "1"


def _await_carrier(host: Host, nic: NicState) -> None:
    """Give a link that an earlier write of this run took down the time to come back: what is negotiated then would undo what is written now."""
    deadline = time.monotonic() + CARRIER_SECONDS
    while nic.carrier and not _has_carrier(host, nic.interface) and host.exists(f"{NET}/{nic.interface}") and time.monotonic() < deadline:
        time.sleep(0.1)


def _answer(question: Callable[[], _Answer]) -> _Answer | None:
    """The answer; None where the driver has no such thing."""
    try:
        return question()
    except OSError as error:
        if error.errno in (*_NOT_THERE, errno.EINVAL):
            return None
        raise


def _parameters(link: Netlink | None, interface: str, driver: str) -> dict[str, Any]:
    """What a driver has of every group of parameters, and of a group it has not, why."""
    found: dict[str, Mapping[str, Parameter]] = {}
    missing: dict[str, str] = {}
    for group in PARAMETER_GROUPS:
        if link is None:
            missing[group] = "this kernel has no ethtool netlink family (Linux 5.6 brought it)"
            continue
        try:
            found[group] = read_group(link, interface, group)
        except OSError as error:
            if error.errno not in _NOT_THERE:
                raise
            missing[group] = f"driver {driver or '?'} has no {group.replace('_', ' ')} to set ({error.strerror})"
    return {"parameters": found, "missing": missing}


def _steering(link: Ioctl, interface: str, spread: Mapping[str, Any], *, asked: bool) -> dict[str, Any]:
    """RSS and rules, as far as something is wanted of them."""
    # the plan tells what is wrong with a NIC's own wish
    asked_types = spread.get("hash") if isinstance(spread.get("hash"), dict) else {}
    hashes = {name: _answer(lambda name=name: ioctl.hash_fields(link, interface, name))  # type: ignore[misc]
              for name in asked_types or {} if name in ioctl.HASH_CODES}
    return {
        "table": _answer(lambda: ioctl.indirection(link, interface)) if spread else None,
        "hashes": {name: letters for name, letters in hashes.items() if letters is not None},
        "rules": _answer(lambda: ioctl.rules(link, interface)) if asked else None,
    }


def batch_of(setting: Setting) -> str:
    """What is written in one request: the parameters of one group, or the features, of one NIC.

    How coalescing adapts comes before its numbers: some drivers (mlx5, bnxt) take their own for those when that changes.
    """
    group = group_of(setting)
    if group == COALESCE and is_switch(group, parameter_of(setting)):
        return f"{setting.name.removesuffix('.' + subject_of(setting))} coalescing mode"
    return f"{setting.name.removesuffix('.' + subject_of(setting))} {group}" if group in (*PARAMETER_GROUPS, FEATURES) else f"{setting.key}"


def write_ethtool(host: Host, state: EthtoolState, settings: Sequence[Setting]) -> None:
    """Write settings of one batch of one NIC in one request; raises ``OSError`` with the kernel's words, or ``Unsupported``.

    The caller reads back: a driver may accept and not obey.
    """
    nic = _nic_of(state, settings[0])
    try:
        _write(host, nic, state, settings)
    except SpecError as error:
        raise OSError(errno.EINVAL, str(error)) from error
    except OSError as error:
        if error.errno not in _NOT_THERE:
            raise
        reason = f"driver {nic.driver or '?'} refuses it: {error.strerror}"
        if len(settings) == 1:
            _remember_refusal(host, nic, settings[0], reason)
        if any(is_required(setting, state.wanted(nic).required) for setting in settings):
            raise OSError(error.errno, required_but(reason, nic)) from error
        raise Unsupported(reason) from error


def _remember_refusal(host: Host, nic: NicState, setting: Setting, reason: str) -> None:
    known, who = remembered(host, REFUSED), f"{nic.interface} {nic.driver} {nic.version}"
    with contextlib.suppress(OSError):  # then the next run tries again
        remember(host, REFUSED, {**known, who: {**known.get(who, {}), setting.name: reason}})


def _nic_of(state: EthtoolState, setting: Setting) -> NicState:
    """The NIC whose interface a setting's name begins with; interfaces may have dots, so the longest."""
    return max((nic for nic in state.nics if setting.name.startswith(f"{nic.interface}.")), key=lambda nic: len(nic.interface))


def _write(host: Host, nic: NicState, state: EthtoolState, settings: Sequence[Setting]) -> None:
    group = group_of(settings[0])
    values = {parameter_of(setting): str(setting.desired) for setting in settings}
    if group in (PAUSE, EEE):
        _await_carrier(host, nic)
    if group == CHANNELS and {"equal", "weight"} & set(state.wanted(nic).mappings[RSS]):
        _make_room(nic, values)
    if group in PARAMETER_GROUPS:
        numbers = {name: int(switched(value)) if switched(value) is not None else int(value) for name, value in values.items()}  # type: ignore[arg-type]
        with Netlink() as link:
            write_group(link, nic.interface, group, numbers)
    elif group == RPS:
        # a queue that is to have no value goes with its channel
        for setting in (setting for setting in settings if setting.desired is not None):
            queue, _dot, file = setting.name.removeprefix(f"{nic.interface}.").partition(".")
            write_queue(host, nic.interface, queue, file, str(setting.desired))
    elif group == NAPI:
        for name, value in values.items():
            write_napi(host, nic.interface, name, value)
    else:
        with Ioctl() as link:
            _write_by_ioctl(link, nic, state, group, settings)


def _make_room(nic: NicState, channels: Mapping[str, str]) -> None:
    """Take queues that are to go out of a table that is wanted: the kernel keeps channels that a table which somebody set still uses.

    The table that is wanted for the new channels is written after them.
    """
    queues = queue_counts(nic.parameters.get(CHANNELS, {}), {name: int(count) for name, count in channels.items()})
    with Ioctl() as link:
        table = _answer(lambda: ioctl.indirection(link, nic.interface)) or ()
        if queues and 0 < queues["rx"] <= max(table, default=0):
            ioctl.set_indirection(link, nic.interface, [entry % queues["rx"] for entry in range(len(table))])


def _write_by_ioctl(link: Ioctl, nic: NicState, state: EthtoolState, group: str, settings: Sequence[Setting]) -> None:
    if group == FEATURES:
        bits = {bit: setting.desired == "on" for setting in settings
                for bit, feature in bits_of(parameter_of(setting), nic.features or {}).items() if not feature.fixed}
        ioctl.set_features(link, nic.interface, bits)
    for setting in settings if group in (RSS, RULES) else ():
        name = setting.name.removeprefix(f"{nic.interface}.")
        if group == RULES:
            _write_rule(link, nic.interface, name, setting.desired, _locations(state, nic))
        elif name.startswith("hash-"):
            ioctl.set_hash_fields(link, nic.interface, name[5:], str(setting.desired))
        else:
            size = len(ioctl.indirection(link, nic.interface))
            ioctl.set_indirection(link, nic.interface, table_from(str(setting.desired), size))


def _locations(state: EthtoolState, nic: NicState) -> dict[str, int | None]:
    """Where the specification wants its rules, by their packets."""
    return {rule.flow: rule.location for rule in map(parse_rule, state.wanted(nic).rules)}


def _write_rule(link: Ioctl, interface: str, flow: str, target: str | None, locations: Mapping[str, int | None]) -> None:
    """One steering rule to its target, or gone: the one for the same packets goes, at whatever place it is."""
    for rule in ioctl.rules(link, interface):
        if rule.flow == flow and rule.location is not None:
            ioctl.delete_rule(link, interface, rule.location)
    if target is not None:
        ioctl.insert_rule(link, interface, rule_from(flow, target, locations.get(flow)))
