#!/usr/bin/python
# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Huge pages by NUMA node, and their mounts."""

from __future__ import annotations

DOCUMENTATION = r"""
module: hugepages
short_description: Huge pages by NUMA node, and their mounts
version_added: "0.1.0"
description:
  - Allocates huge pages of 2 MiB and 1 GiB on each NUMA node and reads back how many the kernel found.
  - Pages to be had at boot are only verified, now and for the next boot; M(lowlatency.fleet.kernel_cmdline) reserves them.
  - Refuses what would take more than four fifths of a node's memory, or more than can be spared now.
  - Mounts hugetlbfs by systemd units of its own.
  - In a host-role playbook (where C(lowlatency_transaction) is true) the task only joins the transaction that the apply role runs.
author:
  - contributors to lowlatency.fleet (@lowlatency-fleet)
extends_documentation_fragment:
  - lowlatency.fleet.contract
options:
  pages:
    description: Pages wanted, one entry for each size and node.
    type: list
    elements: dict
    default: []
    suboptions:
      size:
        description: Size of a page.
        type: str
        choices: [2M, 1G]
        required: true
      node:
        description: NUMA node.
        type: int
        required: true
      count:
        description: Number of pages.
        type: int
        required: true
      at:
        description: Whether they are reserved at V(boot) or allocated at V(runtime).
        type: str
        choices: [boot, runtime]
        required: true
  mounts:
    description: Mounts of hugetlbfs.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Where to mount, a folder of its own.
        type: path
        required: true
      size:
        description: Size of the mount's pages.
        type: str
        choices: [2M, 1G]
        required: true
"""

EXAMPLES = r"""
- name: The pool of the feed handler is on its NIC's node
  lowlatency.fleet.hugepages:
    pages:
      - size: 2M
        node: 1
        count: 71
        at: runtime
    mounts:
      - path: /dev/hugepages2M
        size: 2M
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
from ansible_collections.lowlatency.fleet.plugins.module_utils.domains import HUGEPAGES
from ansible_collections.lowlatency.fleet.plugins.module_utils.door import run_domain


def main() -> None:
    run_domain(AnsibleModule(argument_spec=dict(HUGEPAGES.options), supports_check_mode=True), HUGEPAGES.name)


if __name__ == "__main__":
    main()
