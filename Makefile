# Each target does its own set-up: apt packages only when their programs are missing, and .venv only when
# pyproject.toml changed. Work is done by the small scripts in scripts/.

# The newest python3.11+ that is found, unless named: make test PYTHON=/usr/bin/python3.12
PYTHON ?=
# Further words for the program a target runs: make test ARGS='-k relay'
ARGS ?=
# For make demo: a JSON Lines file or a folder of XML; without it the demo makes households up.
INPUT ?=
# For make fuzz: how long each target is fuzzed.
SECONDS ?= 60
# For make swarm: how many seeds.
SEEDS ?= 500
# For make install.
DESTDIR ?=
PREFIX ?= /usr
BINDIR ?= $(PREFIX)/bin
# For make install-venv.
VENV ?= /opt/census-sync

export PYTHON INPUT DESTDIR PREFIX BINDIR VENV

VM_PACKAGES := qemu-system-x86 qemu-utils mmdebstrap squashfs-tools busybox-static kmod cpio fdisk dosfstools \
	exfatprogs mtools e2fsprogs

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-vm test-browser fuzz check bench swarm robustness mesh-study install install-files install-venv clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | while IFS='	' read -r target text; do printf '  make %-14s %s\n' "$$target" "$$text"; done

venv: ## the development environment, in .venv
	@scripts/need-packages python3
	@scripts/make-venv

demo: venv ## three tablets, a broker, the center, and outages (INPUT=file-or-folder ARGS=...)
	@scripts/need-packages mosquitto mosquitto-clients iproute2
	.venv/bin/python -m demo $(if $(INPUT),--input "$$INPUT") $(ARGS)

test: venv ## every test, on two cores, PostgreSQL included (ARGS=... for pytest)
	@scripts/need-packages mosquitto mosquitto-clients iproute2 postgresql faketime umockdev udev dbus udisks2 polkitd nftables dosfstools exfatprogs shellcheck desktop-file-utils
	.venv/bin/python -m pytest -n 3 --dist loadfile $(ARGS)

test-vm: venv ## USB sticks in virtual machines: real systemd, udev, UDisks2, file systems (ARGS=... for pytest)
	@scripts/need-packages $(VM_PACKAGES)
	@mkdir -p build
	@scripts/vm-image || test $$? -eq 3 # cannot be built here: then pytest says what is missing
	.venv/bin/python -m pytest tests/vm -n 2 --timeout 300 $(ARGS)

test-browser: venv ## forms filled in and sent in a real browser, with ODK Web Forms (ARGS=... for pytest)
	@scripts/need-packages mosquitto chromium nodejs npm
	@scripts/browser-pages || test $$? -eq 3 # npm cannot install: then pytest says what is missing
	.venv/bin/python -m pytest tests/browser $(ARGS)

fuzz: venv ## hostile XML, JSON, multipart and forms by coverage, with atheris (SECONDS=60 for each target)
	@scripts/fuzz $(SECONDS)

check: venv ## ruff, mypy --strict and the import contracts
	@scripts/check

bench: venv ## the benchmarks, one table (ARGS=...)
	@scripts/need-packages mosquitto mosquitto-clients iproute2 postgresql e2fsprogs syncthing
	.venv/bin/python -m bench $(ARGS)

swarm: venv ## simulated censuses under every fault, on all cores (SEEDS=n ARGS='--first n')
	.venv/bin/python -m tests.simulator swarm --seeds $(SEEDS) $(ARGS)

robustness: venv ## everything that docs/robustness.md is made of, for hours (SEEDS=10000)
	@scripts/robustness $(SEEDS)

mesh-study: venv ## what the mesh delivers, for docs/mesh-delivery.md: an hour of one core (ARGS='--record FILE')
	.venv/bin/python -m tests.simulator districts --write docs/mesh-delivery.md $(ARGS)

install: install-files ## for packagers: Python packages and files into DESTDIR and PREFIX
	@scripts/install-python

install-files: ## for packagers: units, sysusers, tmpfiles, documentation only (BINDIR=...)
	@scripts/install-files

install-venv: ## onto this machine, as root: everything, in VENV=/opt/census-sync
	@scripts/install-venv

clean: ## removes what the targets made, .venv included
	rm -rf .venv .venv.lock build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
