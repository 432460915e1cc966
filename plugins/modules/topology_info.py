#!/usr/bin/python
# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CPUs, cores, sockets, NUMA nodes and network devices of a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: topology_info
short_description: CPUs, cores, sockets, NUMA nodes and network devices of a host
version_added: "0.1.0"
description:
  - Reads the hardware topology of a host from C(/sys) and C(/proc), on any architecture, without starting a program.
  - CPU sets are CPU lists as the kernel writes them (V(0-3,8)). They name online CPUs, except RV(topology.cpus_offline).
  - What could not be read is said in RV(topology.gaps). A host that describes no CPU at all is an error.
options:
  sysroot:
    description:
      - Folder that holds the host's C(sys) and C(proc).
      - Name another one to read a captured machine. Symbolic links are followed inside of this folder only.
    type: path
    default: /
attributes:
  check_mode:
    description: Can run in C(check_mode); the module only reads.
    support: full
  diff_mode:
    description: Returns what has changed in C(diff) mode; the module changes nothing.
    support: N/A
requirements:
  - Python 3.9 or later on the host
author:
  - contributors to lowlatency.fleet (@lowlatency-fleet)
"""

EXAMPLES = r"""
- name: Topology of the host is known
  lowlatency.fleet.topology_info:
  register: machine

- name: NICs and their NUMA nodes are shown
  ansible.builtin.debug:
    msg: "{{ item.pci }} is on node {{ item.numa_node }}, next to CPUs {{ item.local_cpulist }}"
  loop: "{{ machine.topology.nics }}"
  loop_control:
    label: "{{ item.pci }}"

- name: Topology of a captured machine is known
  lowlatency.fleet.topology_info:
    sysroot: /srv/captures/md-gateway-17
  delegate_to: localhost
"""

RETURN = r"""
topology:
  description: What the machine is made of. Keys of mappings are text.
  returned: success
  type: dict
  contains:
    cpus_online:
      description: Online CPUs.
      type: str
      returned: success
      sample: "0-31"
    cpus_offline:
      description: CPUs that are present and offline.
      type: str
      returned: success
      sample: ""
    nodes:
      description:
        - Online CPUs of each NUMA node, an empty list for a node without CPUs.
        - Empty for a kernel without NUMA.
      type: dict
      returned: success
      sample: {"0": "0-15", "1": "16-31"}
    siblings:
      description: Online CPUs of the physical core of each online CPU.
      type: dict
      returned: success
      sample: {"0": "0,16", "16": "0,16"}
    sockets:
      description: Online CPUs of each socket, by the kernel's package id, or V(?N) for the N-th socket where it has none.
      type: dict
      returned: success
      sample: {"0": "0-15", "1": "16-31"}
    nics:
      description:
        - PCI Ethernet devices, by address.
        - Those are the devices of class 0200, and others that drive a wired Ethernet interface.
      type: list
      elements: dict
      returned: success
      contains:
        pci:
          description: PCI address.
          type: str
          returned: success
          sample: "0000:c1:00.0"
        class:
          description: PCI class.
          type: str
          returned: success
          sample: "0200"
        id:
          description: PCI vendor and device.
          type: str
          returned: success
          sample: "8086:1521"
        numa_node:
          description: NUMA node, V(-1) where the firmware does not tell.
          type: int
          returned: success
          sample: 1
        local_cpulist:
          description: Online CPUs next to the device.
          type: str
          returned: success
          sample: "16-31"
        driver:
          description: Kernel driver the device is bound to, empty without one.
          type: str
          returned: success
          sample: igb
        interfaces:
          description: Names of the network interfaces of the device.
          type: list
          elements: str
          returned: success
          sample: [eth0]
        mac:
          description: Hardware address of the first interface.
          type: str
          returned: success
          sample: "84:8f:69:fe:cc:40"
        link_width:
          description: PCIe lanes in use, V(0) where the device does not tell.
          type: int
          returned: success
          sample: 8
        link_width_max:
          description: PCIe lanes the device can use.
          type: int
          returned: success
          sample: 8
        link_speed:
          description: PCIe speed in use, in the kernel's words, empty where the device does not tell.
          type: str
          returned: success
          sample: 8.0 GT/s PCIe
        link_speed_max:
          description: PCIe speed the device can use.
          type: str
          returned: success
          sample: 16.0 GT/s PCIe
        interrupts:
          description: Numbers of the device's MSI and MSI-X interrupts.
          type: list
          elements: int
          returned: success
          sample: [101, 102]
        queues:
          description: Receive queues of the device's interfaces together.
          type: int
          returned: success
          sample: 8
    nr_cpus:
      description: Highest possible CPU number plus one, the width of the kernel's masks.
      type: int
      returned: success
      sample: 32
    l3:
      description: Online CPUs that share the level 3 cache of each CPU. Empty where the kernel does not tell.
      type: dict
      returned: success
      sample: {"0": "0-7"}
    distances:
      description: Distance from each NUMA node to each other, V(10) for itself.
      type: dict
      returned: success
      sample: {"0": {"0": 10, "1": 21}}
    memory:
      description: Memory of each NUMA node in KiB. C(free_kib) is null where the node does not tell it.
      type: dict
      returned: success
      sample: {"0": {"total_kib": 65673560, "free_kib": 61234567}}
    memory_nodes:
      description: NUMA nodes that have memory, written like a CPU list.
      type: str
      returned: success
      sample: "0-1"
    gaps:
      description: What could not be read, in words.
      type: list
      elements: str
      returned: success
      sample: []
host:
  description: Which system the machine runs.
  returned: success
  type: dict
  contains:
    distribution:
      description: C(ID) of os-release.
      type: str
      returned: success
      sample: rocky
    family:
      description: One of V(debian), V(redhat), V(suse), V(other).
      type: str
      returned: success
      sample: redhat
    version:
      description: C(VERSION_ID) of os-release.
      type: str
      returned: success
      sample: "9.4"
    kernel:
      description: Kernel release.
      type: str
      returned: success
      sample: 5.14.0-427.13.1.el9_4.x86_64
    architecture:
      description: Machine architecture, empty where a captured machine does not tell.
      type: str
      returned: success
      sample: x86_64
    virtualisation:
      description: V(none), V(unknown), the hypervisor (V(kvm), V(vmware), V(xen), and others) or C(container:KIND).
      type: str
      returned: success
      sample: none
    container:
      description: Kind of the container, empty outside of one.
      type: str
      returned: success
      sample: ""
    init:
      description: V(systemd), or the name of process 1.
      type: str
      returned: success
      sample: systemd
    python_version:
      description: Version of the Python that ran the module, empty for a captured machine.
      type: str
      returned: success
      sample: 3.9.18
    python_executable:
      description: Path of the Python that ran the module, empty for a captured machine.
      type: str
      returned: success
      sample: /usr/bin/python3.9
    smt_control:
      description: The kernel's SMT control (V(on), V(off), V(forceoff), V(notsupported)), empty where it has none.
      type: str
      returned: success
      sample: "on"
    smt_active:
      description: Whether SMT is active, null where the kernel does not tell.
      type: bool
      returned: success
      sample: true
    cmdline:
      description: Command line of the running kernel.
      type: str
      returned: success
      sample: BOOT_IMAGE=/vmlinuz root=/dev/sda2 ro
    isolated:
      description: CPUs isolated at boot, null where the kernel does not tell.
      type: str
      returned: success
      sample: 4-7
    nohz_full:
      description: CPUs without a scheduler tick, null where the kernel does not tell.
      type: str
      returned: success
      sample: 4-7
    boot_id:
      description: Identity of this boot.
      type: str
      returned: success
      sample: 4f1a5c1e-6a58-4c9b-9a4e-6d3f0a8b1f11
    interfaces:
      description: Names of all network interfaces, those without a PCI device included.
      type: list
      elements: str
      returned: success
      sample: [eth0, lo]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.facts import host_facts
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.machine import Host
from ansible_collections.lowlatency.fleet.plugins.module_utils.host.topology import read_topology
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.topology import TopologyError


def main() -> None:
    module = AnsibleModule(argument_spec={"sysroot": {"type": "path", "default": "/"}}, supports_check_mode=True)
    host = Host(module.params["sysroot"])
    try:
        module.exit_json(changed=False, topology=read_topology(host).to_dict(), host=host_facts(host).to_dict())
    except TopologyError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
