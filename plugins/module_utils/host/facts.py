# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads which system a machine runs, and on what: distribution, kernel, hypervisor, container, init.

Files alone: starts no program and asks nothing of the network. What is not told is empty, None or ``unknown``.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from dataclasses import asdict, dataclass
from typing import Any

from ..model.cpuset import CpusetError, format_cpulist, parse_cpulist
from .container import container_kind
from .machine import Host

_CPU = "/sys/devices/system/cpu"
_DMI = "/sys/class/dmi/id"
_CPUINFO_START = 16384  # the first CPU's entry is enough; all of them take long on a large machine

_FAMILIES = {
    "debian": "debian", "ubuntu": "debian",
    "rhel": "redhat", "fedora": "redhat", "centos": "redhat", "rocky": "redhat", "almalinux": "redhat", "ol": "redhat", "amzn": "redhat",
    "suse": "suse", "sles": "suse", "opensuse": "suse",
}

# As in systemd's src/basic/virt.c; matched in this order against vendor and product together.
_HYPERVISORS = (
    ("vmware", "vmware"), ("virtualbox", "virtualbox"), ("innotek", "virtualbox"), ("virtual machine", "hyperv"), ("xen", "xen"),
    ("bhyve", "bhyve"), ("parallels", "parallels"), ("qemu", "kvm"), ("kvm", "kvm"), ("openstack", "kvm"), ("rhev", "kvm"), ("ovirt", "kvm"),
    ("google compute engine", "kvm"), ("amazon ec2", "kvm"), ("digitalocean", "kvm"), ("alibaba cloud", "kvm"), ("nutanix", "kvm"),
)

# Clouds that also rent whole machines: the name alone does not tell.
_ALSO_BARE_METAL = ("google compute engine", "amazon ec2", "alibaba cloud", "openstack")

_ARCHITECTURES = ("x86_64", "aarch64", "ppc64le", "ppc64", "s390x", "riscv64", "loongarch64", "i686", "armv7l", "ia64", "amd64", "arm64")
_ARCHITECTURE_OF = {"amd64": "x86_64", "arm64": "aarch64"}


@dataclass(frozen=True)
class HostFacts:
    """Which system the machine runs.

    ``family``: ``debian``, ``redhat``, ``suse`` or ``other``. ``virtualisation``: ``none``, ``unknown``, a hypervisor
    (``kvm``, ``vmware``, ``xen``, ..., ``vm-other`` for one that only the CPU tells of) or ``container:KIND``; ``container`` is KIND,
    empty outside of one. ``isolated`` and ``nohz_full`` are CPU lists, None where the kernel does not tell. ``python_*`` are empty for a captured machine.
    ``interfaces`` are the names of all network interfaces.
    """

    distribution: str
    family: str
    version: str
    kernel: str
    architecture: str
    virtualisation: str
    container: str
    init: str
    python_version: str
    python_executable: str
    smt_control: str
    smt_active: bool | None
    cmdline: str
    isolated: str | None
    nohz_full: str | None
    boot_id: str
    interfaces: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def host_facts(host: Host) -> HostFacts:
    """The facts of the machine; never raises, whatever the tree holds."""
    release = _os_release(host)
    kernel = _kernel(host)
    container = container_kind(host)
    return HostFacts(
        distribution=release.get("ID", ""),
        family=_family(release),
        version=release.get("VERSION_ID", ""),
        kernel=kernel,
        architecture=_architecture(host, kernel),
        virtualisation=f"container:{container}" if container else hypervisor(host),
        container=container,
        init="systemd" if host.is_dir("/run/systemd/system") else _text(host, "/proc/1/comm"),
        python_version=platform.python_version() if host.live else "",
        python_executable=sys.executable if host.live else "",
        smt_control=_text(host, f"{_CPU}/smt/control"),
        smt_active={"0": False, "1": True}.get(_text(host, f"{_CPU}/smt/active")),
        cmdline=_text(host, "/proc/cmdline"),
        isolated=_cpulist(host, f"{_CPU}/isolated"),
        nohz_full=_cpulist(host, f"{_CPU}/nohz_full"),
        boot_id=_text(host, "/proc/sys/kernel/random/boot_id"),
        interfaces=tuple(host.names("/sys/class/net")),
    )


def _text(host: Host, name: str) -> str:
    """The stripped text, empty where the file does not tell."""
    try:
        return host.attribute(name).strip()
    except OSError:
        return ""


def _os_release(host: Host) -> dict[str, str]:
    """os-release(5)."""
    text = _text(host, "/etc/os-release") or _text(host, "/usr/lib/os-release")
    pairs = (line.partition("=") for line in text.splitlines() if "=" in line and not line.lstrip().startswith("#"))
    return {name.strip(): value.strip().strip("\"'") for name, _equals, value in pairs}


def _family(release: dict[str, str]) -> str:
    """By the distribution's own name first, then by what it says it is like."""
    for name in [release.get("ID", ""), *release.get("ID_LIKE", "").split()]:
        family = _FAMILIES.get(name.lower().partition("-")[0])
        if family:
            return family
    return "other"


def _kernel(host: Host) -> str:
    """The kernel release. Documentation/admin-guide/sysctl/kernel.rst (osrelease); /proc/version where that is missing."""
    match = re.match(r"Linux version (\S+)", _text(host, "/proc/version"))
    return _text(host, "/proc/sys/kernel/osrelease") or (match[1] if match else "")


def _architecture(host: Host, kernel: str) -> str:
    """As ``uname -m`` says it. Kernels since 6.1 have a file for it, and most distributions end the release with it."""
    if host.live:
        return os.uname().machine
    ending = next((name for name in _ARCHITECTURES if kernel.endswith(name)), "")
    return _text(host, "/proc/sys/kernel/arch") or _ARCHITECTURE_OF.get(ending, ending)


def hypervisor(host: Host) -> str:
    """The hypervisor, as systemd-detect-virt(1) calls it: ``none`` where there is surely none, ``unknown`` where the files do not decide."""
    told = _text(host, "/sys/hypervisor/type")
    if told:
        return told
    flags = _cpu_flags(host)
    denied = flags is not None and "hypervisor" not in flags
    dmi = " ".join(_text(host, f"{_DMI}/{name}") for name in ("sys_vendor", "product_name")).strip().lower()
    for mark, name in _HYPERVISORS:
        if mark in dmi and not (denied and mark in _ALSO_BARE_METAL):
            return name
    if flags is not None and "hypervisor" in flags:
        return "vm-other"
    return "none" if denied or (dmi and flags is None) else "unknown"


def _cpu_flags(host: Host) -> frozenset[str] | None:
    """The first CPU's flags; None where the architecture (or the capture) has no such line."""
    try:
        text = host.attribute("/proc/cpuinfo", limit=_CPUINFO_START)
    except OSError:
        return None
    match = re.search(r"^flags\s*:(.*)$", text, re.MULTILINE)
    return frozenset(match[1].split()) if match else None


def _cpulist(host: Host, name: str) -> str | None:
    """A CPU list in its shortest form; None where the file is absent or holds none."""
    try:
        text = host.attribute(name)
        # Kernels without a nohz_full set print this.
        return "" if text.strip() == "(null)" else format_cpulist(parse_cpulist(text))
    except (OSError, CpusetError):
        return None
