#!/usr/bin/python
# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Interrupts on the CPUs planned for them, off the isolated ones."""

from __future__ import annotations

DOCUMENTATION = r"""
module: irq_affinity
short_description: Interrupts on their planned CPUs and off the isolated ones
version_added: "0.1.0"
description:
  - Puts the interrupts of each NIC, found through sysfs, on the given CPUs, one CPU a queue.
  - Keeps C(default_smp_affinity) and every other interrupt that can be moved off the isolated CPUs.
  - An interrupt that the kernel does not let go is V(unsupported) and named. Success is what the kernel holds afterwards.
  - The host agent sets them again at boot. In a container interrupts belong to the machine and are V(unsupported).
  - In a host-role playbook (where C(lowlatency_transaction) is true) the task only joins the transaction that the apply role runs.
author:
  - contributors to lowlatency.fleet (@lowlatency-fleet)
extends_documentation_fragment:
  - lowlatency.fleet.contract
options:
  isolated:
    description: The CPUs that no interrupt may use, as a cpulist.
    type: str
    default: ""
  housekeeping:
    description: The CPUs for all other interrupts, as a cpulist. Required with O(isolated).
    type: str
    default: ""
  watch_seconds:
    description: For how long the host is watched for interrupts of devices that still come to isolated CPUs; 0 leaves that out.
    type: int
    default: 0
  nics:
    description: The NICs and the CPUs of their interrupts.
    type: list
    elements: dict
    default: []
    suboptions:
      interface:
        description: Name of the interface. One of O(nics[].interface), O(nics[].pci) and O(nics[].mac) is required.
        type: str
      pci:
        description: PCI address, such as V(0000:3b:00.0).
        type: str
      mac:
        description: MAC address.
        type: str
      cpus:
        description: Cpulist; queue N gets the N-th CPU, round and round.
        type: str
        required: true
"""

EXAMPLES = r"""
- name: Interrupts stay on the NUMA node of their NIC and off the application's CPUs
  lowlatency.fleet.irq_affinity:
    isolated: 4-7
    housekeeping: 0-3
    nics:
      - pci: "0000:3b:00.0"
        cpus: 2-3
"""

RETURN = r"""
settings:
  description: What is wanted of the host, one entry a setting, in the order of writing.
  returned: always
  type: list
  elements: dict
  contains:
    control:
      description: Stable id of the kind of setting.
      type: str
      sample: irq.nic_affinity
    name:
      description: The instance, such as an interface, an interrupt, a key or a file.
      type: str
    current:
      description: The live value, none where there is none. In a real run, after writing.
      type: str
    persisted:
      description: The value after the next boot, none where there is none.
      type: str
    desired:
      description: The value wanted.
      type: str
    state:
      description: V(ok), V(drifted), V(changed), V(unsupported) or V(error).
      type: str
    reason:
      description: Why the state is what it is, where that needs saying.
      type: str
    needs_reboot:
      description: Whether only a boot can bring the wanted value.
      type: bool
    finding:
      description: Whether it is only told, and nothing the collection writes would bring it; the reason names the remedy.
      type: bool
reboot_required:
  description: Whether a setting waits for the next boot.
  returned: always
  type: bool
reboot_reasons:
  description: What waits for the next boot, in words.
  returned: always
  type: list
  elements: str
armed:
  description: Whether this execution armed a trial boot.
  returned: always
  type: bool
unconfirmed:
  description: Identity of a network change that the host takes back unless it is confirmed, which the action has done over a new connection; empty if none.
  returned: always
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.lowlatency.fleet.plugins.module_utils.domains import IRQ_AFFINITY
from ansible_collections.lowlatency.fleet.plugins.module_utils.door import run_domain


def main() -> None:
    run_domain(AnsibleModule(argument_spec=dict(IRQ_AFFINITY.options), supports_check_mode=True), IRQ_AFFINITY.name)


if __name__ == "__main__":
    main()
