# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lab's hosts must be, written down once more and by hand: plan, profile and inventory are what is on trial."""

from __future__ import annotations

HOUSEKEEPING = {0, 1, 4, 5}
ISOLATED = {2, 3, 6, 7}
ISOLATED_LIST, HOUSEKEEPING_LIST, HOUSEKEEPING_MASK = "2-3,6-7", "0-1,4-5", "33"

# Where the interrupts of a NIC may be: the housekeeping CPUs of its node.
NICS = {"enp65s0": {0, 1}, "enp129s0": {4, 5}}

# Channels of each NIC: four by the inventory, and one by the profile, because one CPU is planned for the interrupts of the other.
CHANNELS = {"enp65s0": 4, "enp129s0": 1}
# Transmit queue -> CPUs that use it: that of its interrupt (0 or 4), and each isolated CPU with one queue.
XPS = {"enp65s0": [{0, 2}, {0, 3}, {0, 6}, {0, 7}], "enp129s0": [{4, 2, 3, 6, 7}]}
# What each of the two has of its own beside that: RSS table and hash, a private flag, RFS, the timer of NAPI.
TABLE_QUEUES = {"enp65s0": [0, 1, 2, 3]}
UDP_HASH = {"enp129s0": {"IP SA", "IP DA", "L4 bytes 0 & 1 [TCP/UDP src port]", "L4 bytes 2 & 3 [TCP/UDP dst port]"}}
LEGACY_RX = {"enp65s0": "off", "enp129s0": "on"}
RPS_FLOWS = {"enp65s0": "64", "enp129s0": "0"}
GRO_FLUSH_TIMEOUT = {"enp65s0": "0", "enp129s0": "20000"}
# Transmit queues: fq with an option on one, the kernel's own choice on the other.
QDISC = {"enp65s0": {"fq"}, "enp129s0": {"fq_codel"}}
FLOW_LIMIT = {"enp65s0": {200}}
COALESCE = {"rx-usecs": "0"}
RING = {"RX": "4096"}
PAUSE = {"Autonegotiate": "off", "RX": "off", "TX": "off"}
# Where the route of each NIC's network leads, and its metrics.
ROUTES = {"enp65s0": ("10.64.0.0/24", "initcwnd 20 initrwnd 20"), "enp129s0": ("10.64.1.0/24", "quickack 1")}
# What the emulated NIC (82576) and its driver have not, so that a report has to say so.
UNSUPPORTED = ("rx-frames", "adaptive-rx", "ntuple", "eee")

ARGUMENTS = [
    "isolcpus=managed_irq,domain,2-3,6-7",
    "nohz_full=2-3,6-7",
    "rcu_nocbs=2-3,6-7",
    "irqaffinity=0-1,4-5",
    "skew_tick=1",
    "nmi_watchdog=0",
    "nosoftlockup",
    "transparent_hugepage=never",
    "iommu=pt",
    "intel_iommu=on",
]
# Files of the kernel, and what they say.
SWITCHES = {
    "/sys/kernel/mm/transparent_hugepage/enabled": "always madvise [never]",
    "/sys/kernel/mm/transparent_hugepage/khugepaged/defrag": "0",
    "/sys/kernel/mm/ksm/run": "0",
    "/sys/devices/virtual/workqueue/cpumask": HOUSEKEEPING_MASK,
    "/proc/sys/kernel/watchdog_cpumask": HOUSEKEEPING_LIST,
}
# What the image's administrator has on the command line.
FOREIGN = "console=ttyS0,115200 nopti"

# (node, kB) -> pages
HUGEPAGES = {(0, 2048): 64, (1, 2048): 128, (1, 1048576): 1}

FEATURES = {"generic-receive-offload": "off", "tcp-segmentation-offload": "off"}

# The port of node 1 that user space has, the CPUs of the services, what the feed is started with, and (node, kB) of its pages.
FEED_PORT = "0000:82:00.0"
FEED_CPU, ORDERS_CPU = 6, 2
FEED_EAL = f"--lcores=0@6,1@6 --socket-mem=0,1024 --huge-dir=/mnt/huge-1G --file-prefix=lab-feed -a {FEED_PORT}"
FEED_PAGES = (1, 1048576)
