# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which routes that come are missed something of; in doubt, the answer is yes."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.route_events import (
    TABLES,
    RouteEvent,
    features_in_words,
    interests,
    is_missed,
)
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.routes import network_of

RIGHT = {"initcwnd": "20"}


def event(prefix: str, *devices: str, table: int = 254, **metrics: str) -> RouteEvent:
    network = network_of(prefix)
    assert network is not None
    return RouteEvent(network.version, table, int(network.network_address), network.prefixlen, frozenset(devices), metrics)


def missed(told: RouteEvent, *entries: dict[str, Any], **metrics: Any) -> bool:
    return is_missed(told, interests({"metrics": metrics or RIGHT, "routes": list(entries)}, TABLES))


@pytest.mark.parametrize(
    ("entry", "told", "yes"),
    [({"to": "10.64.0.0/24"}, event("10.64.0.0/24", "a"), True),
     ({"to": "10.64.0.0/24"}, event("10.64.0.0/24", "a", initcwnd="20"), False),
     ({"to": "10.64.0.0/24"}, event("10.64.0.0/24", "a", initcwnd="10"), True),
     ({"to": "10.64.0.0/24"}, event("10.64.0.0/25", "a"), False),
     ({"to": "10.64.0.0/24"}, event("10.64.0.0/16", "a"), False),
     ({"to": "10.64.0.0/24"}, event("10.65.0.0/24", "a"), False),
     ({"to": "10.64.0.0/24"}, event("10.64.0.0/24", "a", table=100), False),
     ({"to": "10.64.0.0/24", "table": "100"}, event("10.64.0.0/24", "a", table=100), True),
     ({"to": "10.64.0.0/24", "interface": "b"}, event("10.64.0.0/24", "a"), False),
     ({"to": "10.64.0.0/24", "interface": "b"}, event("10.64.0.0/24", "a", "b"), True),
     ({"within": "10.64.0.0/16"}, event("10.64.7.0/24", "a"), True),
     ({"within": "10.64.0.0/16"}, event("10.64.0.0/16", "a"), True),
     ({"within": "10.64.0.0/16"}, event("10.0.0.0/8", "a"), False),
     ({"within": "10.64.0.0/16"}, event("2001:db8::/32", "a"), False),
     ({"to": "2001:db8::/32"}, event("2001:db8::/32", "a"), True),
     ({"to": "2001:db8::/32"}, event("2001:db9::/32", "a"), False),
     ({"to": "default"}, event("::/0", "a"), True),
     ({"to": "default"}, event("0.0.0.0/0", "a"), True),
     ({"to": "default"}, event("10.0.0.0/8", "a"), False),
     ({"to": "0.0.0.0/0"}, event("::/0", "a"), False),
     ({"interface": "a"}, event("10.9.9.0/24", "a"), True),
     ({"interface": "a"}, event("10.9.9.0/24", "b"), False),
     ({"to": "10.64.0.0/24", "metrics": {"quickack": 1}}, event("10.64.0.0/24", "a", initcwnd="20"), True),
     ({"to": "10.64.0.0/24", "metrics": {"rto_min": "05ms"}}, event("10.64.0.0/24", "a", initcwnd="20", rto_min="5ms"), False)],
)
def test_a_route_is_missed_something_of(entry: dict[str, Any], told: RouteEvent, yes: bool) -> None:
    assert missed(told, entry) is yes


def test_an_entry_that_cannot_be_served_waits_for_nothing() -> None:
    entries = [{}, {"to": "x"}, {"to": "default", "table": "nowhere"}, {"to": "default", "metrics": {"mtu": 1}}]
    assert interests({"metrics": RIGHT, "routes": entries}, TABLES) == ()


def test_features_in_words() -> None:
    assert [features_in_words(bits) for bits in (0, 1, 16, 17, 2)] == ["", "ecn", "tcp_usec_ts", "ecn tcp_usec_ts", ""]
