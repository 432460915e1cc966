# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Routes in a network namespace of its own: the domain on the kernel's routes, judged by ``ip``; and the watch for routes that come back."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make a network namespace"),
    pytest.mark.skipif(not shutil.which("ip"), reason="no ip (iproute2) to make a network namespace"),
]
COLLECTION = "ansible_collections.lowlatency.fleet.plugins.module_utils"
# Reads, plans, writes by batches, and reads again; what happens in between comes as a command.
SCRIPT = f"""
import itertools, json, subprocess, sys
from {COLLECTION}.domains import ROUTE_METRICS
from {COLLECTION}.host.machine import Host
from {COLLECTION}.model.setting import Setting, as_dicts, judged_live

asked = json.load(sys.stdin)
spec, host = asked["spec"], Host()

def settings():
    state = ROUTE_METRICS.read(host, spec)
    return state, [judged_live(setting, "") for setting in ROUTE_METRICS.plan(state, spec).settings]

state, before = settings()
for command in asked["meanwhile"]:
    subprocess.run(["ip", *command.split()], check=True)
refused = {{}}
for key, batch in itertools.groupby([setting for setting in before if setting.live_drift], ROUTE_METRICS.batches.key):
    try:
        ROUTE_METRICS.batches.write(host, state, list(batch))
    except Exception as error:
        refused[key] = f"{{type(error).__name__}} {{error}}"
after = settings()[1]
for setting in (before if asked["taken_back"] else ()):
    if setting.live_drift:
        ROUTE_METRICS.write(host, state, Setting(setting.control, setting.name, setting.current))
print(json.dumps({{"before": as_dicts(before), "after": as_dicts(after), "refused": refused}}))
"""
# Watches until its desired state is another one, with a folder as the machine.
WATCH = f"""
import sys
from {COLLECTION}.host import route_watch
from {COLLECTION}.host.machine import Host
print("ended", route_watch.watch(Host(sys.argv[1])))
"""
MADE = """
link set lo up
link add a0 type veth peer name b0
link set a0 up
link set b0 up
addr add 10.64.0.1/24 dev a0
addr add 10.65.0.1/24 dev b0
addr add 2001:db8::1/64 dev a0 nodad
route add default via 10.64.0.2 dev a0 proto dhcp src 10.64.0.1 metric 1024
route add 10.1.0.0/16 via 10.64.0.3 initcwnd 12 rto_min 5ms mtu lock 1400 congctl lock cubic features ecn
route add 10.2.0.0/16 nexthop via 10.64.0.3 weight 2 nexthop via 10.65.0.3
nexthop add id 7 via 10.64.0.9 dev a0
route add 10.3.0.0/16 nhid 7 proto static
route add 10.4.0.0/16 via 1.2.3.4 dev a0 onlink tos 0x10 proto static metric 5
route add 10.4.0.0/16 via 10.64.0.4 dev a0 metric 6
route add 10.6.0.0/16 via inet6 fe80::5 dev a0
route add 10.7.0.0/16 dev b0 table 100 scope link
route add 10.8.0.0/16 via 10.64.0.3
route append 10.8.0.0/16 via 10.64.0.4
route add 2001:db8:1::/48 via 2001:db8::2 dev a0 pref high metric 99
route add 2001:db8:2::/48 via fe80::2 dev a0 expires 500 proto ra
route add 2001:db8:4::/48 from 2001:db8::/64 via fe80::2 dev a0
"""


class Namespace:
    """A network namespace with routes of many kinds."""

    def __init__(self, name: str) -> None:
        self.name = name

    def started(self, *command: str) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1", "LC_ALL": "C.UTF-8"}
        return subprocess.Popen(["ip", "netns", "exec", self.name, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                text=True, env=environment)

    def run(self, *command: str, text: str = "") -> str:
        process = self.started(*command)
        out, said = process.communicate(text, timeout=60)
        assert process.returncode == 0, out + said
        return out

    def ip(self, words: str) -> str:
        return self.run("ip", *words.split())

    def shown(self) -> dict[str, str]:
        """All routes but the kernel's own local ones, by where they lead, in full."""
        lines = self.ip("-4 -d -o route show table all").splitlines() + self.ip("-6 -d -o route show table all").splitlines()
        found = [line.strip() for line in lines if line.startswith("unicast")]
        return {" ".join([line.split()[1], *(word for word in line.split() if word == "0x10")]): line for line in found if "fe80::/64" not in line}

    def tuned(self, *routes: dict[str, Any], meanwhile: tuple[str, ...] = (), taken_back: bool = False, **metrics: Any) -> dict[str, Any]:
        asked = {"spec": {"metrics": metrics, "routes": list(routes)}, "meanwhile": meanwhile, "taken_back": taken_back}
        result: dict[str, Any] = json.loads(self.run(sys.executable, "-c", SCRIPT, text=json.dumps(asked)))
        return result


@pytest.fixture
def space() -> Iterator[Namespace]:
    name = f"lowlatency-routes-{os.getpid()}"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"this sandbox allows no network namespace: {made.stderr.strip()}")
    try:
        found = Namespace(name)
        found.run("ip", "-b", "-", text=MADE)
        yield found
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False)


def states(settings: list[dict[str, Any]], metric: str = "initcwnd") -> dict[str, str]:
    return {setting["name"].removesuffix(f" {metric}"): setting["state"] for setting in settings if setting["control"] in ("route", f"route.{metric}")}


def without(line: str, *metrics: str) -> str:
    words = line.split()
    for metric in metrics:
        at = words.index(metric) if metric in words else len(words)
        del words[at:at + (3 if words[at + 1:at + 2] == ["lock"] else 2)]
    return " ".join(words)


EVERYTHING = ({"within": "10.0.0.0/8", "management": True}, {"within": "2001:db8::/32", "management": True}, {"to": "default", "management": True},
              {"to": "10.7.0.0/16", "table": "100"})
LEFT = {"10.8.0.0/16 dev a0": "unsupported", "2001:db8:2::/48 metric 1024 dev a0": "unsupported"}


def test_every_kind_of_route_gets_its_metrics_and_nothing_else_of_any_changes(space: Namespace) -> None:
    before = space.shown()
    result = space.tuned(*EVERYTHING, initcwnd=20, initrwnd=21, quickack=1)
    assert result["refused"] == {}
    found = states(result["after"])
    assert {name: state for name, state in found.items() if state != "ok"} == LEFT and len(found) > 12
    after = space.shown()
    assert set(after) == set(before)
    changed = {name for name in after if after[name] != before[name] and "expires" not in after[name]}
    assert len(changed) == len(found) - len(LEFT)
    for name, line in after.items():
        if name in changed:
            assert "initcwnd 20" in line and "initrwnd 21" in line and "quickack 1" in line
        if "expires" in line:
            assert "initcwnd" not in line
        else:
            assert without(line, "initcwnd", "initrwnd", "quickack") == without(before[name], "initcwnd", "initrwnd", "quickack")


def test_what_is_taken_back_is_as_it_was(space: Namespace) -> None:
    before = space.shown()
    assert space.tuned(*EVERYTHING, taken_back=True, initcwnd=20, rto_min="7ms", congctl="reno", features=["ecn"])["refused"] == {}
    after = space.shown()
    assert {name: line for name, line in after.items() if "expires" not in line} == {name: line for name, line in before.items() if "expires" not in line}


def test_connected_routes_still_go_with_their_address(space: Namespace) -> None:
    assert space.tuned({"interface": "b0"}, {"within": "2001:db8::/64", "management": True}, initcwnd=20)["refused"] == {}
    space.ip("addr del 10.65.0.1/24 dev b0")
    space.ip("addr del 2001:db8::1/64 dev a0")
    assert not {"10.65.0.0/24", "2001:db8::/64"} & set(space.shown())


def test_a_route_that_goes_between_plan_and_apply_stops_no_other(space: Namespace) -> None:
    result = space.tuned({"to": "10.65.0.0/24"}, {"to": "10.6.0.0/16", "management": True}, {"to": "10.1.0.0/16", "management": True}, initcwnd=20,
                         meanwhile=("route del 10.1.0.0/16", "route replace 10.6.0.0/16 via 10.64.0.77"))
    assert set(result["refused"]) == {"10.1.0.0/16 dev a0", "10.6.0.0/16 dev a0"}
    assert "gone since it was read" in result["refused"]["10.1.0.0/16 dev a0"]
    assert "became 10.64.0.77" in result["refused"]["10.6.0.0/16 dev a0"]
    shown = space.shown()
    assert "10.1.0.0/16" not in shown and "initcwnd" not in shown["10.6.0.0/16"] and "via 10.64.0.77" in shown["10.6.0.0/16"]
    assert "initcwnd 20" in shown["10.65.0.0/24"]


def test_a_second_one_that_differs_in_metrics_only_takes_no_part(space: Namespace) -> None:
    """As NetworkManager adds one when it starts: packets take the first."""
    wish = {"to": "10.65.0.0/24"}
    assert space.tuned(wish, initcwnd=20)["refused"] == {}
    space.ip("route append 10.65.0.0/24 dev b0 proto kernel scope link src 10.65.0.1")
    assert len(space.ip("route show exact 10.65.0.0/24").splitlines()) == 2
    assert states(space.tuned(wish, initcwnd=20)["before"]) == {"10.65.0.0/24 dev b0": "ok"}
    assert space.tuned(wish, initcwnd=21)["refused"] == {}
    assert ["initcwnd 21" in line for line in space.ip("route show exact 10.65.0.0/24").splitlines()] == [True, False]
    refused = space.tuned(wish, taken_back=False, initcwnd=22, meanwhile=("route change 10.65.0.0/24 dev b0 proto kernel scope link src 10.65.0.1 initcwnd 9",))
    assert refused["refused"] == {}, "a route that only has other metrics by then is the same one"


def test_an_algorithm_that_the_kernel_has_not_leaves_the_route_as_it_was(space: Namespace) -> None:
    before = space.shown()
    result = space.tuned({"to": "10.65.0.0/24"}, congctl="no_such_one")
    assert "congestion algorithm" in result["refused"]["10.65.0.0/24 dev b0"]
    assert space.shown()["10.65.0.0/24"] == before["10.65.0.0/24"]


SERVER = """
import socket
with socket.create_server(("10.66.0.2", 7007)) as server:
    print("listens", flush=True)
    while True:
        link, _peer = server.accept()
        while link.recv(1 << 16):
            pass
        link.close()
"""
CLIENT = """
import socket, subprocess
with socket.create_connection(("10.66.0.2", 7007)) as link:
    link.send(b"x" * 60000)
with socket.create_connection(("10.66.0.2", 7007)) as link:
    print(subprocess.run(["ss", "-tin", "dst", "10.66.0.2"], capture_output=True, text=True, check=True).stdout)
"""


@pytest.mark.skipif(not shutil.which("ss"), reason="no ss (iproute2) to judge by")
def test_a_new_connection_begins_with_the_window_whatever_the_kernel_remembers_of_the_peer(space: Namespace) -> None:
    """So nothing of ``ip tcp_metrics`` has to be flushed."""
    peer = Namespace(f"{space.name}-peer")
    subprocess.run(["ip", "netns", "add", peer.name], check=True)
    try:
        space.ip(f"link add a1 type veth peer name b1 netns {peer.name}")
        for side, name, address in ((space, "a1", "10.66.0.1/24"), (peer, "b1", "10.66.0.2/24")):
            side.ip(f"addr add {address} dev {name}")
            side.ip(f"link set {name} up")
        server = peer.started(sys.executable, "-c", SERVER)
        assert server.stdout is not None and server.stdout.readline() == "listens\n"
        assert " cwnd:10 " in space.run(sys.executable, "-c", CLIENT)
        assert "10.66.0.2" in space.ip("tcp_metrics show"), "the kernel remembers the peer"
        assert space.tuned({"to": "10.66.0.0/24"}, initcwnd=20)["refused"] == {}
        assert " cwnd:20 " in space.run(sys.executable, "-c", CLIENT)
        server.kill()
        server.communicate()
    finally:
        subprocess.run(["ip", "netns", "del", peer.name], check=False)


# --- the watch --------------------------------------------------------------------------------------------------------


class Watch:
    """The watch as a process, with a machine of its own for what it reads and marks."""

    def __init__(self, space: Namespace, folder: Path) -> None:
        self.space, self.folder = space, folder
        self.mark = folder / "run/lowlatency/nics/event"
        self.pid = 0

    def keep(self, *routes: dict[str, Any], **metrics: Any) -> None:
        path = self.folder / "etc/lowlatency/desired.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"format": 1, "desired": {"route_metrics": {"tcp_tuning": {"metrics": metrics, "routes": list(routes)}}}}))

    def start(self) -> subprocess.Popen[str]:
        process = self.space.started(sys.executable, "-c", WATCH, str(self.folder))
        self.pid = process.pid  # ip becomes what it starts
        return process

    def marked(self, seconds: float = 10) -> bool:
        """Whether there is a mark within this time; it is taken away."""
        there = until(self.mark.exists, seconds)
        self.mark.unlink(missing_ok=True)
        return there


def until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


@pytest.fixture
def watching(space: Namespace, tmp_path: Path) -> Iterator[Watch]:
    """A watch for two routes, one of which had not its metrics when it began."""
    made = Watch(space, tmp_path)
    made.keep({"to": "10.65.0.0/24"}, {"to": "2001:db8:1::/48", "metrics": {"rto_min": "5ms"}}, {"to": "10.9.0.0/16"}, initcwnd=20)
    process = made.start()
    try:
        assert made.marked(30), "a route that lacks something when the watch begins is told of"
        yield made
    finally:
        process.kill()
        process.communicate()


def test_a_route_that_comes_back_without_its_metrics_leaves_a_mark(watching: Watch) -> None:
    space = watching.space
    space.ip("route change 10.65.0.0/24 dev b0 proto kernel scope link src 10.65.0.1 initcwnd 20")
    assert not watching.marked(1), "it has all that is wanted"
    space.ip("route del 10.65.0.0/24 dev b0")
    space.ip("route add 10.65.1.0/24 dev b0")
    space.ip("route add 10.65.0.0/24 dev b0 table 100")
    space.ip("route del 10.1.0.0/16")
    assert not watching.marked(1), "what goes, or is not meant, is nobody's matter"
    space.ip("route add 10.65.0.0/24 dev b0")
    assert watching.marked()
    space.ip("link set b0 down")
    space.ip("link set b0 up")
    space.ip("addr change 10.65.0.1/24 dev b0")
    assert watching.marked(), "the kernel's own route came back with the link"


def test_metrics_are_read_from_the_kernel_s_messages(watching: Watch) -> None:
    route = "-6 route replace 2001:db8:1::/48 via 2001:db8::2 dev a0 metric 99"
    watching.space.ip(f"{route} initcwnd 20 rto_min 5ms")
    assert not watching.marked(1)
    watching.space.ip(f"{route} initcwnd 20 rto_min 6ms")
    assert watching.marked()
    watching.space.ip("route add 10.9.0.0/16 nexthop via 10.64.0.3 nexthop via 10.65.0.3")
    assert watching.marked()


def test_another_desired_state_ends_the_watch(space: Namespace, tmp_path: Path) -> None:
    watch = Watch(space, tmp_path)
    watch.keep({"to": "10.65.0.0/24"}, initcwnd=20)
    process = watch.start()
    assert watch.marked(30)
    watch.keep({"to": "10.65.0.0/24"}, initcwnd=21)
    space.ip("route add 10.99.0.0/16 dev b0")
    assert process.communicate(timeout=10)[0] == "ended True\n"


def test_without_routes_there_is_nothing_to_watch(space: Namespace, tmp_path: Path) -> None:
    assert space.run(sys.executable, "-c", WATCH, str(tmp_path)) == "ended False\n"


def test_messages_that_were_lost_count_as_one_that_lacks_something(watching: Watch) -> None:
    """More than the socket holds, while the watch may not run."""
    space = watching.space
    os.kill(watching.pid, signal.SIGSTOP)
    space.run("ip", "-b", "-", text="".join(f"route add 172.{high}.{low}.0/24 dev b0 table 9\n" for high in range(16, 56) for low in range(256)))
    os.kill(watching.pid, signal.SIGCONT)
    assert watching.marked()
