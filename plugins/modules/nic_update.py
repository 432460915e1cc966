#!/usr/bin/python
# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Firmware of NICs by the vendor's own tool, and drivers loaded anew."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nic_update
short_description: Flash firmware of NICs and load their drivers anew, where a policy wants it
version_added: "0.1.0"
description:
  - Flashes a NIC whose firmware is not what O(policy) wants with the one image of O(images) that fits it, has the NIC run it by a reset or a
    reboot, and reads it back. A NIC whose firmware is right is not touched, whatever images there are.
  - Loads a driver anew where the loaded one is not what O(policy) wants and the one on disk is.
  - Each of this needs its own switch. Check mode only tells what would be done.
  - The board of the NIC that carries the default route or this SSH connection is never flashed or reset, nor its driver unloaded.
  - One host at a time in a run, and none any more after the first that failed. An image is checked by its checksum right before it is used.
  - What was flashed cannot be taken back by this collection, other than by an image of the old version.
author:
  - contributors to lowlatency.fleet (@lowlatency-fleet)
attributes:
  check_mode:
    description: Can run in C(check_mode) and return what would change, without changing the host.
    support: full
  diff_mode:
    description: Returns no differences.
    support: none
requirements:
  - Python 3.9 or later on the host
  - root, except in check mode
  - C(devlink) (iproute2), or C(mstflint) and C(mstfwreset) (mstflint), to flash
  - C(modinfo) and C(modprobe) (kmod), to load a driver anew
options:
  policy:
    description: What is wanted, as M(lowlatency.fleet.nic_firmware) takes it.
    type: dict
    default: {}
  nics:
    description: The NICs, as M(lowlatency.fleet.nic_firmware) takes them.
    type: list
    elements: dict
    required: true
    suboptions:
      interface:
        description: Name of the interface. One of O(nics[].interface), O(nics[].pci) and O(nics[].mac) is required.
        type: str
      pci:
        description: PCI address, such as V(0000:3b:00.0).
        type: str
      mac:
        description: MAC address.
        type: str
      application_cpus:
        description: The CPUs of the application that the NIC serves, as a cpulist. Not used here.
        type: str
      numa_node:
        description: The node of the NIC, where the BIOS tells none. Not used here.
        type: int
  images:
    description: Firmware images and the cards they are for. Two that fit one NIC are refused.
    type: list
    elements: dict
    default: []
    suboptions:
      driver:
        description: The driver of the cards the image is for, as C(ethtool -i) tells it.
        type: str
        required: true
      pci_id:
        description: Their vendor and device, such as V(15b3:101d), where the driver serves several models.
        type: str
      psid:
        description: The vendor's name of the board, such as V(MT_0000000359), where one model has several.
        type: str
      version:
        description: The firmware that the image holds, as the NIC will tell it.
        type: str
        required: true
      file:
        description: The image, a path of the controller or an address.
        type: str
        required: true
      sha256:
        description: Its checksum.
        type: str
        required: true
      component:
        description: The component to flash, by its name in C(devlink dev info). Left out, all of them.
        type: str
      tool:
        description: The program that writes it.
        type: str
        choices: [devlink, mstflint]
        default: devlink
      activate:
        description:
          - V(reset) resets the NIC (C(devlink dev reload action fw_activate), or C(mstfwreset)); where it cannot be reset, it waits for a reboot.
          - V(reboot) waits for one at once.
        type: str
        choices: [reset, reboot]
        default: reset
  flash:
    description: Whether firmware may be flashed.
    type: bool
    default: false
  maintenance:
    description: Whether this run is one of maintenance. Without it nothing is flashed, even if O(flash) is V(true).
    type: bool
    default: false
  reload:
    description: Whether a driver may be unloaded and loaded anew. Its interfaces are gone meanwhile.
    type: bool
    default: false
  reboot_ok:
    description: Whether the host may be rebooted for firmware that waits for it. If not, that is only reported.
    type: bool
    default: false
  reboot_timeout:
    description: Seconds to wait for the host to come back.
    type: int
    default: 1800
  verify:
    description: Only look, and fail where something is left to be done. The action says so after a reboot.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: ConnectX-6 Dx cards have the firmware that was measured
  lowlatency.fleet.nic_update:
    policy:
      mlx5_core:
        firmware: {minimum: "22.41.1000"}
    nics:
      - pci: "0000:3b:00.0"
    images:
      - driver: mlx5_core
        pci_id: "15b3:101d"
        psid: MT_0000000359
        version: "22.41.1000"
        file: files/fw-ConnectX6Dx-rel-22_41_1000.bin
        sha256: 0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0
        tool: mstflint
    flash: true
    maintenance: true
  throttle: 1
"""

RETURN = r"""
done:
  description: What was done, in words; in check mode, what would be done.
  returned: success
  type: list
  elements: str
left:
  description: What was left alone because a management NIC would suffer.
  returned: success
  type: list
  elements: str
needed:
  description: Images that have to be put on the host first. The action does that, and runs the module again.
  returned: success
  type: list
  elements: dict
settings:
  description: Driver and firmware of the NICs as they are now, as M(lowlatency.fleet.nic_firmware) returns them.
  returned: success
  type: list
  elements: dict
reboot_required:
  description: Whether firmware waits for a reboot.
  returned: success
  type: bool
reboot_reasons:
  description: What waits for it, in words.
  returned: success
  type: list
  elements: str
rebooted:
  description: Whether the host was rebooted.
  returned: when it was
  type: bool
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.lowlatency.fleet.plugins.module_utils.update_door import UPDATE_OPTIONS, run_update


def main() -> None:
    run_update(AnsibleModule(argument_spec=dict(UPDATE_OPTIONS), supports_check_mode=True))


if __name__ == "__main__":
    main()
