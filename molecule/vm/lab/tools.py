# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the lab needs on this machine: its programs, and who may install them. Knows nothing of images and hosts."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

PACKAGES = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "sfdisk": "fdisk",
    "ssh": "openssh-client",
}
FROM_BACKPORTS = ("qemu-system-x86", "qemu-utils")
BACKPORTS_FILE = "/etc/apt/sources.list.d/lowlatency-lab-backports.sources"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
MIRROR = "http://deb.debian.org/debian"
SECURITY_MIRROR = "http://deb.debian.org/debian-security"
GUEST_RELEASE = "bookworm"


class LabError(Exception):
    """Why the lab cannot do what was asked, and what to do about it."""


def run(*command: str, **options) -> str:
    """The output of a command; its failure is a LabError with the last lines it wrote."""
    result = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    if result.returncode:
        tail = "\n".join(result.stdout.splitlines()[-15:])
        raise LabError(f"{' '.join(command[:6])} ... failed ({result.returncode}):\n{tail}")
    return result.stdout


def as_root(*command: str) -> list[str]:
    """The command with the rights of root, through sudo when needed."""
    return list(command) if os.geteuid() == 0 else ["sudo", "-n", *command]


def ensure() -> None:
    """Everything the lab runs is here; what is missing is installed, or the command that installs it is the error."""
    missing = missing_packages()
    if not missing:
        return
    script = install_script(missing)
    if os.geteuid() and subprocess.run(["sudo", "-n", "true"], check=False, capture_output=True).returncode:
        raise LabError(f"not root and no sudo; as root, run: {script}")
    print(f"lab: installing {' '.join(missing)}", flush=True)
    run(*as_root("sh", "-c", script))
    if missing_packages():
        raise LabError(f"still missing after installation: {' '.join(missing_packages())} (igb needs QEMU 8 or newer)")


def missing_packages() -> list[str]:
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    missing = [package for program, package in PACKAGES.items() if not shutil.which(program, path=path)]
    if "qemu-system-x86" not in missing and qemu_version() < (8,):
        missing += FROM_BACKPORTS
    if not Path(KEYRING).exists():
        missing.append("debian-archive-keyring")
    return sorted(set(missing))


def qemu_version() -> tuple[int, ...]:
    found = re.search(r"version (\d+)\.(\d+)", run("qemu-system-x86_64", "--version"))
    return tuple(int(part) for part in found.groups()) if found else ()


def install_script(missing: list[str]) -> str:
    """One line of shell. Debian 12 takes QEMU, and only QEMU, from its own backports."""
    apt = "DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends"
    steps = ["apt-get update -q"]
    if on_debian_12():
        deb822 = rf"Types: deb\nURIs: {mirrors()[0]}\nSuites: bookworm-backports\nComponents: main\nSigned-By: {KEYRING}\n"
        steps.insert(0, f"printf '{deb822}' > {BACKPORTS_FILE}")
        backported = [package for package in missing if package in FROM_BACKPORTS]
        missing = [package for package in missing if package not in FROM_BACKPORTS]
        if backported:
            steps.append(f"{apt} -t bookworm-backports {' '.join(backported)}")
    if missing:
        steps.append(f"{apt} {' '.join(missing)}")
    return " && ".join(steps)


def on_debian_12() -> bool:
    release = Path("/etc/os-release").read_text(encoding="utf-8")
    return "ID=debian\n" in release and "VERSION_CODENAME=bookworm\n" in release


def mirrors() -> tuple[str, str]:
    """The archive and security mirror this machine uses for the guest's release, or Debian's own."""
    targets = run("apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages")
    known = {release: uri.rstrip("/") for uri, release in map(str.split, targets.splitlines())}
    return known.get(GUEST_RELEASE, MIRROR), known.get(f"{GUEST_RELEASE}-security", SECURITY_MIRROR)


def guest_sources() -> list[str]:
    archive, security = mirrors()
    return [
        f"deb {archive} {GUEST_RELEASE} main",
        f"deb {archive} {GUEST_RELEASE}-updates main",
        f"deb {security} {GUEST_RELEASE}-security main",
    ]


def apt_options() -> list[str]:
    """How this machine's apt judges dates and reaches its mirror; the guest uses the same mirror and must do likewise."""
    wanted = re.compile(r'^Acquire::(Check-Valid-Until|Check-Date|http::Proxy) "[^"]+";$')
    return [line.replace(";", "") for line in run("apt-config", "dump", "Acquire").splitlines() if wanted.match(line)]
