# SPDX-License-Identifier: GPL-3.0-or-later
"""The role onload against a package with the layout of the real one, which is built on the guest: refused, installed, repaired for the next kernel, removed.

The package (package/) has a DKMS source of two modules that do nothing, a library, the tool and a profile. The guest needs dkms, gcc and the headers of
its kernel.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
import tarfile
from pathlib import Path

import lab
import pytest
from conftest import put_right, said, site

NAME = "lab-a"
PACKAGE = Path(__file__).resolve().parent / "package"
NIC = "enp65s0"
# A kernel that only the next boot would bring: the same files by another name. Nothing boots it.
NEXT = "6.1.999-test"
OWN = ("/etc/modprobe.d/80-lowlatency-onload.conf", "/etc/modules-load.d/80-lowlatency-onload.conf")
PROFILES = "/usr/libexec/onload/profiles"

ADD_KERNEL = f"""
now=$(uname -r)
ln -f /boot/vmlinuz-$now /boot/vmlinuz-{NEXT}
ln -f /boot/initrd.img-$now /boot/initrd.img-{NEXT}
ln -f /boot/config-$now /boot/config-{NEXT}
mkdir -p /lib/modules/{NEXT}
cp -al /lib/modules/$now/kernel /lib/modules/{NEXT}/
cp /lib/modules/$now/modules.order /lib/modules/$now/modules.builtin* /lib/modules/{NEXT}/
depmod {NEXT}
update-grub 2>&1
"""
REMOVE_KERNEL = f"rm -rf /lib/modules/{NEXT} /boot/*-{NEXT}; update-grub 2>&1"
HEADERS = f"ln -sfn $(readlink -f /lib/modules/$(uname -r)/build) /lib/modules/{NEXT}/build"
# What is left of it anywhere, empty when nothing is.
LEFT = rf"""
lsmod | grep -E '^(onload|sfc_char) '
dkms status | grep onload
dpkg-query -W -f '${{Status}}\n' onload 2>/dev/null | grep -v not-installed
ls -d {' '.join(OWN)} /usr/src/onload-* /var/lib/dkms/onload {PROFILES} /usr/bin/onload /usr/lib/x86_64-linux-gnu/libonload.so* 2>/dev/null
find /lib/modules -name 'onload.ko*' -o -name 'sfc_char.ko*'
ls /var/cache/lowlatency 2>/dev/null | grep onload
true
"""


def wanted(package, **more):
    """The variables of a site that wants the package; NIC is no Solarflare, so it is meant for AF_XDP."""
    return {"onload_stack": "onload", "onload_install_allowed": True, "onload_load": ["sfc_char", "onload"],
            "onload_packages": [{"file": str(package), "sha256": hashlib.sha256(package.read_bytes()).hexdigest()}],
            "onload_options": {"onload": {"max_packets_per_stack": 65536}}, "onload_profiles": {"gateway": {"EF_POLL_USEC": 100000}},
            "onload_combinations": [{"library": "1.0", "driver": "1.0"}], "onload_nics": [{"interface": NIC, "af_xdp": True}], **more}


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """The package on the controller, built on the guest."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        archive.add(PACKAGE, "package")
    text = base64.encodebytes(packed.getvalue()).decode()
    script = f"d=$(mktemp -d); base64 -d <<'END' | tar -xz -C $d\n{text}END\n$d/package/build $d/onload.deb >&2 && base64 $d/onload.deb; rm -rf $d\n"
    content = base64.b64decode(lab.run(NAME, script, seconds=300))
    path = tmp_path_factory.mktemp("package") / "onload_1.0_amd64.deb"
    path.write_bytes(content)
    yield path
    lab.run(NAME, REMOVE_KERNEL, seconds=300)
    put_right(NAME)


def settings_of(name):
    """What the host itself says of the stack: the lines of status."""
    lines = lab.guest(name).run("/usr/local/sbin/lowlatency status").stdout.splitlines()
    return [line for line in lines if " bypass." in line]


def test_wrong_checksum_is_refused_before_anything_is_taken(package, changes):
    before = lab.files(NAME)
    process = site(NAME, **wanted(package, onload_packages=[{"file": str(package), "sha256": "0" * 64}]))
    assert process.returncode != 0
    assert re.search(r"its sha256 is [0-9a-f]{64}, wanted 0{64}; nothing was installed", said(process)), said(process)[-1500:]
    assert changes(before, lab.files(NAME)) == "" and lab.run(NAME, LEFT).strip() == ""


def test_no_headers_for_the_running_kernel_is_refused_before_anything_is_taken(package, changes):
    lab.run(NAME, "mv /lib/modules/$(uname -r)/build /lib/modules/$(uname -r)/test-build")
    try:
        before = lab.files(NAME)
        process = site(NAME, **wanted(package))
        assert process.returncode != 0
        assert re.search(r"which runs, has no module sfc_char, and no headers.*install linux-headers-\S+amd64.*nothing was installed", said(process))
        assert changes(before, lab.files(NAME)) == "" and lab.run(NAME, LEFT).strip() == ""
    finally:
        lab.run(NAME, "mv /lib/modules/$(uname -r)/test-build /lib/modules/$(uname -r)/build")


def test_check_mode_installs_nothing(package):
    process = site(NAME, lowlatency_audit=True, **wanted(package))
    assert process.returncode == 0, said(process)[-1500:]
    assert re.search(r"drifted +onload for \S+ is missing, wanted built", said(process)), said(process)[-1500:]
    assert lab.run(NAME, LEFT).strip() == ""


def test_installed_built_and_loaded(package):
    process = site(NAME, **wanted(package))
    assert process.returncode == 0, said(process)[-2000:]
    assert lab.run(NAME, "lsmod | grep -cE '^(onload|sfc_char) '").strip() == "2"
    assert lab.run(NAME, "cat /sys/module/onload/parameters/max_packets_per_stack").strip() == "65536"
    assert lab.run(NAME, f"cat {OWN[1]}").split("\n")[1:] == ["sfc_char", "onload", ""]
    assert "softdep onload pre: sfc_char" in lab.run(NAME, f"cat {OWN[0]}")
    assert lab.run(NAME, f"ls {PROFILES}").split() == ["gateway.opf", "latency.opf", "safe.opf"]
    assert "onload_set EF_POLL_USEC 100000" in lab.run(NAME, f"cat {PROFILES}/gateway.opf")
    assert lab.run(NAME, "/usr/bin/onload --version").splitlines()[0] == "Onload 1.0"
    said_of_nic = [line for line in settings_of(NAME) if f"af_xdp {NIC}" in line]
    assert len(said_of_nic) == 1 and said_of_nic[0].startswith("unsupported"), "the stand-in has no AF_XDP"
    again = site(NAME, **wanted(package))
    assert again.returncode == 0 and re.search(rf"{NAME} : ok=\d+ changed=0 ", said(again)), said(again)[-1500:]


def test_next_kernel_without_headers_is_refused_by_name(package):
    lab.run(NAME, ADD_KERNEL, seconds=300)
    verdict = lab.guest(NAME).run("/usr/local/sbin/lowlatency verify")
    assert verdict.rc != 0 and f"onload for {NEXT}" in verdict.stdout
    process = site(NAME, **wanted(package, kernel_tunables_sysctl_extra={"vm.swappiness": 11}))
    assert process.returncode != 0
    assert f"kernel {NEXT}, which boots next, has no module onload, and no headers to build it with: install linux-headers-{NEXT}" in said(process)
    assert lab.run(NAME, "sysctl -n vm.swappiness").strip() != "11", "refused as a whole"


def test_next_kernel_with_headers_is_repaired(package):
    lab.run(NAME, HEADERS)
    process = site(NAME, **wanted(package))
    assert process.returncode == 0, said(process)[-2000:]
    assert lab.run(NAME, f"modinfo -k {NEXT} -F version onload").strip() == "1.0"
    assert lab.guest(NAME).run("/usr/local/sbin/lowlatency verify").rc == 0


def test_uninstall_leaves_nothing(package):
    process = site(NAME, **wanted(package, onload_state="absent"))
    assert process.returncode == 0, said(process)[-2000:]
    assert lab.run(NAME, LEFT).strip() == ""
    again = site(NAME, **wanted(package, onload_state="absent"))
    assert again.returncode == 0 and re.search(rf"{NAME} : ok=\d+ changed=0 ", said(again)), said(again)[-1500:]
