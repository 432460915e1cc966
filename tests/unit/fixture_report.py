# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reports for tests: a small fleet with all there is, a hostile one, and a large one."""

from __future__ import annotations

from typing import Any

from ansible_collections.lowlatency.fleet.plugins.plugin_utils.audit_document import (
    FAILED,
    UNREACHABLE,
    Collected,
    document,
)

WHEN = {"started": "2026-11-27T06:00:00Z", "ended": "2026-11-27T06:05:00Z"}
# Markup, quotes, control characters, half a surrogate pair, what turns text around, and what ends a line for JavaScript.
HOSTILE = ("</script><script>alert(1)</script><img src=x onerror=alert(2)>"
           "|`*_[a](javascript:x)@all \"'\\ & ]]> {{ 7*7 }} \x1b[2J\x00\x07\r\n\ud800\u202e\u2028\ufffe://")

TOPOLOGY = {
    "cpus_online": "0-15", "cpus_offline": "16-17", "nodes": {"0": "0-3,8-11", "1": "4-7,12-15"}, "sockets": {"0": "0-3,8-11", "1": "4-7,12-15"},
    "siblings": {str(cpu): f"{cpu % 8},{cpu % 8 + 8}" for cpu in range(16)}, "nr_cpus": 18,
    "nics": [{"pci": "0000:3b:00.0", "numa_node": 0, "interfaces": ["ens1f0"], "driver": "sfc"},
             {"pci": "0000:00:1f.6", "numa_node": -1, "interfaces": [], "driver": ""}],
}
PARTITION = {"housekeeping": "0-1,4-15", "isolated": "2-3,10-11", "pin_cpus": "2-3",
             "nics": {"0000:3b:00.0": {"node": 0, "cores": "2-3,10-11", "irq_cpus": "1", "irq_masks": ["2"], "queue_cpus": [1]}}}
PREFLIGHT = {"topology": TOPOLOGY, "partition": PARTITION, "services": [{"unit": "feed.service", "cpus": "2"}]}


def setting(control: str, state: str = "ok", name: str = "", **more: Any) -> dict[str, Any]:
    """A setting as a module returns it."""
    current = "1" if state in ("ok", "changed") else "0"
    return {"control": control, "name": name or control, "desired": "1", "current": current, "persisted": current, "state": state, "reason": "",
            "needs_reboot": False, "finding": False, **more}


def small() -> Collected:
    """Six hosts, one of each verdict that matters, and a machine with a core map."""
    seen = Collected()
    seen.expect(["late"])
    seen.result("md01", PREFLIGHT)
    seen.result("md01", {"settings": [setting("net.ipv4.tcp_sack", "drifted"), setting("net.offload.gro", name="ens1f0 gro"), setting("vm.swappiness")],
                         "diff": [{"before_header": "settings", "after_header": "settings", "before": "a = 0\nb = 1\n", "after": "a = 1\nb = 1\n"}]})
    seen.result("md02", {"settings": [setting("net.ipv4.tcp_sack"), setting("vm.swappiness", "error", reason="could not be read: EIO"),
                                      setting("bios.smis", "unsupported", reason="no such register")]})
    seen.result("og01", {"settings": [setting("net.ipv4.tcp_sack"), setting("vm.swappiness", "changed")]})
    seen.problem("down", UNREACHABLE, "no route to host")
    seen.problem("nopython", FAILED, "The module interpreter '/usr/bin/python3' was not found.")
    return seen


def hostile() -> Collected:
    """A host that says nothing but hostile text, everywhere."""
    seen = Collected()
    for state in ("ok", "drifted", "error", "unsupported", "changed"):
        said = dict.fromkeys(("control", "name", "desired", "current", "persisted", "reason"), HOSTILE + state)
        seen.result(HOSTILE, {"settings": [{**said, "state": state}]})
    seen.result(HOSTILE, {"settings": [{**setting(HOSTILE), "state": HOSTILE}], "diff": {"before": HOSTILE, "after": HOSTILE + "!", "header": HOSTILE}})
    topology = {**TOPOLOGY, "nics": [{**TOPOLOGY["nics"][0], "interfaces": [HOSTILE], "driver": HOSTILE}]}  # type: ignore[index, dict-item]
    seen.result(HOSTILE, {**PREFLIGHT, "topology": topology, "services": [{"unit": HOSTILE, "cpus": "2"}]})
    seen.problem(HOSTILE, FAILED, HOSTILE)
    return seen


def large(hosts: int = 1000, settings: int = 150) -> Collected:
    """A fleet in which most is right; every host has values of its own, and one in twenty has drift."""
    seen = Collected()
    for number in range(hosts):
        host = f"md{number:04}.ny4.example.net"
        seen.result(host, PREFLIGHT)
        found = [setting(f"net.kind{kind % 90}.control", name=f"item {kind}") for kind in range(settings)]
        for kind in range(settings // 10):  # what is another on every host: addresses, sizes, versions
            found[kind] = setting(f"net.kind{kind}.control", name=f"item {kind}", current=f"{number}-{kind}", desired=f"{number}-{kind}")
        for kind in range(0 if number % 20 else 10):
            found[-1 - kind] = setting(f"net.kind{kind}.control", "drifted", name=f"item {settings - 1 - kind}")
        seen.result(host, {"settings": found})
    return seen


def report(seen: Collected | None = None, **more: Any) -> dict[str, Any]:
    """The document of a run, of the small fleet unless another is given."""
    return document(seen or small(), more.pop("when", WHEN), more.pop("mode", "check"), **more)
