#!/usr/bin/python
# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""TCP without SACK towards some prefixes, live and after the next boot."""

from __future__ import annotations

DOCUMENTATION = r"""
module: sack_filter
short_description: TCP without SACK towards some prefixes
version_added: "0.1.0"
description:
  - Takes the SACK-permitted option out of SYN and SYN/ACK to and from prefixes, in a table of nftables of its own (C(inet lowlatency_sack)), so that
    new connections there do without SACK. Connections made before keep what they agreed on.
  - C(net.ipv4.tcp_sack) is one for all connections of a network namespace. It stays on; this is for links on which nothing is lost.
  - The cost is said with the setting. Without SACK there is no RACK-TLP, so a lost tail waits for the retransmission timer, 200 ms at least.
  - The table is kept by C(/etc/lowlatency/sack.nft) and C(lowlatency-sack.service), which sets it again when nftables.service is restarted or reloaded.
  - Without prefixes all of that is removed.
  - Needs the package nftables; without it a run that asks for prefixes is refused.
  - In a host-role playbook (where C(lowlatency_transaction) is true) the task only joins the transaction that the apply role runs.
author:
  - contributors to lowlatency.fleet (@lowlatency-fleet)
extends_documentation_fragment:
  - lowlatency.fleet.contract
options:
  prefixes:
    description:
      - IPv4 and IPv6 prefixes, such as V(10.20.0.0/16). All of the internet (V(0.0.0.0/0)) is refused.
    type: list
    elements: str
    default: []
  traffic:
    description:
      - What the host carries. On V(wan) prefixes are refused, since packets are lost on the way.
    type: str
    default: ""
"""

EXAMPLES = r"""
- name: No SACK inside, where nothing is lost
  lowlatency.fleet.sack_filter:
    prefixes:
      - 10.20.0.0/16
      - fd20::/16
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
      sample: tcp.sack_filter
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
from ansible_collections.lowlatency.fleet.plugins.module_utils.domains import SACK_FILTER
from ansible_collections.lowlatency.fleet.plugins.module_utils.door import run_domain


def main() -> None:
    run_domain(AnsibleModule(argument_spec=dict(SACK_FILTER.options), supports_check_mode=True), SACK_FILTER.name)


if __name__ == "__main__":
    main()
