#!/usr/bin/python
# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Metrics of routes, live and kept by the host agent."""

from __future__ import annotations

DOCUMENTATION = r"""
module: route_metrics
short_description: Metrics of routes, such as the initial congestion window
version_added: "0.1.0"
description:
  - Gives routes that are there the metrics that are wanted of them (C(initcwnd) and others), reads them back, and judges them.
  - Everything else of a route stays as it was. What is changed is what C(ip) shows of it; a route that could not be given back unchanged is left alone,
    with the reason.
  - The host agent sets them again at boot, and when a route comes back or is replaced, whoever manages the network.
  - The change waits to be confirmed over a new connection (O(confirm_seconds)); otherwise the host takes it back.
  - In a host-role playbook (where C(lowlatency_transaction) is true) the task only joins the transaction that the apply role runs.
author:
  - contributors to lowlatency.fleet (@lowlatency-fleet)
extends_documentation_fragment:
  - lowlatency.fleet.contract
options:
  metrics:
    description:
      - Metrics wanted of all routes of O(routes).
      - C(initcwnd) and C(initrwnd) are segments (1 to 40), C(quickack) is V(0) or V(1), C(rto_min) milliseconds such as V(5ms), C(congctl) the name of an
        algorithm, C(features) a list of V(ecn) and V(tcp_usec_ts).
    type: dict
    default: {}
  routes:
    description:
      - Which routes, and what is wanted of each.
      - Of several entries that select one route, the more specific says; C(to) is more specific than C(within), and that than C(interface) alone.
      - An entry that selects no route of the host is an error, and stops no other.
    type: list
    elements: dict
    default: []
    suboptions:
      to:
        description: Where the route leads, V(default), a prefix that it has exactly, such as V(10.64.0.0/24) or V(2001:db8::/32), or V(any).
        type: str
        default: any
      within:
        description: With C(to) V(any), all routes to a part of this prefix.
        type: str
      interface:
        description: Only routes out of this interface. Alone, all unicast routes out of it.
        type: str
      table:
        description: The routing table, a number or a name.
        type: str
        default: main
      management:
        description: Routes over an interface that keeps the host reachable (default route, SSH session) may be changed all the same.
        type: bool
        default: false
      metrics:
        description: Metrics of these routes; they win over O(metrics).
        type: dict
        default: {}
  confirm_seconds:
    description:
      - Seconds after which the host takes a network change back by itself, unless the controller has reached it over a new connection. V(0) makes it stay
        at once.
    type: int
    default: 120
"""

EXAMPLES = r"""
- name: The first flight to the exchange is 20 segments
  lowlatency.fleet.route_metrics:
    metrics:
      initcwnd: 20
      initrwnd: 20
    routes:
      - to: 10.64.0.0/24
      - within: 10.80.0.0/16
        interface: ens1f0
        metrics:
          quickack: 1
"""

RETURN = r"""
settings:
  description: What is wanted of the host, one entry a setting, in the order of writing.
  returned: always
  type: list
  elements: dict
  contains:
    control:
      description: Stable id of the kind of setting.
      type: str
      sample: route.initcwnd
    name:
      description: The instance, such as an interface, an interrupt, a key or a file.
      type: str
    current:
      description: The live value, none where there is none. In a real run, after writing.
      type: str
    persisted:
      description: The value after the next boot, none where there is none.
      type: str
    desired:
      description: The value wanted.
      type: str
    state:
      description: V(ok), V(drifted), V(changed), V(unsupported) or V(error).
      type: str
    reason:
      description: Why the state is what it is, where that needs saying.
      type: str
    needs_reboot:
      description: Whether only a boot can bring the wanted value.
      type: bool
    finding:
      description: Whether it is only told, and nothing the collection writes would bring it; the reason names the remedy.
      type: bool
reboot_required:
  description: Whether a setting waits for the next boot.
  returned: always
  type: bool
reboot_reasons:
  description: What waits for the next boot, in words.
  returned: always
  type: list
  elements: str
armed:
  description: Whether this execution armed a trial boot.
  returned: always
  type: bool
unconfirmed:
  description: Identity of a network change that the host takes back unless it is confirmed, which the action has done over a new connection; empty if none.
  returned: always
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.lowlatency.fleet.plugins.module_utils.domains import ROUTE_METRICS
from ansible_collections.lowlatency.fleet.plugins.module_utils.door import NETWORK_OPTIONS, run_domain


def main() -> None:
    run_domain(AnsibleModule(argument_spec={**ROUTE_METRICS.options, **NETWORK_OPTIONS}, supports_check_mode=True), ROUTE_METRICS.name)


if __name__ == "__main__":
    main()
