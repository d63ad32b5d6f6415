# `make` alone lists the targets. A fresh machine needs Go, make and root; what the
# tests need beyond that is installed by `make deps`.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

GO ?= go
CLANG ?= clang-19
STRIP ?= llvm-strip-19
CLANG_FORMAT ?= clang-format-19
GOARCH ?= $(shell $(GO) env GOARCH)
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)

CACHE := $(CURDIR)/.cache
LINT := $(CACHE)/bin/golangci-lint
FUMPT := $(CACHE)/bin/gofumpt

# The objects in bpf/ were made by this compiler; another one makes others.
CLANG_MAJOR := 19

C_FILES = $(shell find bpf tests/bench -name '*.[ch]' -not -path 'bpf/include/*' 2>/dev/null)

# What `make generate` writes, and in bpf/ what it reads.
GENERATED = bpf 'tests/bench/*_bpfel.*'

# Packages whose tests need root and the kernel: they enter a laboratory, or load BPF.
# The others are pure.
ROOT := qlbaas/tests/lab|^qlbaas/(bpf|loader|tests)[ ]

# The end-to-end tests wait more than they work: these and the others run side by side.
HALF := ^Test[A-N]

# To be used as in `packages=$(PURE)`, where a failure to list them is one of the recipe.
LIST = $(GO) list -f '{{.ImportPath}} {{join .TestImports " "}} {{join .XTestImports " "}}' ./...
LAB = $$($(LIST) | grep -E '$(ROOT)' | cut -d' ' -f1 | grep -v -x qlbaas/tests)
PURE = $$($(LIST) | grep -E -v '$(ROOT)' | cut -d' ' -f1)

DEPS := clang-19 llvm-19 clang-format-19 libbpf-dev linux-libc-dev gcc libc6-dev git \
	bpftool nftables iproute2 curl nginx-light haproxy wrk iperf3 ethtool tcpdump \
	python3-neutronclient openssl iputils-ping procps util-linux openvswitch-switch

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build the static binary bin/qlbaas
	CGO_ENABLED=0 GOARCH=$(GOARCH) $(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/qlbaas ./cmd/qlbaas

.PHONY: build-all
build-all: ## Build for every supported architecture, into bin/<architecture>
	for arch in amd64 arm64; do \
		CGO_ENABLED=0 GOARCH=$$arch $(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' \
			-o bin/$$arch/qlbaas ./cmd/qlbaas; \
	done

.PHONY: demo
demo: root build ## Play the tutorial on real packets (KEEP=1 leaves it standing, HOOK=xdp…)
	bin/qlbaas demo $(if $(KEEP),--keep) $(if $(HOOK),--hook $(HOOK))

.PHONY: demo-clean
demo-clean: root build ## Remove what `make demo KEEP=1` has left
	bin/qlbaas demo clean

.PHONY: generate
generate: clang-version ## Compile the BPF programs and generate their Go bindings
	BPF2GO_CC=$(CLANG) BPF2GO_STRIP=$(STRIP) $(GO) generate ./bpf/... ./tests/bench/...

.PHONY: generate-check
generate-check: generate ## Fail where the committed BPF objects are not what the sources give
	git diff --exit-code --stat -- $(GENERATED)
	@new=$$(git ls-files --others --exclude-standard -- $(GENERATED)); \
	if [ -n "$$new" ]; then echo "generated, but not committed: $$new" >&2; exit 1; fi

.PHONY: clang-version
clang-version:
	@found=$$($(CLANG) -dumpversion | cut -d. -f1); \
	if [ "$$found" != $(CLANG_MAJOR) ]; then \
		echo "$(CLANG) is version $$found; the committed objects are made by $(CLANG_MAJOR)" >&2; exit 1; \
	fi

.PHONY: fmt
fmt: $(FUMPT) ## Format Go and C
	$(FUMPT) -w $$(git ls-files --cached --others --exclude-standard '*.go' | grep -v _bpfel.go)
	$(if $(C_FILES),$(CLANG_FORMAT) -i $(C_FILES))

.PHONY: lint
lint: $(LINT) ## Check style and the one-way imports
	$(LINT) run ./...
	$(if $(C_FILES),$(CLANG_FORMAT) --dry-run -Werror $(C_FILES))

.PHONY: tidy-check
tidy-check: ## Fail where go.mod is not tidy or a module is not what it was
	$(GO) mod tidy -diff
	$(GO) mod verify
	cd .ci/tools && $(GO) mod verify

.PHONY: unit
unit: ## Run the tests that need no root
	packages=$(PURE); $(GO) test $$packages

.PHONY: test
test: root deps build ## Run all tests, as root
	packages=$(PURE); $(GO) test -count=1 $$packages
	packages=$(LAB); pids=(); \
	$(GO) test -count=1 -timeout 15m -run '$(HALF)' ./tests & pids+=($$!); \
	$(GO) test -count=1 -timeout 15m -skip '$(HALF)' ./tests & pids+=($$!); \
	$(GO) test -count=1 -p 2 -timeout 15m $$packages & pids+=($$!); \
	failed=0; for pid in "$${pids[@]}"; do wait $$pid || failed=1; done; exit $$failed

.PHONY: scoreboard
scoreboard: root deps ## Print figures of reliability (ONLY=B2,B3, SEED=0x5eed, MUTANTS=1: on broken builds too)
	@mkdir -p $(CACHE)
	$(GO) build -o $(CACHE)/scoreboard ./tests/scoreboard
	$(CACHE)/scoreboard $(if $(ONLY),-only $(ONLY)) $(if $(SEED),-seed $(SEED)) $(if $(MUTANTS),-mutants) $(if $(DEBUG),-v)

.PHONY: bench
bench: root deps ## Measure us beside HAProxy, nftables and the limit (QUICK=1, JSON=file; ONLY=traffic,cost,pools)
	$(GO) run ./tests/bench $(if $(QUICK),-quick) $(if $(JSON),-json $(JSON)) $(if $(ONLY),-only $(ONLY))
ifeq ($(QUICK)$(ONLY),)
	$(GO) run ./tests/bench/l7 -rounds 5 -seconds 1
	$(GO) test ./loader/router -run '^$$' -bench Floating -benchtime 1x
endif

.PHONY: race
race: root deps ## Run the tests of what works concurrently under the race detector
	CGO_ENABLED=1 $(GO) test -race ./healthd ./lbaas/reconcile ./lbaas/metrics ./l7/cookie ./l7/control ./l7/pool ./cmd/qlbaas/...
	CGO_ENABLED=1 $(GO) test -race -run 'Concurrent|OneWins|Model' ./lbaas ./lbaas/store

.PHONY: cover
cover: root deps ## Run all tests and print what they cover
	@mkdir -p $(CACHE)
	$(GO) test -count=1 -p 1 -timeout 20m -coverpkg=./... -coverprofile=$(CACHE)/cover.out ./...
	$(GO) tool cover -func=$(CACHE)/cover.out

.PHONY: ci
ci: deps lint generate-check tidy-check test race build-all ## What CI runs; .ci/run calls it

.PHONY: deps
deps: ## Install the packages that tests and generation need (Debian)
	@missing=; \
	for p in $(DEPS); do \
		dpkg-query -W -f '$${db:Status-Abbrev}' $$p 2>/dev/null | grep -q '^ii' || missing+=" $$p"; \
	done; \
	if [ -n "$$missing" ]; then \
		echo "installing$$missing"; \
		apt-get update -q; \
		DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends $$missing; \
	fi

.PHONY: clean
clean: ## Remove what was built, the tools too
	rm -rf bin .cache

.PHONY: root
root:
	@if [ "$$(id -u)" != 0 ]; then echo "this needs root" >&2; exit 1; fi

# Built once: golangci-lint takes minutes.
$(CACHE)/bin/%: .ci/tools/go.mod .ci/tools/go.sum
	cd .ci/tools && GOBIN=$(CACHE)/bin $(GO) install tool
	touch $(CACHE)/bin/*
