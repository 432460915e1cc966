#!/usr/bin/python
# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Driver, firmware, PCIe link and NUMA node of NICs, as findings."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nic_firmware
short_description: Driver, firmware, PCIe link and NUMA node of NICs, as findings
version_added: "0.1.0"
description:
  - Compares the loaded driver and the running firmware of each NIC with a policy of the site, the PCIe link with what the card can do, and
    the NUMA node of the NIC with that of the application CPUs it serves.
  - Writes nothing. Everything it returns is a finding, whose reason names the remedy; M(lowlatency.fleet.nic_update) flashes and reloads.
  - What a device does not tell (the PCIe link of a virtual function, the firmware of a virtual NIC) is V(unsupported).
  - A NIC that is not there is an error of its own and stops no other.
  - In a host-role playbook (where C(lowlatency_transaction) is true) the task only joins the transaction that the apply role runs.
author:
  - contributors to lowlatency.fleet (@lowlatency-fleet)
extends_documentation_fragment:
  - lowlatency.fleet.contract
options:
  policy:
    description:
      - What is wanted, by the name of the driver as C(ethtool -i) tells it. Versions are text between quotes and are compared number by number.
      - C(driver) has C(kind) (V(in-tree) or V(vendor)), C(minimum) and C(maximum). A maximum of V(24.10) allows C(24.10-1.1.4).
      - C(firmware) has C(minimum) or C(exact), and C(component) where another one than the whole firmware is meant, by the name that
        C(devlink dev info) has for it. C(models) has the same by PCI id (V(15b3:101d)) or PSID, for cards that share a driver.
    type: dict
    default: {}
  nics:
    description: The NICs.
    type: list
    elements: dict
    required: true
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
- name: NICs run the driver and firmware that were measured, and sit in the right slot
  lowlatency.fleet.nic_firmware:
    policy:
      mlx5_core:
        driver: {kind: vendor, minimum: "24.10"}
        firmware:
          models:
            "15b3:101d": {minimum: "22.41.1000"}
      ice:
        driver: {kind: in-tree}
        firmware: {exact: "4.20"}
    nics:
      - pci: "0000:3b:00.0"
        application_cpus: 8-11
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
      sample: nic.firmware
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
from ansible_collections.lowlatency.fleet.plugins.module_utils.domains import NIC_FIRMWARE
from ansible_collections.lowlatency.fleet.plugins.module_utils.door import run_domain


def main() -> None:
    run_domain(AnsibleModule(argument_spec=dict(NIC_FIRMWARE.options), supports_check_mode=True), NIC_FIRMWARE.name)


if __name__ == "__main__":
    main()
