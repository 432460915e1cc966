#!/usr/bin/python
# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight
short_description: Read a host's topology, plan its cores, open its transaction
version_added: "0.1.0"
description:
  - Runs M(lowlatency.fleet.topology_info) on the host and computes the core partition on the controller.
  - Opens an empty transaction for the host, which the tasks of the other roles join and M(lowlatency.fleet.apply) ends.
  - Fails, before anything is written, with one message that names the host, the value, the rule and the remedy.
author:
  - contributors to lowlatency.fleet (@lowlatency-fleet)
attributes:
  check_mode:
    description: Can run in C(check_mode) and return what would change, without changing the host.
    support: full
  diff_mode:
    description: Returns what has changed (or would change) in C(diff) mode.
    support: none
requirements:
  - Python 3.9 or later on the host
options:
  profile:
    description: The profile of the host; it has to exist.
    type: str
  nics:
    description:
      - The NICs and what they carry, each by C(interface), C(pci) or C(mac).
    type: list
    elements: dict
    default: []
  all_nics:
    description: Look at every NIC of the host instead.
    type: bool
    default: false
  application_cores:
    description: Physical cores for applications beyond those of the NICs.
    type: int
    default: 0
  application_cpulist:
    description: The application CPUs as a cpulist, instead of counts.
    type: str
    default: ""
  isolate:
    description: Whether application cores are isolated.
    type: bool
    default: true
  smt_policy:
    description:
      - V(off) is hyper-threading that the BIOS has off; where it still shows siblings, those of application CPUs stay idle. V(off-by-kernel) plans
        for C(nosmt). V(siblings-idle) leaves the sibling of an application CPU idle, V(share) uses both.
    type: str
    choices: ["off", off-by-kernel, siblings-idle, share]
    default: siblings-idle
  housekeeping_cores:
    description: Whole cores on every NUMA node that stay with the system.
    type: int
    default: 2
  irq_cores:
    description: Whole cores for the interrupts of each NIC, on its node.
    type: int
    default: 2
  l3_align:
    description: Take application cores that share one L3 cache. Left out, where a node has more than one.
    type: bool
  spill:
    description: Allow application cores on another node when that of the NIC is full.
    type: bool
    default: false
  allow_cpu0:
    description: Allow an explicit cpulist with the boot CPU.
    type: bool
    default: false
  hugepages:
    description:
      - Needs of huge pages, each with C(size) (V(2M) or V(1G)) and either C(count) (pages a node) or C(buffers) of C(buffer_bytes) with
        C(overhead_bytes) each. C(node) is V(nic) (the nodes of the NICs), V(all) or a number, C(at) is V(boot) or V(runtime).
    type: list
    elements: dict
    default: []
  services:
    description:
      - The services of the host, each with C(unit) and either C(cores) (how many application cores of its C(nics), or of the host's own) or C(cpus).
        C(nics) are NICs of O(nics) by any of their names. One with a port that has C(bypass=dpdk) gets EAL arguments in its C(environment), by what
        C(eal) says (C(variable), C(memory_mib), C(page_size), C(lcores), C(options)). One with a NIC that has C(bypass=onload), C(xlio) or C(vma) has
        that library preloaded, with the settings of its C(profile).
      - C(memory_nodes), C(environment), C(memlock), C(scheduling_policy), C(scheduling_priority), C(control_group) and C(restart) are as
        M(lowlatency.fleet.service_pinning) takes them.
    type: list
    elements: dict
    default: []
  bypass_profiles:
    description: Sets of C(EF_) settings by name, which C(profile) of a service may name beside V(latency).
    type: dict
    default: {}
  bios_waiting:
    description:
      - What is set in the BIOS and changes CPUs or nodes with the next boot. The host is rebooted first where O(reboot_ok) allows it, and
        refused otherwise. A run boots a host once.
    type: list
    elements: str
    default: []
  reboot_ok:
    description: Whether the host may be rebooted for O(bios_waiting).
    type: bool
    default: false
  reboot_timeout:
    description: Seconds to wait for that.
    type: int
    default: 1800
  sysroot:
    description: Read a captured tree on the host instead of the live machine.
    type: path
    default: /
"""

EXAMPLES = r"""
- name: The host is known and its cores are planned
  lowlatency.fleet.preflight:
    profile: md_gateway
    nics:
      - interface: ens1f0
        carries: market_data
        application_cores: 4
  register: preflight_result
"""

RETURN = r"""
topology:
  description: As M(lowlatency.fleet.topology_info) returns it.
  returned: success
  type: dict
host:
  description: As M(lowlatency.fleet.topology_info) returns it.
  returned: success
  type: dict
smt_policy:
  description: The policy that the cores were planned by.
  returned: success
  type: str
partition:
  description: CPU sets as cpulists and masks, per NIC and for the host, and the kernel argument values that follow.
  returned: success
  type: dict
nics:
  description: The NICs to tune, as M(lowlatency.fleet.ethtool) takes them.
  returned: success
  type: list
  elements: dict
qdisc_nics:
  description: The same NICs with their queueing disciplines, as M(lowlatency.fleet.qdisc) takes them.
  returned: success
  type: list
  elements: dict
card_nics:
  description: The NICs with the application CPUs that each serves, as M(lowlatency.fleet.nic_firmware) takes them.
  returned: success
  type: list
  elements: dict
hugepages:
  description: Huge pages by size and node, as M(lowlatency.fleet.hugepages) takes them.
  returned: success
  type: list
  elements: dict
pci_devices:
  description: The ports that belong to user space, as M(lowlatency.fleet.pci_driver) takes them.
  returned: success
  type: list
  elements: dict
dpdk_mounts:
  description: Where huge pages are mounted for DPDK, each with C(path) and C(size); none on a host without such ports.
  returned: success
  type: list
  elements: dict
stack:
  description: The stack in user space that the NICs want, empty for none.
  returned: success
  type: str
stack_nics:
  description: The NICs of that stack, as M(lowlatency.fleet.bypass_stack) takes them.
  returned: success
  type: list
  elements: dict
services:
  description: The services with their CPUs, memory nodes and environment, as M(lowlatency.fleet.service_pinning) takes them.
  returned: success
  type: list
  elements: dict
cmdline:
  description: Kernel arguments that follow from the partition, as M(lowlatency.fleet.kernel_cmdline) takes them.
  returned: success
  type: dict
irq_nics:
  description: The NICs with the CPUs of their interrupts, as M(lowlatency.fleet.irq_affinity) takes them.
  returned: success
  type: list
  elements: dict
summary:
  description: The partition in a few lines.
  returned: success
  type: list
  elements: str
explanation:
  description: Why each CPU has its part, and what could not be read.
  returned: success
  type: list
  elements: str
"""
