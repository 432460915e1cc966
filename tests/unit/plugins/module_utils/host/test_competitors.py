# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Competitors on machines made of files: where they are looked for, what has the last word, and that a clean machine has none."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.competitors import SIZE_LIMIT, read_competitors
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.machine import Host
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.competitors import Competitor
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.nic_commands import IRQ, NIC
from ansible_collections.lowlatency.fleet.tests.unit.fixture_host import tree
from ansible_collections.lowlatency.fleet.tests.unit.fixture_machine import FixtureMachine, two_sockets

OWN = "# Owned by lowlatency.fleet: rewritten as a whole.\n"
WANTS = "etc/systemd/system/multi-user.target.wants"
DEFAULT_LINK = "[Match]\nOriginalName=*\n\n[Link]\nNamePolicy=keep kernel database onboard slot path\nMACAddressPolicy=persistent\n"


class Machine(FixtureMachine):
    """A Debian with ifupdown, irqbalance not installed, and the NICs eth0 (which we tune) and eth1 (which we do not)."""

    def __init__(self, root: Path) -> None:
        super().__init__(two_sockets(root).root)
        for number, (interface, address) in enumerate((("eth0", "0000:01:00.0"), ("eth1", "0000:02:00.0"))):
            self.link(f"sys/class/net/{interface}", f"../../devices/pci0000:00/{address}/net/{interface}")
            folder = f"sys/devices/pci0000:00/{address}"
            self.link(f"{folder}/net/{interface}/device", "../../../" + address).link(f"{folder}/driver", "../../../bus/pci/drivers/igb")
            self.write(f"{folder}/net/{interface}/address", f"02:00:00:00:00:0{number + 1}\n").write(f"{folder}/net/{interface}/ifindex", f"{number + 2}\n")
            self.write(f"{folder}/net/{interface}/name_assign_type", "1\n").write(f"{folder}/net/{interface}/uevent", f"INTERFACE={interface}\n")
        self.write("sys/devices/virtual/net/lo/ifindex", "1\n").link("sys/class/net/lo", "../../devices/virtual/net/lo")
        self.write("run/udev/data/n2", "I:123\nE:ID_PATH=pci-0000:01:00.0\nE:ID_NET_DRIVER=igb\nE:ID_NET_NAME_PATH=enp1s0\n"
                   "E:ID_NET_LINK_FILE=/usr/lib/systemd/network/99-default.link\n")
        self.write("usr/lib/systemd/network/99-default.link", DEFAULT_LINK)
        self.write("usr/lib/udev/rules.d/80-net-setup-link.rules", 'SUBSYSTEM!="net", GOTO="end"\nIMPORT{builtin}="net_setup_link"\nLABEL="end"\n')
        self.write("etc/network/interfaces", "source /etc/network/interfaces.d/*\nauto lo\niface lo inet loopback\nauto eth0\niface eth0 inet dhcp\n")
        self.script("etc/network/if-up.d/ethtool", '#!/bin/sh\n[ -z "$SETTINGS" ] || $ETHTOOL --offload "$IFACE" $SETTINGS\n')
        self.write("etc/crontab", "17 * * * * root cd / && run-parts --report /etc/cron.hourly\n")
        self.unit("ssh.service", "[Service]\nExecStart=/usr/sbin/sshd -D\n")
        self.write("etc/systemd/system/lowlatency.service", OWN + "[Service]\nExecStart=/usr/local/sbin/lowlatency apply\n")
        self.link(f"{WANTS}/lowlatency.service", "/etc/systemd/system/lowlatency.service")

    def script(self, name: str, text: str) -> Machine:
        self.write(name, text)
        (self.root / name).chmod(0o755)
        return self

    def unit(self, name: str, text: str, folder: str = "usr/lib/systemd/system") -> Machine:
        """A unit that is enabled."""
        file = name if "@" not in name else f"{name.partition('@')[0]}@.service"
        self.write(f"{folder}/{file}", text).link(f"{WANTS}/{name}", f"/{folder}/{file}")
        return self

    def mask(self, name: str) -> Machine:
        self.link(f"etc/systemd/system/{name}", "/dev/null")
        return self

    def read(self, *interfaces: str, **asked: bool) -> tuple[Competitor, ...]:
        return read_competitors(Host(str(self.root)), interfaces or ("eth0",), **asked)

    def told(self, *interfaces: str) -> list[tuple[str, str]]:
        return [(one.name, one.sets) for one in self.read(*interfaces)]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_clean_debian_has_none(machine: Machine) -> None:
    assert machine.read("eth0", "eth1") == ()


def test_an_empty_tree_and_an_interface_that_is_not_there(tmp_path: Path, machine: Machine) -> None:
    assert read_competitors(Host(str(tmp_path / "nothing")), ["eth0"]) == ()
    assert machine.read("eth9") == () and machine.read("..", "a/b") == ()


# tuned


NETWORK_LATENCY = "[main]\nsummary=x\ninclude=latency-performance\n[sysctl]\nnet.core.busy_read=50\n"
LATENCY_PERFORMANCE = "[cpu]\ngovernor=performance\n[sysctl]\nvm.swappiness=10\n"
SITE = ("[main]\ninclude=network-latency\n[variables]\ninclude=/etc/tuned/site-variables.conf\n"
        "[net]\ncoalesce=rx-usecs ${usecs}\n[irqbalance]\nbanned_cpus=2-7\n")


def tuned(machine: Machine, active: str = "site", *, enabled: bool = True) -> Machine:
    machine.write("usr/lib/tuned/network-latency/tuned.conf", NETWORK_LATENCY).write("usr/lib/tuned/latency-performance/tuned.conf", LATENCY_PERFORMANCE)
    machine.write("etc/tuned/site/tuned.conf", SITE).write("etc/tuned/site-variables.conf", "usecs=0\n")
    machine.write("etc/tuned/active_profile", active + "\n").write("etc/tuned/profile_mode", "manual\n")
    machine.write("etc/tuned/tuned-main.conf", "daemon = 1\ndynamic_tuning = 0\n")
    return machine.unit("tuned.service", "[Service]\nExecStart=/usr/sbin/tuned\n") if enabled else machine


NET = ("tuned.service", "tuned profile site: plugin net (section [net]) sets coalesce (rx-usecs 0) on all interfaces")
BANNED = ("tuned.service", "tuned profile site: plugin irqbalance (section [irqbalance]) sets banned_cpus (2-7)")


def test_the_active_profile_of_tuned(machine: Machine) -> None:
    assert tuned(machine).told() == [BANNED, NET]


def test_a_profile_without_net_or_irq_is_none(machine: Machine) -> None:
    assert tuned(machine, "network-latency").told() == []


@pytest.mark.parametrize("place", ["etc/tuned", "etc/tuned/profiles", "usr/lib/tuned", "usr/lib/tuned/profiles"])
def test_a_profile_that_another_includes(machine: Machine, place: str) -> None:
    tuned(machine, "child").write(f"{place}/child/tuned.conf", "[main]\ninclude=network-latency, base\n[net]\nring=rx 512\n")
    machine.write(f"{place}/base/tuned.conf", "[net]\ncoalesce=rx-usecs 3\nring=rx 256\ndevices=eth*\n")
    assert machine.told("eth1") == [
        ("tuned.service", "tuned profile child: plugin net (section [net]) sets coalesce (rx-usecs 3), ring (rx 512) on all interfaces")]


def test_a_profile_of_the_site_is_over_the_distribution_s_and_may_include_it(machine: Machine) -> None:
    tuned(machine, "network-latency").write("etc/tuned/network-latency/tuned.conf", "[main]\ninclude=network-latency\n[net]\nring=rx 512\ndevices=eth1\n")
    machine.write("usr/lib/tuned/network-latency/tuned.conf", NETWORK_LATENCY + "[net]\ncoalesce=rx-usecs 9\n")
    assert machine.told("eth0") == []
    assert machine.told("eth1") == [
        ("tuned.service", "tuned profile network-latency: plugin net (section [net]) sets coalesce (rx-usecs 9), ring (rx 512) on eth1")]


def test_an_include_by_a_variable_and_profiles_that_include_each_other(machine: Machine) -> None:
    tuned(machine, "one").write("etc/tuned/one/tuned.conf", "[main]\ninclude=${base}\n[variables]\nbase=two\n")
    machine.write("etc/tuned/two/tuned.conf", "[main]\ninclude=one\n[irq]\naffinity=0-1\n")
    assert machine.told() == [("tuned.service", "tuned profile one: plugin irq (section [irq]) sets affinity (0-1)")]


def test_tuned_that_neither_runs_nor_will_is_none(machine: Machine) -> None:
    assert tuned(machine, enabled=False).told() == []
    machine.write("run/tuned/tuned.pid", "812\n")
    assert len(machine.told()) == 2


def test_masked_or_without_a_profile_tuned_is_none(machine: Machine) -> None:
    assert tuned(machine, "").told() == []
    machine.write("etc/tuned/active_profile", "site\n")
    assert len(machine.told()) == 2
    assert machine.mask("tuned.service").told() == []


def test_tuned_s_dynamic_tuning_sets_the_link_speed(machine: Machine) -> None:
    tuned(machine, "powersave").write("usr/lib/tuned/powersave/tuned.conf", "[net]\n# devices=eth0\n")
    assert machine.told() == []
    machine.write("etc/tuned/tuned-main.conf", "dynamic_tuning = 1\n").write("etc/tuned/profile_mode", "auto\n")
    assert machine.told() == [("tuned.service", "tuned profile powersave (chosen by tuned itself): plugin net (section [net]) sets the link speed, by load "
                               "on all interfaces")]


def test_tuned_s_own_folders_of_profiles(machine: Machine) -> None:
    tuned(machine, "far").write("etc/tuned/tuned-main.conf", "dynamic_tuning=0\nprofile_dirs=/usr/lib/tuned,/srv/tuned\n")
    machine.write("srv/tuned/far/tuned.conf", "[net]\nring=rx 1\n")
    assert [name for name, _sets in machine.told()] == ["tuned.service"]


# irqbalance


IRQBALANCE = "[Service]\nExecStart=/usr/sbin/irqbalance --foreground\n"


def irqbalance(machine: Machine) -> Machine:
    return machine.script("usr/sbin/irqbalance", "ELF")


def test_irqbalance_enabled(machine: Machine) -> None:
    irqbalance(machine).unit("irqbalance.service", IRQBALANCE)
    assert machine.told() == [("irqbalance.service", "irqbalance starts at boot: it moves interrupts")]
    assert machine.read(irq=False) == ()
    assert machine.mask("irqbalance.service").told() == []


def test_irqbalance_installed_and_disabled_is_none(machine: Machine) -> None:
    irqbalance(machine).write("usr/lib/systemd/system/irqbalance.service", IRQBALANCE)
    assert machine.told() == []


def test_irqbalance_that_was_removed_left_no_competitor(machine: Machine) -> None:
    machine.link(f"{WANTS}/irqbalance.service", "/usr/lib/systemd/system/irqbalance.service")
    assert machine.told() == []


@pytest.mark.parametrize("sign", ["run/irqbalance/irqbalance641.sock", "run/irqbalance.pid", "proc/641/comm"])
def test_irqbalance_running_though_masked(machine: Machine, sign: str) -> None:
    irqbalance(machine).mask("irqbalance.service").write("proc/640/comm", "irqbalance-ui\n").write(sign, "irqbalance\n")
    assert machine.told() == [("irqbalance.service", "irqbalance runs: it moves interrupts")]


@pytest.mark.parametrize(("numbers", "ours"), [("641", True), ("641\t7", False)])
def test_irqbalance_in_a_container_is_not_the_host_s(machine: Machine, numbers: str, ours: bool) -> None:
    irqbalance(machine).write("proc/641/comm", "irqbalance\n").write("proc/641/status", f"Name:\tirqbalance\nNSpid:\t{numbers}\n")
    assert bool(machine.told()) is ours


def test_irqbalance_by_a_timer(machine: Machine) -> None:
    irqbalance(machine).write("etc/systemd/system/often.timer", "[Timer]\nOnCalendar=hourly\nUnit=irqbalance.service\n")
    assert machine.told() == []
    machine.link("etc/systemd/system/timers.target.wants/often.timer", "../often.timer")
    assert machine.told() == [("irqbalance.service", "irqbalance starts at boot: it moves interrupts")]


@pytest.mark.parametrize(("name", "text"), [
    ("etc/cron.d/irq", "@reboot root /usr/sbin/irqbalance --oneshot\n"),
    ("var/spool/cron/crontabs/root", "0 6 * * 1 systemctl start irqbalance\n"),
    ("etc/crontab", "0 6 * * 1 root service irqbalance start\n"),
])
def test_irqbalance_by_a_crontab(machine: Machine, name: str, text: str) -> None:
    irqbalance(machine).write(name, text)
    assert [(one.control, one.name) for one in machine.read()] == [(IRQ, "/" + name)]


# NetworkManager, ifcfg


KEYFILE = "[connection]\nid=md\ntype=ethernet\ninterface-name={0}\n[ethtool]\nfeature-gro=false\n"
PROFILES = "NetworkManager/system-connections"


def test_networkmanager_where_it_runs_or_will(machine: Machine) -> None:
    machine.write(f"etc/{PROFILES}/md.nmconnection", KEYFILE.format("eth0")).write(f"etc/{PROFILES}/mgmt.nmconnection", KEYFILE.format("eth1"))
    assert machine.told() == []
    machine.unit("NetworkManager.service", "")
    told = [(f"/etc/{PROFILES}/md.nmconnection", "NetworkManager connection md sets feature-gro=false on eth0")]
    assert machine.told() == told
    assert machine.read(nic=False) == ()
    assert machine.mask("NetworkManager.service").told() == []
    (machine.root / "run/NetworkManager").mkdir()
    assert machine.told() == told


def test_a_connection_of_the_site_is_over_one_of_the_distribution(machine: Machine) -> None:
    machine.unit("NetworkManager.service", "").write(f"usr/lib/{PROFILES}/md.nmconnection", KEYFILE.format("eth0"))
    machine.write(f"run/{PROFILES}/other.nmconnection", KEYFILE.format("eth0"))
    assert [name for name, _sets in machine.told()] == [f"/run/{PROFILES}/other.nmconnection", f"/usr/lib/{PROFILES}/md.nmconnection"]
    machine.write(f"etc/{PROFILES}/md.nmconnection", "[connection]\nid=md\ninterface-name=eth0\n")
    assert [name for name, _sets in machine.told()] == [f"/run/{PROFILES}/other.nmconnection"]


def test_ifcfg_files(machine: Machine) -> None:
    for folder in ("network-scripts", "network"):
        machine.write(f"etc/sysconfig/{folder}/ifcfg-eth0", 'ETHTOOL_OPTS="-K eth0 gro off"\n')
        machine.write(f"etc/sysconfig/{folder}/ifcfg-eth0.rpmsave", 'DEVICE=eth0\nETHTOOL_OPTS="-K eth0 gro off"\n')
    assert machine.told() == [("/etc/sysconfig/network-scripts/ifcfg-eth0", "runs ethtool -K eth0 gro off on eth0"),
                              ("/etc/sysconfig/network/ifcfg-eth0", "runs ethtool -K eth0 gro off on eth0")]


# .link files


def md_link(**more: str) -> str:
    return "[Match]\nDriver=igb\nMACAddress=02:00:00:00:00:01\n[Link]\nNamePolicy=keep\n" + "".join(f"{key}={value}\n" for key, value in more.items())


@pytest.mark.parametrize("place", ["etc", "run", "usr/local/lib", "usr/lib", "lib"])
def test_link_files(machine: Machine, place: str) -> None:
    machine.write(f"{place}/systemd/network/10-md.link", md_link(RxBufferSize="max"))
    assert machine.told() == [(f"/{place}/systemd/network/10-md.link", "udev sets RxBufferSize=max on eth0 when it appears")]
    assert machine.told("eth1") == []


def test_a_link_file_of_the_site_replaces_one_of_its_name(machine: Machine) -> None:
    machine.write("usr/lib/systemd/network/10-md.link", md_link(RxBufferSize="max")).write("run/systemd/network/10-md.link", md_link(RxBufferSize="512"))
    assert [name for name, _sets in machine.told()] == ["/run/systemd/network/10-md.link"]
    machine.link("etc/systemd/network/10-md.link", "/dev/null")
    assert machine.told() == []


def test_an_empty_link_file_is_none(machine: Machine) -> None:
    machine.write("usr/lib/systemd/network/10-md.link", md_link(RxBufferSize="max")).write("etc/systemd/network/10-md.link", "")
    assert machine.told() == []


def test_drop_ins_of_a_link_file(machine: Machine) -> None:
    machine.write("usr/lib/systemd/network/99-default.link.d/10-a.conf", "[Link]\nGenericReceiveOffload=no\nRxChannels=2\n")
    machine.write("etc/systemd/network/99-default.link.d/20-b.conf", "[Link]\nRxChannels=4\n")
    assert machine.told() == [("/etc/systemd/network/99-default.link.d/20-b.conf", "udev sets RxChannels=4 on eth0 when it appears"),
                              ("/usr/lib/systemd/network/99-default.link.d/10-a.conf", "udev sets GenericReceiveOffload=no on eth0 when it appears")]
    machine.write("etc/systemd/network/99-default.link.d/10-a.conf", OWN)
    assert [name for name, _sets in machine.told()] == ["/etc/systemd/network/99-default.link.d/20-b.conf"]


def test_a_link_file_that_would_rename_the_interface(machine: Machine) -> None:
    machine.write("sys/devices/pci0000:00/0000:01:00.0/net/eth0/name_assign_type", "4\n")
    machine.write("etc/systemd/network/10-mtu.link", "[Match]\nDriver=igb\n[Link]\nMTUBytes=9000\n")
    [(name, sets)] = machine.told()
    assert name == "/etc/systemd/network/10-mtu.link" and "does not name eth0" in sets and "/usr/lib/systemd/network/99-default.link" in sets


# ifupdown


def test_interfaces_and_what_they_read(machine: Machine) -> None:
    machine.write("etc/network/interfaces", "source interfaces.d/*.cfg\nsource-directory more\nsource /etc/network/interfaces\n")
    machine.write("etc/network/interfaces.d/md.cfg", "iface eth0 inet manual\n offload-gro off\n")
    machine.write("etc/network/interfaces.d/md.cfg~", "iface eth0 inet manual\n offload-lro off\n")
    machine.write("etc/network/more/mgmt", "iface eth1 inet manual\n up ethtool -C eth0 rx-usecs 0\n")
    machine.write("etc/network/more/x.bak", "iface eth0\n offload-tso off\n")
    assert machine.told() == [("/etc/network/interfaces.d/md.cfg", "iface eth0 sets offload-gro off on eth0"),
                              ("/etc/network/more/mgmt", "iface eth1 runs ethtool -C eth0 rx-usecs 0")]


# rules, units, scripts


RULE = 'ACTION=="add", SUBSYSTEM=="net", DRIVERS=="igb", RUN+="/usr/sbin/ethtool -C $name rx-usecs 0"\n'


def test_udev_rules(machine: Machine) -> None:
    machine.write("usr/lib/udev/rules.d/70-nic.rules", RULE)
    assert machine.told() == [("/usr/lib/udev/rules.d/70-nic.rules", "udev runs ethtool -C $name rx-usecs 0")]
    machine.write("etc/udev/rules.d/70-nic.rules", OWN + RULE)
    assert machine.told() == []


def test_a_rule_for_the_pci_address_of_another_nic(machine: Machine) -> None:
    machine.write("etc/udev/rules.d/70-nic.rules", RULE.replace('DRIVERS=="igb"', 'KERNELS=="0000:02:00.0"'))
    assert machine.told("eth0") == [] and len(machine.told("eth1")) == 1


@pytest.mark.parametrize("name", ["etc/rc.local", "etc/rc.d/rc.local", "etc/network/if-up.d/tune", "etc/network/if-pre-up.d/tune",
                                  "etc/NetworkManager/dispatcher.d/50-tune", "etc/NetworkManager/dispatcher.d/pre-up.d/50-tune",
                                  "etc/networkd-dispatcher/routable.d/tune", "etc/cron.daily/tune"])
def test_scripts_that_something_runs(machine: Machine, name: str) -> None:
    machine.write(name, "#!/bin/sh\nethtool -K $IFACE gro off\n")
    assert machine.told() == []
    (machine.root / name).chmod(0o755)
    assert machine.told() == [("/" + name, "runs ethtool -K $IFACE gro off")]


@pytest.mark.parametrize(("name", "text", "sets"), [
    ("etc/cron.d/nic", "@reboot root ethtool -K eth0 gro off\n", "runs ethtool -K eth0 gro off"),
    ("etc/tmpfiles.d/rps.conf", "w /sys/class/net/eth0/queues/rx-0/rps_cpus - - - - f\n", "sets w /sys/class/net/eth0/queues/rx-0/rps_cpus - - - - f"),
    ("etc/sysfs.d/xps.conf", "class/net/eth0/queues/tx-0/xps_cpus = 1\n", "sets class/net/eth0/queues/tx-0/xps_cpus = 1"),
])
def test_tables(machine: Machine, name: str, text: str, sets: str) -> None:
    assert machine.write(name, text).root and machine.told() == [("/" + name, sets)]
    assert machine.told("eth1") == []


def test_units_of_the_site(machine: Machine) -> None:
    machine.write("etc/systemd/system/tune.service", "[Service]\nExecStart=/sbin/ethtool -K eth0 gro off\n")
    machine.write("etc/systemd/system/ssh.service.d/nic.conf", "[Service]\nExecStartPre=/sbin/ethtool -G eth0 rx 512\n")
    machine.write("etc/systemd/system/lowlatency-x.service", "[Service]\nExecStart=/sbin/ethtool -K eth0 gro off\n")
    machine.unit("lowlatency-y.service", "[Service]\nExecStart=/sbin/ethtool -K eth0 gro off\n")
    assert machine.told() == [("/etc/systemd/system/ssh.service.d/nic.conf", "runs ethtool -G eth0 rx 512"),
                              ("/etc/systemd/system/tune.service", "runs ethtool -K eth0 gro off")]
    assert machine.told("eth1") == []


def test_units_of_others_where_a_boot_starts_them(machine: Machine) -> None:
    text = "[Service]\nExecStart=/usr/sbin/mlnx_tune -p LOW_LATENCY\n"
    machine.write("usr/lib/systemd/system/vendor.service", text)
    assert machine.told() == []
    machine.unit("vendor.service", text)
    said = ("/usr/lib/systemd/system/vendor.service", "vendor.service runs mlnx_tune -p LOW_LATENCY")
    assert machine.told() == [said, said] and {one.control for one in machine.read()} == {NIC, IRQ}


def test_a_template_touches_the_interface_of_its_instance(machine: Machine) -> None:
    text = "[Service]\nExecStart=/sbin/ethtool -K %i gro off\n"
    machine.unit("tune@eth1.service", text, "etc/systemd/system")
    assert machine.told() == []
    assert machine.told("eth1") == [("/etc/systemd/system/tune@.service", "tune@eth1.service runs ethtool -K eth1 gro off")]


def test_the_script_that_a_unit_runs(machine: Machine) -> None:
    machine.unit("tune.service", "[Service]\nExecStart=/usr/local/sbin/nic-tune --all\n", "etc/systemd/system")
    machine.write("usr/local/sbin/nic-tune", "#!/bin/bash\nfor i in eth0; do\n  ethtool -K $i gro off\n  set_irq_affinity.sh $i\ndone\n")
    assert machine.told() == []
    (machine.root / "usr/local/sbin/nic-tune").chmod(0o755)
    assert machine.told() == [("/usr/local/sbin/nic-tune", "run by /etc/systemd/system/tune.service: set_irq_affinity.sh $i"),
                              ("/usr/local/sbin/nic-tune", "run by /etc/systemd/system/tune.service: ethtool -K $i gro off")]
    assert [one.control for one in machine.read(nic=False)] == [IRQ] and [one.control for one in machine.read(irq=False)] == [NIC]
    assert machine.told("eth1") == []


def test_openib(machine: Machine) -> None:
    machine.write("etc/infiniband/openib.conf", "RUN_AFFINITY_TUNER=yes\n")
    assert machine.told() == []
    (machine.root / "sys/devices/pci0000:00/0000:01:00.0/driver").unlink()
    machine.link("sys/devices/pci0000:00/0000:01:00.0/driver", "../../../bus/pci/drivers/mlx5_core")
    assert machine.told() == [("/etc/infiniband/openib.conf", "RUN_AFFINITY_TUNER=yes: openibd tunes on eth0 at boot")]


# what is not read


def test_what_is_no_ordinary_text_file_is_left_out(machine: Machine) -> None:
    text = "#!/bin/sh\nethtool -K eth0 gro off\n"
    folder = "etc/network/if-up.d"
    machine.script(f"{folder}/large", text + "#" * SIZE_LIMIT).script(f"{folder}/binary", text + "\0").script(f"{folder}/own", OWN + text)
    (machine.root / folder / "folder").mkdir()
    os.mkfifo(machine.root / folder / "pipe", 0o755)
    machine.link(f"{folder}/loop", "loop").link(f"{folder}/gone", "/nowhere").link(f"{folder}/outside", "/../../../../../../../../../etc/passwd")
    assert machine.told() == []
    machine.script(f"{folder}/barely", (text + "#" * SIZE_LIMIT)[:SIZE_LIMIT]).script(f"{folder}/latin", text + "# \xe9\n")
    assert [name for name, _sets in machine.told()] == [f"/{folder}/barely", f"/{folder}/latin"]


def test_a_file_that_is_forbidden_is_left_out(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.script("etc/rc.local", "ethtool -K eth0 gro off\n").script("etc/rc.d/rc.local", "ethtool -K eth0 gro off\n")
    real = os.open

    def forbidding(path: str, *arguments: int) -> int:
        if path.endswith("/etc/rc.local"):
            raise PermissionError(13, "Permission denied", path)
        return real(path, *arguments)

    monkeypatch.setattr(os, "open", forbidding)
    assert [name for name, _sets in machine.told()] == ["/etc/rc.d/rc.local"]


def test_an_ordinary_host_is_looked_through_quickly(machine: Machine) -> None:
    for number in range(120):
        machine.write(f"usr/lib/udev/rules.d/{number:02}-x.rules", f'SUBSYSTEM=="block", KERNEL=="sd{number}*", ENV{{X}}="1"\n' * 40)
        machine.unit(f"service{number}.service", "[Unit]\nDescription=x\n[Service]\nExecStart=/usr/sbin/x --y\nCPUAffinity=0-3\n" * 4)
    assert machine.read("eth0", "eth1") == ()
    spent = []
    for _attempt in range(5):
        before = time.process_time()
        machine.read("eth0", "eth1")
        spent.append(time.process_time() - before)
    assert min(spent) < 0.1  # some 30 ms where this was written; a scan that runs a program or reads whole trees takes longer


def test_nothing_is_run_and_nothing_written(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_arguments: object, **_more: object) -> None:
        raise AssertionError

    irqbalance(tuned(machine)).unit("irqbalance.service", IRQBALANCE)
    before = tree(machine.root)
    for name in ("fork", "posix_spawn", "system"):
        monkeypatch.setattr(os, name, never)
    monkeypatch.setattr(subprocess, "Popen", never)
    assert len(machine.read()) == 3
    assert tree(machine.root) == before
