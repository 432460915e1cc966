#!/usr/bin/python
# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Services on their CPUs and memory, and what their live threads say."""

from __future__ import annotations

DOCUMENTATION = r"""
module: service_pinning
short_description: Services on their CPUs and memory
version_added: "0.1.0"
description:
  - Writes a drop-in of systemd for each service (C(80-lowlatency.conf)), has systemd load it, and looks where the live threads of the service may run.
  - A service that runs elsewhere, as one that was started by hand with another mask, is a finding until it is restarted. It is restarted here only where
    O(services[].restart) says so.
  - A service that is to bypass the kernel and does not, one that failed, and threads of others on its CPUs are findings.
  - The drop-in of a service that is no longer named is removed.
  - In a host-role playbook (where C(lowlatency_transaction) is true) the task only joins the transaction that the apply role runs.
author:
  - contributors to lowlatency.fleet (@lowlatency-fleet)
extends_documentation_fragment:
  - lowlatency.fleet.contract
options:
  services:
    description: The services. No two of them share a CPU.
    type: list
    elements: dict
    default: []
    suboptions:
      unit:
        description: The name of the service, such as V(feed-handler.service).
        type: str
        required: true
      cpus:
        description: Its CPUs, as a cpulist (C(CPUAffinity)).
        type: str
        required: true
      memory_nodes:
        description: The NUMA nodes of its memory (C(NUMAPolicy=bind), C(NUMAMask)). Left out, any.
        type: str
      environment:
        description: Variables of its environment.
        type: dict
      memlock:
        description: How much memory it may lock (C(LimitMEMLOCK)), such as V(infinity).
        type: str
      scheduling_policy:
        description: How its threads are scheduled (C(CPUSchedulingPolicy)).
        type: str
        choices: [other, batch, idle, fifo, rr]
      scheduling_priority:
        description: Its priority with V(fifo) and V(rr), 1 to 98.
        type: int
      control_group:
        description: Whether its control group keeps it there too (C(AllowedCPUs), C(AllowedMemoryNodes)), which it cannot change itself.
        type: bool
      restart:
        description: Whether it is restarted where its threads are elsewhere. Left out, it is not.
        type: bool
      library:
        description: The library by which it bypasses the kernel, as the beginning of its file name. Where it is not mapped, that is a finding.
        type: str
      ports:
        description: The PCI addresses of ports that it has open. One that it has not is a finding.
        type: list
        elements: str
  manager_cpus:
    description: The CPUs of systemd itself, which services that say nothing of CPUs inherit.
    type: str
  application_cpus:
    description: The isolated CPUs, on which nobody but the services belongs.
    type: str
"""

EXAMPLES = r"""
- name: Market data and orders have their own CPUs
  lowlatency.fleet.service_pinning:
    manager_cpus: 0-1,8-9
    application_cpus: 2-7
    services:
      - unit: feed-handler.service
        cpus: 2-3
        memory_nodes: "0"
        memlock: infinity
      - unit: order-entry.service
        cpus: 4-5
        scheduling_policy: fifo
        scheduling_priority: 10
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
      sample: service.cpus
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
from ansible_collections.lowlatency.fleet.plugins.module_utils.domains import SERVICE_PINNING
from ansible_collections.lowlatency.fleet.plugins.module_utils.door import run_domain


def main() -> None:
    run_domain(AnsibleModule(argument_spec=dict(SERVICE_PINNING.options), supports_check_mode=True), SERVICE_PINNING.name)


if __name__ == "__main__":
    main()
