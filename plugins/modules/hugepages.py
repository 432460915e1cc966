#!/usr/bin/python
# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Huge pages of each NUMA node, and hugetlbfs mounts."""

from __future__ import annotations

DOCUMENTATION = r"""
module: hugepages
short_description: Huge pages of each NUMA node, and hugetlbfs mounts
version_added: "0.1.0"
description:
  - Allocates huge pages on NUMA nodes at run time, exactly as many as wanted, and reads back how many the kernel found.
  - Pages that come at boot are never written; they are compared with the kernel command line of the next boot, and wait for it.
  - Refuses pages that would starve a node. A size that the CPU or kernel has not is V(unsupported), and so is everything in a container.
  - Mounts hugetlbfs by a unit file that it owns. In the place and size that systemd itself mounts (C(/dev/hugepages)) there is no such file.
  - In a host-role playbook (where C(lowlatency_transaction) is true) the task only joins the transaction that the apply role runs.
author:
  - contributors to lowlatency.fleet (@lowlatency-fleet)
extends_documentation_fragment:
  - lowlatency.fleet.contract
options:
  pages:
    description: The pages, one entry for each size on each node. Other sizes and nodes are left as they are.
    type: list
    elements: dict
    default: []
    suboptions:
      size:
        description: The size of a page.
        type: str
        choices: [2M, 1G]
        required: true
      node:
        description: The NUMA node.
        type: int
        required: true
      count:
        description: How many pages.
        type: int
        required: true
      at:
        description: When they are allocated. Left out, V(boot) for O(pages[].size=1G) and V(runtime) for O(pages[].size=2M).
        type: str
        choices: [boot, runtime]
  mounts:
    description: Where hugetlbfs is mounted.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: The mount point, an absolute path that is no folder of the system.
        type: str
        required: true
      size:
        description: The size of its pages.
        type: str
        choices: [2M, 1G]
        required: true
      group:
        description: The group that may take pages there, beside root. Left out, none.
        type: str
"""

EXAMPLES = r"""
- name: Packet buffers are on the node of the NIC
  lowlatency.fleet.hugepages:
    pages:
      - size: 1G
        node: 1
        count: 8
      - size: 2M
        node: 1
        count: 256
    mounts:
      - path: /dev/hugepages-1G
        size: 1G
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
      sample: hugepages.2M
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
from ansible_collections.lowlatency.fleet.plugins.module_utils.domains import HUGEPAGES
from ansible_collections.lowlatency.fleet.plugins.module_utils.door import run_domain


def main() -> None:
    run_domain(AnsibleModule(argument_spec=dict(HUGEPAGES.options), supports_check_mode=True), HUGEPAGES.name)


if __name__ == "__main__":
    main()
