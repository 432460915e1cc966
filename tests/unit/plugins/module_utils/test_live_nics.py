# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ethtool domain on a veth pair of a network namespace of its own, judged by the kernel's files and by the ethtool program."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make a network namespace"),
    pytest.mark.skipif(not shutil.which("ip"), reason="no ip (iproute2) to make a network namespace"),
]
NEEDS_ETHTOOL = pytest.mark.skipif(not shutil.which("ethtool"), reason="no ethtool to judge by")

# Reads, plans, writes by batches, and reads again; what happens in between comes as a command.
SCRIPT = """
import itertools, json, subprocess, sys
from ansible_collections.lowlatency.fleet.plugins.module_utils.domains import ETHTOOL
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.irq import _xps
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.machine import Host
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.nic_queues import write_queue
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.setting import as_dicts, judged_live

asked = json.load(sys.stdin)
spec, host = asked["spec"], Host()

def settings():
    state = ETHTOOL.read(host, spec)
    return state, [judged_live(setting, "") for setting in ETHTOOL.plan(state, spec).settings]

state, before = settings()
if asked["meanwhile"]:
    subprocess.run(asked["meanwhile"], check=True)
refused = {}
for key, batch in itertools.groupby([setting for setting in before if setting.live_drift], ETHTOOL.batches.key):
    try:
        ETHTOOL.batches.write(host, state, list(batch))
    except Exception as error:
        refused[key] = f"{type(error).__name__} {error}"
for queue, cpus in asked["xps"].items():
    write_queue(host, "veth0", queue, "xps_cpus", cpus)
xps = [[sorted(cpus) for _queue, cpus in sorted(_xps(host, {"interface": name})[1].items())] for name in ("veth0", "lo")]
print(json.dumps({"before": as_dicts(before), "after": as_dicts(settings()[1]), "refused": refused, "xps": xps,
                  "drivers": [nic.driver for nic in state.nics]}))
"""


class Namespace:
    """A network namespace with ``veth0`` and ``veth1``, a pair of four queues each."""

    def __init__(self, name: str) -> None:
        self.name = name

    def run(self, *command: str, text: str = "") -> str:
        done = subprocess.run(["ip", "netns", "exec", self.name, *command], input=text, capture_output=True, text=True, check=False,
                              env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1", "LC_ALL": "C.UTF-8"})
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def tuned(self, *nics: dict[str, Any], meanwhile: tuple[str, ...] = (), xps: dict[str, str] | None = None, **spec: Any) -> dict[str, Any]:
        asked = {"spec": {**spec, "nics": list(nics or ({"interface": "veth0"},))}, "meanwhile": meanwhile, "xps": xps or {}}
        result: dict[str, Any] = json.loads(self.run(sys.executable, "-c", SCRIPT, text=json.dumps(asked)))
        return result

    def queues(self, interface: str = "veth0") -> list[str]:
        return self.run("ls", f"/sys/class/net/{interface}/queues").split()

    def file(self, name: str) -> str:
        return self.run("cat", f"/sys/class/net/veth0/{name}").strip()


@pytest.fixture
def space() -> Iterator[Namespace]:
    name = f"lowlatency-test-{os.getpid()}"

    def ip(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["ip", *words], capture_output=True, text=True, check=False)

    made = ip("netns", "add", name)
    if made.returncode:
        pytest.skip(f"this sandbox allows no network namespace: {made.stderr.strip()}")
    try:
        sides = ("numtxqueues", "4", "numrxqueues", "4")
        made = ip("-n", name, "link", "add", "veth0", *sides, "type", "veth", "peer", "name", "veth1", *sides)
        if made.returncode:
            pytest.skip(f"this kernel makes no veth pair: {made.stderr.strip()}")
        yield Namespace(name)
    finally:
        ip("netns", "del", name)


def states(settings: list[dict[str, Any]]) -> dict[str, str]:
    return {setting["name"]: setting["state"] for setting in settings}


WANTED: dict[str, Any] = {
    "channels": {"queues": 2}, "rps": {"rps_cpus": "0", "rps_flow_cnt": 4096}, "napi": {"gro_flush_timeout": 20000, "napi_defer_hard_irqs": 2},
    "features": {"tso": "off", "gro": "on"},
}


def test_channels_rps_and_napi_as_the_kernel_s_files_have_them(space: Namespace) -> None:
    assert space.queues() == [f"{way}-{queue}" for way in ("rx", "tx") for queue in range(4)]
    result = space.tuned(**WANTED)
    assert result["drivers"] == ["veth"] and result["refused"] == {}
    drifted = {"veth0.channels-rx", "veth0.channels-tx", "veth0.gro_flush_timeout", "veth0.napi_defer_hard_irqs", "veth0.tso", "veth0.gro"}
    drifted |= {f"veth0.rx-{queue}.{file}" for queue in (0, 1) for file in ("rps_cpus", "rps_flow_cnt")}
    assert states(result["before"]) == dict.fromkeys(drifted, "drifted")
    assert states(result["after"]) == dict.fromkeys(drifted, "ok")
    assert space.queues() == ["rx-0", "rx-1", "tx-0", "tx-1"]
    assert [int(space.file(f"queues/rx-{queue}/rps_cpus").replace(",", ""), 16) for queue in (0, 1)] == [1, 1]
    assert [space.file(name) for name in ("queues/rx-1/rps_flow_cnt", "gro_flush_timeout", "napi_defer_hard_irqs")] == ["4096", "20000", "2"]
    again = space.tuned(**WANTED)
    assert set(states(again["before"]).values()) == {"ok"}, "the second run finds nothing to do"


@NEEDS_ETHTOOL
def test_channels_and_features_as_ethtool_shows_them(space: Namespace) -> None:
    assert space.tuned(**WANTED)["refused"] == {}
    shown = space.run("ethtool", "-l", "veth0").partition("Current hardware settings:")[2]
    assert re.findall(r"(RX|TX):\s+(\d+)", shown) == [("RX", "2"), ("TX", "2")]
    features = dict(re.findall(r"^\s*([\w-]+): (on|off)", space.run("ethtool", "-k", "veth0"), re.MULTILINE))
    assert (features["tcp-segmentation-offload"], features["generic-receive-offload"], features["generic-segmentation-offload"]) == ("off", "on", "on")
    space.run("ethtool", "-K", "veth0", "tso", "on")
    space.run("ethtool", "-L", "veth0", "rx", "3", "tx", "3")
    before = states(space.tuned(**WANTED)["before"])
    drifted = {name for name, state in before.items() if state == "drifted"}
    assert drifted == {"veth0.tso", "veth0.channels-rx", "veth0.channels-tx"}, "what somebody else changed is seen"


def test_what_a_veth_has_not_is_unsupported(space: Namespace) -> None:
    result = space.tuned(
        {"interface": "veth0", "rules": [{"flow-type": "udp4", "dst-port": 1, "action": 0}]},
        rings={"rx": "max"}, coalesce={"rx-usecs": 0}, pause={"rx": "off"}, eee={"enabled": "off"}, private_flags={"x": "on"},
        rss={"equal": 2, "hash": {"udp4": "sd"}}, features={"lro": "on", "rx-gro-hw": "on", "tso": "on"})
    assert result["refused"] == {} and result["before"] == result["after"]
    assert states(result["before"]) == {**dict.fromkeys(
        ("veth0.ring-rx", "veth0.pause-rx", "veth0.rx-usecs", "veth0.eee-enabled", "veth0.flag-x", "veth0.indirection", "veth0.hash-udp4",
         "veth0.udp4 dst-port 1", "veth0.lro", "veth0.rx-gro-hw"), "unsupported"), "veth0.tso": "ok"}
    assert "driver veth has no coalesce to set" in next(setting["reason"] for setting in result["before"] if setting["name"] == "veth0.rx-usecs")


def test_what_is_required_of_a_veth_and_not_there_is_an_error(space: Namespace) -> None:
    [setting] = space.tuned(coalesce={"rx-usecs": 0}, required=["coalesce.rx-usecs"])["before"]
    assert setting["state"] == "error" and "required by the profile" in setting["reason"] and "(NIC veth0, driver veth" in setting["reason"]


def test_more_channels_than_there_can_be_are_an_error_of_that_nic_alone(space: Namespace) -> None:
    result = space.tuned({"interface": "veth0", "channels": {"rx": 5}}, {"interface": "veth1", "channels": {"queues": 3}}, {"interface": "veth9"})
    assert states(result["after"]) == {"veth0": "error", "veth1.channels-rx": "ok", "veth1.channels-tx": "ok", "veth9": "error"}
    assert len(space.queues("veth1")) == 6 and len(space.queues()) == 8
    reasons = {setting["name"]: setting["reason"] for setting in result["after"]}
    assert reasons["veth0"] == "channels: rx 5 is more than the 4 this NIC can have"
    assert reasons["veth9"] == "no such interface on this host; there are: lo, veth0, veth1"


def test_an_interface_that_goes_between_reading_and_writing_is_named(space: Namespace) -> None:
    result = space.tuned(channels={"queues": 2}, features={"tso": "off"}, napi={"gro_flush_timeout": 9}, meanwhile=("ip", "link", "del", "veth0"))
    assert len(result["refused"]) == 3 and all("OSError" in why or "No such" in why for why in result["refused"].values())
    assert "No such device" in result["refused"]["veth0 channels"] and "No such device" in result["refused"]["veth0 features"]
    [setting] = result["after"]
    assert (setting["control"], setting["name"], setting["state"]) == ("nic", "veth0", "error") and "there are: lo" in setting["reason"]


def test_transmit_queues_are_written_and_read_and_one_alone_has_none(space: Namespace) -> None:
    result = space.tuned(xps={"tx-0": "0", "tx-1": "", "tx-2": "0"})
    assert result["xps"] == [[[0], [], [0], []], []]
    assert int(space.file("queues/tx-2/xps_cpus").replace(",", ""), 16) == 1
