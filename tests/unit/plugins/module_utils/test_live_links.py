# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The qdisc domain on a veth pair of a network namespace of its own, judged by tc; and SACK on the wire, judged by the packets and by ss."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make a network namespace"),
    pytest.mark.skipif(not shutil.which("ip") or not shutil.which("tc"), reason="no ip and tc (iproute2) to make a network namespace and to judge by"),
]

# Reads, plans and writes in mount and network namespaces of its own, and prints the settings before and after. The veth has four queues.
SCRIPT = """
import json, sys
from ansible_collections.lowlatency.fleet.plugins.module_utils.domains import QDISC
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.machine import Host
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.setting import Setting, as_dicts, judged_live

asked = json.load(sys.stdin)
spec, host = {"nics": [{"interface": "veth0", "qdisc": asked["wanted"]}]}, Host()

def settings():
    state = QDISC.read(host, spec)
    return state, [judged_live(setting, "") for setting in QDISC.plan(state, spec).settings]

state, before = settings()
refused = ""
for setting in before:
    wish = Setting(*setting.key, asked["original"]) if asked["original"] else setting
    if asked["original"] or setting.live_drift:
        try:
            QDISC.write(host, state, wish)
        except Exception as error:
            refused = f"{type(error).__name__} {error}"
print(json.dumps({"before": as_dicts(before), "after": as_dicts(settings()[1]), "refused": refused}))
"""


class Namespace:
    """A network namespace with ``veth0`` of four queues."""

    def __init__(self, name: str) -> None:
        self.name = name

    def run(self, *command: str, text: str = "", check: bool = True) -> str:
        done = subprocess.run(["ip", "netns", "exec", self.name, *command], input=text, capture_output=True, text=True, check=False,
                              env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1", "LC_ALL": "C.UTF-8"})
        assert done.returncode == 0 or not check, done.stdout + done.stderr
        return done.stdout

    def set(self, kind: str, original: str = "", **wanted: Any) -> dict[str, Any]:
        asked = {"wanted": {"kind": kind, **wanted}, "original": original}
        result: dict[str, Any] = json.loads(self.run(sys.executable, "-c", SCRIPT, text=json.dumps(asked)))
        return result

    def shown(self) -> list[tuple[str, str]]:
        """``(kind, parent)`` of every qdisc of veth0 as tc shows it, without the handle of the root."""
        tree = json.loads(self.run("tc", "-j", "qdisc", "show", "dev", "veth0"))
        return sorted((entry["kind"], "root" if entry.get("root") else entry["parent"].partition(":")[2]) for entry in tree)


@pytest.fixture
def space() -> Iterator[Namespace]:
    name = f"lowlatency-qdisc-{os.getpid()}"

    def ip(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["ip", *words], capture_output=True, text=True, check=False)

    made = ip("netns", "add", name)
    if made.returncode:
        pytest.skip(f"this sandbox allows no network namespace: {made.stderr.strip()}")
    try:
        made = ip("-n", name, "link", "add", "veth0", "numtxqueues", "4", "numrxqueues", "4", "type", "veth", "peer", "name", "veth1")
        if made.returncode:
            pytest.skip(f"this kernel makes no veth pair: {made.stderr.strip()}")
        for side in ("veth0", "veth1"):
            ip("-n", name, "link", "set", side, "up")
        yield Namespace(name)
    finally:
        ip("netns", "del", name)


def kernel_has(space: Namespace, kind: str) -> bool:
    asked = ["ip", "netns", "exec", space.name, "tc", "qdisc", "add", "dev", "lo", "root", kind]
    return subprocess.run(asked, capture_output=True, check=False).returncode == 0


def states(settings: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    return [(setting["desired"], setting["current"], setting["state"]) for setting in settings]


@pytest.mark.parametrize("kind", ["pfifo_fast", "fq", "fq_codel"])
def test_every_queue_as_tc_shows_it(space: Namespace, kind: str) -> None:
    if not kernel_has(space, kind):
        pytest.skip(f"this machine's kernel has no {kind}")
    assert space.shown() == [("noqueue", "root")]
    result = space.set(kind)
    assert result["refused"] == ""
    assert states(result["before"]) == [(f"mq + {kind}", "noqueue", "drifted")]
    assert states(result["after"]) == [(f"mq + {kind}", f"mq + {kind}", "ok")]
    assert space.shown() == sorted([("mq", "root"), *((kind, str(queue)) for queue in range(1, 5))])
    assert states(space.set(kind)["before"]) == states(result["after"]), "the second run finds nothing to do"


def test_an_original_comes_back(space: Namespace) -> None:
    space.set("pfifo_fast")
    space.set("pfifo_fast", original="noqueue")
    assert space.shown() == [("noqueue", "root")]


def test_a_tree_of_the_site_is_told_and_stays(space: Namespace) -> None:
    space.run("tc", "qdisc", "replace", "dev", "veth0", "root", "handle", "5:", "tbf", "rate", "1mbit", "burst", "10k", "latency", "70ms")
    result = space.set("pfifo_fast")
    assert [setting["state"] for setting in result["before"]] == ["error"] and "veth0 has tbf 5:" in result["before"][0]["reason"]
    assert space.shown() == [("tbf", "root")]
    assert states(space.set("pfifo_fast", replace=True)["after"]) == [("mq + pfifo_fast", "mq + pfifo_fast", "ok")]


def test_a_kind_that_the_kernel_has_not_changes_nothing(space: Namespace) -> None:
    if kernel_has(space, "fq"):
        pytest.skip("this machine's kernel has fq")
    result = space.set("fq")
    assert "error" in result["before"][0]["state"] or "Specified qdisc kind is unknown" in result["refused"]
    assert space.shown() == [("noqueue", "root")]


# --- SACK on the wire -------------------------------------------------------------------------------------------------

TABLE = """
import sys
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.sack_filter import table_text
sys.stdout.buffer.write(table_text(sys.argv[1:]))
"""
READ = """
import json, sys
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.sack_filter import table_from
print(table_from(json.load(sys.stdin)))
"""
# One namespace connects to addresses of another; prints which TCP options SYN and SYN/ACK have on the wire before veth1, and what ss shows.
WIRE = """
import ctypes, json, os, socket, subprocess, sys
begins, answers, peer, *addresses = sys.argv[1:]

def inside(name):
    if ctypes.CDLL(None).setns(os.open(f"/run/netns/{name}", os.O_RDONLY), 0):
        sys.exit(f"setns {name}")

inside(answers)
server = socket.create_server(("::", 5555), family=socket.AF_INET6, dualstack_ipv6=True)
inside(peer)
wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
wire.bind(("veth1", 0))
wire.settimeout(1)
inside(begins)
kept = [socket.create_connection((address, 5555), 5) for address in addresses]
shown = {}
for address in addresses:
    lines = subprocess.run(["ss", "-tinoOH", "dst", f"[{address}]" if ":" in address else address], capture_output=True, text=True, check=True).stdout
    shown[address] = " sack " in lines
seen = []
while True:
    try:
        frame = wire.recv(2000)
    except OSError:
        break
    six = frame[12:14] == bytes.fromhex("86dd")
    if not six and frame[12:14] != bytes.fromhex("0800"):
        continue
    protocol, tcp = (frame[20], frame[54:]) if six else (frame[23], frame[14 + (frame[14] & 15) * 4:])
    if protocol != 6 or not tcp[13] & 2:
        continue
    source, target = (socket.inet_ntop(socket.AF_INET6, frame[a:a + 16]) for a in (22, 38)) if six else (socket.inet_ntoa(frame[a:a + 4]) for a in (26, 30))
    seen.append([source, target, bool(tcp[13] & 16), tcp[20:(tcp[12] >> 4) * 4].hex()])
print(json.dumps({"seen": seen, "shown": shown}))
"""
PERMITTED, NOTHING = "0402", "0101"


@pytest.fixture
def pair(space: Namespace) -> Iterator[tuple[Namespace, Namespace]]:
    """``veth0`` here and ``veth1`` there, with two IPv4 and two IPv6 networks between them."""
    other = Namespace(f"{space.name}-peer")
    subprocess.run(["ip", "netns", "add", other.name], check=True)
    try:
        subprocess.run(["ip", "-n", space.name, "link", "set", "veth1", "netns", other.name], check=True)
        for side, interface, number in ((space, "veth0", 1), (other, "veth1", 2)):
            for network in (1, 2):
                side.run("ip", "address", "add", f"10.9.{network}.{number}/24", "dev", interface)
                side.run("ip", "address", "add", f"fd0{network}::{number}/64", "dev", interface, "nodad")
            side.run("ip", "link", "set", interface, "up")
        yield space, other
    finally:
        subprocess.run(["ip", "netns", "del", other.name], check=False)


def connections(begins: Namespace, answers: Namespace, peer: Namespace, *addresses: str) -> tuple[dict[tuple[str, str], str], dict[str, bool]]:
    """``{(source, kind): what is in the place of SACK-permitted}`` of both packets of each connection, and ``{address: whether ss shows SACK}``."""
    asked = [sys.executable, "-c", WIRE, begins.name, answers.name, peer.name, *addresses]
    done = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    # MSS has the first four bytes
    return {(source, "SYN/ACK" if answer else "SYN"): options[8:12] for source, _target, answer, options in result["seen"]}, result["shown"]


@pytest.mark.skipif(not shutil.which("nft"), reason="no nft (nftables)")
def test_sack_is_not_agreed_on_with_the_prefixes_whichever_side_begins(pair: tuple[Namespace, Namespace]) -> None:
    here, there = pair
    table = here.run(sys.executable, "-c", TABLE, "10.9.1.0/24", "fd01::/64")
    for _time in range(2):
        here.run("nft", "-f", "-", text=table)
    assert here.run(sys.executable, "-c", READ, text=here.run("nft", "-j", "list", "table", "inet", "lowlatency_sack")).strip() == "10.9.1.0/24 fd01::/64"
    packets, shown = connections(here, there, there, "10.9.1.2", "10.9.2.2", "fd01::2", "fd02::2")
    assert shown == {"10.9.1.2": False, "10.9.2.2": True, "fd01::2": False, "fd02::2": True}
    off, on = dict.fromkeys([("10.9.1.1", "SYN"), ("fd01::1", "SYN"), ("10.9.1.2", "SYN/ACK"), ("fd01::2", "SYN/ACK")], NOTHING), dict.fromkeys(
        [("10.9.2.1", "SYN"), ("fd02::1", "SYN"), ("10.9.2.2", "SYN/ACK"), ("fd02::2", "SYN/ACK")], PERMITTED)
    assert packets == {**off, **on}
    packets, shown = connections(there, here, there, "10.9.1.1", "10.9.2.1", "fd01::1", "fd02::1")
    assert shown == {"10.9.1.1": False, "10.9.2.1": True, "fd01::1": False, "fd02::1": True}
    assert (packets["10.9.1.2", "SYN"], packets["10.9.1.1", "SYN/ACK"]) == (PERMITTED, NOTHING), "the peer asks for it, and is not answered"
    here.run("nft", "delete", "table", "inet", "lowlatency_sack")
    assert connections(here, there, there, "10.9.1.2")[1] == {"10.9.1.2": True}, "a new connection has it again"
