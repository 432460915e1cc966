#!/usr/bin/python
# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kernel tunables (sysctl), live and in one owned file."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tunables
short_description: Kernel tunables, live and after the next boot
version_added: "0.1.0"
description:
  - Sets sysctl keys live and in one owned file, C(/etc/sysctl.d/80-lowlatency.conf), reads them back, and judges both.
  - A key that the running kernel, or this container, does not have is V(unsupported) and named; it is no failure.
  - A value that something will overwrite at boot has drifted, and the culprit is named, such as a file of sysctl.d that is read later, tuned, or ufw.
    Commands in scripts, units and crontabs that set a key otherwise are findings.
  - A congestion control algorithm is refused where the kernel has neither it nor a module for it. The module is loaded at boot by one owned file,
    C(/etc/modules-load.d/lowlatency.conf). New connections have the new algorithm, others keep theirs.
  - In a host-role playbook (where C(lowlatency_transaction) is true) the task only joins the transaction that the apply role runs.
author:
  - contributors to lowlatency.fleet (@lowlatency-fleet)
extends_documentation_fragment:
  - lowlatency.fleet.contract
options:
  values:
    description:
      - The keys and their values, as numbers or text. Vectors are written with blanks.
      - A YAML boolean is refused, since sysctl has none.
      - C(kernel.watchdog_cpumask) may be V(planned), the CPUs of O(housekeeping).
    type: dict
    default: {}
  overrides:
    description: More of them, which win over O(values); those of a site over those of a profile.
    type: dict
    default: {}
  housekeeping:
    description: The CPUs that V(planned) means, as a cpulist.
    type: str
  paths:
    description:
      - Long paths. The maxima C(net.core.rmem_max), C(net.core.wmem_max) and the third words of C(net.ipv4.tcp_rmem) and C(net.ipv4.tcp_wmem) are
        raised to twice bandwidth x delay of the longest where O(values) has less. All four must be there.
      - A smaller one in O(overrides) is refused.
    type: list
    elements: dict
    suboptions:
      bandwidth:
        description: Bits per second, such as V(10gbit) (kbit, mbit, gbit).
        type: str
        required: true
      round_trip_ms:
        description: Round trip in milliseconds.
        type: float
        required: true
  small_buffers:
    description:
      - Whether buffers are as small as 8 KiB (C(net.core.rmem_default), C(net.core.wmem_default)) and C(4096 8192 16384) (C(net.ipv4.tcp_rmem)).
      - A finding tells what that costs. Refused for O(traffic) V(bulk) and V(wan).
    type: bool
  traffic:
    description:
      - What the host carries, V(market_data), V(orders), V(compute), V(bulk) or V(wan). Buffers that would harm it are refused, and C(net.ipv4.tcp_sack)
        V(0) for V(wan).
    type: str
"""

EXAMPLES = r"""
- name: Keepalive finds a dead peer within eight seconds
  lowlatency.fleet.tunables:
    values:
      net.ipv4.tcp_keepalive_time: 5
      net.ipv4.tcp_keepalive_intvl: 1
      net.ipv4.tcp_keepalive_probes: 3
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
      sample: net.ipv4.tcp_keepalive_time
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
from ansible_collections.lowlatency.fleet.plugins.module_utils.domains import TUNABLES
from ansible_collections.lowlatency.fleet.plugins.module_utils.door import run_domain


def main() -> None:
    run_domain(AnsibleModule(argument_spec=dict(TUNABLES.options), supports_check_mode=True), TUNABLES.name)


if __name__ == "__main__":
    main()
