# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's command line: build, up, down, reset, press-reset, status, ssh, inventory. See ../README.md."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import accel
import host
import image
import tools
from tools import LabError

INVENTORY = image.CACHE / "inventory.yml"
ATTEMPTS = 3


def main() -> int:
    options = parser().parse_args()
    try:
        return options.action(options) or 0
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="lab", description="Two low-latency hosts under QEMU: real kernel, GRUB, NUMA, NICs.")
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, action, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(action=action)
        return sub

    command("build", do_build, "build the disk image, unless the cache has it")
    up = command("up", do_up, "start the hosts and wait until they answer")
    up.add_argument("--hosts", type=int, choices=(1, 2), default=2, help="1: only lab-a (default: 2)")
    up.add_argument("--iommu", action="store_true", help="with an Intel IOMMU and interrupt remapping")
    up.add_argument("--threads", type=int, choices=(1, 2), default=2, help="1: cores without hyper-threading, 4 on each socket (default: 2)")
    up.add_argument("--timeout", type=float, default=900, help="seconds a host may take, three boots included (default: 900)")
    down = command("down", do_down, "end the hosts and throw their disks away")
    down.add_argument("hosts", nargs="*", metavar="HOST", help="default: all")
    down.add_argument("--keep", action="store_true", help="shut down cleanly and keep the disks for the next up")
    reset = command("reset", do_reset, "put running hosts back to their first start, without a boot")
    reset.add_argument("hosts", nargs="*", metavar="HOST", help="default: all that run")
    button = command("press-reset", do_press_reset, "press the reset button of running hosts; they boot from their disks")
    button.add_argument("hosts", nargs="+", metavar="HOST")
    command("status", do_status, "say which hosts run")
    ssh = command("ssh", do_ssh, "log in to a host, or run a command on it")
    ssh.add_argument("host", choices=host.NAMES)
    ssh.add_argument("command", nargs=argparse.REMAINDER)
    inventory = command("inventory", do_inventory, "print an Ansible inventory of the running hosts")
    inventory.add_argument("--group", action="append", default=[], help="put the hosts into this group (repeatable)")
    inventory.add_argument("--output", type=Path, help="write it there instead")
    return top


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """One build, start or end at a time."""
    image.CACHE.mkdir(parents=True, exist_ok=True)
    with (image.CACHE / "lock").open("w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def do_build(_options: argparse.Namespace) -> None:
    with locked():
        print(ready_image())


def ready_image() -> Path:
    """The image of the present recipe; those of earlier ones go when no host's disk can be on top of them."""
    tools.ensure()
    built = image.build()
    if not any(host.directory(name).is_dir() for name in host.NAMES):
        image.discard(*(path for path in image.CACHE.glob("image-*") if path != built))
    return built


def do_up(options: argparse.Namespace) -> None:
    with locked():
        base = ready_image()
        accelerator = accel.accelerator(base)
        for name in host.NAMES[: options.hosts]:
            start_or_leave(name, base, accelerator, iommu=options.iommu, threads=options.threads)
        for name in host.NAMES[: options.hosts]:
            bring_up(name, options.timeout)
        write_inventory()
    print(f"lab: inventory in {INVENTORY}")


def write_inventory() -> None:
    if host.running():
        INVENTORY.write_text(host.inventory(host.running(), ["lab"]), encoding="utf-8")
    else:
        INVENTORY.unlink(missing_ok=True)


def start_or_leave(name: str, base: Path, accelerator: str, *, iommu: bool, threads: int) -> None:
    if host.pid(name):
        print(f"lab: {name} runs already", flush=True)
        return
    print(f"lab: starting {name} ({accelerator})", flush=True)
    host.start(name, base, accelerator, iommu=iommu, threads=threads)


def bring_up(name: str, seconds: float) -> None:
    """Wait for a host. An emulated one may lose an interrupt for good while it boots: one that does not answer is reset and waited for again."""
    started = time.monotonic()
    for attempt in range(1, ATTEMPTS + 1):
        try:
            host.wait_ready(name, seconds / ATTEMPTS)
            break
        except LabError:
            if attempt == ATTEMPTS or not host.pid(name):
                raise
            print(f"lab: {name} does not answer after {seconds / ATTEMPTS:.0f} s; resetting it", flush=True)
            host.press_reset(name)
    if not host.has_fresh(name):
        host.save_fresh(name)
    print(f"lab: {name} is up after {time.monotonic() - started:.0f} s: scripts/lab ssh {name}", flush=True)


def do_down(options: argparse.Namespace) -> None:
    with locked():
        for name in chosen(options.hosts, host.NAMES):
            if options.keep:
                host.power_down(name)
            else:
                host.end(name)
                host.forget(name)
        write_inventory()


def do_reset(options: argparse.Namespace) -> None:
    with locked():
        for name in chosen(options.hosts, host.running()):
            host.reset(name)


def do_press_reset(options: argparse.Namespace) -> None:
    for name in chosen(options.hosts, ()):
        host.press_reset(name)


def chosen(asked: list[str], default) -> list[str]:
    unknown = sorted(set(asked) - set(host.NAMES))
    if unknown:
        raise LabError(f"no such host: {' '.join(unknown)} (there are {' '.join(host.NAMES)})")
    return asked or list(default)


def do_status(_options: argparse.Namespace) -> None:
    for name in host.NAMES:
        process = host.pid(name)
        if process:
            print(f"{name}: runs, pid {process}, ssh port {host.ports()[name]['ssh']}, {host.directory(name)}/console.log")
        else:
            print(f"{name}: down{', disk kept' if host.directory(name).is_dir() else ''}")


def do_ssh(options: argparse.Namespace) -> int:
    if not host.pid(options.host):
        raise LabError(f"{options.host} does not run; start it with: scripts/lab up")
    return host.ssh(options.host, options.command)


def do_inventory(options: argparse.Namespace) -> None:
    if not host.running():
        raise LabError("no host runs; start them with: scripts/lab up")
    text = host.inventory(host.running(), ["lab", *options.group])
    if options.output:
        options.output.write_text(text, encoding="utf-8")
    else:
        print(text, end="")


if __name__ == "__main__":
    sys.exit(main())
