# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which captured machines there are, of which group each is, and where its tree lies; archives are unpacked for this run only."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

from ansible import constants as C
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.lowlatency.fleet.plugins.plugin_utils import captures, profiles, transaction

OPTIONS = {
    "paths": {"type": "list", "elements": "path", "required": True},
    "profile": {"type": "str"},
}
GROUPS = ("md-gateways", "order-gateways", "risk-engines", "replay-servers", "wan-gateways")
PREFIX = "captured-"


class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        said = transaction.validated(task_vars["inventory_hostname"], "captures", OPTIONS, self._task.args)
        profile = said.get("profile")
        if profile is not None:
            profiles.load(profile)
        try:
            there = captures.found(said["paths"])
            groups = {capture.name: groups_of(capture.name, profile, task_vars.get("groups") or {}) for capture in there}
            # unpacked in the run's own temporary folder, which goes with the run
            place = os.path.join(C.DEFAULT_LOCAL_TMP, "lowlatency-captures")
            os.makedirs(place, mode=0o700, exist_ok=True)
            hosts = [{"name": capture.name, "groups": groups[capture.name],
                      "sysroot": captures.opened(capture, os.path.join(place, hashlib.sha256(capture.name.encode()).hexdigest()))} for capture in there]
        except captures.CaptureError as error:
            raise AnsibleActionFail(str(error)) from None
        return {"changed": False, "hosts": hosts}


def groups_of(name: str, profile: str | None, groups: Mapping[str, Sequence[str]]) -> list[Any]:
    """The groups of offline plays that a capture belongs to: by its profile, else by the inventory. Raises ``CaptureError``."""
    if profile is not None:
        named = profile.replace("_", "-") + "s"
        return [PREFIX + (named if named in GROUPS else GROUPS[0])]
    found = [PREFIX + group for group in GROUPS if name in groups.get(group, ())]
    if not found:
        raise captures.CaptureError(f"{name}: the inventory has no host of this name in {', '.join(GROUPS)}; give one that has, or "
                                    "-e lowlatency_profile=md_gateway for all captures")
    return found
