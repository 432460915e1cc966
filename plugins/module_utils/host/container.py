# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a host is a container, by the files that say so: what belongs to the machine is then not ours to touch."""

from __future__ import annotations

from .machine import Host

# PROC_PID_INIT_INO, include/linux/proc_ns.h: the one process ID namespace that is no container's.
INITIAL_PID_NAMESPACE = "pid:[4026531836]"


def container_kind(host: Host) -> str:
    """The kind of container (``podman``, ``docker``, ``lxc``, ...), or nothing when the host is a machine."""
    if host.link_name("/proc/self/ns/pid") == INITIAL_PID_NAMESPACE:
        # a machine whose root file system began as a container image still has the image's marker files
        return ""
    marked = host.read_if_there("/run/systemd/container")
    if marked:
        return marked
    if host.exists("/run/.containerenv"):
        return "podman"
    if host.exists("/.dockerenv"):
        return "docker"
    for variable in (host.read_if_there("/proc/1/environ") or "").split("\0"):
        if variable.startswith("container="):
            return variable.partition("=")[2] or "container"
    return ""
