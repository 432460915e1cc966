#!/usr/bin/python
# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The transaction of a host: all domains in one execution."""

from __future__ import annotations

DOCUMENTATION = r"""
module: apply
short_description: The transaction of a host, all domains in one execution
version_added: "0.1.0"
description:
  - Reads everything, plans everything, refuses as a whole if anything is wrong, keeps the originals in a journal, writes in order, reads back.
  - Installs the host agent with the same desired state, which sets at boot what Linux has no file for.
  - In the host-role playbooks the documents are those that the roles joined to the transaction; they are not given by hand.
author:
  - contributors to lowlatency.fleet (@lowlatency-fleet)
extends_documentation_fragment:
  - lowlatency.fleet.contract
options:
  documents:
    description:
      - Specifications by domain and part, such as C(tunables) and C(tcp_tuning). Each is what the module of that domain takes.
      - Left out, the documents are those that joined the transaction of this play.
    type: dict
  reboot_ok:
    description:
      - Whether the host may be rebooted. If not, what waits for a boot is only reported, and nothing of the boot loader is written.
      - If so, a new command line is booted once, as an entry of its own. Only a host that came back with it, which the kernel's own files
        have to show, makes it the default. There is one reboot at most.
    type: bool
    default: false
  bios_waiting:
    description: What else waits for a boot, because it was set in the BIOS. The one reboot is for it too.
    type: list
    elements: str
    default: []
  trial_seconds:
    description: Seconds after its boot at which the host goes back by itself from a command line that nobody confirmed.
    type: int
    default: 600
  reboot_timeout:
    description: Seconds to wait for the host to come back, by its new command line or, after that failed, by its old one.
    type: int
    default: 1800
  confirm_seconds:
    description:
      - Seconds after which the host takes a network change back by itself, unless the controller has reached it over a new connection. V(0) makes it stay
        at once.
    type: int
    default: 120
  sysroot:
    description:
      - Folder of a captured machine (C(sys), C(proc), C(etc)), to audit it instead of the live one. Check mode only.
      - What only a live kernel or service manager can tell is V(unsupported), with that as its reason.
    type: path
    default: /
"""

EXAMPLES = r"""
- name: The host is what its profile says
  lowlatency.fleet.apply:
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
      sample: net.ipv4.tcp_sack
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
from ansible_collections.lowlatency.fleet.plugins.module_utils.door import (
    BOOT_OPTIONS,
    NETWORK_OPTIONS,
    TREE_OPTIONS,
    run_documents,
)


def main() -> None:
    module = AnsibleModule(argument_spec={"documents": {"type": "dict"}, "bios_waiting": {"type": "list", "elements": "str", "default": []},
                                          **BOOT_OPTIONS, **NETWORK_OPTIONS, **TREE_OPTIONS}, supports_check_mode=True)
    run_documents(module, module.params["documents"] or {})


if __name__ == "__main__":
    main()
