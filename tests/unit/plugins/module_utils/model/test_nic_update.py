# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sources of a site: what is wrong with them, and which of them concern a host."""

from __future__ import annotations

import re
from typing import Any

import pytest
from ansible_collections.lowlatency.fleet.plugins.module_utils.model import nic_update as model

SHA = "ab" * 32
KEY = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nx"


@pytest.mark.parametrize(
    ("package", "words"),
    [
        ({"file": "a.deb"}, "no sha256"), ({"file": "a.deb", "sha256": "AB" * 32}, "not 64 hexadecimal digits"),
        ({"file": "a.run", "sha256": SHA}, r"none of \.deb, \.rpm"),
        ({}, "either name"), ({"name": "a", "file": "a.deb", "sha256": SHA}, "either name"), ({"name": "a", "version": 24.1}, "put it between quotes"),
        ({"name": "a", "url": "x"}, "no such key url"), ("a", "no mapping"),
    ],
)
def test_what_is_wrong_with_a_package(package: Any, words: str) -> None:
    found = model.source_problems([package], [])
    assert len(found) == 1 and re.search(words, found[0]), found


@pytest.mark.parametrize(
    ("repository", "words"),
    [
        ({"name": "a", "url": "https://x"}, "no key"), ({"name": "a", "key": "https://x"}, "no url"), ({"url": "a", "key": "https://x"}, "no name"),
        ({"name": "a", "url": "x", "key": "http://x/key"}, "neither an https"), ({"name": "a", "url": "x", "key": KEY}, "yum takes the key from an address"),
        ({"name": "a", "url": "x", "key": "/k", "trusted": True}, "no such key trusted"), (7, "no mapping"),
    ],
)
def test_what_is_wrong_with_a_repository(repository: Any, words: str) -> None:
    found = model.source_problems([], [repository])
    assert len(found) == 1 and re.search(words, found[0]), found


PACKAGES = [
    {"name": "mstflint"}, {"name": "mlnx-ofed-kernel-dkms", "version": "24.10", "driver": "mlx5_core"}, {"name": "ice-dkms", "driver": "ice"},
    {"file": "files/x.deb", "sha256": SHA}, {"file": "https://x.example/y.rpm", "sha256": SHA, "driver": "mlx5_core"},
    {"file": "z.deb", "sha256": SHA, "driver": "ice"},
]
REPOSITORIES = [{"name": "d", "url": "https://x", "key": KEY, "suites": ["bookworm"]}, {"name": "r", "url": "https://x", "key": "/etc/key"},
                {"name": "i", "url": "https://x", "key": "/etc/key", "driver": "ice"}]


def test_what_a_debian_host_takes() -> None:
    assert model.source_problems(PACKAGES, REPOSITORIES) == []
    found = model.sources_of(PACKAGES, REPOSITORIES, ["igb", "mlx5_core"], "debian")
    assert [entry["name"] for entry in found["deb_repositories"]] == ["d"] and found["yum_repositories"] == found["rpm_packages"] == []
    assert found["deb_packages"] == ["mstflint", "mlnx-ofed-kernel-dkms=24.10"]
    assert found["copied_files"] == [{"file": "files/x.deb", "sha256": SHA, "dest": f"/var/cache/lowlatency/{SHA[:16]}-x.deb"}]
    assert found["deb_files"] == [f"/var/cache/lowlatency/{SHA[:16]}-x.deb"] and found["fetched_files"] == found["rpm_files"] == []


def test_what_a_red_hat_host_takes() -> None:
    found = model.sources_of(PACKAGES, REPOSITORIES, ["mlx5_core"], "redhat")
    assert [entry["name"] for entry in found["yum_repositories"]] == ["r"] and found["deb_repositories"] == found["deb_packages"] == []
    assert found["rpm_packages"] == ["mstflint", "mlnx-ofed-kernel-dkms-24.10"]
    assert [file["file"] for file in found["fetched_files"]] == ["https://x.example/y.rpm"]
    assert found["rpm_files"] == [f"/var/cache/lowlatency/{SHA[:16]}-y.rpm"] and found["copied_files"] == found["deb_files"] == []


def test_what_a_host_of_another_family_takes() -> None:
    assert not any(model.sources_of(PACKAGES, REPOSITORIES, ["mlx5_core"], "suse").values())


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [("0000:3b:00.0", "0000:3b:00.1", True), ("0000:3b:00.0", "0000:3b:01.0", False), ("", "", False), ("0000:3b:00.0", "0001:3b:00.0", False),
     ("0000:3b:00.0", "", False)],
)
def test_functions_of_one_board(one: str, other: str, same: bool) -> None:
    assert model.same_board(one, other) is same


@pytest.mark.parametrize(("key", "taken"), [("https://x.example/key", "https://x.example/key"), ("/etc/pki/key", "file:///etc/pki/key")])
def test_yum_takes_the_key_as_an_address(key: str, taken: str) -> None:
    [store] = model.sources_of([], [{"name": "r", "url": "https://x.example", "key": key}], [], "redhat")["yum_repositories"]
    assert store["key"] == taken


# --- source archives --------------------------------------------------------------------------------------------------

ARCHIVE = {"file": "onload-9.0.2.140.dkms.tar.gz", "sha256": "cd" * 32, "name": "onload", "version": "9.0.2.140"}


@pytest.mark.parametrize(("wrong", "words"), [
    ({"sha256": None}, "no sha256"), ({"sha256": "12"}, "is not 64 hexadecimal digits"), ({"file": "onload.zip"}, "ends in none of .tar.gz"),
    ({"name": "../x"}, "name '../x' is not one word"), ({"version": 9.0}, "version 9.0 is not one word of text"), ({"install": "./install"}, "go together"),
    ({"url": "x"}, "no such key url"),
])
def test_what_is_wrong_with_an_archive(wrong: dict[str, Any], words: str) -> None:
    found = model.source_problems([], [], [{**ARCHIVE, **wrong}])
    assert len(found) == 1 and words in found[0] and found[0].startswith("archive ")
    assert model.source_problems([], [], ["x"])[0].startswith("archive 'x': is no mapping")


def test_where_an_archive_comes_to_lie() -> None:
    own = {**ARCHIVE, "file": "https://x.example/o.tgz", "name": "own", "install": "scripts/onload_install", "creates": "/usr/bin/onload", "driver": "sfc"}
    assert model.source_problems([], [], [ARCHIVE, own]) == []
    found = model.sources_of([], [], ["sfc"], "debian", [ARCHIVE, own])
    assert [(one["archive"], one["folder"]) for one in found["archives"]] == [
        (f"{model.PACKAGES}/cdcdcdcdcdcdcdcd-onload-9.0.2.140.dkms.tar.gz", "/usr/src/onload-9.0.2.140"),
        (f"{model.PACKAGES}/cdcdcdcdcdcdcdcd-o.tgz", "/usr/src/own-9.0.2.140")]
    assert [len(found[key]) for key in ("copied_files", "fetched_files", "deb_files")] == [1, 1, 0]
    assert len(model.sources_of([], [], ["ice"], "debian", [ARCHIVE, own])["archives"]) == 1


def test_names_as_packages_are_removed_and_who_brings_headers() -> None:
    packages = [{"name": "linux-headers-amd64"}, {"name": "onload-user", "version": "9.0"}, {"file": "/x/onload-dkms_9.0.2_all.deb", "sha256": "ab" * 32},
                {"file": "onload-kmod-9.0.2-1.el9.x86_64.rpm", "sha256": "ab" * 32}]
    found = model.sources_of(packages, [], [], "debian")
    assert (found["names"], found["headers"]) == (["linux-headers-amd64", "onload-user", "onload-dkms"], True)
    found = model.sources_of(packages[1:], [], [], "redhat")
    assert (found["names"], found["headers"]) == (["onload-user", "onload-kmod"], False)
