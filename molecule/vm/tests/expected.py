# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lab's hosts must be, written down once more and by hand: plan, profile and inventory are what is on trial."""

from __future__ import annotations

HOUSEKEEPING = {0, 1, 4, 5}
ISOLATED = {2, 3, 6, 7}
ISOLATED_LIST, HOUSEKEEPING_LIST, HOUSEKEEPING_MASK = "2-3,6-7", "0-1,4-5", "33"

# Where the interrupts of a NIC may be: the housekeeping CPUs of its node.
NICS = {"enp65s0": {0, 1}, "enp129s0": {4, 5}}

ARGUMENTS = [
    "isolcpus=managed_irq,domain,2-3,6-7",
    "nohz_full=2-3,6-7",
    "rcu_nocbs=2-3,6-7",
    "irqaffinity=0-1,4-5",
    "skew_tick=1",
    "nmi_watchdog=0",
    "nosoftlockup",
    "transparent_hugepage=never",
]
# What the image's administrator has on the command line.
FOREIGN = "console=ttyS0,115200 nopti"

# (node, kB) -> pages
HUGEPAGES = {(0, 2048): 64, (1, 2048): 128, (1, 1048576): 1}

FEATURES = {"generic-receive-offload": "off", "tcp-segmentation-offload": "off"}
