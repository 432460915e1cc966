#!/usr/bin/python
# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Switches of the kernel below /sys, live and at every boot."""

from __future__ import annotations

DOCUMENTATION = r"""
module: sysfs
short_description: Transparent huge pages, page merging and the CPUs of workqueues
version_added: "0.1.0"
description:
  - Sets switches of the kernel that are files below C(/sys) and no sysctl, and reads them back. The host agent sets them again at boot.
  - A switch that the running kernel has not is V(unsupported) and named; in a container all are, since they belong to the machine.
  - In a host-role playbook (where C(lowlatency_transaction) is true) the task only joins the transaction that the apply role runs.
author:
  - contributors to lowlatency.fleet (@lowlatency-fleet)
extends_documentation_fragment:
  - lowlatency.fleet.contract
options:
  values:
    description:
      - The switches and their values.
      - C(transparent_hugepage) is V(always), V(madvise) or V(never), C(transparent_hugepage_defrag) one of these or V(defer) or V(defer+madvise),
        C(khugepaged_defrag) is V(0) or V(1).
      - C(ksm) is V(0) (no merging), V(1) or V(2) (none, and what was merged is taken apart).
      - C(workqueue_cpumask) are the CPUs of unbound workqueues as a cpulist, or V(planned), the housekeeping CPUs.
    type: dict
    default: {}
  housekeeping:
    description: The CPUs that V(planned) means, as a cpulist.
    type: str
"""

EXAMPLES = r"""
- name: No page is moved or merged behind the applications
  lowlatency.fleet.sysfs:
    values:
      transparent_hugepage: never
      ksm: 0
      workqueue_cpumask: 0-3
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
      sample: sysfs.ksm
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
from ansible_collections.lowlatency.fleet.plugins.module_utils.domains import SYSFS
from ansible_collections.lowlatency.fleet.plugins.module_utils.door import run_domain


def main() -> None:
    run_domain(AnsibleModule(argument_spec=dict(SYSFS.options), supports_check_mode=True), SYSFS.name)


if __name__ == "__main__":
    main()
