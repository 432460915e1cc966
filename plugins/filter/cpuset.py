# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Doors for templates to CPU sets and the core partition. Decides nothing; an error is the model's own message."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.cpuset import (
    format_cpulist,
    format_mask,
    parse_cpulist,
    parse_mask,
)
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.partition import Intent, partition
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.topology import Topology


def cpulist_to_mask(cpulist: str, nr_cpus: int | str) -> str:
    """The kernel's mask of the CPUs."""
    return format_mask(parse_cpulist(cpulist), int(nr_cpus))


def mask_to_cpulist(mask: str) -> str:
    """The CPUs of a kernel mask."""
    return format_cpulist(parse_mask(mask))


def cpulist_union(cpulist: str, *others: str) -> str:
    """The CPUs of any of the lists."""
    return format_cpulist(parse_cpulist(cpulist).union(*map(parse_cpulist, others)))


def cpulist_minus(cpulist: str, *others: str) -> str:
    """The CPUs of the first list that no other list has."""
    return format_cpulist(parse_cpulist(cpulist).difference(*map(parse_cpulist, others)))


def core_partition(topology: Mapping[str, Any], intent: Mapping[str, Any]) -> dict[str, Any]:
    """The CPUs of a host by use, with the reasons."""
    return partition(Topology.from_dict(topology), Intent.from_dict(intent)).to_dict()


def _door(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with errors as Ansible shows them."""

    @functools.wraps(function)
    def door(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except (ValueError, TypeError) as error:
            raise AnsibleFilterError(str(error)) from error

    return door


class FilterModule:
    """The filters of this file, by name."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {function.__name__: _door(function) for function in (cpulist_to_mask, mask_to_cpulist, cpulist_union, cpulist_minus, core_partition)}
