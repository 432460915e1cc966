#!/usr/bin/python
# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ports of NICs given to user space, live and at every boot, and given back."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pci_driver
short_description: Ports of NICs that belong to user space
version_added: "0.1.0"
description:
  - Gives ports of NICs to C(vfio-pci) by C(driver_override), so that DPDK can drive them, and reads back what has them.
  - The host agent does so again early at every boot, before anything gives the ports addresses.
  - A port that is no longer named goes back to the kernel's own driver. One that others bound is left alone.
  - Refuses, before anything is written, a management NIC, a port with routes, in a bond or a bridge, or below another interface, one with virtual
    functions, one whose IOMMU group has other devices at work, a device that is no NIC or that DPDK has no driver for, and a host without an IOMMU.
  - Where the IOMMU comes with the next boot, the port waits for it.
  - In a host-role playbook (where C(lowlatency_transaction) is true) the task only joins the transaction that the apply role runs.
author:
  - contributors to lowlatency.fleet (@lowlatency-fleet)
extends_documentation_fragment:
  - lowlatency.fleet.contract
options:
  devices:
    description: The ports, by PCI address.
    type: list
    elements: dict
    default: []
    suboptions:
      pci:
        description: The PCI address, such as V(0000:81:00.0).
        type: str
        required: true
      driver:
        description: The driver that is to have it. Left out, V(vfio-pci).
        type: str
        choices: [vfio-pci]
      supported:
        description: Says that the site's DPDK has a driver for a NIC that is not known to have one.
        type: bool
  group:
    description: The group that may open the ports, beside root. It has to exist. Left out, none.
    type: str
  noiommu_waiver:
    description:
      - The id of the decision that allows to go without an IOMMU, where there is none. A port can then write to all memory, and only root can open it.
    type: str
  confirm_seconds:
    description: How long the host waits to be reached again after this change of the network before it takes it back.
    type: int
    default: 120
"""

EXAMPLES = r"""
- name: The feed's port belongs to DPDK
  lowlatency.fleet.pci_driver:
    group: dpdk
    devices:
      - pci: "0000:81:00.0"
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
      sample: pci.driver
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
from ansible_collections.lowlatency.fleet.plugins.module_utils.domains import PCI_DRIVER
from ansible_collections.lowlatency.fleet.plugins.module_utils.door import NETWORK_OPTIONS, run_domain


def main() -> None:
    run_domain(AnsibleModule(argument_spec={**PCI_DRIVER.options, **NETWORK_OPTIONS}, supports_check_mode=True), PCI_DRIVER.name)


if __name__ == "__main__":
    main()
