# SPDX-License-Identifier: GPL-3.0-or-later
"""The second run, reboots allowed, said changed=0 (molecule judged that): it wrote nothing and did not reboot."""

from __future__ import annotations

import lab


def test_second_run_did_not_reboot(node):
    assert lab.boot_id(node) == (lab.STATE / f"{node}.boot_id").read_text()


def test_second_run_wrote_no_file(node, changes):
    assert changes((lab.STATE / f"{node}.converged").read_text(), lab.files(node)) == ""
