# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the host's topology, plan its cores, and open an empty transaction. Refuses before anything is written."""

from __future__ import annotations

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.host_plan import host_plan
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.partition import SIBLINGS_IDLE, SMT_POLICIES
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.setting import SpecError
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.topology import Topology
from ansible_collections.lowlatency.fleet.plugins.plugin_utils import profiles, transaction

OPTIONS = {
    "profile": {"type": "str"},
    "nics": {"type": "list", "elements": "dict", "default": []},
    "all_nics": {"type": "bool", "default": False},
    "application_cores": {"type": "int", "default": 0},
    "application_cpulist": {"type": "str", "default": ""},
    "isolate": {"type": "bool", "default": True},
    "smt_policy": {"type": "str", "default": SIBLINGS_IDLE, "choices": list(SMT_POLICIES)},
    "housekeeping_cores": {"type": "int", "default": 2},
    "irq_cores": {"type": "int", "default": 2},
    "l3_align": {"type": "bool"},
    "spill": {"type": "bool", "default": False},
    "allow_cpu0": {"type": "bool", "default": False},
    "hugepages": {"type": "list", "elements": "dict", "default": []},
    "services": {"type": "list", "elements": "dict", "default": []},
    "bypass_profiles": {"type": "dict", "default": {}},
    "sysroot": {"type": "path", "default": "/"},
    "bios_waiting": {"type": "list", "elements": "str", "default": []},
    "reboot_ok": {"type": "bool", "default": False},
    "reboot_timeout": {"type": "int", "default": 1800},
}


class ActionModule(ActionBase):
    def run(self, tmp=None, task_vars=None):
        super().run(tmp, task_vars)
        host = task_vars["inventory_hostname"]
        site = transaction.validated(host, "preflight", OPTIONS, self._task.args)
        profile = site.pop("profile", None)
        if profile is not None:
            profiles.load(profile)
        if site["sysroot"] != "/" and not self._task.check_mode and transaction.is_open(self._templar, task_vars):
            raise AnsibleActionFail(f"{host}: sysroot {site['sysroot']}: a captured tree is only audited; run in check mode (--check), "
                                    "or leave lowlatency_sysroot out; nothing was written")
        waiting, reboot_ok, timeout = (site.pop(option) for option in ("bios_waiting", "reboot_ok", "reboot_timeout"))
        if waiting and not self._task.check_mode and not transaction.was_booted(host):
            # Other CPUs or nodes come with the boot: whatever is planned before it is for another machine.
            if not reboot_ok:
                raise AnsibleActionFail(f"{host}: {', '.join(waiting)} is set and changes its CPUs or nodes with the next boot; reboot it first, "
                                        "or allow that (lowlatency_reboot_ok); nothing was written")
            failure = transaction.boot_for_bios(self, timeout, waiting, task_vars)
            if failure:
                raise AnsibleActionFail(failure)
        result = transaction.run_module(self, "topology_info", {"sysroot": site.pop("sysroot")}, task_vars)
        if result.get("failed") or result.get("unreachable") or "topology" not in result:
            return result
        try:
            plan = host_plan(Topology.from_dict(result["topology"]), result["host"]["interfaces"], site, kernel=result["host"].get("kernel", ""))
        except SpecError as error:
            raise AnsibleActionFail(f"{host}: {error}; nothing was written") from None
        transaction.begin(host)
        return {"changed": False, "topology": result["topology"], "host": result["host"], "smt_policy": site["smt_policy"], **plan}
