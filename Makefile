# SPDX-License-Identifier: GPL-3.0-or-later
# Every target does the set-up that it needs. The scripts do the work and can be run by themselves.
.DEFAULT_GOAL := help
.PHONY: help setup lint sanity unit install importer redfish molecule test test-vm demo demo-down audit bench lab lab-down clean
.NOTPARALLEL:

help: ## show these lines
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## a virtual environment with everything from PyPI, and this clone under its collection name
	@scripts/setup core test

lint: setup ## yamllint, ansible-lint (production), ruff, mypy (strict), shellcheck, changelog fragments
	@scripts/lint

sanity: setup ## ansible-test sanity: all its tests, no ignore entries
	@scripts/sanity

unit: setup ## pytest: tests/unit
	@scripts/setup browser
	@scripts/unit

install: setup ## build the collection, install it elsewhere, and run its playbook from there (syntax only)
	@scripts/check-install

importer: setup ## galaxy-importer on the built collection
	@scripts/importer

redfish: setup ## playbooks/bios.yml against a BMC: sushy-tools' emulator with TLS, and servers that misbehave
	@scripts/setup redfish
	@scripts/redfish

molecule: setup ## the collection against systemd containers: check, converge, idempotence, verify, restart
	@scripts/setup containers
	@scripts/molecule test

test: lint sanity unit install importer redfish molecule ## all of the above
	@python3 scripts/test_counts.py

test-vm: setup ## the collection against real kernels under QEMU: trial boots, huge pages, interrupts, failures (KEEP=1 keeps them)
	@scripts/molecule-vm test

demo: setup ## a small fleet of containers, provisioned and audited before your eyes (KEEP=1 keeps it)
	@scripts/setup containers
	@scripts/demo

demo-down: ## remove the fleet that KEEP=1 kept
	@scripts/demo down

audit: ## audit this very machine, as any user: changes nothing
	@scripts/setup core
	@scripts/audit

bench: setup ## what an audit costs, beside the same settings in hand-written tasks
	@scripts/bench

lab: ## two hosts with real kernels, two NUMA nodes and igb NICs under QEMU (molecule/vm/README.md)
	@scripts/lab up

lab-down: ## end the lab, its disks are forgotten
	@scripts/lab down

clean: ## remove everything that these targets made, but for the images in the user's cache
	@scripts/clean
