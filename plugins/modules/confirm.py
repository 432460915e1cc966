#!/usr/bin/python
# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A network change may stay."""

from __future__ import annotations

DOCUMENTATION = r"""
module: confirm
short_description: A network change may stay
version_added: "0.1.0"
description:
  - Tells a host that the network change it made may stay. Without that it takes the change back by itself.
  - The actions of C(lowlatency.fleet.apply) and C(lowlatency.fleet.ethtool) do this over a new connection, which shows that the host can be reached.
author:
  - contributors to lowlatency.fleet (@lowlatency-fleet)
options:
  identity:
    description: The C(unconfirmed) of the result of the task that made the change.
    type: str
    required: true
attributes:
  check_mode:
    support: none
    description: The task is skipped.
  diff_mode:
    support: none
    description: There is nothing to show.
"""

EXAMPLES = r"""
- name: The host can be reached, so its network settings may stay
  lowlatency.fleet.confirm:
    identity: "{{ tuned.unconfirmed }}"
"""

RETURN = r"""#"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.lowlatency.fleet.plugins.module_utils.door import run_confirmation


def main() -> None:
    run_confirmation(AnsibleModule(argument_spec={"identity": {"type": "str", "required": True}}, supports_check_mode=False))


if __name__ == "__main__":
    main()
