#!/usr/bin/python
# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which runs on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: driver_sources
short_description: Which driver packages and repositories of a site a host takes
version_added: "0.1.0"
description:
  - Checks the sources that a site gives for drivers and says which of them concern a host, in the form that the package modules take.
  - Refuses a file without a checksum, a file of the controller whose checksum is another, and a repository without the key that signs it.
  - Runs on the controller alone and changes nothing. In check mode, and where installing is not allowed, all of its lists are empty.
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
  - Python 3.11 or later on the controller
options:
  packages:
    description:
      - Each has either C(name) (and C(version)) of a package that the host's repositories have, or C(file), a F(.deb) or F(.rpm) of the
        controller or of an address, with its C(sha256). C(driver) leaves it out on hosts that have no NIC with that driver.
    type: list
    elements: dict
    default: []
  repositories:
    description:
      - Each has C(name), C(url) and C(key), an C(https) address or a file of the host that holds the key which signs it; for apt also the
        key itself. One for apt has C(suites) and C(components). C(driver) leaves it out on hosts that have no NIC with that driver.
    type: list
    elements: dict
    default: []
  archives:
    description:
      - Source archives. Each has C(file), a tar archive of the controller or of an address, its C(sha256), and C(name) and C(version) as its
        F(dkms.conf) has them; it is unpacked to F(/usr/src/NAME-VERSION) and given to DKMS. One with C(install), a command, and C(creates), a
        file that it makes, is installed by that command instead. C(driver) leaves it out on hosts that have no NIC with that driver.
    type: list
    elements: dict
    default: []
  drivers:
    description: The drivers of the host's NICs.
    type: list
    elements: str
    default: []
  family:
    description: The family of the host's distribution, V(debian) or V(redhat), as M(lowlatency.fleet.topology_info) tells it.
    type: str
    required: true
  allowed:
    description: Whether the site allows to install them.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: The sources are known
  lowlatency.fleet.driver_sources:
    family: debian
    drivers: [mlx5_core]
    allowed: true
    packages:
      - name: mstflint
        driver: mlx5_core
  register: sources
"""

RETURN = r"""
installs:
  description: Whether anything may be installed or removed now.
  returned: success
  type: bool
archives:
  description: Archives as they were given, with C(archive), where each lies on the host, and C(folder), where it is unpacked.
  returned: success
  type: list
  elements: dict
names:
  description: Names of all packages without versions, as they are removed.
  returned: success
  type: list
  elements: str
headers:
  description: Whether a package that is named brings headers of a kernel.
  returned: success
  type: bool
deb_repositories:
  description: Repositories for apt.
  returned: success
  type: list
  elements: dict
yum_repositories:
  description: Repositories for dnf.
  returned: success
  type: list
  elements: dict
deb_packages:
  description: Names for apt, with their versions.
  returned: success
  type: list
  elements: str
rpm_packages:
  description: Names for dnf, with their versions.
  returned: success
  type: list
  elements: str
fetched_files:
  description: Package files and archives that the host fetches, each with C(file) (an address), C(sha256), and C(dest) on the host.
  returned: success
  type: list
  elements: dict
copied_files:
  description: Package files and archives of the controller, each with C(file), C(sha256), and C(dest) on the host.
  returned: success
  type: list
  elements: dict
deb_files:
  description: Where the package files for apt lie on the host then.
  returned: success
  type: list
  elements: str
rpm_files:
  description: Where the package files for dnf lie on the host then.
  returned: success
  type: list
  elements: str
"""
