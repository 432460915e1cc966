#!/usr/bin/python
# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: bios_redfish
short_description: BIOS attributes read, audited and set through the BMC
version_added: "0.1.0"
description:
  - Reads the BIOS attributes of a host through Redfish, compares them with what is wanted, and sets those that differ where that is allowed.
    They come with the next boot of the host; this module never boots it.
  - What is wanted is said in words that are the same for all vendors. Names and values of Dell, HPE, Lenovo and Supermicro are in
    F(roles/bios_redfish/files/vendors.yml).
  - Works by M(community.general.redfish_info) and M(community.general.redfish_config) on the host that the task is delegated to.
  - A BMC that does not answer, or not as it should, is one setting with the state V(error), and the task does not fail for it.
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
  - the collection community.general on the controller
options:
  address:
    description: Address of the BMC, with a port where it is not 443. Always HTTPS.
    type: str
    default: ""
  username:
    description: The name to log in with.
    type: str
    default: ""
  password:
    description: The password. It is in no result and no message.
    type: str
    default: ""
  validate_certs:
    description: Whether the certificate of the BMC has to be valid.
    type: bool
    default: true
  ca_path:
    description: File with the certificates of the CA that signed that of the BMC, on the controller.
    type: path
  timeout:
    description: Seconds to wait for each answer.
    type: int
    default: 20
  system:
    description: Id of the system, where the BMC has several.
    type: str
  vendor:
    description: The vendor, where the BMC does not tell it as one would think.
    type: str
  wanted:
    description:
      - What is wanted, each in our own words. C(smt), C(c_states), C(c1e), C(turbo), C(node_interleaving), C(sub_numa_clustering), C(x2apic), C(iommu) and
        C(sr_iov) are V(on) or V(off), C(nodes_per_socket) is V(1), V(2) or V(4), C(power_profile) is V(performance) or V(custom).
    type: dict
    default: {}
  smt_policy:
    description: With V(off), hyper-threading is wanted off too, unless O(wanted) says something else.
    type: str
    choices: ["off", off-by-kernel, siblings-idle, share]
    default: share
  attributes:
    description: More attributes, by the vendor's own names and values.
    type: dict
    default: {}
  set:
    description: Whether attributes may be set.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: BIOS attributes are told
  lowlatency.fleet.bios_redfish:
    address: bmc-md-gateway-17.example.com
    username: audit
    password: "{{ vault_bmc_password }}"
    ca_path: /etc/ssl/certs/site-ca.pem
    wanted:
      smt: "off"
      power_profile: performance
      c_states: "off"
  delegate_to: localhost
"""

RETURN = r"""
settings:
  description: One entry for each thing wanted, as all modules of this collection return them.
  returned: always
  type: list
  elements: dict
reboot_required:
  description: Whether something is set and waits for the next boot of the host.
  returned: always
  type: bool
waiting:
  description: What is set and waits for the next boot.
  returned: always
  type: list
  elements: str
waiting_topology:
  description: What of it changes the CPUs or NUMA nodes of the host, so that its cores are to be planned after that boot.
  returned: always
  type: list
  elements: str
"""
