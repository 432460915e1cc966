#!/usr/bin/python
# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is set of NICs themselves, all interfaces of a host in one call."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ethtool
short_description: What is set of NICs, all interfaces of a host in one call
version_added: "0.1.0"
description:
  - Sets private flags, channels, rings, coalescing, flow control, EEE, features, RSS, steering rules, RPS and NAPI, in this order, through the kernel's
    ethtool interface and sysfs.
  - Only differences are written, those of one kind in one request, and all is read back from the driver. What a write resets is written again.
  - Each parameter is judged by itself. One that the driver has not, or has fixed, is V(unsupported) and stops no other, unless O(required) names it.
  - What is wrong with one NIC is an error of that NIC, of which nothing is set; the others are finished, and then the task fails.
  - The host agent sets all of it again at boot and when a NIC appears.
  - The interface that carries the default route or this SSH connection is not touched unless its entry says O(nics[].management=true).
  - In a host-role playbook (where C(lowlatency_transaction) is true) the task only joins the transaction that the apply role runs.
author:
  - contributors to lowlatency.fleet (@lowlatency-fleet)
extends_documentation_fragment:
  - lowlatency.fleet.contract
options:
  private_flags:
    description:
      - Private flags of the driver wanted of every NIC, each V(on) or V(off), by the names of C(ethtool --show-priv-flags).
    type: dict
  channels:
    description:
      - Channels wanted of every NIC, C(combined), C(rx), C(tx) and C(other), each a number or V(max), what the NIC can have.
      - C(queues), alone, stands for C(combined), or for C(rx) and C(tx) where the driver has no combined ones.
      - V(irq-cpus) is as many as the NIC has CPUs for its interrupts (O(nics[].irq_cpus)).
    type: dict
  rings:
    description:
      - Ring sizes wanted of every NIC, by the names of C(ethtool -G), each a number or V(max), what the NIC can have.
    type: dict
  coalesce:
    description:
      - Interrupt coalescing wanted of every NIC, by the names of C(ethtool -C).
    type: dict
  pause:
    description:
      - Flow control wanted of every NIC, C(autoneg), C(rx) and C(tx), each V(on) or V(off).
      - What is negotiated is what counts; to be certain, C(autoneg) is switched off too.
    type: dict
  eee:
    description:
      - Energy-efficient Ethernet wanted of every NIC, C(enabled), C(tx-lpi) and C(tx-timer).
    type: dict
  features:
    description:
      - Features wanted of every NIC of the list, by the names that C(ethtool -K) takes or the kernel's own, each V(on) or V(off).
    type: dict
  rss:
    description:
      - Receive-side scaling wanted of every NIC. C(equal) is the number of queues that the indirection table spreads to evenly, or V(channels);
        C(weight) is a list instead.
      - C(hash) maps packet types such as C(udp4) to the hashed fields, in the letters of C(ethtool -N rx-flow-hash), such as V(sdfn).
    type: dict
  rps:
    description:
      - Receive packet steering of every receive queue, C(rps_cpus) as a cpulist, empty for none, and C(rps_flow_cnt).
    type: dict
  napi:
    description:
      - How NAPI is polled, C(napi_defer_hard_irqs), C(gro_flush_timeout) in nanoseconds, and C(threaded), V(on) or V(off).
    type: dict
  required:
    description:
      - What every NIC must support, each as group and parameter, such as V(coalesce.rx-usecs) or V(features.gro), or a group alone.
      - Where one does not, the run fails, with the NIC, its driver and their versions in the message.
    type: list
    elements: str
    default: []
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
      irq_cpus:
        description: The CPUs planned for the interrupts of this NIC, as a cpulist.
        type: str
      private_flags:
        description:
          - As O(private_flags), of this NIC alone and over those for all.
        type: dict
      channels:
        description:
          - As O(channels), of this NIC alone and over those for all.
        type: dict
      rings:
        description:
          - As O(rings), of this NIC alone and over those for all.
        type: dict
      coalesce:
        description:
          - As O(coalesce), of this NIC alone and over those for all.
        type: dict
      pause:
        description:
          - As O(pause), of this NIC alone and over those for all.
        type: dict
      eee:
        description:
          - As O(eee), of this NIC alone and over those for all.
        type: dict
      features:
        description:
          - As O(features), of this NIC alone and over those for all.
        type: dict
      rss:
        description:
          - As O(rss), of this NIC alone and over those for all.
        type: dict
      rps:
        description:
          - As O(rps), of this NIC alone and over those for all.
        type: dict
      napi:
        description:
          - As O(napi), of this NIC alone and over those for all.
        type: dict
      rules:
        description:
          - Flow-steering rules (ntuple, Intel's Flow Director) of this NIC, in the words of C(ethtool -N), C(flow-type), C(src-ip), C(dst-ip), C(src-port),
            C(dst-port), C(tos), C(l4proto), C(vlan), for C(ether) also C(src), C(dst) and C(proto), and C(action), a queue or V(-1) to drop.
          - A rule for the same packets with another action is replaced. Addresses may have a prefix length. C(loc) is chosen where it is left out.
          - Most drivers need the feature C(ntuple) on.
        type: list
        elements: dict
      only_these_rules:
        description: Remove all other steering rules of this NIC.
        type: bool
        default: false
"""

EXAMPLES = r"""
- name: Packets reach the application one by one and at once
  lowlatency.fleet.ethtool:
    features:
      gro: "off"
      lro: "off"
      tso: "off"
    coalesce:
      adaptive-rx: "off"
      rx-usecs: 0
      rx-frames: 1
    rings:
      rx: max
    required:
      - coalesce.rx-usecs
    nics:
      - interface: ens1f0
        channels:
          combined: 4
      - pci: "0000:81:00.0"
        features:
          ntuple: "on"
        rules:
          - flow-type: udp4
            dst-ip: 233.54.12.1
            dst-port: 26400
            action: 2
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
unconfirmed:
  description: Identity of a network change that the host takes back unless it is confirmed, which the action has done over a new connection; empty if none.
  returned: always
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.lowlatency.fleet.plugins.module_utils.domains import ETHTOOL
from ansible_collections.lowlatency.fleet.plugins.module_utils.door import NETWORK_OPTIONS, run_domain


def main() -> None:
    run_domain(AnsibleModule(argument_spec={**ETHTOOL.options, **NETWORK_OPTIONS}, supports_check_mode=True), ETHTOOL.name)


if __name__ == "__main__":
    main()
