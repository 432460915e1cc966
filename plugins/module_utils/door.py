# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The door between Ansible modules and the transaction: arguments in, the contract of every module out.

It also packs the host agent: a zipapp of the very files that are running now.
"""

from __future__ import annotations

import importlib
import io
import os
import sys
import zipfile
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from . import agent, confirmed, runner
from .domains import DOMAINS
from .host.deployment import PROGRAM, interpreter, kept
from .host.files import locked
from .host.journal import BrokenJournal
from .host.machine import Host, Unreadable
from .model.setting import CHANGED, DRIFTED, Setting, as_dicts, options_given, updated_spec

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

# Everything the agent imports; a test starts the zipapp alone, so a name missing here cannot pass.
AGENT_MODULES = (
    "agent", "confirmed", "domains", "host.bios", "host.bootloader", "host.bypass_stack", "host.cmdline", "host.competitors", "host.container",
    "host.cpu_power", "host.deployment", "host.ethtool", "host.ethtool_ioctl", "host.ethtool_netlink", "host.facts", "host.files", "host.flow_spec",
    "host.held_sockets", "host.hugepages", "host.irq", "host.journal", "host.kernel_modules", "host.links", "host.machine", "host.memory", "host.netlink",
    "host.nic_firmware", "host.nic_queues", "host.pci_driver", "host.programs", "host.qdisc", "host.route_watch", "host.routes", "host.sack_filter",
    "host.service_pinning", "host.sockets", "host.sysctl_sources", "host.sysfs", "host.topology", "host.trial", "host.tunables", "host.unconfirmed",
    "host.units", "model.bios", "model.bios_menus", "model.buffers", "model.bypass_stack", "model.cmdline", "model.competitors", "model.cpu_power",
    "model.cpuset", "model.grub", "model.hugepages", "model.ini", "model.irq", "model.nic", "model.nic_commands", "model.nic_firmware",
    "model.nic_parameters", "model.partition", "model.pci_driver", "model.qdisc", "model.route_events", "model.routes", "model.sack_filter",
    "model.service_pinning", "model.setting", "model.smbios", "model.sockets", "model.steering", "model.sysctl_files", "model.sysfs", "model.topology",
    "model.tunables", "model.tuned", "model.units", "runner",
)
# The part of tasks outside of a host-role playbook.
OWN_PART = "site"
# How a boot is had: the first two are for the host, the last for the action on the controller.
BOOT_OPTIONS: dict[str, Any] = {
    "reboot_ok": {"type": "bool", "default": False},
    "trial_seconds": {"type": "int", "default": runner.TRIAL_SECONDS},
    "reboot_timeout": {"type": "int", "default": 1800},
}
# How long a network change waits for the controller to reach the host again.
NETWORK_OPTIONS: dict[str, Any] = {"confirm_seconds": {"type": "int", "default": confirmed.SECONDS}}

# Which machine: the live one, or a captured tree.
TREE_OPTIONS: dict[str, Any] = {"sysroot": {"type": "path", "default": "/"}}

PACKAGES = ("", "host", "model")
EPOCH = (1980, 1, 1, 0, 0, 0)


def extra_options(name: str) -> dict[str, Any]:
    """What the module of a domain takes beside its specification."""
    return {**(BOOT_OPTIONS if DOMAINS[name].boot else {}), **(NETWORK_OPTIONS if DOMAINS[name].network else {})}


def run_domain(module: AnsibleModule, name: str) -> None:
    """The transaction of one domain: the module's arguments over what earlier tasks of the site's own said of it."""
    try:
        before = kept(Host()).get(name, {}).get(OWN_PART, {})
    except Unreadable as error:
        module.fail_json(msg=str(error))
    said = {option: value for option, value in module.params.items() if option in DOMAINS[name].options}
    run_documents(module, {name: {OWN_PART: updated_spec(before, options_given(said))}})


def run_documents(module: AnsibleModule, documents: runner.Desired) -> None:
    """The transaction of a host; ends the module."""
    if not module.check_mode and os.geteuid() != 0:
        module.fail_json(msg="writing these settings needs root; set become: true (check mode does not need it)")
    try:
        host = _host_of(module)
        boot = runner.TRY if module.params.get("reboot_ok") else runner.SETTLE
        transaction = runner.begin(host, documents, program(host), boot, module.params.get("trial_seconds") or runner.TRIAL_SECONDS,
                                   module.params.get("confirm_seconds") or 0)
        outcome = runner.audit(transaction) if module.check_mode else runner.apply(transaction)
    except (runner.Refused, Unreadable, BrokenJournal, OSError) as error:
        module.fail_json(msg=f"nothing was written: {error}" if isinstance(error, runner.Refused) else str(error))
    result = {"changed": outcome.changed, "reboot_required": outcome.reboot_required, "reboot_reasons": outcome.reboot_reasons,
              "armed": outcome.armed, "unconfirmed": outcome.unconfirmed, "settings": as_dicts(outcome.settings)}
    if module._diff:  # pylint: disable=protected-access
        result["diff"] = differences(outcome)
    if outcome.errors and not module.check_mode:
        module.fail_json(msg="; ".join(f"{setting.subject}: {setting.reason}" for setting in outcome.errors), **result)
    module.exit_json(**result)


def _host_of(module: AnsibleModule) -> Host:
    """The live machine, or the captured tree of ``sysroot``, which is only audited; a failure of the module otherwise."""
    sysroot = os.path.abspath(module.params.get("sysroot") or "/").replace("//", "/")
    if sysroot == "/":
        return Host()
    if not module.check_mode:
        module.fail_json(msg=f"sysroot {sysroot}: a captured tree is only audited; run in check mode (--check), or leave sysroot out")
    if not os.path.isdir(sysroot):
        module.fail_json(msg=f"sysroot {sysroot}: no such folder; give the folder that holds the machine's sys and proc")
    return Host(sysroot, captured=True)


def run_confirmation(module: AnsibleModule) -> None:
    """Confirm a network change; ends the module."""
    host = Host()
    try:
        # the agent may be at work, because channels that came are an event of a NIC
        with locked(host, runner.PATIENCE):
            confirmed.confirm(host, module.params["identity"])
    except (confirmed.NotWaiting, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False)


def differences(outcome: runner.Outcome) -> list[dict[str, str]]:
    """Ansible's diff: one entry for the settings, one for each owned text file."""
    moved = [setting for setting in outcome.settings if setting.state in (DRIFTED, CHANGED) and not str(setting.desired).startswith("sha256:")]
    found = []
    if moved:
        found.append({"before_header": "settings (live, after boot)", "after_header": "settings (live, after boot)",
                      "before": "".join(_line(setting, setting.current, setting.persisted) for setting in moved),
                      "after": "".join(_line(setting, setting.desired, setting.desired) for setting in moved)})
    for path, before, after in outcome.contents:
        found.append({"before_header": path, "after_header": path, "before": _text(before), "after": _text(after)})
    return found


def _line(setting: Setting, live: str | None, persisted: str | None) -> str:
    return f"{setting.subject} = {live}, {persisted}\n"


def _text(content: bytes | None) -> str:
    if content is None:
        return ""
    return "(program)\n" if content.startswith(b"#!") else content.decode("utf-8", "replace")


def program(host: Host | None = None) -> bytes:
    """The agent's zipapp. Equal sources give equal bytes, so that a second run changes nothing; a captured host has its own interpreter."""
    packed = io.BytesIO()
    packed.write(_first_line(host) or f"#!{interpreter()}\n".encode())
    with zipfile.ZipFile(packed, "a", zipfile.ZIP_STORED) as archive:
        for name, text in sorted(_sources().items()):
            archive.writestr(zipfile.ZipInfo(name, EPOCH), text)
    return packed.getvalue()


def _first_line(host: Host | None) -> bytes:
    """The line by which the program of a captured host names its interpreter; nothing for any other one."""
    held = host.content_and_mode(PROGRAM)[0] if host is not None and host.captured else None
    line = (held or b"").partition(b"\n")[0]
    return line + b"\n" if line.startswith(b"#!/") else b""


def _sources() -> Mapping[str, str]:
    # Ansible ships to the host what is imported; the agent is named here for that.
    start = agent.__name__.rpartition(".")[2]
    sources: dict[str, str] = {"__main__.py": f"import sys\nfrom lowlatency.{start} import main\nsys.exit(main())\n"}
    for name in PACKAGES:
        sources["/".join(["lowlatency", *name.split(), "__init__.py"])] = ""
    for name in AGENT_MODULES:
        sources[f"lowlatency/{name.replace('.', '/')}.py"] = _source(f"{__package__}.{name}")
    return sources


def _source(name: str) -> str:
    loader: Any = importlib.import_module(name).__spec__.loader  # type: ignore[union-attr]
    text = loader.get_source(name)
    if text is None:
        raise ImportError(f"no source of {name} in {sys.path[0]}")
    # importlib promises text; the loader of Ansible's collections gives bytes
    return text if isinstance(text, str) else str(text, "utf-8")
