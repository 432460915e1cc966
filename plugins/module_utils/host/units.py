# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What systemd says of units, and taking services out of a host. One process reads them all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..model.setting import Setting
from ..model.units import Unit, UnitsState, full_name
from .machine import Host
from .programs import output_of

PROPERTIES = ("Id", "Names", "LoadState", "ActiveState", "UnitFileState")


def without_systemd(host: Host) -> str:
    """Why systemd cannot be asked here, or nothing."""
    if not host.live:
        return "a captured tree has no running service manager"
    if not host.is_dir("/run/systemd/system"):
        return "systemd does not run here"
    return ""


def read_units(host: Host, spec: Mapping[str, Any]) -> UnitsState:
    """The state of the units of ``spec['removed']``; raises ``ProgramFailed``."""
    names = sorted({full_name(str(name)) for name in spec.get("removed") or []})
    reason = without_systemd(host)
    if reason or not names:
        return UnitsState({}, reason)
    text = output_of("systemctl", "show", "--no-pager", f"--property={','.join(PROPERTIES)}", "--", *names)
    return UnitsState(dict(zip(names, (_unit(block) for block in text.strip().split("\n\n")))))


def _unit(block: str) -> Unit:
    values = dict(line.partition("=")[::2] for line in block.splitlines())
    return Unit(values.get("LoadState", ""), values.get("ActiveState", ""), values.get("UnitFileState", ""))


def write_unit(host: Host, state: UnitsState, setting: Setting) -> None:
    """Stop, disable and mask one unit; raises ``ProgramFailed``."""
    unit = state.units[setting.name]
    if unit.file == "enabled":
        output_of("systemctl", "disable", "--", setting.name)
    output_of("systemctl", "mask", "--now", "--", setting.name)
