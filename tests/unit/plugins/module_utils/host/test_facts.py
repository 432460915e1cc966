# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which system a machine runs, told by files of many kinds, and by none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.facts import HostFacts, host_facts
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.machine import Host
from ansible_collections.lowlatency.fleet.tests.unit.fixture_machine import CPU, FixtureMachine

DMI = "sys/class/dmi/id"
BARE = "processor\t: 0\nflags\t\t: fpu sse2\n"
GUEST = "processor\t: 0\nflags\t\t: fpu hypervisor sse2\n"


def facts(files: dict[str, str], root: Path) -> HostFacts:
    machine = FixtureMachine(root)
    for name, text in files.items():
        machine.write(name, text)
    return host_facts(Host(str(root)))


def test_a_machine_that_tells_everything(tmp_path: Path) -> None:
    found = facts(
        {
            "etc/os-release": '# comment\nNAME="Rocky Linux"\nID="rocky"\nID_LIKE="rhel centos fedora"\nVERSION_ID="9.4"\n',
            "proc/sys/kernel/osrelease": "5.14.0-427.13.1.el9_4.x86_64\n",
            "proc/cpuinfo": BARE,
            "proc/cmdline": "root=/dev/sda2 ro\n",
            "proc/1/comm": "systemd\n",
            "proc/sys/kernel/random/boot_id": "4f1a5c1e\n",
            f"{DMI}/sys_vendor": "Dell Inc.\n",
            f"{CPU}/smt/control": "off\n",
            f"{CPU}/smt/active": "0\n",
            f"{CPU}/isolated": "4,5-7\n",
            f"{CPU}/nohz_full": "  (null)\n",
            "run/systemd/system/.keep": "",
            "sys/class/net/lo/mtu": "65536\n",
            "sys/class/net/eth0/mtu": "1500\n",
        },
        tmp_path,
    )
    assert found == HostFacts(
        distribution="rocky", family="redhat", version="9.4", kernel="5.14.0-427.13.1.el9_4.x86_64", architecture="x86_64",
        virtualisation="none", container="", init="systemd", python_version="", python_executable="", smt_control="off", smt_active=False,
        cmdline="root=/dev/sda2 ro", isolated="4-7", nohz_full="", boot_id="4f1a5c1e",
        interfaces=("eth0", "lo"),
    )
    assert json.loads(json.dumps(found.to_dict()))["isolated"] == "4-7"


def test_an_empty_tree_tells_nothing_and_does_not_fail(tmp_path: Path) -> None:
    found = host_facts(Host(str(tmp_path / "nowhere")))
    assert (found.family, found.virtualisation, found.container, found.init) == ("other", "unknown", "", "")
    assert (found.smt_active, found.isolated, found.nohz_full) == (None, None, None)


def test_damaged_files_do_not_fail(tmp_path: Path) -> None:
    machine = FixtureMachine(tmp_path)
    garbage = b"\xff\xfe\x00=\x80"
    damaged = ["etc/os-release", "proc/version", "proc/cpuinfo", "proc/1/environ", "proc/1/comm", f"{CPU}/isolated", f"{CPU}/smt/active"]
    for name in (*damaged, f"{DMI}/sys_vendor"):
        machine.write(name, garbage)
    (tmp_path / f"{CPU}/smt/control").mkdir()
    machine.link("run/systemd/container", "container")
    found = host_facts(Host(str(tmp_path)))
    assert (found.family, found.container, found.isolated, found.smt_active, found.smt_control) == ("other", "", None, None, "")


@pytest.mark.parametrize(
    ("release", "family"),
    [
        ("ID=debian", "debian"), ("ID=ubuntu\nID_LIKE=debian", "debian"), ("ID='ol'\nID_LIKE=fedora", "redhat"), ("ID=rhel", "redhat"),
        ("ID=opensuse-leap\nID_LIKE='suse opensuse'", "suse"), ("ID=sles", "suse"), ("ID=sles_sap\nID_LIKE=suse", "suse"), ("ID=gentoo", "other"),
        ("ID=newthing\nID_LIKE='ubuntu debian'", "debian"), ("", "other"),
    ],
)
def test_families(tmp_path: Path, release: str, family: str) -> None:
    assert facts({"usr/lib/os-release": release + "\n"}, tmp_path).family == family


def test_os_release_is_followed_below_the_root_only(tmp_path: Path) -> None:
    machine = FixtureMachine(tmp_path).write("usr/lib/os-release", "ID=sles\n").link("etc/os-release", "/usr/lib/os-release")
    assert host_facts(Host(str(machine.root))).distribution == "sles"


@pytest.mark.parametrize(
    ("files", "virtualisation"),
    [
        ({"proc/cpuinfo": BARE}, "none"),
        ({"proc/cpuinfo": GUEST}, "vm-other"),
        ({"proc/cpuinfo": GUEST, f"{DMI}/sys_vendor": "QEMU"}, "kvm"),
        ({"proc/cpuinfo": GUEST, f"{DMI}/sys_vendor": "Red Hat", f"{DMI}/product_name": "KVM"}, "kvm"),
        ({"proc/cpuinfo": GUEST, f"{DMI}/sys_vendor": "VMware, Inc."}, "vmware"),
        ({"proc/cpuinfo": GUEST, f"{DMI}/sys_vendor": "Microsoft Corporation", f"{DMI}/product_name": "Virtual Machine"}, "hyperv"),
        ({"proc/cpuinfo": GUEST, f"{DMI}/sys_vendor": "Amazon EC2"}, "kvm"),
        ({"proc/cpuinfo": BARE, f"{DMI}/sys_vendor": "Amazon EC2", f"{DMI}/product_name": "m5.metal"}, "none"),
        ({"proc/cpuinfo": GUEST, "sys/hypervisor/type": "xen"}, "xen"),
        ({"proc/cpuinfo": "processor: 0\nFeatures: fp asimd\n", f"{DMI}/sys_vendor": "QEMU"}, "kvm"),
        ({"proc/cpuinfo": "processor: 0\nFeatures: fp asimd\n", f"{DMI}/sys_vendor": "HPE"}, "none"),
        ({"proc/cpuinfo": "processor: 0\nFeatures: fp asimd\n"}, "unknown"),
    ],
)
def test_hypervisors(tmp_path: Path, files: dict[str, str], virtualisation: str) -> None:
    found = facts(files, tmp_path)
    assert (found.virtualisation, found.container) == (virtualisation, "")


@pytest.mark.parametrize(
    ("files", "container"),
    [
        ({"run/systemd/container": "docker\n"}, "docker"),
        ({"proc/1/environ": "PATH=/bin\0container=lxc\0"}, "lxc"),
        ({"proc/1/environ": "PATH=/bin\0mycontainer=lxc\0"}, ""),
        ({"run/.containerenv": ""}, "podman"),
        ({".dockerenv": ""}, "docker"),
        ({"run/systemd/container": "podman\n", ".dockerenv": ""}, "podman"),
    ],
)
def test_containers(tmp_path: Path, files: dict[str, str], container: str) -> None:
    found = facts({**files, "proc/cpuinfo": BARE, "proc/1/comm": "sleep\n"}, tmp_path)
    assert (found.container, found.virtualisation) == (container, f"container:{container}" if container else "none")
    assert found.init == "sleep"


@pytest.mark.parametrize(
    ("files", "kernel", "architecture"),
    [
        ({"proc/version": "Linux version 6.1.0-13-amd64 (debian-kernel@lists.debian.org)"}, "6.1.0-13-amd64", "x86_64"),
        ({"proc/sys/kernel/osrelease": "6.6.0", "proc/sys/kernel/arch": "aarch64"}, "6.6.0", "aarch64"),
        ({"proc/sys/kernel/osrelease": "6.6.0-custom"}, "6.6.0-custom", ""),
        ({"proc/version": "no kernel"}, "", ""),
    ],
)
def test_kernels(tmp_path: Path, files: dict[str, str], kernel: str, architecture: str) -> None:
    found = facts(files, tmp_path)
    assert (found.kernel, found.architecture) == (kernel, architecture)


def test_the_live_machine_also_tells_its_python() -> None:
    found = host_facts(Host())
    assert found.python_version
    assert found.python_executable
    assert found.architecture
