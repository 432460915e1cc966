# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel command line of the next boot."""

from __future__ import annotations

from .machine import Host


def configured_tokens(host: Host) -> tuple[str, ...]:
    """The arguments of the next boot, as far as those of this one tell; raises ``Unreadable``."""
    return tuple(host.read("/proc/cmdline").split())
