#!/usr/bin/python
# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: captures
short_description: Captured machines, and where their trees lie
version_added: "0.1.0"
description:
  - Finds captured machines on the controller, and says of each its name, the groups of C(playbooks/audit_offline.yml) it belongs to, and its folder.
  - Archives (of C(scripts/capture), or any tar archive with C(sys) and C(proc)) are unpacked into the temporary folder of the run and go with it. An
    archive with names or links that lead out of its folder, or of an improbable size, is refused.
  - Runs on the controller alone and changes nothing else.
author:
  - contributors to lowlatency.fleet (@lowlatency-fleet)
attributes:
  check_mode:
    description: Can run in C(check_mode); nothing of a host or of a capture is changed.
    support: full
  diff_mode:
    description: Returns no differences.
    support: none
requirements:
  - Python 3.11 or later on the controller
options:
  paths:
    description:
      - Each is the folder of one machine (with C(sys) and C(proc)), an archive of one (F(.tar.gz), F(.tgz), F(.tar)), or a folder of both.
      - A machine has the name of its folder or archive.
    type: list
    elements: path
    required: true
  profile:
    description: The profile by which all of them are judged. Left out, each is judged by its group in the inventory.
    type: str
"""

EXAMPLES = r"""
- name: Captured machines are known
  lowlatency.fleet.captures:
    paths: [/srv/captures]
    profile: md_gateway
  register: captured
"""

RETURN = r"""
hosts:
  description: The captured machines, by name.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the machine.
      type: str
      returned: success
      sample: md01
    groups:
      description: Groups of C(playbooks/audit_offline.yml).
      type: list
      elements: str
      returned: success
      sample: [captured-md-gateways]
    sysroot:
      description: Folder with its C(sys) and C(proc).
      type: str
      returned: success
      sample: /srv/captures/md01
"""
