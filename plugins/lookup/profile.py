# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The values of a role in a profile."""

from __future__ import annotations

DOCUMENTATION = r"""
name: profile
short_description: What a profile says of a role
version_added: "0.1.0"
author: contributors to lowlatency.fleet (@lowlatency-fleet)
description:
  - Reads C(profiles/NAME.yml) of this collection, or a file of the site when the name is a path.
  - The defaults of the roles read their profile with it, so that any inventory variable overrides any single value.
options:
  _terms:
    description: The profile, and the role whose values are wanted.
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: What the profile of market data gateways says of TCP
  ansible.builtin.debug:
    msg: "{{ lookup('lowlatency.fleet.profile', 'md_gateway', 'tcp_tuning') }}"
"""

RETURN = r"""
_raw:
  description: The values of the role, empty when the profile does not speak of it.
  type: list
  elements: dict
"""

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase
from ansible_collections.lowlatency.fleet.plugins.plugin_utils import profiles


class LookupModule(LookupBase):
    def run(self, terms, variables=None, **kwargs):
        if len(terms) != 2:
            raise AnsibleLookupError("profile takes two names: the profile and the role")
        return [profiles.load(str(terms[0])).get(str(terms[1]), {})]
