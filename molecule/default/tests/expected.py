# SPDX-License-Identifier: GPL-3.0-or-later
"""What each host role must be, written down once more and by hand: the profiles are what is on trial."""

from __future__ import annotations

import pytest

FAST_KEEPALIVE = {"net.ipv4.tcp_keepalive_time": "5", "net.ipv4.tcp_keepalive_intvl": "1", "net.ipv4.tcp_keepalive_probes": "3"}
NO_WAITING = {"net.ipv4.tcp_slow_start_after_idle": "0", "net.ipv4.tcp_autocorking": "0"}
SOUND_TCP = {"net.ipv4.tcp_sack": "1", "net.ipv4.tcp_dsack": "1", "net.ipv4.tcp_timestamps": "1", "net.ipv4.tcp_window_scaling": "1"}

FAILING_OVER = {"net.core.somaxconn": "4096", "net.ipv4.tcp_max_syn_backlog": "4096", "net.ipv4.ip_local_port_range": "15000 60999",
                "net.ipv4.tcp_fin_timeout": "15", "net.ipv4.tcp_orphan_retries": "3"}
SYSCTLS = {
    "md-gateways": {**SOUND_TCP, **FAST_KEEPALIVE, **NO_WAITING},
    "order-gateways": {
        **SOUND_TCP, **FAST_KEEPALIVE, **NO_WAITING,
        "net.ipv4.tcp_rmem": "4096 131072 16777216", "net.ipv4.tcp_wmem": "4096 65536 16777216",
        "net.ipv4.tcp_no_metrics_save": "1", "net.ipv4.tcp_retries2": "8", "net.ipv4.tcp_tw_reuse": "1",
        **FAILING_OVER,
    },
    "risk-engines": {**SOUND_TCP, **FAST_KEEPALIVE, **NO_WAITING},
    "replay-servers": {
        **SOUND_TCP, "net.ipv4.tcp_slow_start_after_idle": "0", "net.ipv4.tcp_autocorking": "1",
        "net.ipv4.tcp_rmem": "4096 131072 67108864", "net.ipv4.tcp_wmem": "4096 65536 67108864",
    },
    "wan-gateways": {
        **SOUND_TCP, "net.ipv4.tcp_slow_start_after_idle": "0", "net.ipv4.tcp_autocorking": "1",
        "net.ipv4.tcp_rmem": "4096 262144 67108864", "net.ipv4.tcp_wmem": "4096 65536 67108864",
        "net.ipv4.tcp_no_metrics_save": "1", "net.ipv4.tcp_mtu_probing": "1", "net.ipv4.tcp_notsent_lowat": "131072",
        "net.ipv4.tcp_keepalive_time": "30", "net.ipv4.tcp_keepalive_intvl": "5", "net.ipv4.tcp_keepalive_probes": "6",
        **FAILING_OVER,
    },
}
GRO, TSO, LRO = "generic-receive-offload", "tcp-segmentation-offload", "large-receive-offload"
FEATURES = {
    "md-gateways": {GRO: "off", TSO: "off", LRO: "off"},
    "order-gateways": {GRO: "off", TSO: "off", LRO: "off"},
    "risk-engines": {GRO: "off", LRO: "off"},
    "replay-servers": {GRO: "on", TSO: "on", LRO: "off"},
    "wan-gateways": {GRO: "on", TSO: "on", LRO: "off"},
}

# Where connections do without SACK: the hosts, on Debian 12 and 13, and what nft shows of their sets.
SACK_OFF = ["md-gw-1", "order-gw-1"]
SACK_OFF_TOWARDS = {"v4": {"198.51.100.0/24"}, "v6": {"2001:db8:1::/48"}}
# Which hosts want fq below each of their NICs, where the kernel has it.
FQ = {"replay-1": "bulk0", "wan-gw-1": "wan0"}
# Where a route leads, and all its metrics in the words of ip route. The default route has none of them.
ROUTES = {
    "order-gateways": {"203.0.113.128/25": "initcwnd 20 initrwnd 20"},
    "replay-servers": {"198.51.100.128/25": "initcwnd 20 initrwnd 20", "198.51.100.0/25": "initcwnd 12 rto_min lock 5ms initrwnd 20"},
    "wan-gateways": {"203.0.113.128/25": ""},
}


def cases(table, members):
    """(host, key, value) for every host of every group of a table: one test for each."""
    nodes = [(node, wanted) for group, wanted in table.items() for node in members[group]["hosts"]]
    return [pytest.param(node, key, value, id=f"{node}-{key}") for node, wanted in nodes for key, value in wanted.items()]
