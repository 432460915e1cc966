# SPDX-License-Identifier: GPL-3.0-or-later
"""What an event of a NIC undoes, the host sets again by itself: the driver is loaded again, channels change, an interface is renamed.

Each event is made while the test holds the agent's lock, so that what it undid can be seen; then the lock is let go.
"""

from __future__ import annotations

import contextlib

import lab
import pytest
from conftest import cpulist
from expected import CHANNELS, COALESCE, FEATURES, NICS, RING, ROUTES

# Under emulation one run takes 10 to 20 s, of which nearly all is Python's; a real host is done in 4 s.
PATIENCE = 120
SETTINGS = r"""
for nic in enp65s0 enp129s0; do
    [ -e /sys/class/net/$nic ] || continue
    for irq in $(ls /sys/class/net/$nic/device/msi_irqs); do
        for action in /proc/irq/$irq/*/; do [ ! -d "$action" ] || echo "$(basename $action) $(cat /proc/irq/$irq/smp_affinity_list)"; done
    done
    ethtool -k $nic | grep -E '^(generic-receive-offload|tcp-segmentation-offload):' | sed "s/^/$nic /"
    ethtool -c $nic | grep '^rx-usecs:' | sed "s/^/$nic /"
    ethtool -a $nic | awk -v nic=$nic '/^(Autonegotiate|RX|TX):/ { print nic, "pause", $1, $2 }'
    ethtool -g $nic | awk -v nic=$nic '/^RX:/ { n = $2 } END { print nic, "ring", n }'
    ethtool -l $nic | awk -v nic=$nic '/^Combined:/ { n = $2 } END { print nic, "channels", n }'
    echo "$nic table $(ethtool -x $nic | grep -E '^ *[0-9]+:' | md5sum)"
    echo "$nic udp4 $(ethtool -n $nic rx-flow-hash udp4 | tail -n +2 | tr '\n' ' ')"
    ethtool --show-priv-flags $nic | grep legacy-rx | sed "s/^/$nic /"
    echo "$nic flows $(cat /sys/class/net/$nic/queues/rx-*/rps_flow_cnt | sort -u | tr '\n' ' ') timer $(cat /sys/class/net/$nic/gro_flush_timeout)"
    tc qdisc show dev $nic | awk -v nic=$nic '{ print nic, "qdisc", $2, /parent/ ? "below" : "root", /flow_limit 200p/ ? "200" : "" }' | sort | uniq -c
    for queue in /sys/class/net/$nic/queues/tx-*; do echo "$nic $(basename $queue) $(cat $queue/xps_cpus 2>/dev/null)"; done
    ip -4 route show dev $nic | sed "s/^/$nic route /"
done
"""
WATCH = "systemctl is-active lowlatency-nics.path lowlatency-routes.service"
# What gives the kernel a route anew: a person, the link, and the network manager.
ROUTES_AGAIN = {
    "by hand": "ip route del 10.64.0.0/24; ip route add 10.64.0.0/24 dev enp65s0 proto kernel scope link src {address}",
    "link down and up": "ip link set enp65s0 down; sleep 1; ip link set enp65s0 up; sleep 3",
    "reconfigured": "networkctl reconfigure enp65s0; sleep 3",
    "restarted": "systemctl restart systemd-networkd; networkctl reconfigure enp65s0; sleep 3",
}
# A vector is in use, and has a name, when the network manager has brought the interface up.
LOADED_AGAIN = r"""
rmmod igb
modprobe igb
for second in $(seq 60); do
    grep -qx up /sys/class/net/enp65s0/operstate && grep -qx up /sys/class/net/enp129s0/operstate && break
    sleep 1
done 2>/dev/null
"""
# More channels once the agent has cleared the marks and waits for its lock: that is a run too late for them.
FEWER_AND_MORE = r"""
ethtool -X enp65s0 default
ethtool -L enp65s0 combined 2
for second in $(seq 90); do
    [ "$(systemctl is-active lowlatency-nics.service)" = activating ] && [ -z "$(ls /run/lowlatency/nics)" ] && break
    sleep 1
done
[ -z "$(ls /run/lowlatency/nics)" ]
ethtool -L enp65s0 combined {count}
"""
# udev keeps the name it gave as an alternative one, so that goes before the interface can have it back.
RENAMED_AND_BACK = r"""
ip link set enp129s0 down
ip link set enp129s0 name data9
udevadm settle
ethtool -K data9 gro on
for irq in $(ls /sys/class/net/data9/device/msi_irqs); do echo 0 > /proc/irq/$irq/smp_affinity_list; done
ip link property del dev data9 altname enp129s0
ip link set data9 name enp129s0
ip link set enp129s0 up
"""
DOWN_AND_UP = r"""
exec 2>&1
exec 9>/run/lowlatency.lock; flock 9
queue=/sys/class/net/enp65s0/queues/tx-1/xps_cpus
old=$(cat $queue)
echo 02 > $queue
udevadm monitor --kernel >/run/monitor & sleep 2
ip link set enp65s0 down; sleep 1; ip link set enp65s0 up; sleep 3
echo "XPS $(cat $queue)"
ip link add test0 type dummy; ip link del test0; sleep 2
kill $!; wait
echo $old > $queue
cat /run/monitor
"""


def settings(name):
    """Where each interrupt of the NICs may go, and their features: a set of lines."""
    return set(lab.run(name, SETTINGS).splitlines())


def undone_by(name, script):
    """The settings as an event leaves them, before the agent has had a chance."""
    shown = lab.run(name, f"exec 9>/run/lowlatency.lock; flock 9\n{script}\nudevadm settle\necho BEFORE THE AGENT\n{SETTINGS}", seconds=PATIENCE)
    return set(shown.split("BEFORE THE AGENT\n")[1].splitlines())


def wait_until(name, condition, what):
    try:
        lab.wait(condition, PATIENCE, what)
    except TimeoutError as error:
        journal = lab.run(name, "journalctl --no-pager -n 60 -u lowlatency-nics.service; ls -l /run/lowlatency/nics")
        raise AssertionError(f"{error}; now: {sorted(settings(name))}\n{journal}") from error


def idle(name):
    """Whether no event waits and no run is going on."""
    shown = lab.run(name, "systemctl show --property=ActiveState --value lowlatency-nics.service; ls /run/lowlatency/nics")
    return shown.split() in (["inactive"], ["failed"])


def starts(name):
    """How often systemd has started the service in this boot."""
    return lab.run(name, "journalctl -b --no-pager -o cat -u lowlatency-nics.service").count("Starting ")


def is_right(found):
    """By what is written down by hand: every vector on CPUs for it, every feature as the profile says."""
    on_cpus = [line for line in found for nic in NICS if line.startswith(f"{nic}-")]
    assert len(on_cpus) >= sum(CHANNELS.values())
    assert {f"{nic} {feature}: {word}" for nic in NICS for feature, word in FEATURES.items()} <= found
    assert {f"{nic} channels {count}" for nic, count in CHANNELS.items()} <= found
    assert routes(found) == {nic: metrics for nic, (_prefix, metrics) in ROUTES.items()}
    assert {f"{nic} ring {RING['RX']}" for nic in NICS} | {f"{nic} rx-usecs: {COALESCE['rx-usecs']}" for nic in NICS} <= found
    return all(cpulist(line.split()[1]) <= NICS[line.split()[0].split("-")[0]] for line in on_cpus)


def routes(found):
    """{NIC: metrics of the route to its network}, in the words of ip route."""
    words = {line.split()[0]: line.split() for line in found for prefix, _metrics in ROUTES.values() if f" route {prefix} " in line}
    return {nic: " ".join(said[said.index("src") + 2:]) for nic, said in words.items()}


@contextlib.contextmanager
def left_as_it_was(name):
    """The settings of a host that has nothing to do, which the test must bring back."""
    wait_until(name, lambda: idle(name), "the agent is idle")
    before = settings(name)
    assert is_right(before)
    yield before
    assert settings(name) == before
    assert lab.run(name, WATCH).split() == ["active", "active"]


def test_watch_is_enabled_and_active(host):
    assert host.check_output("systemctl is-enabled lowlatency-nics.path") == "enabled"
    assert host.check_output(WATCH).split() == ["active", "active"]
    units = "lowlatency.service lowlatency-nics.service lowlatency-nics.path lowlatency-routes.service"
    assert host.run(f"systemd-analyze verify {units}").rc == 0
    assert "NeedDaemonReload=yes" not in host.check_output(f"systemctl show --property=NeedDaemonReload {units}")


def test_driver_that_is_loaded_again_has_all_settings_again():
    name = "lab-a"
    with left_as_it_was(name) as before:
        undone = undone_by(name, LOADED_AGAIN)
        assert {f"{nic} generic-receive-offload: on" for nic in NICS} <= undone, "a NIC that is new has the driver's own settings"
        assert {f"{nic} channels 8" for nic in NICS} | {f"{nic} ring 256" for nic in NICS} <= undone
        wait_until(name, lambda: settings(name) == before, "features and interrupts of both NICs are back")
        wait_until(name, lambda: idle(name), "the agent is idle again")
    assert lab.run(name, "systemctl show --property=Result --value lowlatency-nics.service").strip() == "success"
    assert {f"10.64.{number}.1/24" for number in range(len(NICS))} <= set(lab.run(name, "ip -4 address").split())


def test_channels_that_come_and_go_have_their_interrupts_again():
    """Fewer are an event as more are; and more of them while the agent runs are not missed."""
    name = "lab-a"
    count = 8
    with left_as_it_was(name) as before:
        once = starts(name)
        undone = undone_by(name, FEWER_AND_MORE.format(count=count))
        assert len({line for line in undone - before if line.startswith("enp65s0-TxRx-")}) == count, "these vectors are new"
        assert [line.split()[0] for line in undone if "qdisc pfifo_fast below" in line] == ["4"], "queues that come have no fq"
        wait_until(name, lambda: settings(name) == before, "interrupts are back")
        wait_until(name, lambda: idle(name), "the agent is idle again")
        assert starts(name) >= once + 2, "one run for what came before it, one for what came while it ran"


def test_interface_that_is_renamed_has_its_settings_again():
    name = "lab-b"
    with left_as_it_was(name) as before:
        undone = undone_by(name, RENAMED_AND_BACK)
        assert {"enp129s0 generic-receive-offload: on", "enp129s0-rx-0 0"} <= undone
        wait_until(name, lambda: settings(name) == before, "features and interrupts are back")


@pytest.mark.parametrize("way", ROUTES_AGAIN)
def test_route_that_comes_again_has_its_metrics_again(way):
    name = "lab-b"
    with left_as_it_was(name) as before:
        undone = undone_by(name, ROUTES_AGAIN[way].format(address="10.64.0.2"))
        assert routes(undone)["enp65s0"] == "", "the route is a new one"
        wait_until(name, lambda: settings(name) == before, "its metrics are back")
        wait_until(name, lambda: idle(name), "the agent is idle again")


def test_link_that_goes_down_and_up_tells_udev_nothing_and_loses_nothing_of_the_nic():
    """Of the NIC nobody is told (docs/decisions/0011-nic-events.md), so with this driver nothing may depend on it. Its routes are another matter."""
    name = "lab-b"
    with left_as_it_was(name) as before:
        shown = lab.run(name, DOWN_AND_UP).splitlines()
        assert [line for line in shown if "/devices/virtual/net/test0" in line], "the monitor saw nothing at all"
        assert [line for line in shown if "enp65s0" in line] == []
        assert "XPS 02" in shown
        wait_until(name, lambda: settings(name) == before, "the routes have their metrics again")


def test_host_is_healthy(host, node):
    wait_until(node, lambda: idle(node), "the agent is idle")
    failed = host.check_output("systemctl --failed --no-legend --plain").split()[:1]
    assert not failed, host.check_output(f"systemctl status --no-pager --full --lines=60 {failed[0]} || true")
    assert host.check_output("systemctl is-system-running") == "running"
