# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The disk image of a lab host, built from Debian packages and kept in the cache. Never needs a loop device."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
import uuid
from pathlib import Path

import tools
from tools import LabError, as_root, run

RECIPE = Path(__file__).resolve().parent.parent / "image"
SOURCES = (RECIPE, Path(__file__).resolve())
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lowlatency-fleet" / "lab"
KEY = CACHE / "id_ed25519"

MIB = 1 << 20
BOOT_START, BOOT_SIZE = 2 * MIB, 256 * MIB
ROOT_START, ROOT_SIZE = BOOT_START + BOOT_SIZE, 6144 * MIB
DISK_SIZE = ROOT_START + ROOT_SIZE + MIB
GRUB_TIME_LIMIT = 600


def recipe_digest() -> str:
    """Changes with everything the image is made of: the recipe, this file, the sources and the key that may log in."""
    digest = hashlib.sha256()
    for source in SOURCES:
        for path in sorted(source.rglob("*") if source.is_dir() else [source]):
            if path.is_file():
                digest.update(f"{path.name}\0".encode() + path.read_bytes())
    digest.update("\n".join(tools.guest_sources() + tools.apt_options()).encode())
    digest.update(KEY.with_suffix(".pub").read_bytes())
    return digest.hexdigest()[:12]


def directory() -> Path:
    """Where the image of the present recipe is kept: disk.raw, vmlinuz, initrd."""
    ensure_key()
    return CACHE / f"image-{recipe_digest()}"


def ensure_key() -> None:
    CACHE.mkdir(parents=True, exist_ok=True)
    if not KEY.exists():
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lowlatency-fleet lab", "-f", str(KEY))


def build() -> Path:
    """The finished image; a half-built one is never seen, because the directory gets its name last."""
    final = directory()
    if final.is_dir():
        return final
    work = final.with_suffix(".building")
    discard(work)
    work.mkdir()
    started = time.monotonic()
    uuids = {name: str(uuid.uuid5(uuid.NAMESPACE_URL, f"{final.name}/{name}")) for name in ("root", "boot")}
    print("lab: installing Debian packages into a directory", flush=True)
    bootstrap(work, uuids)
    print("lab: making the disk", flush=True)
    make_disk(work, uuids)
    print("lab: the machine installs GRUB on its own disk", flush=True)
    install_grub(work)
    discard(work / "rootfs", work / "boot")
    work.rename(final)
    print(f"lab: image built in {time.monotonic() - started:.0f} s", flush=True)
    return final


def discard(*paths: Path) -> None:
    subprocess.run(as_root("rm", "-rf", "--one-file-system", *map(str, paths)), check=True)


def bootstrap(work: Path, uuids: dict[str, str]) -> None:
    lines = (RECIPE / "packages.txt").read_text(encoding="utf-8").splitlines()
    packages = ",".join(line for line in lines if line and not line.startswith("#"))
    environment = {
        "LAB_RECIPE": str(RECIPE),
        "LAB_KEY": str(KEY),
        "LAB_ROOT_UUID": uuids["root"],
        "LAB_BOOT_UUID": uuids["boot"],
    }
    run(
        *as_root("env", *[f"{name}={value}" for name, value in environment.items()]),
        "mmdebstrap",
        "--quiet",
        "--mode=root",
        "--variant=minbase",
        "--architectures=amd64",
        f"--include={packages}",
        *[f"--aptopt={option}" for option in tools.apt_options()],
        "--dpkgopt=path-exclude=/usr/share/man/*",
        "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-exclude=/usr/share/locale/*",
        f"--essential-hook={RECIPE}/prepare",
        f"--customize-hook={RECIPE}/customize",
        tools.GUEST_RELEASE,
        str(work / "rootfs"),
        *tools.guest_sources(),
    )


def make_disk(work: Path, uuids: dict[str, str]) -> None:
    """A GPT disk with room for GRUB, a /boot of its own (so that it can be full or read-only) and the root."""
    disk, rootfs, boot = work / "disk.raw", work / "rootfs", work / "boot"
    with disk.open("wb") as image:
        image.truncate(DISK_SIZE)
    table = (
        "label: gpt\n"
        "start=1MiB, size=1MiB, type=21686148-6449-6E6F-744E-656564454649\n"
        f"start={BOOT_START // MIB}MiB, size={BOOT_SIZE // MIB}MiB, type=linux\n"
        f"start={ROOT_START // MIB}MiB, size={ROOT_SIZE // MIB}MiB, type=linux\n"
    )
    run("sfdisk", "--quiet", str(disk), input=table, env=with_sbin())
    run(*as_root("mv", str(rootfs / "boot"), str(boot)))
    run(*as_root("mkdir", str(rootfs / "boot")))
    make_filesystem(disk, boot, BOOT_START, BOOT_SIZE, uuids["boot"])
    make_filesystem(disk, rootfs, ROOT_START, ROOT_SIZE, uuids["root"])
    for name in ("vmlinuz", "initrd.img"):
        newest = sorted(boot.glob(f"{name}-*"))[-1]
        shutil.copyfile(newest, work / name)


def make_filesystem(disk: Path, content: Path, start: int, size: int, identity: str) -> None:
    run(
        *as_root("mke2fs", "-q", "-F", "-t", "ext4", "-U", identity, "-d", str(content)),
        *("-E", f"offset={start},lazy_itable_init=1,nodiscard", "-m", "1", str(disk), f"{size // 1024}k"),
        env=with_sbin(),
    )


def with_sbin() -> dict[str, str]:
    return {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}


def install_grub(work: Path) -> None:
    """One start with the kernel given directly; the guest's install-boot-loader is init and powers off."""
    console = work / "install.log"
    command = [
        *("qemu-system-x86_64", "-machine", "q35", "-accel", "tcg", "-cpu", "Skylake-Server", "-m", "1G"),
        *("-nodefaults", "-display", "none", "-serial", f"file:{console}", "-no-reboot"),
        *("-drive", f"file={work}/disk.raw,format=raw,if=virtio,cache=unsafe"),
        *("-kernel", f"{work}/vmlinuz", "-initrd", f"{work}/initrd.img"),
        *("-append", "root=/dev/vda3 ro console=ttyS0 panic=-1 init=/sbin/install-boot-loader"),
    ]
    try:
        run(*command, timeout=GRUB_TIME_LIMIT)
    except subprocess.TimeoutExpired:
        pass
    said = console.read_text(encoding="utf-8", errors="replace")
    if "install-boot-loader: done" not in said:
        raise LabError("GRUB was not installed; the console's last lines:\n" + "\n".join(said.splitlines()[-25:]))
