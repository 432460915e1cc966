# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""End the transaction: one module execution with all that joined, and one more after a boot."""

from __future__ import annotations

from ansible.plugins.action import ActionBase
from ansible_collections.lowlatency.fleet.plugins.module_utils.door import BOOT_OPTIONS, NETWORK_OPTIONS, TREE_OPTIONS
from ansible_collections.lowlatency.fleet.plugins.plugin_utils import transaction


class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        documents = self._task.args.get("documents")
        if documents is None:
            documents = transaction.take(task_vars["inventory_hostname"])
        if not documents:
            return {"changed": False, "skipped": True, "skip_reason": "no role joined the transaction"}
        passed = (*BOOT_OPTIONS, *NETWORK_OPTIONS, *TREE_OPTIONS, "bios_waiting")
        options = {option: self._task.args[option] for option in passed if option in self._task.args}
        return transaction.run_and_boot(self, "apply", {"documents": documents, **options}, task_vars)
