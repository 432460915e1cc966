# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What brings a NIC to the driver and firmware that a site wants, from the sources that the site gives. Pure: no I/O.

Nothing is wanted here that the policy does not want: an image or a package alone changes nothing that is right.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .nic_firmware import (
    IN_TREE,
    VENDOR,
    Card,
    Driver,
    Version,
    driver_rule,
    firmware_rule,
    fits,
    number_of,
    range_of,
    unknown_keys,
    version_of,
)
from .setting import SpecError

DEVLINK, MSTFLINT = "devlink", "mstflint"
RESET, REBOOT = "reset", "reboot"
FLASH = "flash"
FIRMWARE_FOLDER = "/lib/firmware"
IMAGES = f"{FIRMWARE_FOLDER}/lowlatency"
PACKAGES = "/var/cache/lowlatency"
DEBIAN, REDHAT = "debian", "redhat"

_SHA256 = re.compile(r"[0-9a-f]{64}")
_ENDINGS = {".deb": DEBIAN, ".rpm": REDHAT}
_PACKAGE_KEYS = ("name", "version", "file", "sha256", "driver")
_REPOSITORY_KEYS = ("name", "url", "key", "suites", "components", "driver")
_ARCHIVE_KEYS = ("name", "version", "file", "sha256", "install", "creates", "driver")
_ARCHIVES = (".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2", ".tar.zst")
SOURCES = "/usr/src"
# Packages that bring headers to build modules with.
_HEADERS = ("linux-headers-", "kernel-devel", "kernel-default-devel")
# A name or version that is part of a path.
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")


@dataclass(frozen=True)
class Step:
    """One thing to be done about the firmware of a NIC: ``FLASH`` an image, or ``RESET`` the NIC so that the stored one runs."""

    kind: str
    card: Card
    image: Mapping[str, Any]
    before: str


# --- firmware ---------------------------------------------------------------------------------------------------------


def image_problems(images: Iterable[Mapping[str, Any]]) -> list[str]:
    """What is wrong with firmware images on any host: no checksum, no version."""
    found = []
    for image in images:
        who = f"image {image.get('file') or image.get('driver') or image}"
        found += checksum_problems(who, image.get("sha256"))
        if number_of(str(image.get("version") or "")) is None:
            found.append(f"{who}: version {image.get('version')!r} begins with no number; say which firmware the file holds, as the NIC will tell it")
        if image.get("tool") == MSTFLINT and image.get("component"):
            found.append(f"{who}: mstflint knows no components; leave component out, or take devlink")
    return found


def checksum_problems(who: str, sha256: Any) -> list[str]:
    """What is wrong with the checksum of a file: without one nothing is fetched, installed or flashed."""
    if not sha256:
        return [f"{who}: no sha256; a file is only used by its checksum, which sha256sum prints"]
    return [] if _SHA256.fullmatch(str(sha256)) else [f"{who}: sha256 {sha256!r} is not 64 hexadecimal digits; sha256sum prints them"]


def image_for(card: Card, images: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The image for a NIC, by driver, PCI id and PSID as far as it names them; raises ``SpecError`` where two fit."""
    fitting = [image for image in images if image.get("driver") == card.driver.name
               and str(image.get("pci_id") or card.pci_id).lower() == card.pci_id.lower()
               and str(image.get("psid") or card.psid).lower() == card.psid.lower()]
    if len(fitting) > 1:
        raise SpecError(f"{card.interface}: both {fitting[0].get('file')} and {fitting[1].get('file')} fit it; "
                        f"say pci_id ({card.pci_id or 'not told'}) or psid ({card.psid or 'not told'}) of each")
    return fitting[0] if fitting else None


def firmware_step(card: Card, policy: Mapping[str, Any], images: Iterable[Mapping[str, Any]], flashed: Mapping[str, str]) -> Step | None:
    """What is to be done about the firmware of a NIC, None where it is right or there is no image for it.

    ``flashed`` has the checksums of what was written since the last boot, by device: no image is written twice in one boot. Raises
    ``SpecError`` for an image that would not bring what is wanted.
    """
    rule = firmware_rule(policy, card)
    version = version_of(card, str(rule.get("component") or ""))
    image = image_for(card, images)
    if not range_of(rule) or image is None or card.unreadable or card.silent or not version.running:
        return None
    right = fits(version.running, rule)
    if right is None:
        raise SpecError(f"{card.interface}: firmware {version.running!r} begins with no version number to compare; say exact, or name a component")
    if right and (not version.pending or fits(version.stored, rule)):
        return None
    if not fits(str(image["version"]), rule):
        raise SpecError(f"{card.interface}: {image.get('file')} holds firmware {image['version']}, the policy wants {range_of(rule)}; change one of the two")
    if flashed.get(card.device) == image["sha256"] or (version.pending and fits(version.stored, rule)):
        return Step(RESET, card, image, version.running)
    return Step(FLASH, card, image, version.running)


def firmware_verdict(card: Card, policy: Mapping[str, Any], flashed: Mapping[str, str]) -> tuple[str, str]:
    """How a NIC stands after its firmware was written: what it waits for, or what went wrong; both empty where all is right."""
    rule = firmware_rule(policy, card)
    version: Version = version_of(card, str(rule.get("component") or ""))
    stored = version.stored or ""
    if not range_of(rule) or (fits(version.running, rule) and (not stored or fits(stored, rule))):
        return "", ""
    if stored and fits(stored, rule):
        return f"{card.interface} firmware is {version.running}, {stored} is stored", ""
    if not stored and card.device in flashed:
        return f"{card.interface} firmware is {version.running}, another one was flashed since the last boot", ""
    return "", f"{card.interface}: its firmware is {version.running}{f', {stored} stored' if stored else ''}, wanted {range_of(rule)}"


def same_board(one: str, other: str) -> bool:
    """Whether two PCI addresses are functions of one board: ports of a card are flashed and reset together."""
    return bool(one) and one.rpartition(".")[0] == other.rpartition(".")[0]


# --- the driver -------------------------------------------------------------------------------------------------------


def wants_reload(loaded: Driver, on_disk: Driver, policy: Mapping[str, Any]) -> bool:
    """Whether loading the driver anew brings what is wanted: the loaded one is not right, the one on disk is."""
    rule = driver_rule(policy, loaded.name)
    return bool(rule) and not driver_fits(loaded, rule) and driver_fits(on_disk, rule)


def driver_fits(driver: Driver, rule: Mapping[str, Any]) -> bool:
    """Whether a driver is of the kind and version that a rule wants."""
    kind = VENDOR if driver.vendor else IN_TREE
    return rule.get("kind") in (None, "", kind) and fits(driver.version, rule) is True


# --- packages and repositories ----------------------------------------------------------------------------------------


def source_problems(packages: Iterable[Any], repositories: Iterable[Any], archives: Iterable[Any] = ()) -> list[str]:
    """What is wrong with packages, repositories and archives on any host: a file without its checksum, a repository without its key."""
    found = [problem for archive in archives for problem in _archive_problems(archive)]
    for package in packages:
        if not isinstance(package, Mapping):
            found.append(f"package {package!r}: is no mapping; its keys are {', '.join(_PACKAGE_KEYS)}")
            continue
        who = f"package {package.get('name') or package.get('file') or package}"
        found += unknown_keys(who, package, _PACKAGE_KEYS)
        if bool(package.get("name")) == bool(package.get("file")):
            found.append(f"{who}: give either name (and version) or file (and sha256)")
        elif package.get("file"):
            found += checksum_problems(who, package.get("sha256"))
            if os.path.splitext(str(package["file"]))[1] not in _ENDINGS:
                found.append(f"{who}: ends in none of {', '.join(_ENDINGS)}")
        elif package.get("version") is not None and not isinstance(package["version"], str):
            found.append(f"{who}: version {package['version']!r} is not text; put it between quotes")
    for repository in repositories:
        found += _repository_problems(repository)
    return found


def _repository_problems(repository: Any) -> list[str]:
    if not isinstance(repository, Mapping):
        return [f"repository {repository!r}: is no mapping; its keys are {', '.join(_REPOSITORY_KEYS)}"]
    who = f"repository {repository.get('name') or repository.get('url') or repository}"
    found = unknown_keys(who, repository, _REPOSITORY_KEYS)
    found += [f"{who}: no {key}; a repository has name, url and the key that signs it" for key in ("name", "url", "key") if not repository.get(key)]
    key = str(repository.get("key") or "")
    if key and not key.startswith(("https://", "/", "-----BEGIN PGP PUBLIC KEY BLOCK-----")):
        found.append(f"{who}: key {key!r:.40} is neither an https:// address, a file of the host, nor the key itself")
    if key.startswith("-----") and not repository.get("suites"):
        found.append(f"{who}: yum takes the key from an address or a file of the host")
    return found


def _archive_problems(archive: Any) -> list[str]:
    if not isinstance(archive, Mapping):
        return [f"archive {archive!r}: is no mapping; its keys are {', '.join(_ARCHIVE_KEYS)}"]
    who = f"archive {archive.get('file') or archive.get('name') or archive}"
    found = unknown_keys(who, archive, _ARCHIVE_KEYS) + checksum_problems(who, archive.get("sha256"))
    if not str(archive.get("file") or "").endswith(_ARCHIVES):
        found.append(f"{who}: file {archive.get('file')!r} ends in none of {', '.join(_ARCHIVES)}")
    for key in ("name", "version"):
        if not isinstance(archive.get(key), str) or not _PLAIN.fullmatch(archive[key]):
            found.append(f"{who}: {key} {archive.get(key)!r} is not one word of text; give the {key} that its dkms.conf has, between quotes")
    if bool(archive.get("install")) != bool(archive.get("creates")):
        found.append(f"{who}: install (a command) and creates (a file that it makes) go together; without them the archive is DKMS's")
    return found


def sources_of(packages: Iterable[Mapping[str, Any]], repositories: Iterable[Mapping[str, Any]], drivers: Iterable[str], family: str,
               archives: Iterable[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """What a host installs: ``deb_repositories``, ``yum_repositories``, ``deb_packages`` and ``rpm_packages`` (names as apt and dnf take
    them), ``fetched_files`` and ``copied_files`` (``file``, ``sha256``, ``dest``), and where those lie then: ``deb_files``, ``rpm_files`` and
    ``archives`` (with ``archive``, and ``folder``, where it is unpacked). ``names`` are the packages without versions, as they are removed;
    ``headers`` says whether one of them brings the headers of a kernel.

    Only what is of the host's family, and what names no driver or one that the host has.
    """
    have = set(drivers)
    here = [package for package in packages if package.get("driver") in (None, "", *have)]
    named = [package for package in here if package.get("name")]
    stores = [repository for repository in repositories if repository.get("driver") in (None, "", *have)]
    files = [package for package in here if package.get("file") and _ENDINGS[os.path.splitext(str(package["file"]))[1]] == family]
    deb, rpm = family == DEBIAN, family == REDHAT
    put = [_put(package) for package in files]
    unpacked = [_unpacked(archive) for archive in archives if archive.get("driver") in (None, "", *have)]
    every = [*put, *(_put(archive) for archive in unpacked)]
    names = [str(package["name"]) for package in named if deb or rpm]
    return {
        "archives": unpacked,
        "names": [*names, *(package_name(str(package["file"])) for package in files)],
        "headers": any(name.startswith(_HEADERS) for name in names),
        "deb_repositories": [dict(store) for store in stores if deb and store.get("suites")],
        "yum_repositories": [{**store, "key": _yum_key(str(store["key"]))} for store in stores if rpm and not store.get("suites")],
        "deb_packages": [_versioned(package, "=") for package in named if deb],
        "rpm_packages": [_versioned(package, "-") for package in named if rpm],
        "fetched_files": [file for file in every if is_url(str(file["file"]))],
        "copied_files": [file for file in every if not is_url(str(file["file"]))],
        "deb_files": [str(file["dest"]) for file in put if deb],
        "rpm_files": [str(file["dest"]) for file in put if rpm],
    }


def _put(source: Mapping[str, Any]) -> dict[str, Any]:
    return {"file": source["file"], "sha256": source["sha256"], "dest": placed(PACKAGES, source)}


def _unpacked(archive: Mapping[str, Any]) -> dict[str, Any]:
    """An archive with where it lies and where it is unpacked, which is where DKMS looks for sources."""
    return {**archive, "archive": placed(PACKAGES, archive), "folder": f"{SOURCES}/{archive['name']}-{archive['version']}"}


def package_name(file: str) -> str:
    """The name of the package in a file, by the rule that both families have: NAME_VERSION_ARCH.deb, NAME-VERSION-RELEASE.ARCH.rpm."""
    base, ending = os.path.splitext(os.path.basename(file))
    return base.partition("_")[0] if _ENDINGS[ending] == DEBIAN else base.rpartition(".")[0].rsplit("-", 2)[0]


def _yum_key(key: str) -> str:
    """The key of a repository as yum takes it: an address, which for a file of the host begins with file://."""
    return key if is_url(key) else f"file://{key}"


def _versioned(package: Mapping[str, Any], between: str) -> str:
    return f"{package['name']}{between}{package['version']}" if package.get("version") else str(package["name"])


def placed(folder: str, source: Mapping[str, Any]) -> str:
    """Where a file of the site lies on the host: by its checksum, so that another file of the same name is another file."""
    return f"{folder}/{str(source['sha256'])[:16]}-{os.path.basename(str(source['file']))}"


def is_url(file: str) -> bool:
    """Whether a file is fetched from an address instead of from the controller."""
    return "://" in file
