# The usual targets of a Packer plugin: build dev test testacc generate plugin-check; and demo peer public qemu boot browser packer
# lint bench fuzz matrix soak real-aws real-osc. Every target installs or builds its requirements.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build
.PHONY: build packer sdc dev demo test testacc matrix real-aws real-osc peer public qemu boot browser generate lint bench fuzz soak plugin-check setup clean FORCE

# The cache for tools that are slow to build. It is outside the checkout, and is refilled if it is missing.
CACHE := $(or $(PACKER_CHROOT_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/packer-plugin-chroot)
PLUGINS := packer-plugin-amazon-chroot packer-plugin-osc-chroot
GOBUILD := CGO_ENABLED=0 go build -trimpath -ldflags "-s -w"
FUZZTIME ?= 20s

# No test may use the real metadata service, and Packer must not check for updates.
export AWS_EC2_METADATA_DISABLED := true
export CHECKPOINT_DISABLE := 1
export GOFLAGS := $(filter-out -mod=%,$(GOFLAGS))

build: $(addprefix bin/,$(PLUGINS) loopcloud)

# Go decides which packages are stale. Linking is cheap if nothing has changed.
bin/%: FORCE
	@$(GOBUILD) -o $@ ./cmd/$*

packer:
	@tools/packer.sh "$(CACHE)" bin/packer

sdc:
	@tools/tool.sh "$(CACHE)" sdc github.com/hashicorp/packer-plugin-sdk/cmd/packer-sdc bin/packer-sdc

# Builds the plugins and installs them for bin/packer.
dev: build packer
	@tools/install.sh bin/packer $(PLUGINS)

setup:
	@tools/setup.sh

demo: setup build packer
	@tools/demo.sh

test: setup build packer
	@tools/test.sh "$(CACHE)"

# The usual name for tests that need more than Go.
testacc: setup build packer
	@tools/test.sh "$(CACHE)" acceptance

# Tests every fault, Ctrl-C and SIGKILL at every point, and leaves thousands of roots. It runs in the package's directory,
# because go test prints the output of a successful run only there.
matrix: setup build packer
	@cd chroot && ALL=1 go test -count=1 -timeout 2h -run '^TestLeaveManyRoots$$'
	@failed=; \
	(cd acceptance/faults && ALL=1 go test -count=1 -timeout 2h -run '^(TestFault|TestCancel)') || failed=yes; \
	(cd acceptance/kills && ALL=1 go test -count=1 -timeout 2h -run '^TestKillMatrix') || failed=yes; \
	[ -z "$$failed" ]

PUBLIC := bin/peer/packer-plugin-amazon

public:
	@tools/tool.sh "$(CACHE)" peer github.com/hashicorp/packer-plugin-amazon $(PUBLIC)

# Builds on a real cloud, which cost money: see docs/real-clouds.md. ONLY, REPORT, TEMPLATES, KEEP and CLEAN are options.
# A build on a real cloud needs the metadata service to identify the instance.
real-aws real-osc: export AWS_EC2_METADATA_DISABLED := false
real-aws real-osc: real-%: packer dev bin/real
	@bin/real $(if $(ONLY),-only "$(ONLY)") $(if $(REPORT),-report "$(REPORT)") $(if $(KEEP),-keep) $(if $(CLEAN),-clean "$(CLEAN)") $* $(or $(TEMPLATES),examples/real/$*)

bin/real: FORCE
	@$(GOBUILD) -o $@ ./tools/real

# Builds images on loopcloud with the unmodified public amazon plugin and compares the results.
peer: setup build packer public
	@PEER_PLUGIN="$$PWD/$(PUBLIC)" go test -count=1 -run '^TestPeer' -p 1 -v ./acceptance/build ./acceptance/options

# Runs virtual machines: to find disks on real NVMe controllers, and to crash a host in the middle of builds.
qemu: packer
	@QEMU=yes tools/setup.sh
	@tools/qemu.sh "$(CACHE)"

# Builds the examples of a Debian from scratch and boots their images until the login prompt appears.
boot: build packer
	@BOOT=yes tools/setup.sh
	@tools/boot.sh "$(CACHE)"

# Opens the page of a report in a Chromium without a window.
browser:
	@BROWSER=yes tools/setup.sh
	@BROWSER_PROGRAM=chromium go test -count=1 -run '^TestPageInABrowser$$' ./report

generate: sdc
	@tools/generate.sh

lint:
	@tools/tool.sh "$(CACHE)" lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint bin/golangci-lint
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { gofmt -l $$(git ls-files '*.go'); echo 'not gofmt-ed'; exit 1; }
	@bin/golangci-lint run ./...
	@for os in darwin windows freebsd; do echo "vet for $$os"; GOOS=$$os CGO_ENABLED=0 go build ./cmd/packer-plugin-amazon-chroot ./cmd/packer-plugin-osc-chroot; done

bench: setup build packer public
	@PEER_PLUGIN="$$PWD/$(PUBLIC)" tools/bench.sh

fuzz:
	@tools/fuzz.sh $(FUZZTIME)

# Runs random builds, kills, faults and cancels for the time SOAK. SEED repeats a run.
SOAK ?= 10m
soak: setup build packer
	@cd acceptance/kills && SOAK=$(SOAK) go test -count=1 -timeout 3h -run '^TestSoak$$'

plugin-check: build sdc
	@cd bin && for p in $(PLUGINS); do ./packer-sdc plugin-check $$p; done

clean:
	@. tools/remove.sh && remove_tree bin dist
