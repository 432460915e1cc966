#!/usr/bin/python
# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""NIC features of all interfaces of a host in one call."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ethtool
short_description: NIC features (offloads) of all interfaces of a host
version_added: "0.1.0"
description:
  - Switches features such as C(gro), C(lro), C(tso) and C(gso) through the kernel's ethtool interface and reads them back from the driver.
  - Each feature is judged by itself. One that the driver has not, or has fixed, is V(unsupported) and stops no other.
  - The host agent sets them again at boot.
  - The interface that carries the default route or this SSH connection is refused unless its entry says O(nics[].management=true).
  - In a host-role playbook (where C(lowlatency_transaction) is true) the task only joins the transaction that the apply role runs.
author:
  - contributors to lowlatency.fleet (@lowlatency-fleet)
extends_documentation_fragment:
  - lowlatency.fleet.contract
options:
  features:
    description:
      - Features wanted of every NIC of the list, by the names that C(ethtool -K) takes or the kernel's own, each V(on) or V(off).
    type: dict
    default: {}
  nics:
    description: The NICs and what is wanted of each.
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
      management:
        description: This is the management NIC and may be reconfigured all the same.
        type: bool
        default: false
      features:
        description:
          - Features of this NIC, over those of O(features).
        type: dict
        default: {}
"""

EXAMPLES = r"""
- name: Packets reach the application one by one
  lowlatency.fleet.ethtool:
    features:
      gro: "off"
      lro: "off"
      tso: "off"
    nics:
      - interface: ens1f0
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
      sample: net.offload.gro
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
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.lowlatency.fleet.plugins.module_utils.domains import ETHTOOL
from ansible_collections.lowlatency.fleet.plugins.module_utils.door import run_domain


def main() -> None:
    run_domain(AnsibleModule(argument_spec=dict(ETHTOOL.options), supports_check_mode=True), ETHTOOL.name)


if __name__ == "__main__":
    main()
