#!/usr/bin/python
# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The queueing discipline of each transmit queue, all interfaces of a host in one call."""

from __future__ import annotations

DOCUMENTATION = r"""
module: qdisc
short_description: Queueing disciplines of NICs, in every transmit queue
version_added: "0.1.0"
description:
  - Puts a queueing discipline in place on each NIC, below C(mq) in every transmit queue where the driver can have several, and at the root where it
    cannot. All queues are read back.
  - Only kinds and options that differ are written. Options that are not named stay as they are, and are not judged.
  - A tree of the site (C(htb), C(prio), C(tbf) and so on) is an error of that NIC, and stays, unless O(qdisc) says C(replace).
    What hangs on C(ingress) or C(clsact) is never touched.
  - The kernel loads the module of a kind by itself. A kernel without it is an error of the NIC, in a container V(unsupported).
  - The host agent sets all of it again at boot and when a NIC appears or changes its channels. For NICs of which nothing is said, and until then,
    C(net.core.default_qdisc) is what the kernel chooses; the M(lowlatency.fleet.tunables) module sets it.
  - The interface that carries the default route or this SSH connection is not touched unless its entry says O(nics[].management=true).
  - In a host-role playbook (where C(lowlatency_transaction) is true) the task only joins the transaction that the apply role runs.
author:
  - contributors to lowlatency.fleet (@lowlatency-fleet)
extends_documentation_fragment:
  - lowlatency.fleet.contract
options:
  qdisc:
    description:
      - What is wanted of every NIC. C(kind) is V(fq), V(fq_codel) or V(pfifo_fast); nothing is done without it.
      - C(options) are those of the kind, by the names of tc-fq(8) and tc-fq_codel(8). Rates are written like V(800mbit), times like V(5ms), and C(pacing)
        and C(ecn) are V(on) or V(off).
      - C(replace), a boolean, lets a tree of the site go, which nothing brings back.
    type: dict
    default: {}
  confirm_seconds:
    description:
      - Seconds after which the host takes a network change back by itself, unless the controller has reached it over a new connection. V(0) makes it stay
        at once.
    type: int
    default: 120
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
      qdisc:
        description:
          - As O(qdisc), of this NIC alone and over that for all. With another kind, the options for all do not apply.
        type: dict
"""

EXAMPLES = r"""
- name: Packets of BBR are paced by fq, in every transmit queue
  lowlatency.fleet.qdisc:
    qdisc:
      kind: fq
    nics:
      - interface: ens1f0
      - pci: "0000:81:00.0"
        qdisc:
          options:
            flow_limit: 200
            maxrate: 5gbit
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
      sample: net.qdisc
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
from ansible_collections.lowlatency.fleet.plugins.module_utils.domains import QDISC
from ansible_collections.lowlatency.fleet.plugins.module_utils.door import NETWORK_OPTIONS, run_domain


def main() -> None:
    run_domain(AnsibleModule(argument_spec={**QDISC.options, **NETWORK_OPTIONS}, supports_check_mode=True), QDISC.name)


if __name__ == "__main__":
    main()
