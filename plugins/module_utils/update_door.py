# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The door between the module nic_update and what it does. Apart from door.py, so that no other module carries it to the hosts."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from . import updater
from .domains import NIC_FIRMWARE
from .host.machine import Host, Unreadable
from .model.nic_update import DEVLINK, MSTFLINT, REBOOT, RESET
from .model.setting import SpecError, as_dicts, judged, options_given

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

IMAGE_OPTIONS = {
    "driver": {"type": "str", "required": True}, "pci_id": {"type": "str"}, "psid": {"type": "str"}, "version": {"type": "str", "required": True},
    "file": {"type": "str", "required": True}, "sha256": {"type": "str", "required": True}, "component": {"type": "str"},
    "tool": {"type": "str", "choices": [DEVLINK, MSTFLINT], "default": DEVLINK},
    "activate": {"type": "str", "choices": [RESET, REBOOT], "default": RESET},
}
UPDATE_OPTIONS = {
    **NIC_FIRMWARE.options,
    "images": {"type": "list", "elements": "dict", "default": [], "options": IMAGE_OPTIONS},
    "flash": {"type": "bool", "default": False}, "maintenance": {"type": "bool", "default": False}, "reload": {"type": "bool", "default": False},
    "reboot_ok": {"type": "bool", "default": False}, "reboot_timeout": {"type": "int", "default": 1800}, "verify": {"type": "bool", "default": False},
}


def run_update(module: AnsibleModule) -> None:
    """Drivers and firmware of NICs; ends the module."""
    if not module.check_mode and os.geteuid() != 0:
        module.fail_json(msg="flashing and loading drivers needs root; set become: true (check mode does not need it)")
    try:
        report = updater.update(Host(), options_given(module.params), check=module.check_mode)
    except (updater.Refused, SpecError, Unreadable, OSError) as error:
        module.fail_json(msg=f"nothing was flashed or loaded: {error}")
    result = {"changed": bool(report.done), "done": report.done, "left": report.left, "needed": report.needed, "reboot_required": bool(report.waits),
              "reboot_reasons": report.waits, "settings": as_dicts(judged(setting) for setting in report.settings)}
    if report.wrong:
        module.fail_json(msg="; ".join(report.wrong), **result)
    module.exit_json(**result)
