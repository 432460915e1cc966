#!/usr/bin/python
# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Live TCP connections of named services, as findings."""

from __future__ import annotations

DOCUMENTATION = r"""
module: sockets
short_description: Live TCP connections of named services, as findings
version_added: "0.1.0"
description:
  - Looks at the established TCP connections of services and compares them with what the site expects. Socket options belong to the application,
    so that no host setting brings them.
  - Writes nothing. Everything it returns is a finding, whose reason has the number of connections that are not as expected, the worst of
    them, and the remedy.
  - A service that does not run, has no such connection, lives in another network namespace or uses a TCP stack in user space is
    V(unsupported) with that reason, never V(ok).
  - Needs root, in check mode too, to see which sockets are a service's; without it each service is one error.
  - Linux shows TCP_NODELAY, TCP_CORK, SO_BUSY_POLL and TCP_USER_TIMEOUT to the process alone. With O(services[].look_inside) they are asked
    through C(pidfd_getfd).
  - In a host-role playbook (where C(lowlatency_transaction) is true) the task only joins the transaction that the apply role runs.
author:
  - contributors to lowlatency.fleet (@lowlatency-fleet)
extends_documentation_fragment:
  - lowlatency.fleet.contract
options:
  services:
    description: The services, and what is expected of their connections.
    type: list
    elements: dict
    default: []
    suboptions:
      unit:
        description: Name of the systemd service, such as V(order-entry.service). All processes of its control group count.
        type: str
        required: true
      peers:
        description:
          - Prefixes of the peers whose connections count. Without it, all do whose peer is not a loopback address.
          - A service may come several times with different peers.
        type: list
        elements: str
      look_inside:
        description:
          - Whether the sockets themselves may be asked for their options, through a copy of the descriptor (C(pidfd_getfd), Linux 5.6).
          - The process is neither stopped nor traced. A C(close) in the microseconds in which the copy exists takes effect when the copy is closed.
        type: bool
        default: false
      expects:
        description:
          - What is expected of every connection that counts, at least one of the following. Buffers are in bytes as the kernel counts them, twice of what
            SO_RCVBUF and SO_SNDBUF asked for.
          - C(keepalive) is whether SO_KEEPALIVE is on, by the timer that runs for it. The kernel does not show that timer while data is in flight; with
            O(services[].look_inside) the socket is asked.
          - C(congestion_control) is the algorithm, such as V(cubic); C(cwnd_at_least) the least congestion window, in segments.
          - C(sack) and C(timestamps) are whether both ends agreed on them.
          - C(receive_buffer_at_least), C(receive_buffer_at_most), C(send_buffer_at_least) and C(send_buffer_at_most) are limits of the buffers.
          - C(receive_queue_at_most) is how many bytes may wait for the application to read them, C(send_queue_at_most) how many it may have written that the
            peer has not acknowledged.
          - C(send_queue_grows) V(false) compares two readings of the send queue, a tenth of a second apart. Nothing waits where nobody says it.
          - C(edge_triggered) is whether every epoll set that has the connection has it edge-triggered (EPOLLET).
          - C(nodelay), C(cork), C(busy_poll) (microseconds) and C(user_timeout_ms) are TCP_NODELAY, TCP_CORK, SO_BUSY_POLL and TCP_USER_TIMEOUT. They need
            O(services[].look_inside).
        type: dict
        required: true
"""

EXAMPLES = r"""
- name: Order entry sends at once and notices a dead exchange
  lowlatency.fleet.sockets:
    services:
      - unit: order-entry.service
        peers: [192.0.2.0/24]
        look_inside: true
        expects:
          nodelay: true
          cork: false
          keepalive: true
          user_timeout_ms: 5000
          send_queue_at_most: 4096

- name: What the kernel tells of connections without touching a socket
  lowlatency.fleet.sockets:
    services:
      - unit: replay.service
        expects:
          congestion_control: bbr
          send_queue_grows: false
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
      sample: socket.keepalive
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
from ansible_collections.lowlatency.fleet.plugins.module_utils.domains import SOCKETS
from ansible_collections.lowlatency.fleet.plugins.module_utils.door import run_domain


def main() -> None:
    run_domain(AnsibleModule(argument_spec=dict(SOCKETS.options), supports_check_mode=True), SOCKETS.name)


if __name__ == "__main__":
    main()
