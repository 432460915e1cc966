# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looking for what else sets sysctl keys on a host: files, tuned, ufw, and commands that something runs. Nothing is run, nothing is written."""

from __future__ import annotations

from collections.abc import Mapping

from ..model.competitors import Competitor
from ..model.sysctl_files import CONTROL, Later, assignments, file_competitor, script_competitors, tuned_sysctls
from ..model.tuned import variables_of
from .competitors import active_tuned, booted_units, texts_that_run
from .machine import Host

# In rising order of right: a file of the same name in a later folder replaces the one before (sysctl.d(5)).
FOLDERS = ("/lib/sysctl.d", "/usr/lib/sysctl.d", "/usr/local/lib/sysctl.d", "/run/sysctl.d", "/etc/sysctl.d")
# Read by sysctl(8); by a boot only where a distribution links to it.
OLD_FILE = "/etc/sysctl.conf"
UFW, UFW_DEFAULTS = "/etc/ufw/ufw.conf", "/etc/default/ufw"


def read_files(host: Host) -> tuple[tuple[str, str], ...]:
    """``(path, text)`` of the files of sysctl.d, in the order in which a boot reads them."""
    chosen = {name: f"{folder}/{name}" for folder in FOLDERS for name in host.names(folder) if name.endswith(".conf")}
    return tuple((chosen[name], host.read_if_there(chosen[name]) or "") for name in sorted(chosen))


def read_others(host: Host, wanted: Mapping[str, str], files: tuple[tuple[str, str], ...]) -> tuple[tuple[Later, ...], tuple[Competitor, ...]]:
    """What a boot sets of the wanted keys after the files of sysctl.d, and what else may set them otherwise."""
    booted = booted_units(host)
    later, found = _tuned(host, wanted, booted)
    later += _ufw(host)
    if not any(host.link_name(path) == "sysctl.conf" for path, _text in files):
        found += file_competitor(OLD_FILE, host.read_if_there(OLD_FILE) or "", wanted)
    for path, text, how in texts_that_run(host, booted):
        found += script_competitors(path, text, how, wanted)
    return tuple(one for one in later if one.key in wanted), tuple(found)


def _tuned(host: Host, wanted: Mapping[str, str], booted: Mapping[str, str]) -> tuple[list[Later], list[Competitor]]:
    """tuned sets its own values, and then those of /etc/sysctl.d again, unless it is told not to."""
    units, active, main = active_tuned(host, booted)
    if main.get("reapply_sysctl", "1").lower() in ("1", "true", "yes", "y", "on"):
        return [], []
    later, uncertain = tuned_sysctls(units, active)
    said = [f"{key} = {words}" for key, words in uncertain if key in wanted]
    found = [Competitor(CONTROL, "tuned.service", f"tuned profile {active} sets {', '.join(said)}", "take it out of the profile's section [sysctl]")]
    return later, found if said else []


def _ufw(host: Host) -> list[Later]:
    """ufw sets a file of its own whenever it starts; before or after systemd-sysctl, nothing orders the two."""
    if variables_of(host.read_if_there(UFW) or "").get("ENABLED", "").strip("\"'").lower() != "yes":
        return []
    path = variables_of(host.read_if_there(UFW_DEFAULTS) or "").get("IPT_SYSCTL", "").strip("\"'")
    return [Later(key, value, f"ufw ({path})", "take the key out of it") for key, value in assignments(host.read_if_there(path) or "").items()] if path else []
