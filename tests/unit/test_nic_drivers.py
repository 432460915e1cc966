# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tables of NIC drivers are whole, use names that ethtool has, and are what docs/nic-drivers.md shows."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.tests.unit.fixture_nic_drivers import (
    BITS,
    DOCUMENT,
    document,
    recorded,
    tables,
)

DRIVERS = tables()["drivers"]

# The parameters that ethtool -C takes (Documentation/networking/ethtool-netlink.rst: COALESCE_GET), without those of aggregation.
SIDES = ("usecs", "frames", "usecs-irq", "frames-irq", "usecs-low", "frames-low", "usecs-high", "frames-high")
COALESCE = {f"{way}-{what}" for way in ("rx", "tx") for what in SIDES} | {
    "adaptive-rx", "adaptive-tx", "cqe-mode-rx", "cqe-mode-tx", "pkt-rate-low", "pkt-rate-high", "sample-interval", "stats-block-usecs"}
KEYS = {"hardware", "driven", "coalesce", "coalesce_note", "rings", "rings_note", "channels", "channels_note", "pause", "private_flags", "rss", "hash_fields",
        "rules", "eee", "features", "resets", "traps", "source"}


def test_the_document_is_made_of_the_tables() -> None:
    made = document()
    results = DOCUMENT.parents[1] / ".cache" / "results"
    if not DOCUMENT.exists() or DOCUMENT.read_text(encoding="utf-8") != made:
        results.mkdir(parents=True, exist_ok=True)
        (results / "nic-drivers.md").write_text(made, encoding="utf-8")
    assert DOCUMENT.read_text(encoding="utf-8") == made, "copy .cache/results/nic-drivers.md to docs/"


def test_the_drivers_of_the_tables() -> None:
    assert list(DRIVERS) == ["igb", "ixgbe", "i40e", "ice", "mlx5_core", "sfc", "bnxt_en", "ena", "virtio_net", "veth", "e1000e", "tg3"]


def test_what_was_driven_is_said() -> None:
    assert {name for name, driver in DRIVERS.items() if driver["driven"] != "no"} == {"igb", "virtio_net", "veth"}
    assert "**No such hardware was driven**" in document()


@pytest.mark.parametrize("name", DRIVERS)
def test_each_driver_says_all_and_uses_ethtool_s_names(name: str) -> None:
    driver: dict[str, Any] = DRIVERS[name]
    assert set(driver) - {"per_queue"} == KEYS
    assert set(driver["coalesce"]) <= COALESCE and driver["coalesce"] == sorted(driver["coalesce"])
    assert set(driver["rings"]) <= {"rx", "rx-mini", "rx-jumbo", "tx"}
    assert set(driver["channels"]) <= {"combined", "rx", "tx", "other"}
    assert set(driver["features"]) == {"lro", "rx-gro-hw", "ntuple", "rxhash"}
    assert all(str(word).startswith(("fixed off", "changeable")) for word in driver["features"].values())
    assert driver["source"] and all(file.endswith((".c", ".h")) and not file.startswith("/") for file in driver["source"])
    assert all(isinstance(text, str) for text in (*driver["resets"], *driver["traps"], driver["rules"], driver["eee"], driver["pause"]))


def test_a_driver_as_it_is_recorded() -> None:
    assert recorded("igb") == {
        "coalesce": {"rx-usecs": (0, None), "tx-usecs": (0, None)},
        "rings": {"rx": (256, 4096), "tx": (256, 4096)},
        "channels": {"combined": (1, 8), "other": (1, 1)},
        "pause": {"autoneg": (1, None), "rx": (1, None), "tx": (1, None)},
        "private_flags": {"legacy-rx": (0, None)},
        "features": {"rx-lro": (False, True), "rx-gro-hw": (False, True), "rx-ntuple-filter": (True, False), "rx-hashing": (True, False)},
    }
    veth = recorded("veth")
    assert (veth["coalesce"], veth["rings"], veth["pause"], veth["private_flags"]) == (None, None, None, None)
    assert veth["channels"] == {"rx": (1, 8), "tx": (1, 8)} and set(veth["features"]) == set(BITS)
    assert recorded("bnxt_en")["rings"] == {"rx": (256, 1024), "rx-jumbo": (256, 8191), "tx": (256, 2047)}
