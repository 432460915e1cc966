# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of nftables that takes SACK out of connections to some prefixes, and the unit that keeps it. ``nft -j`` reads, the unit writes."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Mapping
from typing import Any

from ..model.sack_filter import FAMILY, FILE, LINKS, TABLE, UNIT, UNIT_FILE, SackState, table_from
from ..model.setting import Setting
from .files import sync_folder
from .machine import Host
from .programs import ProgramFailed, output_of
from .units import without_systemd


def read_sack_filter(host: Host, spec: Mapping[str, Any]) -> SackState:
    """What the host has of it; where nothing is asked for, a host without nft has nothing."""
    enabled = all(os.path.lexists(host.path(link)) for link in LINKS)
    state = SackState(file=host.content_and_mode(FILE)[0], unit=host.content_and_mode(UNIT_FILE)[0], enabled=enabled,
                      impossible=without_systemd(host), nft=shutil.which("nft") is not None, captured=host.captured)
    if state.impossible or not state.nft:
        return state
    try:
        return SackState(_table_now(), state.file, state.unit, enabled, active=state.unit is not None and _is_active())
    except (ProgramFailed, ValueError, KeyError, TypeError, AttributeError) as error:
        return SackState(None, state.file, state.unit, enabled, unreadable=f"could not be read: {error}")


def _table_now() -> str | None:
    # asked for by its name, a table that is not there is a failure, and the kernel tells of no difference to others
    tables = json.loads(output_of("nft", "-j", "list", "tables", FAMILY)).get("nftables") or []
    if not any(entry.get("table", {}).get("name") == TABLE for entry in tables):
        return None
    return table_from(json.loads(output_of("nft", "-j", "list", "table", FAMILY, TABLE)))


def _is_active() -> bool:
    return output_of("systemctl", "show", "--property=ActiveState", "--value", "--", UNIT).strip() == "active"


def write_sack_filter(host: Host, state: SackState, setting: Setting) -> None:
    """Have the unit, whose files are there, set the table now and at every boot; or take all of it away. Raises ``ProgramFailed`` or ``OSError``."""
    if setting.desired is None:
        _remove(host)
        return
    output_of("systemctl", "daemon-reload")
    output_of("systemctl", "enable", "--", UNIT)
    # a reload replaces the table in one transaction of the kernel, a restart would be without it for a moment
    output_of("systemctl", "reload-or-restart", "--", UNIT)


def _remove(host: Host) -> None:
    if host.exists(UNIT_FILE):
        output_of("systemctl", "disable", "--now", "--", UNIT)
    for name in (*LINKS, UNIT_FILE, FILE):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(host.path(name))
            sync_folder(os.path.dirname(host.path(name)))
    output_of("systemctl", "daemon-reload")
    if shutil.which("nft") and _table_now() is not None:
        output_of("nft", "delete", "table", FAMILY, TABLE)
