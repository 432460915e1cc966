# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where each vendor has a BIOS setting, for remedies: the path of menus as its setup program and its manuals name it. Pure: data.

Generations of a vendor name the same setting a little differently; the last word is what to look for.
"""

from __future__ import annotations

DELL, HPE, LENOVO, SUPERMICRO = "Dell", "HPE", "Lenovo", "Supermicro"

# What /sys/class/dmi/id/sys_vendor begins with, in lower case.
_MAKERS = (("dell", DELL), ("hpe", HPE), ("hp", HPE), ("hewlett", HPE), ("lenovo", LENOVO), ("ibm", LENOVO), ("supermicro", SUPERMICRO),
           ("super micro", SUPERMICRO))

SMT, NUMA, IDLE, TURBO, FREQUENCY, IOMMU, X2APIC, SMI, MEMORY = "smt", "numa", "idle", "turbo", "frequency", "iommu", "x2apic", "smi", "memory"

# What to look for where the vendor is not known.
ANY = {
    SMT: "Hyper-Threading, SMT or Logical Processor",
    NUMA: "Node Interleaving, Sub-NUMA Clustering (SNC) or NUMA Nodes Per Socket (NPS)",
    IDLE: "C-States and C1E, or the performance profile",
    TURBO: "Turbo Boost or Core Performance Boost",
    FREQUENCY: "the power profile that leaves frequencies to the operating system",
    IOMMU: "VT-d or IOMMU",
    X2APIC: "x2APIC",
    SMI: "the low-latency or performance profile, power and thermal monitoring, legacy USB",
    MEMORY: "memory speed and interleaving; the board's manual says which slots to fill",
}

MENUS = {
    DELL: {
        SMT: "System BIOS > Processor Settings > Logical Processor",
        NUMA: "System BIOS > Memory Settings > Node Interleaving; Processor Settings > Sub NUMA Cluster, or NUMA Nodes Per Socket",
        IDLE: "System BIOS > System Profile Settings > System Profile (Performance), or C States and C1E",
        TURBO: "System BIOS > System Profile Settings > Turbo Boost",
        FREQUENCY: "System BIOS > System Profile Settings > CPU Power Management (OS DBPM)",
        IOMMU: "System BIOS > Processor Settings > Virtualization Technology, or IOMMU Support",
        X2APIC: "System BIOS > Processor Settings > x2APIC Mode",
        SMI: "System BIOS > System Profile Settings > System Profile (Performance); Integrated Devices > OS Watchdog Timer",
        MEMORY: "System BIOS > Memory Settings > System Memory Speed, Memory Operating Mode",
    },
    HPE: {
        SMT: "BIOS/Platform Configuration (RBSU) > Processor Options > Hyper-Threading, or AMD SMT Option",
        NUMA: "BIOS/Platform Configuration (RBSU) > Memory Options > Node Interleaving, Sub-NUMA Clustering, or NUMA memory domains per socket",
        IDLE: "BIOS/Platform Configuration (RBSU) > Workload Profile (Low Latency), or Power and Performance Options > "
              "Minimum Processor Idle Power Core C-State",
        TURBO: "BIOS/Platform Configuration (RBSU) > Power and Performance Options > Turbo Boost Technology, or AMD Core Performance Boost",
        FREQUENCY: "BIOS/Platform Configuration (RBSU) > Power and Performance Options > Power Regulator (OS Control)",
        IOMMU: "BIOS/Platform Configuration (RBSU) > Virtualization Options > Intel VT-d, or AMD I/O Virtualization Technology",
        X2APIC: "BIOS/Platform Configuration (RBSU) > Processor Options > Processor x2APIC Support",
        SMI: "BIOS/Platform Configuration (RBSU) > Workload Profile (Low Latency), which turns Processor Power and Utilization Monitoring off",
        MEMORY: "BIOS/Platform Configuration (RBSU) > Memory Options > Maximum Memory Bus Frequency, Channel Interleaving",
    },
    LENOVO: {
        SMT: "System Settings > Processors > Hyper-Threading, or SMT Mode",
        NUMA: "System Settings > Memory > Socket Interleave; Processors > SNC, or NUMA Nodes per Socket",
        IDLE: "System Settings > Operating Modes (Maximum Performance), or C-States and C1 Enhanced Mode",
        TURBO: "System Settings > Operating Modes or Processors > Turbo Mode, or Core Performance Boost",
        FREQUENCY: "System Settings > Processors > CPU P-state Control",
        IOMMU: "System Settings > Devices and I/O Ports > Intel VT for Directed I/O (VT-d), or IOMMU",
        X2APIC: "System Settings > Processors > x2APIC",
        SMI: "System Settings > Operating Modes (Maximum Performance)",
        MEMORY: "System Settings > Memory > Memory Speed",
    },
    SUPERMICRO: {
        SMT: "Advanced > CPU Configuration > Hyper-Threading [ALL], or SMT Control",
        NUMA: "Advanced > Chipset Configuration > North Bridge > Memory or UPI Configuration > SNC, NUMA, or NUMA Nodes Per Socket",
        IDLE: "Advanced > CPU Configuration > Advanced Power Management Configuration > CPU C State Control, or Global C-state Control",
        TURBO: "Advanced > CPU Configuration > Advanced Power Management Configuration > CPU P State Control > Turbo Mode, or Core Performance Boost",
        FREQUENCY: "Advanced > CPU Configuration > Advanced Power Management Configuration > Power Technology, Hardware PM State Control",
        IOMMU: "Advanced > Chipset Configuration > North Bridge > IIO Configuration > Intel VT for Directed I/O (VT-d), or IOMMU",
        X2APIC: "Advanced > CPU Configuration > Extended APIC, or Local APIC Mode",
        SMI: "Advanced > CPU Configuration > Advanced Power Management Configuration; USB Configuration > Legacy USB Support",
        MEMORY: "Advanced > Chipset Configuration > North Bridge > Memory Configuration > Memory Frequency",
    },
}


def maker_of(system_vendor: str) -> str:
    """The vendor whose menus are known, by what DMI says of the system; empty for others."""
    said = system_vendor.strip().lower()
    return next((maker for beginning, maker in _MAKERS if said.startswith(beginning)), "")


def menu(item: str, maker: str) -> str:
    """Where to find a setting, in words: the vendor's menus, or what to look for in any BIOS."""
    return f"BIOS ({maker}): {MENUS[maker][item]}" if maker else f"BIOS: {ANY[item]}"
