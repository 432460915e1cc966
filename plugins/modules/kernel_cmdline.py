#!/usr/bin/python
# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kernel arguments: what runs, what boots next, and a trial boot from one to the other."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kernel_cmdline
short_description: Kernel arguments of a low-latency host, tried before they stay
version_added: "0.1.0"
description:
  - Compares what is wanted, what the next boot brings and what runs now, argument by argument; for isolation also what the kernel made of it
    (C(/sys/devices/system/cpu/isolated) and C(nohz_full)).
  - Owns its own arguments only, in C(/etc/default/grub.d/80-lowlatency.cfg) on Debian and Ubuntu, by grubby on EL and Fedora. Any other boot
    loader is an error, not a guess. Arguments that may repeat (C(console), C(hugepagesz) with C(hugepages)) keep their order.
  - A new command line is booted once, as an entry of its own, with C(panic) set. The host itself reboots into the old one when nobody
    confirms it in time. Only after the controller has reconnected and the kernel's own files are as wanted does it become the default.
  - Refuses what must not be, such as a set that takes every CPU or CPU 0, splits a core, or differs between C(isolcpus) and C(nohz_full);
    arguments of the installation (C(root), C(console), C(init) and others); and what takes a protection away without O(security_waiver).
  - In a host-role playbook (where C(lowlatency_transaction) is true) the task only joins the transaction that the apply role runs.
author:
  - contributors to lowlatency.fleet (@lowlatency-fleet)
extends_documentation_fragment:
  - lowlatency.fleet.contract
options:
  arguments:
    description:
      - Arguments and their values; V(true) for an argument without a value, V(planned) for the value in O(planned).
      - An argument that the machine has no use for (V(tsc=reliable) without a reliable TSC, V(intel_idle.max_cstate) on another CPU) is
        V(unsupported) and not written.
    type: dict
    default: {}
  planned:
    description: Values that follow from the core partition, as P(lowlatency.fleet.core_partition#filter) returns them; empty ones count as not wanted.
    type: dict
    default: {}
  hugepages:
    description: Huge pages as M(lowlatency.fleet.hugepages) takes them in its C(pages); those to be had at boot become arguments.
    type: list
    elements: dict
    default: []
  security_waiver:
    description: Id of the decision that allows arguments such as V(mitigations=off) or V(audit=0). Kept with the setting and reported.
    type: str
  reboot_ok:
    description:
      - Whether the host may be rebooted. If not, what waits for a boot is only reported, and nothing of the boot loader is written.
      - If so, a new command line is booted once, as an entry of its own. Only a host that came back with it, which the kernel's own files
        have to show, makes it the default. There is one reboot at most.
    type: bool
    default: false
  trial_seconds:
    description: Seconds after its boot at which the host goes back by itself from a command line that nobody confirmed.
    type: int
    default: 600
  reboot_timeout:
    description: Seconds to wait for the host to come back, by its new command line or, after that failed, by its old one.
    type: int
    default: 1800
"""

EXAMPLES = r"""
- name: CPUs 2 and 3 are isolated after at most one reboot
  lowlatency.fleet.kernel_cmdline:
    arguments:
      isolcpus: managed_irq,domain,2-3
      nohz_full: 2-3
      rcu_nocbs: 2-3
      irqaffinity: 0-1
      skew_tick: 1
      nosoftlockup: true
    reboot_ok: true
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
      sample: cmdline.isolcpus
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
rebooted:
  description: Whether the host was rebooted.
  returned: when it was
  type: bool
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.lowlatency.fleet.plugins.module_utils.domains import KERNEL_CMDLINE
from ansible_collections.lowlatency.fleet.plugins.module_utils.door import BOOT_OPTIONS, run_domain


def main() -> None:
    run_domain(AnsibleModule(argument_spec={**KERNEL_CMDLINE.options, **BOOT_OPTIONS}, supports_check_mode=True), KERNEL_CMDLINE.name)


if __name__ == "__main__":
    main()
