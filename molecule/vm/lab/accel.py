# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which accelerator boots a stock guest kernel here. KVM that exists may still hang (nested, filtered), so it is tried."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import machine
import tools

TCG = "tcg,thread=multi"
KVM = "kvm"
PROBE_TIME_LIMIT = 25
INIT_MARK = "Run /init as init process"


def accelerator(image: Path) -> str:
    """The answer is kept beside the image, for this kernel and this QEMU."""
    answer_file = image / "accelerator.json"
    question = [os.uname().release, list(tools.qemu_version()), os.access("/dev/kvm", os.R_OK | os.W_OK)]
    try:
        known = json.loads(answer_file.read_text(encoding="utf-8"))
        if known["question"] == question:
            return known["answer"]
    except (OSError, ValueError, KeyError):
        pass
    answer = KVM if question[-1] and kvm_boots(image) else TCG
    answer_file.write_text(json.dumps({"question": question, "answer": answer}), encoding="utf-8")
    return answer


def kvm_boots(image: Path) -> bool:
    """True when the guest's kernel reaches its initramfs under KVM, on the very machine the lab uses, in time."""
    console = image / "kvm-probe.log"
    console.write_bytes(b"")
    command = [
        *("qemu-system-x86_64", *machine.machine(KVM, iommu=False)),
        *("-serial", f"file:{console}", "-no-reboot"),
        *("-kernel", f"{image}/vmlinuz", "-initrd", f"{image}/initrd.img", "-append", "console=ttyS0 panic=-1"),
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + PROBE_TIME_LIMIT
        try:
            while time.monotonic() < deadline and process.poll() is None:
                if INIT_MARK in console.read_text(encoding="utf-8", errors="replace"):
                    return True
                time.sleep(0.5)
        finally:
            process.kill()
    return False
