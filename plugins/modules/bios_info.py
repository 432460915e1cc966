#!/usr/bin/python
# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the firmware of a machine decided, as findings."""

from __future__ import annotations

DOCUMENTATION = r"""
module: bios_info
short_description: What the firmware of a machine decided, as findings
version_added: "0.1.0"
description:
  - Tells, from what the running system shows and without a tool of a vendor, of hyper-threading, NUMA, memory modules, idle states, frequency driver,
    governor, energy preference, turbo, microcode, IOMMU, x2APIC, time stamp counter, clock source, system management interrupts, BIOS version, the
    slots of NICs, and whether the machine is virtual. Each is compared with the policy where that speaks of it, and only told otherwise.
  - Writes nothing. Everything it returns is a finding, whose reason names the BIOS menu of the vendor and the kernel argument that does the same.
  - What a machine does not tell, and in a virtual machine what its hypervisor decides, is V(unsupported). In a container all of it is.
  - In a host-role playbook (where C(lowlatency_transaction) is true) the task only joins the transaction that the apply role runs.
author:
  - contributors to lowlatency.fleet (@lowlatency-fleet)
extends_documentation_fragment:
  - lowlatency.fleet.contract
options:
  policy:
    description:
      - What is wanted. What is left out is only told.
      - C(smt) is V(off) (by the BIOS), V(off-by-kernel) (by it or by C(nosmt)), V(siblings-idle) (the siblings of isolated CPUs are isolated with
        them, or there are none) or V(share).
      - C(nodes_per_socket) is a number. C(idle_latency_us) is the longest exit latency of idle states that may be entered. C(smis) is how many
        system management interrupts may come in O(smi_seconds).
      - C(frequency_driver), C(governor), C(energy_performance_preference) and C(clocksource) are words of the kernel. C(turbo), C(iommu) and
        C(x2apic) are V(on) or V(off). C(machine) is V(bare-metal), C(tsc) V(reliable), C(memory) V(balanced).
      - C(microcode) has the least revision by CPU signature (family-model-stepping, as in V(06-55-07), to V(0x5003604)). C(firmware) has, by the
        product name that DMI tells, C(minimum) or C(exact) versions of the BIOS and C(not_before), a date.
    type: dict
    default: {}
  application_cpus:
    description: The CPUs on which C(idle_latency_us) is wanted, as a cpulist. All of them where it is left out.
    type: str
  smi_seconds:
    description: For how long system management interrupts are counted, where the policy speaks of them.
    type: float
  nics:
    description: The NICs whose slots are looked at.
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
      application_cpus:
        description: The CPUs of the application that the NIC serves, as a cpulist.
        type: str
      numa_node:
        description: The node of the NIC, where the BIOS tells none.
        type: int
"""

EXAMPLES = r"""
- name: The firmware is set up for low latency
  lowlatency.fleet.bios_info:
    policy:
      smt: "off"
      nodes_per_socket: 1
      idle_latency_us: 2
      smis: 0
      firmware:
        PowerEdge R650: {minimum: "1.13.2"}
      microcode: {06-6a-06: "0xd0003d1"}
    application_cpus: 8-15
    smi_seconds: 1
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
      sample: bios.smt
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
from ansible_collections.lowlatency.fleet.plugins.module_utils.domains import BIOS_INFO
from ansible_collections.lowlatency.fleet.plugins.module_utils.door import run_domain


def main() -> None:
    run_domain(AnsibleModule(argument_spec=dict(BIOS_INFO.options), supports_check_mode=True), BIOS_INFO.name)


if __name__ == "__main__":
    main()
