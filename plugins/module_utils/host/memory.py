# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What only an attempt to write could show, remembered until the next boot: below /run, and forgotten as the kernel forgets it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from .files import write_whole
from .machine import Host


def remembered(host: Host, name: str) -> dict[str, Any]:
    """What was remembered in a file; empty where there is nothing that can be understood."""
    try:
        known = json.loads(host.read_if_there(name) or "{}")
    except ValueError:
        return {}
    return known if isinstance(known, dict) else {}


def remember(host: Host, name: str, known: Mapping[str, Any]) -> None:
    """Remember this in a file, in place of what it held; raises ``OSError``."""
    write_whole(host, name, (json.dumps(known, sort_keys=True) + "\n").encode(), 0o644)
