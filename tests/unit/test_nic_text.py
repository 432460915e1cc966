# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ethtool prints, read into settings: by texts written here, and by real outputs that lie next to the repository."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.tests.unit.fixture_nic_text import (
    channels,
    coalesce,
    driver,
    features,
    indirection,
    pause,
    private_flags,
    recorded,
    rings,
)

CAPTURES = Path(__file__).resolve().parents[3] / "shared" / "captures" / "text"
INSIGHTS = "insights-core__test_ethtool__"


def captured(name: str) -> str:
    path = CAPTURES / f"ethtool-{name}.txt"
    if not path.exists():
        pytest.skip("the captured outputs are not there")
    return path.read_text(encoding="utf-8")


# Read by hand from each file.
FACTS: list[tuple[str, Callable[[str], Any], Any]] = [
    (f"a/{INSIGHTS}TEST_ETHTOOL_A_DOCS", pause, {"autoneg": (1, None), "rx": (1, None), "tx": (1, None)}),
    (f"a/{INSIGHTS}SUCCESS_ETHTOOL_A_BLANK_LINE", pause, {"autoneg": (1, None), "rx": (0, None), "tx": (0, None)}),
    (f"a/{INSIGHTS}FAIL_ETHTOOL_A", pause, None),
    (f"a/{INSIGHTS}FAIL_ETHTOOL_A_2", pause, None),
    (f"c/{INSIGHTS}TEST_ETHTOOL_C", coalesce, {
        "adaptive-rx": (0, None), "adaptive-tx": (0, None), "pkt-rate-high": (10, None), "tx-usecs-irq": (0, None), "tx-frames-low": (25, None),
        "tx-usecs-high": (0, None)}),
    (f"c/{INSIGHTS}TEST_ETHTOOL_C_CANNOT_GET", coalesce, None),
    (f"c/{INSIGHTS}TEST_ETHTOOL_C_SHORT", coalesce, {}),
    (f"g/{INSIGHTS}TEST_ETHTOOL_G", rings, {"rx": (200, 2047), "rx-mini": (0, 0), "rx-jumbo": (0, 0), "tx": (511, 511)}),
    (f"g/{INSIGHTS}TEST_ETHTOOL_G_2", rings, None),
    (f"g/{INSIGHTS}TEST_ETHTOOL_G_4", rings, {"rx": (256, 256), "tx": (256, 256)}),
    (f"g/{INSIGHTS}TEST_ETHTOOL_G_5", rings, {"rx": (1024, 4096), "rx-mini": (128, 2048), "rx-jumbo": (512, 4096), "tx": (512, 4096), "tx-push": (0, None)}),
    ("g/mfd-ethtool__test_get_ring_parameters", rings, {"rx": (256, 4096), "rx-mini": (0, 0), "rx-jumbo": (0, 0), "tx": (256, 4096)}),
    ("l/mfd-ethtool__test_get_channel_parameters", channels, {"rx": (0, 0), "tx": (0, 0), "other": (1, 1), "combined": (4, 4)}),
    (f"show-priv-flags/{INSIGHTS}ETHTOOL_PRIV_FLAGS_CONTENT", private_flags, {
        "legacy-rx": (0, None), "vf-true-promisc-support": (0, None), "vf-vlan-pruning": (1, None), "flow-director-atr": (1, None), "veb-stats": (0, None),
        "hw-atr-eviction": (1, None), "link-down-on-close": (0, None)}),
    (f"k/{INSIGHTS}ETHTOOL_K_CANNOT_GET", features, None),
    ("x/mfd-ethtool__test_get_rss_indirection_table", indirection, [0] * 32 + [1] * 32 + [2] * 32 + [3] * 32),
]


@pytest.mark.parametrize(("name", "read", "facts"), FACTS, ids=[name for name, _read, _facts in FACTS])
def test_real_outputs(name: str, read: Callable[[str], Any], facts: Any) -> None:
    assert read(captured(name)) == facts


def test_real_coalescing_with_everything_and_one_broken_line() -> None:
    found = coalesce(captured("c/mfd-ethtool__test_get_coalesce_options"))
    assert found is not None and len(found) == 21 and set(found.values()) == {(0, None)}
    assert {"adaptive-rx", "tx-frames-high", "rx-frames-low", "stats-block-usecs", "sample-interval"} <= set(found)
    assert not {"rx-usecs", "rx-usecs.nic", "cqe-mode-rx", "cqe-mode-tx"} & set(found)


@pytest.mark.parametrize(("name", "count", "facts"), [
    (f"{INSIGHTS}ETHTOOL_K_STANDARD", 31, {
        "rx-checksum": (False, True), "tx-generic-segmentation": (False, False), "rx-gro": (True, False), "rx-lro": (True, False),
        "tx-tcp-segmentation": (True, True), "rx-ntuple-filter": (False, False), "tx-gre-segmentation": (True, True)}),
    ("hardware__ethtool_k", 40, {"rx-checksum": (True, False), "rx-gro": (True, False), "rx-lro": (False, True), "rx-hashing": (True, False),
                                 "rx-ntuple-filter": (False, True), "tx-checksum-ip-generic": (True, False), "tx-udp-fragmentation": (False, True)}),
    ("mfd-ethtool__test_get_protocol_offload_and_feature_stat", 49, {
        "rx-gro": (True, False), "rx-lro": (False, True), "rx-ntuple-filter": (False, False), "tx-tcp-mangleid-segmentation": (False, False),
        "rx-vlan-hw-parse": (True, False)}),
])
def test_real_features(name: str, count: int, facts: dict[str, tuple[bool, bool]]) -> None:
    found = features(captured(f"k/{name}"))
    assert found is not None and {bit: found[bit] for bit in facts} == facts
    assert not {"tx-checksumming", "scatter-gather", "tcp-segmentation-offload", "generic-receive-offload"} & set(found)
    assert len(found) == count


@pytest.mark.parametrize(("name", "facts"), [
    (f"{INSIGHTS}TEST_ETHTOOL_I_DOCS", {"driver": "bonding", "version": "3.6.0", "firmware-version": "2", "bus-info": "", "supports-priv-flags": "no"}),
    (f"{INSIGHTS}TEST_ETHTOOL_I_MISSING_KEYS", {"driver": "virtio_net", "bus-info": "0000:00:03.0"}),
    ("node_exporter__driver", {"driver": "e1000e", "version": "5.11.0-22-generic", "expansion-rom-version": "", "supports-priv-flags": "yes"}),
])
def test_real_drivers(name: str, facts: dict[str, str]) -> None:
    found = driver(captured(f"i/{name}"))
    assert {key: found.get(key) for key in facts} == facts
    assert all(" " not in key for key in found)


# texts written here, so that the reading is proven wherever the tests run


NEW = ("Coalesce parameters for eth0:\nAdaptive RX: on  TX: n/a\nstats-block-usecs: n/a\n\nrx-usecs: 3\nrx-frames: n/a\n\n"
       "CQE mode RX: on  TX: off\n\ntx-aggr-max-bytes: n/a\n")


def test_what_is_not_available_is_left_out() -> None:
    assert coalesce(NEW) == {"adaptive-rx": (1, None), "rx-usecs": (3, None), "cqe-mode-rx": (1, None), "cqe-mode-tx": (0, None)}
    text = "Channel parameters for eth0:\nPre-set maximums:\nRX:\t\tn/a\nTX:\t\tn/a\nOther:\t\t1\nCombined:\t63\nCurrent hardware settings:\n" \
           "RX:\t\tn/a\nTX:\t\tn/a\nOther:\t\t1\nCombined:\t8\n"
    assert channels(text) == {"other": (1, 1), "combined": (8, 63)}


@pytest.mark.parametrize("text", ["", "netlink error: Operation not supported\n", "Cannot get device ring settings: Operation not supported\n",
                                  "Ring parameters\n"])
def test_a_command_that_failed_is_no_group(text: str) -> None:
    assert rings(text) is None and coalesce(text) is None and features(text) is None and indirection(text) is None


def test_the_settings_of_a_nic() -> None:
    outputs = {"-c": NEW, "-g": "Cannot get device ring settings: Operation not supported\n",
               "-k": "Features for eth0:\nrx-checksumming: on\ntx-checksumming: off\n\ttx-checksum-ipv4: off [fixed]\n"
                     "generic-receive-offload: off [requested on]\n",
               "-a": "Pause parameters for eth0:\nAutonegotiate:\toff\nRX:\t\ton\nTX:\t\toff\n"}
    assert recorded(outputs) == {
        "coalesce": {"adaptive-rx": (1, None), "rx-usecs": (3, None), "cqe-mode-rx": (1, None), "cqe-mode-tx": (0, None)},
        "rings": None,
        "channels": None,
        "pause": {"autoneg": (0, None), "rx": (1, None), "tx": (0, None)},
        "private_flags": None,
        "features": {"rx-checksum": (True, False), "tx-checksum-ipv4": (False, True), "rx-gro": (False, False)},
    }


def test_no_key_of_the_hash_is_no_failure_of_the_table() -> None:
    text = "RX flow hash indirection table for eth0 with 2 RX ring(s):\n    0:      0     1     0     1\nRSS hash key:\nOperation not supported\n"
    assert indirection(text) == [0, 1, 0, 1]
