# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Starting a program of the host, with a time limit and in the C locale. The one place that forks."""

from __future__ import annotations

import os
import subprocess

TIME_LIMIT = 60


class ProgramFailed(Exception):
    """A program that is not there, did not end in time, or said no; the message has its last words."""


def output_of(*command: str, time_limit: float | None = None) -> str:
    """Standard output of a program; raises ``ProgramFailed``."""
    environment = {**os.environ, "LC_ALL": "C", "SYSTEMD_PAGER": "", "SYSTEMD_COLORS": "0"}
    try:
        ended = subprocess.run(command, env=environment, capture_output=True, timeout=time_limit or TIME_LIMIT, check=False,
                               stdin=subprocess.DEVNULL, encoding="utf-8", errors="replace")
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ProgramFailed(f"{' '.join(command)}: {error}") from error
    if ended.returncode:
        raise ProgramFailed(f"{' '.join(command)}: exit code {ended.returncode}: {ended.stderr.strip() or ended.stdout.strip()}")
    return ended.stdout
