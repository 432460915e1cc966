# Copyright: contributors to lowlatency.fleet
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The boot loader of a machine: what boots next, an entry that boots once, and the default entry's arguments.

GRUB as Debian and Ubuntu have it, and grubby with boot loader specification entries as EL and Fedora have them. Decides nothing.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from ..model.cmdline import TRIAL_ID, NextBoot, Tokens, key_of, without
from ..model.grub import (
    BlsEntry,
    Entry,
    LoaderError,
    bls_entry,
    chosen_bls,
    chosen_entry,
    default_choice,
    entries,
    environment,
    trial_config,
)
from ..model.setting import OwnedFile
from .files import unwritable, write_whole
from .machine import Host, Unreadable
from .programs import output_of

DROP_IN = "/etc/default/grub.d/80-lowlatency.cfg"
GRUB_CFG = "/boot/grub/grub.cfg"
CUSTOM_CFG = "/boot/grub/custom.cfg"
MKCONFIG_TIME_LIMIT = 600

BLS = "/boot/loader/entries"
BLS_OWNED = "/etc/lowlatency/kernel-arguments"
BLS_TRIAL = f"{BLS}/0-{TRIAL_ID}.conf"
RESCUE = "-0-rescue"

_HEADER = "# Owned by lowlatency.fleet: rewritten as a whole. Change the inventory instead."
_STAGED = "/run/lowlatency/grub.cfg"
# File systems and volumes that GRUB reads and cannot write: it could not forget there that an entry is to boot once.
_READ_ONLY_FOR_GRUB = frozenset(("lvm", "diskfilter", "cryptodisk", "luks", "btrfs", "zfs", "cpiofs", "squash4", "tarfs", "iso9660"))
_LOADER_INFO = "/sys/firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"


def loader_of(host: Host) -> DebianGrub | Grubby:
    """The boot loader that starts this machine; raises ``LoaderError`` for one that is not known: it is not guessed."""
    started_by = (host.read_if_there(_LOADER_INFO) or "").replace("\0", "")
    if started_by and "grub" not in started_by.lower():
        raise LoaderError(f"this machine was started by {started_by[1:].strip() or 'another one'}, and only GRUB is known here; {_BY_HAND}")
    if any(name.endswith(".conf") for name in host.names(BLS)) and host.exists("/usr/sbin/grubby"):
        return Grubby(host)
    if host.exists("/etc/default/grub") and host.exists("/usr/sbin/grub-mkconfig") and host.exists(os.path.dirname(GRUB_CFG)):
        return DebianGrub(host)
    raise LoaderError(f"neither GRUB with /etc/default/grub.d nor grubby with {BLS} is here; {_BY_HAND}")


_BY_HAND = "set the kernel arguments by hand, and kernel_cmdline_arguments: {} for this host"


def next_boot(host: Host) -> NextBoot:
    """What the next boot brings; where that cannot be told, ``problem`` says why."""
    try:
        return loader_of(host).next_boot()
    except (LoaderError, Unreadable) as error:
        if host.captured and (isinstance(error, Unreadable) or not host.is_dir("/boot")):
            return NextBoot(problem=f"a captured tree does not tell what boots next ({error}); capture the host as root", silent=True)
        return NextBoot(problem=f"{error}; audit as root (become: true)" if isinstance(error, Unreadable) else str(error))


def configured_tokens(host: Host) -> Tokens:
    """The arguments of the entry that boots by default; raises ``LoaderError`` or ``Unreadable``."""
    return loader_of(host).next_boot().tokens


def next_kernel(host: Host) -> tuple[str, str]:
    """The release of the kernel that the next boot starts, or why it cannot be told: of the boot loader, else of the link to the newest kernel."""
    try:
        name = loader_of(host).kernel()
        release, why = _release_of(host, name), f"{name} names no kernel release"
    except (LoaderError, Unreadable) as error:
        release, why = "", str(error)
    for link in () if release else ("/boot/vmlinuz", "/vmlinuz"):
        release = release or _release_of(host, host.link_name(link) or "")
    return release, "" if release else why


def _release_of(host: Host, name: str) -> str:
    """The release in the name of a kernel's file, a link followed: /vmlinuz-6.1.0-30-amd64, or as kernel-install lays it, /MACHINE/RELEASE/linux."""
    links = map(host.link_name, (f"/boot{name}", name)) if name.startswith("/") else ()
    last = next((target for target in links if target), name)
    found = os.path.basename(last).partition("vmlinuz-")[2]
    return found or next((part for part in reversed(last.split("/")) if part and host.is_dir(f"/lib/modules/{part}")), "")


@dataclass(frozen=True)
class DebianGrub:
    """GRUB with /etc/default/grub.d, one owned drop-in, and a grub.cfg that grub-mkconfig makes of it."""

    host: Host

    def next_boot(self) -> NextBoot:
        """Of the grub.cfg that is there, whatever the files are that it once came from."""
        text = self.host.read(GRUB_CFG)
        return NextBoot(self._default(text).tokens, self._owned(), DROP_IN, self._said(), "/etc/default/grub or a file in /etc/default/grub.d")

    def kernel(self) -> str:
        """The kernel's file of the default entry, as GRUB sees it."""
        return self._default(self.host.read(GRUB_CFG)).kernel

    def files(self) -> tuple[OwnedFile, ...]:
        """Every file that arming, settling and disarming write, for the journal."""
        return tuple(OwnedFile("cmdline.file", path, b"") for path in (DROP_IN, GRUB_CFG, CUSTOM_CFG))

    def arm(self, own: Tokens, extra: Tokens) -> Tokens:
        """Have ``own`` arguments boot once, and give the whole command line of that boot. The default entry stays as it is.

        What grub-mkconfig would make now is what is tried, so that an unfinished edit of somebody's is tried with it.
        """
        made = self._made()
        entry = self._default(made)
        tokens = (*without(entry.tokens, self._owned()), *own)
        self._ready_for_a_trial(made)
        custom = trial_config(entry, TRIAL_ID, (*tokens, *extra))
        self._checked(custom)
        write_whole(self.host, CUSTOM_CFG, custom.encode(), 0o600)
        output_of("grub-reboot", TRIAL_ID)
        asked = environment(output_of("grub-editenv", "list")).get("next_entry")
        if asked != TRIAL_ID:
            raise LoaderError(f"grub-reboot: asked for {TRIAL_ID}, and GRUB's environment says {asked}; look at /boot/grub/grubenv")
        os.sync()
        return tokens

    def disarm(self) -> None:
        """Forget a trial: nothing of it can boot any more. Raises ``OSError`` or ``ProgramFailed``."""
        # the entry first: GRUB boots its first entry when it is asked for one that is gone
        if TRIAL_ID in (self.host.read_if_there(CUSTOM_CFG) or ""):
            os.unlink(self.host.path(CUSTOM_CFG))
        if environment(self.host.read_if_there("/boot/grub/grubenv") or "").get("next_entry") == TRIAL_ID:
            output_of("grub-editenv", "/boot/grub/grubenv", "unset", "next_entry")

    def settle(self, own: Tokens, tried: Tokens | None) -> None:
        """Make ``own`` arguments those of the default entry; ``tried`` is the command line that has booted with them.

        The new grub.cfg takes the old one's place in one step, after it was checked; before that, nothing that boots has changed.
        """
        held = self.host.content_and_mode(DROP_IN)
        mode = self.host.content_and_mode(GRUB_CFG)[1] or 0o600
        try:
            self._write_drop_in(own)
            made = self._made()
            self._compare(self._default(made).tokens, own, tried)
            self._checked(made)
            write_whole(self.host, GRUB_CFG, made.encode(), mode)
        except BaseException:
            _put_back(self.host, {DROP_IN: held})
            raise
        os.sync()

    def _compare(self, made: Tokens, own: Tokens, tried: Tokens | None) -> None:
        if tried is not None and sorted(made) != sorted(tried):
            raise LoaderError(f"grub-mkconfig now makes another command line than the one that was tried: {' '.join(made)} instead of {' '.join(tried)}; "
                              "a file in /etc/default/grub.d that is read after 80-lowlatency.cfg, or an edit of /etc/default/grub, does that")
        if len(without(made, own)) != len(made) - len(own):
            raise LoaderError(f"grub-mkconfig leaves {' '.join(own)} out: a file in /etc/default/grub.d that is read later sets "
                              "GRUB_CMDLINE_LINUX_DEFAULT anew; have it add to the value")

    def _write_drop_in(self, own: Tokens) -> None:
        if own:
            text = f'{_HEADER}\nGRUB_CMDLINE_LINUX_DEFAULT="$GRUB_CMDLINE_LINUX_DEFAULT {" ".join(own)}"\n'
            write_whole(self.host, DROP_IN, text.encode(), 0o644)
        elif self.host.exists(DROP_IN):
            os.unlink(self.host.path(DROP_IN))

    def _default(self, text: str) -> Entry:
        variables = environment(self.host.read_if_there("/boot/grub/grubenv") or "")
        return chosen_entry(entries(text), default_choice(text, variables))

    def _owned(self) -> Tokens:
        lines = (self.host.read_if_there(DROP_IN) or "").splitlines()
        value = next((line.partition("GRUB_CMDLINE_LINUX_DEFAULT ")[2].rstrip('"') for line in lines if "$GRUB_CMDLINE_LINUX_DEFAULT " in line), "")
        return tuple(value.split())

    def _said(self) -> frozenset[str]:
        """Every word of the files that grub-mkconfig reads, but for ours."""
        folder = os.path.dirname(DROP_IN)
        names = ["/etc/default/grub", *(f"{folder}/{name}" for name in self.host.names(folder) if name.endswith(".cfg"))]
        text = " ".join(self.host.read_if_there(name) or "" for name in names if name != DROP_IN)
        return frozenset(re.split(r"[\s\"']+|GRUB_CMDLINE_\w+=", text))

    def _made(self) -> str:
        """What grub-mkconfig would write, without writing it; raises ``ProgramFailed``."""
        return output_of("grub-mkconfig", time_limit=MKCONFIG_TIME_LIMIT)

    def _checked(self, text: str) -> None:
        """Raises ``ProgramFailed`` for a text that GRUB could not read."""
        write_whole(self.host, _STAGED, text.encode(), 0o600)
        try:
            output_of("grub-script-check", _STAGED)
        finally:
            os.unlink(self.host.path(_STAGED))

    def _ready_for_a_trial(self, made: str) -> None:
        """Raises ``LoaderError`` where an entry cannot be booted once, or where the default could not be changed after it."""
        problem = unwritable(self.host, CUSTOM_CFG) or _no_room(self.host, CUSTOM_CFG, 4 * len(made))
        if problem:
            raise LoaderError(f"no trial boot without a boot file system that can be written: {problem}")
        there = self.host.read_if_there(CUSTOM_CFG)
        if there and TRIAL_ID not in there:
            raise LoaderError(f"{CUSTOM_CFG}: is somebody else's; move its entries to /etc/grub.d/40_custom, so that a trial entry can stand there")
        text = self.host.read(GRUB_CFG)
        if "custom.cfg" not in text or "next_entry" not in text:
            raise LoaderError(f"{GRUB_CFG}: reads no custom.cfg or knows no next_entry; "
                              "make /etc/grub.d/00_header and 41_custom executable and run update-grub")
        _refuse_sticky_environment(output_of("grub-probe", "--target=abstraction", "/boot/grub"), output_of("grub-probe", "--target=fs", "/boot/grub"))


@dataclass(frozen=True)
class Grubby:
    """Boot loader specification entries and grubby; what is ours is written down in a file of our own."""

    host: Host

    def next_boot(self) -> NextBoot:
        """Of the entry that GRUB's environment names, with its variables in their places."""
        variables = self._environment()
        entry = chosen_bls(self._entries(), variables.get("saved_entry", ""))
        return NextBoot(entry.tokens(variables), self._owned(), BLS_OWNED, where="the boot entry; grubby --info=DEFAULT shows it", repeats=False)

    def kernel(self) -> str:
        """The kernel's file of the entry that boots, as GRUB sees it."""
        return chosen_bls(self._entries(), self._environment().get("saved_entry", "")).value("linux")

    def files(self) -> tuple[OwnedFile, ...]:
        """Every file that arming, settling and disarming write, for the journal."""
        names = [f"{BLS}/{entry.name}.conf" for entry in self._entries()]
        return tuple(OwnedFile("cmdline.file", path, b"") for path in (BLS_OWNED, BLS_TRIAL, "/etc/kernel/cmdline", "/etc/default/grub", *names)
                     if path in (BLS_OWNED, BLS_TRIAL) or self.host.exists(path))

    def arm(self, own: Tokens, extra: Tokens) -> Tokens:
        """Have ``own`` arguments boot once, and give the whole command line of that boot."""
        variables = self._environment()
        entry = chosen_bls(self._entries(), variables.get("saved_entry", ""))
        tokens = (*without(entry.tokens(variables), self._owned()), *own)
        problem = unwritable(self.host, BLS_TRIAL) or _no_room(self.host, BLS_TRIAL, 65536)
        if problem:
            raise LoaderError(f"no trial boot without a boot file system that can be written: {problem}")
        _refuse_sticky_environment(output_of("grub2-probe", "--target=abstraction", "/boot/grub2"), output_of("grub2-probe", "--target=fs", "/boot/grub2"))
        options = " ".join((*tokens, *extra, "rd.shell=0", "rd.emergency=reboot"))
        write_whole(self.host, BLS_TRIAL, entry.text(title="Low-latency trial", options=options).encode(), 0o644)
        output_of("grub2-reboot", os.path.basename(BLS_TRIAL)[: -len(".conf")])
        os.sync()
        return tokens

    def disarm(self) -> None:
        """Forget a trial: nothing of it can boot any more."""
        if TRIAL_ID in self._environment().get("next_entry", ""):
            output_of("grub2-editenv", "-", "unset", "next_entry")
        if self.host.exists(BLS_TRIAL):
            os.unlink(self.host.path(BLS_TRIAL))

    def settle(self, own: Tokens, tried: Tokens | None) -> None:
        """Give every entry ``own`` arguments in place of those that were ours, but for a rescue entry, which stays as it is.

        grubby edits by patterns, and some of its versions trip over commas: whatever it made of any entry is read back, and undone as
        a whole where that is not what was wanted.
        """
        before, variables = self._owned(), self._environment()
        held = {file.path: self.host.content_and_mode(file.path) for file in self.files()}
        wanted = {entry.name: sorted((*without(entry.tokens(variables), before), *own)) for entry in self._entries()}
        if tried is not None and wanted[chosen_bls(self._entries(), variables.get("saved_entry", "")).name] != sorted(tried):
            raise LoaderError(f"the default entry is no longer the one that was tried ({' '.join(tried)}); run again to try it as it is now")
        try:
            if before:
                output_of("grubby", "--update-kernel=ALL", f"--remove-args={' '.join(dict.fromkeys(map(key_of, before)))}")
            if own:
                output_of("grubby", "--update-kernel=ALL", f"--args={' '.join(own)}")
            for entry in self._entries():
                if sorted(entry.tokens(self._environment())) != wanted[entry.name]:
                    raise LoaderError(f"grubby made {' '.join(entry.tokens(self._environment()))} of the entry {entry.name}, wanted in any order: "
                                      f"{' '.join(wanted[entry.name])}; its change is undone, set these arguments by hand")
            _put_back(self.host, {path: content for path, content in held.items() if RESCUE in path})
            write_whole(self.host, BLS_OWNED, f"{_HEADER}\n{' '.join(own)}\n".encode(), 0o644)
        except BaseException:
            _put_back(self.host, held)
            raise
        os.sync()

    def _entries(self) -> list[BlsEntry]:
        names = [name for name in self.host.names(BLS) if name.endswith(".conf") and TRIAL_ID not in name]
        return [bls_entry(name[: -len(".conf")], self.host.read(f"{BLS}/{name}")) for name in names]

    def _environment(self) -> dict[str, str]:
        return environment(self.host.read_if_there("/boot/grub2/grubenv") or "")

    def _owned(self) -> Tokens:
        lines = (self.host.read_if_there(BLS_OWNED) or "").splitlines()
        return tuple(word for line in lines if not line.startswith("#") for word in line.split())


def _put_back(host: Host, held: dict[str, tuple[bytes | None, int]]) -> None:
    """Files as they were, by content and mode."""
    for path, (content, mode) in held.items():
        if content is not None:
            write_whole(host, path, content, mode)
        elif host.exists(path):
            os.unlink(host.path(path))


def _refuse_sticky_environment(abstraction: str, filesystem: str) -> None:
    stuck = _READ_ONLY_FOR_GRUB & {*abstraction.split(), *filesystem.split()}
    if stuck:
        raise LoaderError(f"GRUB cannot write its environment on {', '.join(sorted(stuck))}: an entry asked for once would boot for ever; "
                          "put /boot on a plain partition, or change the command line by hand")


def _no_room(host: Host, path: str, needed: int) -> str:
    free = os.statvfs(os.path.dirname(host.path(path)))
    available = free.f_bavail * free.f_frsize
    return f"{os.path.dirname(path)}: {available} bytes are free, {needed} are needed; make room" if available < needed else ""
