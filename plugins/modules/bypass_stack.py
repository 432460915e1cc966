#!/usr/bin/python
# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Stacks in user space, for the kernel that runs and for the one that boots next."""

from __future__ import annotations

DOCUMENTATION = r"""
module: bypass_stack
short_description: Onload, XLIO or VMA for every kernel, with options, profiles and AF_XDP
version_added: "0.1.0"
description:
  - Sees to it that the kernel modules of a stack in user space are there for the kernel that runs and for the one that boots next, and are
    loaded, from the files that are on disk. DKMS builds what is missing where the headers of that kernel are here; where they are not, the
    host is refused and the package named.
  - Writes options and order of loading of modules, and profiles of Onload; gives NICs to AF_XDP; and takes all of that away again.
  - Library, versions against each other and against those of the site, and signatures under Secure Boot or lockdown are findings.
  - On a host where no NIC of O(nics) has the driver of the stack, nor is given to AF_XDP, all is V(unsupported), and in a container too.
  - A module of another build that is in use, or that drives an interface, is a finding until the next boot. The driver of the NICs is never unloaded.
  - Installs no package; the role P(lowlatency.fleet.onload#role) does.
  - In a host-role playbook (where C(lowlatency_transaction) is true) the task only joins the transaction that the apply role runs.
author:
  - contributors to lowlatency.fleet (@lowlatency-fleet)
extends_documentation_fragment:
  - lowlatency.fleet.contract
options:
  stack:
    description: Which one is wanted. Without one, what this collection wrote for an earlier one goes.
    type: str
    choices: ["", onload, xlio, vma]
  state:
    description: With V(absent), its files go, and its modules are unloaded, the last one first, where nothing uses them.
    type: str
    choices: [present, absent]
  prebuilt:
    description: Whether packages bring modules ready built, so that no headers are asked for.
    type: bool
  options:
    description: Values by module and parameter. A module takes them when it is loaded.
    type: dict
  load:
    description:
      - The modules, in the order in which they are loaded. Those of the stack where none are named, which for Onload are V(sfc) (where a NIC has
        that driver), V(sfc_resource), V(sfc_char) and V(onload).
    type: list
    elements: str
  profiles:
    description:
      - Profiles for C(onload --profile), by name, each with C(EF_) settings. V(latency) is built in, for packages that bring none.
      - A name that a package has taken is refused.
    type: dict
  versions:
    description: C(minimum), C(maximum) or C(exact) of V(library), V(driver) and V(firmware). Versions are text between quotes.
    type: dict
  combinations:
    description: What was measured together. A host that has none of them is told of. A part that is left out may be any.
    type: list
    elements: dict
    suboptions:
      library:
        description: Version of the library, as far as it matters.
        type: str
      driver:
        description: Version of the driver, as far as it matters.
        type: str
      firmware:
        description: Version of the NIC's firmware, as far as it matters.
        type: str
  nics:
    description: The NICs.
    type: list
    elements: dict
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
      af_xdp:
        description: Whether Onload is to use it by AF_XDP. Never a management NIC.
        type: bool
      application_cpus:
        description: Not used here, so that the list of other modules can be given.
        type: str
      numa_node:
        description: Not used here, so that the list of other modules can be given.
        type: int
"""

EXAMPLES = r"""
- name: Onload is there for every kernel
  lowlatency.fleet.bypass_stack:
    stack: onload
    state: present
    options:
      onload: {max_packets_per_stack: 65536}
    profiles:
      gateway: {EF_POLL_USEC: 100000, EF_RXQ_SIZE: 4096}
    combinations:
      - {library: "8.1", driver: "8.1", firmware: "8.3"}
    nics:
      - interface: ens1f0
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
      sample: bypass.built
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
from ansible_collections.lowlatency.fleet.plugins.module_utils.domains import BYPASS_STACK
from ansible_collections.lowlatency.fleet.plugins.module_utils.door import run_domain


def main() -> None:
    run_domain(AnsibleModule(argument_spec=dict(BYPASS_STACK.options), supports_check_mode=True), BYPASS_STACK.name)


if __name__ == "__main__":
    main()
