# SPDX-License-Identifier: GPL-3.0-or-later
"""What scripts/report runs: the commands of the collection, from a clone that nobody installed. Only waivers need PyYAML."""

import sys
import types
from importlib import import_module
from pathlib import Path

if sys.version_info < (3, 11):
    sys.exit("error: Python 3.11 or later is needed, as for ansible-core; install it")
ROOT = Path(__file__).resolve().parents[1]
# The clone is the collection, wherever it lies: its modules import each other by the collection's name.
for name, places in (("ansible_collections", []), ("ansible_collections.lowlatency", []), ("ansible_collections.lowlatency.fleet", [str(ROOT)])):
    package = types.ModuleType(name)
    package.__path__ = places
    sys.modules[name] = package

sys.dont_write_bytecode = True
sys.exit(import_module("ansible_collections.lowlatency.fleet.plugins.plugin_utils.audit_command").main())
