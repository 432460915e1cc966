#!/usr/bin/python
# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Frequencies and idle states of CPUs, live and at every boot."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cpu_power
short_description: Governor, energy preference, turbo, uncore and idle states of CPUs
version_added: "0.1.0"
description:
  - Sets how CPUs choose their frequency and how deep they sleep, and reads it back. The host agent sets it again at boot.
  - Settings are by kind, not by CPU. Where CPUs differ, the value says which have what (V(performance on 0-3, powersave on 4-7)).
  - What a driver, a kernel or a virtual machine has not is V(unsupported) and named; in a container all is, since it belongs to the machine.
  - Other services that set the same (tuned, cpupower, power-profiles-daemon and others) are findings.
  - A CPU that is taken offline and brought back has its idle states on again, until the next run or boot.
  - In a host-role playbook (where C(lowlatency_transaction) is true) the task only joins the transaction that the apply role runs.
author:
  - contributors to lowlatency.fleet (@lowlatency-fleet)
extends_documentation_fragment:
  - lowlatency.fleet.contract
options:
  governor:
    description: The governor of all CPUs, such as V(performance).
    type: str
  energy_performance_preference:
    description: The energy preference (EPP) of all CPUs, where the driver has one, such as V(performance).
    type: str
  energy_perf_bias:
    description: The energy bias of all CPUs, a number from 0 to 15 or V(performance), V(balance-performance), V(normal), V(balance-power) or V(power).
    type: str
  minimum_performance:
    description: The least performance that intel_pstate may choose, in percent.
    type: str
  turbo:
    description: Whether CPUs may go beyond their nominal frequency. Which is better for determinism is for the site to measure.
    type: str
    choices: ["on", "off"]
  uncore:
    description: V(max) lifts the lowest uncore frequency of each package to the highest.
    type: str
    choices: [max]
  idle_latency_us:
    description:
      - Idle states that take longer to leave, in microseconds, are switched off. V(0) leaves polling alone, and O(idle_cpus) has to say where.
      - Other states are left as they are.
    type: int
  idle_cpus:
    description: The CPUs on which that is done, as a cpulist. All where it is empty.
    type: str
"""

EXAMPLES = r"""
- name: CPUs run at full speed, and those of the application do not sleep
  lowlatency.fleet.cpu_power:
    governor: performance
    energy_performance_preference: performance
    uncore: max
    idle_latency_us: 2
    idle_cpus: 8-15
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
      sample: cpu.governor
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
from ansible_collections.lowlatency.fleet.plugins.module_utils.domains import CPU_POWER
from ansible_collections.lowlatency.fleet.plugins.module_utils.door import run_domain


def main() -> None:
    run_domain(AnsibleModule(argument_spec=dict(CPU_POWER.options), supports_check_mode=True), CPU_POWER.name)


if __name__ == "__main__":
    main()
