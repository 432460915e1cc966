# shellcheck shell=bash
# SPDX-License-Identifier: GPL-3.0-or-later
# What the scripts share: where things lie, and how a missing package is installed or named.
# shellcheck disable=SC2034

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=$root/.cache
results=$cache/results
# A clone that this user cannot write ("make audit" works for any user) keeps its set-up in the user's own data folder.
state=$root
if [ ! -w "$root" ]; then state=${XDG_DATA_HOME:-$HOME/.local/share}/lowlatency-fleet; fi
venv=$state/.venv
collections=$state/.collections

export PATH="$venv/bin:$PATH"
export ANSIBLE_CONFIG="$root/ansible.cfg"
export ANSIBLE_COLLECTIONS_PATH="$collections:$HOME/.ansible/collections:/usr/share/ansible/collections"
export CONTAINERS_CONF="$root/scripts/containers.conf"
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1

say() { printf '==> %s\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# Install Debian packages: as root, or by sudo; otherwise name them with the command and stop.
install_packages() {
    local command="apt-get install -y --no-install-recommends $*" as=() log
    command -v apt-get >/dev/null || die "these packages are missing (Debian names): $*"
    if [ "$(id -u)" -ne 0 ]; then
        if ! sudo -n true 2>/dev/null && ! { [ -t 0 ] && command -v sudo >/dev/null; }; then
            die "packages are missing; install them with: sudo $command"
        fi
        as=(sudo)
    fi
    say "Installing $*"
    # A third-party source that is out of reach must not stop the set-up: the installation is the judge.
    "${as[@]}" apt-get -qq update </dev/null || true
    # shellcheck disable=SC2086
    log=$("${as[@]}" env DEBIAN_FRONTEND=noninteractive $command -qq </dev/null 2>&1) || die "this command failed: $command"$'\n'"$log"
}

# need COMMAND:PACKAGE...: every command is there, or its package is installed.
need() {
    local missing=() pair
    for pair; do command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}"); done
    [ ${#missing[@]} -eq 0 ] || install_packages "${missing[@]}"
}

# The fleet of test containers: its name (the prefix of the containers), and where its snapshots and results go.
use_fleet() {
    export LOWLATENCY_FLEET=$1 LOWLATENCY_FLEET_STATE=$cache/$1 LOWLATENCY_RESULTS=$results
    export PYTHONPATH=$root/molecule/default/tests PYTHONDONTWRITEBYTECODE=1
    mkdir -p "$LOWLATENCY_FLEET_STATE" "$results"
    rm -f "$LOWLATENCY_FLEET_STATE"/*.txt
}

# The lab of real kernels: where its inventory, snapshots and results go. The scenario begins before the lab says how it is reached.
use_lab() {
    export LOWLATENCY_LAB_STATE=$cache/lowlatency-vm LOWLATENCY_RESULTS=$results
    export PYTHONPATH=$root/molecule/vm/tests PYTHONDONTWRITEBYTECODE=1
    mkdir -p "$LOWLATENCY_LAB_STATE" "$results"
    [ -e "$LOWLATENCY_LAB_STATE/inventory.yml" ] || echo 'all: {}' >"$LOWLATENCY_LAB_STATE/inventory.yml"
}
