# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""tuned's profiles: what is set by sections that are merged as tuned merges them."""

from __future__ import annotations

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.model.tuned import (
    TunedUnit,
    expanded,
    irq_settings,
    merged,
    names_of,
    net_settings,
    profile_of,
    variables_of,
)
from hypothesis import given
from hypothesis import strategies as st

PROFILE = """\
#
# tuned configuration
#
[main]
summary=Low latency
include=network-latency, -optional

[variables]
include=/etc/tuned/site-variables.conf
isolated_cores = ${isolated_cores}

[net]
# devices=eth0
devices=ens1f*, !ens1f1
coalesce=adaptive-rx off rx-usecs 0   # nothing waits
features=gro off

[other]
type=net
ring=rx 4096
"""


def unit(plugin: str, **options: str) -> TunedUnit:
    return TunedUnit(plugin, plugin, options=options)


def test_a_profile() -> None:
    profile = profile_of(PROFILE)
    assert (profile.include, profile.variable_files) == ("network-latency, -optional", ("/etc/tuned/site-variables.conf",))
    assert profile.variables == {"isolated_cores": "${isolated_cores}"}
    assert profile.sections == {
        "net": {"devices": "ens1f*, !ens1f1", "coalesce": "adaptive-rx off rx-usecs 0", "features": "gro off"},
        "other": {"type": "net", "ring": "rx 4096"},
    }


def test_an_empty_section_is_one() -> None:
    assert dict(profile_of("[net]\n# devices=eth0\n\n[sysctl]\na=1\n").sections) == {"net": {}, "sysctl": {"a": "1"}}


@pytest.mark.parametrize(("text", "names"), [
    ("network-latency", ["network-latency"]),
    ("base my-own\n", ["base", "my-own"]),
    ("a, b;c", ["a", "b", "c"]),
    ("-maybe", ["maybe"]),
    ("../../etc/passwd", []),
    ("openshift-${profile}", []),
    ("..", []),
    ("", []),
])
def test_names_of_profiles(text: str, names: list[str]) -> None:
    assert names_of(text) == names


@pytest.mark.parametrize(("rules", "driven"), [
    ("*", ["ens1f0", "ens1f1", "eno1"]),
    ("ens1f*, !ens1f1", ["ens1f0"]),
    ("!eno1", ["ens1f0", "ens1f1"]),
    ("eno1 ens1f1", ["ens1f1", "eno1"]),
    ("eth0", []),
])
def test_devices(rules: str, driven: list[str]) -> None:
    section = TunedUnit("net", "net", rules)
    assert [name for name in ("ens1f0", "ens1f1", "eno1") if section.drives(name)] == driven


def test_a_later_profile_is_over_an_earlier_one() -> None:
    base = profile_of("[net]\ncoalesce=rx-usecs 3\nring=rx 512\n[irqbalance]\nbanned_cpus=1\n[scheduler]\nisolated_cores=1\n")
    own = profile_of("[net]\ncoalesce=rx-usecs 0\n[irqbalance]\nenabled=0\n[scheduler]\nreplace=1\nruntime=0\n")
    units = {unit.name: unit for unit in merged([base, own], {})}
    assert units["net"].options == {"coalesce": "rx-usecs 0", "ring": "rx 512"}
    assert (net_settings(units["net"], "0"), irq_settings(units["irqbalance"]), irq_settings(units["scheduler"])) == (
        "coalesce (rx-usecs 0), ring (rx 512)", "", "")


def test_a_section_of_any_name_drives_the_plugin_it_says() -> None:
    [section] = merged([profile_of("[fast]\ntype=net\nenabled=true\ndevices=ens1f0\nring=rx 4096\n")], {})
    assert (section.name, section.plugin, section.devices, net_settings(section, "0")) == ("fast", "net", "ens1f0", "ring (rx 4096)")


def test_an_option_can_be_dropped() -> None:
    units = merged([profile_of("[net]\nring=rx 512\ncoalesce=rx-usecs 3\n"), profile_of("[net]\ndrop=ring\n")], {})
    assert units[0].options == {"coalesce": "rx-usecs 3"}


def test_variables_are_put_in() -> None:
    units = merged([profile_of("[irqbalance]\nbanned_cpus=${isolated_cores}\n")], variables_of("# which?\nisolated_cores=2-7\n"))
    assert irq_settings(units[0]) == "banned_cpus (2-7)"


def test_a_variable_that_means_itself_comes_to_an_end() -> None:
    assert expanded("${a} \\${b} ${f:exec:x}", {"a": "${a}", "b": "1"}) == "${a} \\${b} ${f:exec:x}"
    assert len(expanded("${a}", {"a": "${a}${a}${a}${a}${a}${a}${a}${a}" * 20})) < 10_000_000


@pytest.mark.parametrize(("section", "dynamic", "said"), [
    (unit("net", coalesce="rx-usecs 0"), "0", "coalesce (rx-usecs 0)"),
    (unit("net", channels="combined 4", features="gro off", pause="rx off", wake_on_lan="d"), "0",
     "channels (combined 4), features (gro off), pause (rx off), wake_on_lan (d)"),
    (unit("net", nf_conntrack_hashsize="131072"), "0", ""),
    (unit("net"), "0", ""),
    (unit("net"), "1", "the link speed, by load"),
    (unit("net", dynamic="0"), "1", ""),
    (unit("sysctl", coalesce="rx-usecs 0"), "1", ""),
    (TunedUnit("net", "net", enabled=False, options={"ring": "rx 1"}), "1", ""),
])
def test_what_is_set_of_interfaces(section: TunedUnit, dynamic: str, said: str) -> None:
    assert net_settings(section, dynamic) == said


@pytest.mark.parametrize(("section", "said"), [
    (unit("irq", affinity="0-1"), "affinity (0-1)"),
    (unit("irq", mode="set"), ""),
    (unit("irqbalance", banned_cpus="2-7"), "banned_cpus (2-7)"),
    (unit("scheduler", isolated_cores="2-7"), "isolated_cores (2-7)"),
    (unit("scheduler", isolated_cores="2-7", irq_process="false"), ""),
    (unit("scheduler", isolated_cores="2-7", irq_process="false", default_irq_smp_affinity="0"), "default_irq_smp_affinity (0)"),
    (unit("scheduler", default_irq_smp_affinity="ignore"), ""),
    (unit("scheduler", runtime="0"), ""),
    (unit("sysctl", affinity="0"), ""),
])
def test_what_is_set_of_interrupts(section: TunedUnit, said: str) -> None:
    assert irq_settings(section) == said


@given(st.text(alphabet=st.sampled_from("[]=#;, ${}nettypei\n\\")), st.dictionaries(st.text(alphabet="ab", min_size=1), st.text(alphabet="${}ab", max_size=9)))
def test_any_text_is_some_profile(text: str, variables: dict[str, str]) -> None:
    for section in merged([profile_of(text)] * 2, variables):
        net_settings(section, "1"), irq_settings(section), section.drives("eth0")
    names_of(text)
