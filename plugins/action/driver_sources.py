# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which packages and repositories of the site a host takes; on the controller alone. Nothing in check mode, and nothing that is not allowed."""

from __future__ import annotations

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.lowlatency.fleet.plugins.module_utils.model import nic_update
from ansible_collections.lowlatency.fleet.plugins.plugin_utils import site_files, transaction

OPTIONS = {
    "packages": {"type": "list", "elements": "dict", "default": []},
    "repositories": {"type": "list", "elements": "dict", "default": []},
    "archives": {"type": "list", "elements": "dict", "default": []},
    "drivers": {"type": "list", "elements": "str", "default": []},
    "family": {"type": "str", "required": True},
    "allowed": {"type": "bool", "default": False},
}


class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        host = task_vars["inventory_hostname"]
        spec = transaction.validated(host, "driver_sources", OPTIONS, self._task.args)
        problems = nic_update.source_problems(spec["packages"], spec["repositories"], spec["archives"])
        if problems:
            raise AnsibleActionFail(f"{host}: driver_sources: {'; '.join(problems)}")
        if not spec["allowed"] or self._task.check_mode:
            why = "check mode" if self._task.check_mode else "the site gives sources and does not allow to install them"
            return {"changed": False, "installs": False, "msg": f"{why}: nothing is installed", **nic_update.sources_of([], [], [], spec["family"])}
        found = nic_update.sources_of(spec["packages"], spec["repositories"], spec["drivers"], spec["family"], spec["archives"])
        for file in found["copied_files"]:
            file["file"] = site_files.checked(self, f"{host}: package", file, "nothing was installed")
        return {"changed": False, "installs": True, **found}
