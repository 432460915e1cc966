# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Competitors: what each kind of file sets of which interface, and what is no competitor."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.competitors import (
    Competitor,
    Port,
    findings,
    ifcfg_competitors,
    ifupdown_competitors,
    interfaces_file,
    irqbalance_competitor,
    keyfile_competitors,
    link_applies,
    link_competitors,
    link_file,
    openib_competitors,
    program_paths,
    rules_competitors,
    script_competitors,
    tuned_competitors,
)
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.nic_commands import IRQ, NIC
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.setting import DRIFTED, judged
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.tuned import TunedUnit
from hypothesis import given
from hypothesis import strategies as st

UDEV = {"ID_PATH": "pci-0000:3b:00.0", "ID_NET_LINK_FILE": "/usr/lib/systemd/network/99-default.link", "ID_NET_NAME_PATH": "enp59s0f0",
        "ID_NET_NAME_SLOT": "ens1f0", "ID_VENDOR_ID": "0x8086"}
PORT = Port("ens1f0", "02:00:00:00:0a:01", "ice", "0000:3b:00.0", renamed=True, properties=UDEV)
OTHER = Port("ens1f1", "02:00:00:00:0a:02", "ice", "0000:3b:00.1", renamed=True)
PLAIN = Port("eth0", "02:00:00:00:0a:03", "igb", "0000:01:00.0")
VETH = Port("md0", "02:00:00:00:0a:04", "veth", virtual=True)
EXISTING = {"eno1", "bond0"}


def sets(competitors: list[Competitor], control: str = NIC) -> list[str]:
    return [competitor.sets for competitor in competitors if competitor.control == control]


# findings


def test_a_finding_says_who_what_and_what_to_do() -> None:
    [setting] = findings([Competitor(NIC, "/etc/x", "runs ethtool -K eth0 gro off", "take it out")])
    assert (setting.control, setting.name, setting.desired, setting.current) == ("nic.competitor", "/etc/x", "none", "runs ethtool -K eth0 gro off")
    assert (setting.state, setting.finding, setting.reason, setting.needs_reboot) == (DRIFTED, True, "take it out", False)
    assert judged(setting) == setting and not setting.live_drift


def test_one_finding_for_each_thing_and_kind() -> None:
    found = findings([Competitor(NIC, "/etc/b", "one", "r"), Competitor(IRQ, "/etc/b", "irq", "r"), Competitor(NIC, "/etc/b", "two", "r"),
                      Competitor(NIC, "/etc/a", "x", "r")])
    assert [(setting.control, setting.name, setting.current, setting.reason) for setting in found] == [
        ("irq.competitor", "/etc/b", "irq", "r"), (NIC, "/etc/a", "x", "r"), (NIC, "/etc/b", "one; two", "r")]
    assert findings([]) == []


# tuned, irqbalance


def test_tuned_touches_the_interfaces_it_drives() -> None:
    units = [TunedUnit("net", "net", options={"coalesce": "rx-usecs 0"}), TunedUnit("first", "net", "ens1f1", options={"ring": "rx 512"}),
             TunedUnit("irqbalance", "irqbalance", options={"banned_cpus": "2-7"})]
    found = tuned_competitors(units, [PORT, VETH], "site", "0")
    assert sets(found) == ["tuned profile site: plugin net (section [net]) sets coalesce (rx-usecs 0) on all interfaces"]
    assert sets(found, IRQ) == ["tuned profile site: plugin irqbalance (section [irqbalance]) sets banned_cpus (2-7)"]
    assert {one.name for one in found} == {"tuned.service"} and "without section [net]" in found[0].remedy
    assert sets(tuned_competitors(units, [OTHER], "site", "0"))[1].endswith("section [first]) sets ring (rx 512) on ens1f1")
    assert sets(tuned_competitors(units, [VETH], "site", "0")) == []
    assert tuned_competitors([TunedUnit("sysctl", "sysctl", options={"a": "1"})], [PORT], "site", "1") == []


@pytest.mark.parametrize(("running", "enabled", "said"), [
    (True, False, "irqbalance runs: it moves interrupts"),
    (False, True, "irqbalance starts at boot: it moves interrupts"),
    (True, True, "irqbalance runs and starts at boot: it moves interrupts"),
])
def test_irqbalance(running: bool, enabled: bool, said: str) -> None:
    [found] = irqbalance_competitor(running=running, enabled=enabled)
    assert (found.control, found.name, found.sets) == (IRQ, "irqbalance.service", said)
    assert "noisy_services_removed" in found.remedy
    assert irqbalance_competitor(running=False, enabled=False) == []


# NetworkManager, ifcfg


KEYFILE = """\
[connection]
id=Market data
type=ethernet
{connection}
[ethernet]
{ethernet}
[match]
{match}
[ethtool]
feature-gro=false
coalesce-rx-usecs=0
fec-mode=1
[ipv4]
method=manual
"""


def keyfile(connection: str = "", ethernet: str = "", match: str = "", text: str = KEYFILE) -> list[str]:
    found = keyfile_competitors("/etc/NetworkManager/system-connections/md.nmconnection",
                                text.format(connection=connection, ethernet=ethernet, match=match), [PORT, PLAIN])
    return [one.sets.rpartition(" on ")[2] for one in found]


def test_a_connection_of_networkmanager() -> None:
    [found] = keyfile_competitors("/etc/x.nmconnection", KEYFILE.format(connection="interface-name=ens1f0", ethernet="", match=""), [PORT, PLAIN])
    assert found.sets == "NetworkManager connection Market data sets feature-gro=false, coalesce-rx-usecs=0 on ens1f0"
    assert found.name == "/etc/x.nmconnection" and "nmcli connection modify 'Market data' remove ethtool" in found.remedy


@pytest.mark.parametrize(("connection", "ethernet", "match", "on"), [
    ("interface-name=ens1f0", "", "", ["ens1f0"]),
    ("interface-name=eno1", "", "", []),
    ("interface-name=ens1f0", "mac-address=02:00:00:00:0A:03", "", ["ens1f0"]),
    ("", "mac-address=02:00:00:00:0A:03", "", ["eth0"]),
    ("", "mac-address=02-00-00-00-0a-99", "", []),
    ("", "mac-address-denylist=02:00:00:00:0A:01;", "", ["eth0"]),
    ("", "", "interface-name=ens*;", ["ens1f0"]),
    ("", "", "interface-name=!ens*;", ["eth0"]),
    ("", "", "driver=igb", ["eth0"]),
    ("", "", "path=pci-0000:3b:*", ["ens1f0"]),
    ("", "", "", ["ens1f0, eth0"]),
])
def test_whose_connection_it_is(connection: str, ethernet: str, match: str, on: list[str]) -> None:
    assert keyfile(connection, ethernet, match) == on


@pytest.mark.parametrize("setting", ["channels-combined=4", "coalesce-rx-usecs=0", "eee-enabled=0", "feature-gro=false", "pause-rx=false", "ring-rx=512"])
def test_every_kind_of_ethtool_setting_of_a_connection(setting: str) -> None:
    assert keyfile(text=f"[connection]\nid=x\n[ethtool]\n{setting}\n") == ["ens1f0, eth0"]


def test_a_connection_of_another_kind_or_without_ethtool_is_none() -> None:
    assert keyfile(text="[connection]\ntype=wifi\n[ethtool]\nfeature-gro=false\n") == []
    assert keyfile(text="[connection]\ntype=ethernet\n[ethtool]\nfeature-gro=\nfec-mode=1\n[ipv4]\nmethod=auto\n") == []
    assert keyfile(text="[connection]\nid=x\n[ethtool]\nring-rx=512\n") == ["ens1f0, eth0"]


@pytest.mark.parametrize(("name", "text", "said"), [
    ("ifcfg-ens1f0", 'DEVICE=ens1f0\nETHTOOL_OPTS="-K ${DEVICE} gro off; -G ens1f0 rx 4096"\n',
     ["runs ethtool -K ${DEVICE} gro off; ethtool -G ens1f0 rx 4096 on ens1f0"]),
    ("ifcfg-lan", "HWADDR=02:00:00:00:0A:01\nETHTOOL_OPTS='-C ens1f0 rx-usecs 0'\n", ["runs ethtool -C ens1f0 rx-usecs 0 on ens1f0"]),
    ("ifcfg-ens1f0", "BOOTPROTO=none\nETHTOOL_OPTIONS_1='-K iface tso off'\n", ["runs ethtool -K iface tso off on ens1f0"]),
    ("ifcfg-ens1f0", 'DEVICE=ens1f0\nETHTOOL_OPTS="speed 1000 duplex full autoneg off"\n', []),
    ("ifcfg-ens1f0", 'DEVICE=ens1f0\nETHTOOL_OPTS="wol d"\nETHTOOL_DELAY=3\n', []),
    ("ifcfg-ens1f0", 'DEVICE=eno1\nETHTOOL_OPTS="-K eno1 gro off"\n', []),
    ("ifcfg-eno1", 'ETHTOOL_OPTS="-K eno1 gro off"\n', []),
    ("ifcfg-ens1f0", '#ETHTOOL_OPTS="-K ens1f0 gro off"\n', []),
])
def test_ifcfg(name: str, text: str, said: list[str]) -> None:
    assert sets(ifcfg_competitors(f"/etc/sysconfig/network-scripts/{name}", text, [PORT])) == said


# .link files


@pytest.mark.parametrize(("match", "port", "applies"), [
    ("OriginalName=*", PORT, True),
    ("OriginalName=eth0", PLAIN, True),
    ("OriginalName=eth0", PORT, None),
    ("OriginalName=eth*", PORT, None),
    ("OriginalName=en*", PORT, None),
    ("OriginalName=wl*", PORT, False),
    ("OriginalName=eth1 eth0", PLAIN, True),
    ("OriginalName=!eth0", PLAIN, False),
    ("OriginalName=eth1\nOriginalName=\nOriginalName=eth0", PLAIN, True),
    ("MACAddress=02:00:00:00:0A:01", PORT, True),
    ("MACAddress=02-00-00-00-0a-01", PORT, True),
    ("MACAddress=0200.0000.0a01", PORT, True),
    ("PermanentMACAddress=02:00:00:00:0a:02", PORT, False),
    ("Driver=ice", PORT, True),
    ("Driver=i40e ic?", PORT, True),
    ("Driver=!ice", PORT, False),
    ("Path=pci-0000:3b:00.*", PORT, True),
    ("Path=pci-0000:01:00.0", PLAIN, True),
    ("Path=*-usb-*", PORT, False),
    ("Type=ether", PORT, True),
    ("Type=wlan", PORT, False),
    ("Kind=bond", PORT, False),
    ("Kind=!bond", PORT, True),
    ("Kind=veth", VETH, None),
    ("Property=ID_VENDOR_ID=0x8086", PORT, True),
    ("Property=ID_VENDOR_ID=0x15b3", PORT, False),
    ("Property=ID_VENDOR_ID=0x15b3", PLAIN, None),
    ("Host=md01", PORT, None),
    ("Host=md01\nDriver=igb", PORT, False),
    ("", PORT, True),
])
def test_whether_a_link_file_applies(match: str, port: Port, applies: bool | None) -> None:
    assert link_applies(link_file("/x.link", [("/x.link", f"[Match]\n{match}\n[Link]\nName=x\n")]), port) is applies


def link(name: str, match: str, body: str, more: str = "") -> object:
    path = f"/etc/systemd/network/{name}"
    texts = [(path, f"[Match]\n{match}\n[Link]\n{body}\n")]
    return link_file(path, [*texts, (f"{path}.d/50.conf", more)] if more else texts)


DEFAULT = link_file("/usr/lib/systemd/network/99-default.link", [("", "[Match]\nOriginalName=*\n[Link]\nNamePolicy=keep kernel path\n")])


@pytest.mark.parametrize(("body", "said"), [
    ("GenericReceiveOffload=no", "GenericReceiveOffload=no"),
    ("RxCoalesceSec=0\nUseAdaptiveRxCoalesce=no", "RxCoalesceSec=0, UseAdaptiveRxCoalesce=no"),
    ("RxBufferSize=max\nRxJumboBufferSize=1", "RxBufferSize=max, RxJumboBufferSize=1"),
    ("CombinedChannels=4", "CombinedChannels=4"),
    ("AutoNegotiationFlowControl=no\nRxFlowControl=no", "AutoNegotiationFlowControl=no, RxFlowControl=no"),
    ("NTupleFilter=yes", "NTupleFilter=yes"),
    ("ReceivePacketSteeringCPUMask=all", "ReceivePacketSteeringCPUMask=all"),
    ("StatisticsBlockCoalesceSec=1\nCoalescePacketRateLow=9", "StatisticsBlockCoalesceSec=1, CoalescePacketRateLow=9"),
    ("MTUBytes=9000\nWakeOnLan=off\nMACAddressPolicy=none", ""),
    ("GenericReceiveOffload=no\nGenericReceiveOffload=", ""),
])
def test_what_a_link_file_sets(body: str, said: str) -> None:
    found = link_competitors([link("10-md.link", "MACAddress=02:00:00:00:0a:01", f"Name=ens1f0\n{body}"), DEFAULT], [PORT, OTHER])
    assert sets(found) == ([f"udev sets {said} on ens1f0 when it appears"] if said else [])


def test_interrupts_of_a_link_file() -> None:
    found = link_competitors([link("10-md.link", "Driver=ice", "Name=ens1f0\nIRQAffinity=0-3")], [PORT])
    assert (sets(found), sets(found, IRQ)) == ([], ["udev sets IRQAffinity=0-3 on ens1f0 when it appears"])


def test_the_first_file_that_matches_is_the_one_that_is_used() -> None:
    files = [link("20-all.link", "Type=ether", "Name=x\nRxChannels=2"), link("10-md.link", "Driver=ice", "Name=x\nRxChannels=4"), DEFAULT]
    assert sets(link_competitors(files, [PORT])) == ["udev sets RxChannels=4 on ens1f0 when it appears"]
    assert sets(link_competitors(files, [PLAIN])) == ["udev sets RxChannels=2 on eth0 when it appears"]


def test_a_file_that_may_match_hides_none_and_is_told_as_such() -> None:
    files = [link("10-md.link", "OriginalName=eth4", "Name=x\nRxChannels=4"), link("20-all.link", "Type=ether", "Name=x\nRxChannels=2")]
    assert sets(link_competitors(files, [PORT])) == ["udev sets RxChannels=4 on ens1f0 when it appears (where its [Match] fits)",
                                                     "udev sets RxChannels=2 on ens1f0 when it appears"]
    known = replace(PORT, properties={**UDEV, "ID_NET_LINK_FILE": "/etc/systemd/network/10-md.link"})
    assert sets(link_competitors(files, [known])) == ["udev sets RxChannels=4 on ens1f0 when it appears"]


def test_a_drop_in_is_over_its_file_and_named_itself() -> None:
    file = link("10-md.link", "Driver=ice", "Name=x\nRxChannels=4\nTxChannels=4", "[Link]\nRxChannels=2\n[EnergyEfficientEthernet]\nEnable=no\n")
    found = link_competitors([file], [PORT])
    assert [(one.name, one.sets) for one in found] == [
        ("/etc/systemd/network/10-md.link.d/50.conf", "udev sets RxChannels=2, Enable=no on ens1f0 when it appears"),
        ("/etc/systemd/network/10-md.link", "udev sets TxChannels=4 on ens1f0 when it appears")]


def test_netplan_s_files_are_changed_at_their_source() -> None:
    file = link_file("/run/systemd/network/10-netplan-ens1f0.link",
                     [("/run/systemd/network/10-netplan-ens1f0.link", "[Match]\nDriver=ice\n[Link]\nName=x\nLargeReceiveOffload=no\n")])
    assert "/etc/netplan" in link_competitors([file], [PORT])[0].remedy


@pytest.mark.parametrize(("port", "body", "lost"), [
    (PORT, "MTUBytes=9000", True),
    (PORT, "Name=ens1f0", False),
    (PORT, "NamePolicy=keep path", False),
    (PLAIN, "MTUBytes=9000", False),
    (replace(PORT, properties={}), "MTUBytes=9000", False),
    (replace(PORT, properties={"ID_NET_LINK_FILE": "/etc/systemd/network/10-md.link"}), "MTUBytes=9000", False),
])
def test_a_file_that_would_lose_the_name_at_the_next_boot(port: Port, body: str, lost: bool) -> None:
    found = link_competitors([link("10-md.link", "Type=ether", body), DEFAULT], [port])
    assert bool(found) is lost
    assert not lost or ("does not name ens1f0" in found[0].sets and "NamePolicy=" in found[0].remedy)


# ifupdown


def ifupdown(text: str, *ports: Port) -> list[Competitor]:
    return ifupdown_competitors([interfaces_file("/etc/network/interfaces", text)], ports or (PORT,), EXISTING)


@pytest.mark.parametrize(("text", "said"), [
    ("iface ens1f0 inet static\n\taddress 10.0.0.1/24\n\toffload-gro off\n\thardware-dma-ring-rx 4096\n",
     ["iface ens1f0 sets offload-gro off, hardware-dma-ring-rx 4096 on ens1f0"]),
    ("iface ens1f0 inet manual\n hardware-irq-coalesce-rx-usecs 0\n ethernet-pause-rx off\n",
     ["iface ens1f0 sets hardware-irq-coalesce-rx-usecs 0, ethernet-pause-rx off on ens1f0"]),
    ("iface ens1f0\n gro-offload off\n tso-offload on\n", ["iface ens1f0 sets gro-offload off, tso-offload on on ens1f0"]),
    ("iface ens1f0 inet manual\n up ethtool -K $IFACE gro off\n post-up tc qdisc replace dev ens1f0 root fq\n",
     ["iface ens1f0 runs ethtool -K $IFACE gro off; tc qdisc replace dev ens1f0"]),
    ("iface ens1f0:1 inet static\n offload-gro off\n", ["iface ens1f0:1 sets offload-gro off on ens1f0"]),
    ("iface eno1 inet dhcp\n offload-gro off\n up ethtool -K $IFACE gro off\n", []),
    ("iface eno1 inet dhcp\n up ethtool -K ens1f0 gro off\n", ["iface eno1 runs ethtool -K ens1f0 gro off"]),
    ("iface ens1f0 inet dhcp\n up ethtool -K eno1 gro off\n", []),
    ("iface ens1f0 inet dhcp\n wol d\n ethernet-wol g\n link-speed 1000\n", []),
    ("auto ens1f0=fast\niface fast inet manual\n offload-gro off\n", ["iface fast sets offload-gro off on ens1f0"]),
    ("allow-hotplug /ens*=fast\niface fast inet manual\n offload-gro off\n", ["iface fast sets offload-gro off on ens1f0"]),
    ("iface base inet manual\n offload-gro off\niface ens1f0 inet static inherits base\n address 10.0.0.1\n",
     ["iface base sets offload-gro off on ens1f0"]),
    ("iface a inet manual inherits b\niface b inet manual inherits a\n", []),
    ("iface ens1f0 inet manual\nauto lo\n offload-gro off\n", []),
    ("iface ens1f0 inet manual\n# offload-gro off\n offload-gro \\\n  off\n", ["iface ens1f0 sets offload-gro off on ens1f0"]),
    ("iface\n offload-gro off\n", []),
])
def test_ifupdown(text: str, said: list[str]) -> None:
    assert sets(ifupdown(text)) == said


@pytest.mark.parametrize("option", [
    "ethernet-pause-rx off", "hardware-dma-ring-rx 512", "hardware-irq-coalesce-rx-usecs 0", "offload-gro off", "ethtool-coalesce-rx-usecs 0",
    "ethtool-dma-ring-rx 512", "ethtool-offload-gro off", "ethtool-pause-rx off"])
def test_every_kind_of_option_of_ifupdown(option: str) -> None:
    assert sets(ifupdown(f"iface ens1f0 inet manual\n {option}\n")) == [f"iface ens1f0 sets {option} on ens1f0"]


def test_interrupts_moved_by_ifupdown() -> None:
    found = ifupdown("iface ens1f0 inet manual\n up /opt/set_irq_affinity.sh local $IFACE\n")
    assert (sets(found), sets(found, IRQ)) == ([], ["iface ens1f0 runs set_irq_affinity.sh local $IFACE"])


def test_what_an_interfaces_file_reads_besides() -> None:
    file = interfaces_file("/x", "source /etc/network/interfaces.d/*\nsource-directory more.d other\nauto lo eth0=a\n")
    assert file.sources == (("source", "/etc/network/interfaces.d/*"), ("source-directory", "more.d"), ("source-directory", "other"))
    assert file.logical == (("eth0", "a"),)


# scripts, rules


def test_a_script_of_both_kinds() -> None:
    text = "#!/bin/sh\nethtool -K $1 gro off\nethtool -K $1 lro off\nethtool -G $1 rx 1\nethtool -A $1 rx off\n/opt/set_irq_affinity.sh $1\n"
    found = script_competitors("/etc/rc.local", text, [PORT], EXISTING)
    assert sets(found) == ["runs ethtool -K $1 gro off; ethtool -K $1 lro off; ethtool -G $1 rx 1 and 1 more"]
    assert sets(found, IRQ) == ["runs set_irq_affinity.sh $1"]
    assert {one.name for one in found} == {"/etc/rc.local"}


def test_a_script_for_other_interfaces_is_none() -> None:
    assert script_competitors("/x", "ethtool -K eno1 gro off\n", [PORT], EXISTING) == []
    assert len(script_competitors("/x", "ethtool -K enp59s0f0 gro off\n", [PORT], EXISTING)) == 1


@pytest.mark.parametrize(("rule", "said"), [
    ('ACTION=="add", SUBSYSTEM=="net", RUN+="/usr/sbin/ethtool -K $name gro off"', ["udev runs ethtool -K $name gro off"]),
    ('SUBSYSTEM=="net", KERNEL=="ens1f0", RUN+="/bin/sh -c \'ethtool -C %k rx-usecs 0\'"', ["udev runs ethtool -C %k rx-usecs 0"]),
    ('SUBSYSTEM=="net", KERNEL=="eth*", RUN+="ethtool -C %k rx-usecs 0"', ["udev runs ethtool -C %k rx-usecs 0"]),
    ('SUBSYSTEM=="net", NAME=="eno*", RUN+="ethtool -C $name rx-usecs 0"', []),
    ('SUBSYSTEM=="net", ATTR{address}=="02:00:00:00:0a:01|02:00:00:00:0a:09", RUN+="ethtool -C $name rx-usecs 0"', ["udev runs ethtool -C $name rx-usecs 0"]),
    ('SUBSYSTEM=="net", DRIVERS=="mlx5_core", RUN+="ethtool -C $name rx-usecs 0"', []),
    ('SUBSYSTEM=="net", DRIVERS!="ice", RUN+="ethtool -C $name rx-usecs 0"', []),
    ('SUBSYSTEM=="net", RUN+="ethtool -C eno1 rx-usecs 0"', []),
    ('SUBSYSTEM=="net", DRIVERS=="?*", ATTR{queues/rx-0/rps_cpus}="f"', ['udev runs ATTR{queues/rx-0/rps_cpus}="f"']),
    ('SUBSYSTEM=="queues", KERNEL=="rx-*", ATTR{rps_cpus}="f"', ['udev runs ATTR{rps_cpus}="f"']),
    ('SUBSYSTEM=="net", ATTR{queues/rx-0/rps_cpus}=="f", RUN+="/bin/true"', []),
    ('# SUBSYSTEM=="net", RUN+="ethtool -K $name gro off"', []),
    ('ENV{ID_NET_DRIVER}=="veth", PROGRAM="ethtool -i $name"', []),
])
def test_udev_rules(rule: str, said: list[str]) -> None:
    assert sets(rules_competitors("/etc/udev/rules.d/70-nic.rules", rule + "\n", [PORT], EXISTING)) == said


def test_the_scripts_of_the_site_that_something_runs() -> None:
    unit = ("[Unit]\nDocumentation=file:/opt/doc\n[Service]\nEnvironmentFile=/etc/default/nic\n"
            "ExecStart=/usr/local/sbin/nic.sh --all\nExecStartPost=/usr/bin/true\n")
    assert program_paths(unit) == ["/usr/local/sbin/nic.sh"]
    assert program_paths("#!/bin/sh\n# /opt/no\nsh /opt/nic/tune.sh && /srv/x\n/usr/bin/env a\n") == ["/opt/nic/tune.sh", "/srv/x"]


def test_openibd() -> None:
    text = "RUN_AFFINITY_TUNER=yes\nRUN_MLNX_TUNE=no\nONBOOT=yes\n"
    mlx = replace(PORT, driver="mlx5_core")
    assert sets(openib_competitors("/etc/infiniband/openib.conf", text, [mlx]), IRQ) == ["RUN_AFFINITY_TUNER=yes: openibd tunes on ens1f0 at boot"]
    assert openib_competitors("/x", text, [PORT]) == []
    assert {one.control for one in openib_competitors("/x", "RUN_MLNX_TUNE=yes", [mlx])} == {NIC, IRQ}


# whatever a file holds


PIECES = ["[Match]", "[Link]", "[ethtool]", "[connection]", "[match]", "iface", "ens1f0", "auto", "inherits", "source", "source-directory", "up",
          "offload-gro",
          "OriginalName=", "Driver=", "Property=", "Kind=", "MACAddress=", "!", "*", "[", "RxChannels=", "interface-name=", "mac-address=", "feature-gro=",
          "ethtool -K $IFACE gro off", "ETHTOOL_OPTS=", "HWADDR=", '"', "'", "\n", "\n", "\\\n", "KERNEL==", 'RUN+="ethtool -K',
          'ATTR{rps_cpus}="f"', ";", "="]


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=3)))
def test_no_file_makes_the_reading_fail(pieces: list[str]) -> None:
    text, ports = "".join(pieces), [PORT, PLAIN, VETH]
    found = [*keyfile_competitors("/a/ifcfg-b", text, ports), *ifcfg_competitors("/a/ifcfg-b", text, ports), *script_competitors("/x", text, ports, EXISTING),
             *rules_competitors("/x", text, ports, EXISTING), *link_competitors([link_file("/x.link", [("/x.link", text)])], ports),
             *ifupdown_competitors([interfaces_file("/x", text), interfaces_file("/y", text)], ports, EXISTING), *openib_competitors("/x", text, ports)]
    program_paths(text)
    for setting in findings(found):
        assert setting.state == DRIFTED and setting.control in (NIC, IRQ) and setting.name and setting.current and setting.reason
