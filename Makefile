# What a plugin author expects of make: build dev test testacc generate plugin-check; and
# demo peer public qemu boot packer lint bench fuzz matrix soak real-aws real-osc. Every target gets what it needs by itself.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build
.PHONY: build packer sdc dev demo test testacc matrix real-aws real-osc peer public qemu boot generate lint bench fuzz soak plugin-check setup clean FORCE

# What is slow to make lives here, outside the checkout, and is made again when missing.
CACHE := $(or $(PACKER_CHROOT_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/packer-plugin-chroot)
PLUGINS := packer-plugin-amazon-chroot packer-plugin-osc-chroot
GOBUILD := CGO_ENABLED=0 go build -trimpath -ldflags "-s -w"
FUZZTIME ?= 20s

# Nothing here may fall back to the real metadata service, and Packer need not phone home.
export AWS_EC2_METADATA_DISABLED := true
export CHECKPOINT_DISABLE := 1
export GOFLAGS := $(filter-out -mod=%,$(GOFLAGS))

build: $(addprefix bin/,$(PLUGINS) loopcloud)

# Go decides what is stale; the link step costs little when nothing changed.
bin/%: FORCE
	@$(GOBUILD) -o $@ ./cmd/$*

packer:
	@tools/packer.sh "$(CACHE)" bin/packer

sdc:
	@tools/tool.sh "$(CACHE)" sdc github.com/hashicorp/packer-plugin-sdk/cmd/packer-sdc bin/packer-sdc

# The plugins, for the packer in use.
dev: build packer
	@tools/install.sh bin/packer $(PLUGINS)

setup:
	@tools/setup.sh

demo: setup build packer
	@tools/demo.sh

test: setup build packer
	@tools/test.sh "$(CACHE)"

# The name that plugin authors know for the tests that need more than Go.
testacc: setup build packer
	@tools/test.sh "$(CACHE)" acceptance

# Every fault, Ctrl-C and SIGKILL at every point, and thousands of roots left; prints what became of the builds, which
# go test would keep to itself if it were told the package from outside.
matrix: setup build packer
	@cd chroot && ALL=1 go test -count=1 -timeout 2h -run '^TestLeaves$$'
	@cd acceptance && ALL=1 go test -count=1 -timeout 2h -run '^(TestFault|TestCancel|TestKillMatrix)'

PUBLIC := bin/peer/packer-plugin-amazon

public:
	@tools/tool.sh "$(CACHE)" peer github.com/hashicorp/packer-plugin-amazon $(PUBLIC)

# Builds on a real cloud, which cost money: docs/real-clouds.md. ONLY, REPORT, TEMPLATES, KEEP
# and CLEAN are its options. A build there asks the instance's metadata which one it is on.
real-aws real-osc: export AWS_EC2_METADATA_DISABLED := false
real-aws real-osc: real-%: packer dev bin/real
	@bin/real $(if $(ONLY),-only "$(ONLY)") $(if $(REPORT),-report "$(REPORT)") $(if $(KEEP),-keep) $(if $(CLEAN),-clean "$(CLEAN)") $* $(or $(TEMPLATES),examples/real/$*)

bin/real: FORCE
	@$(GOBUILD) -o $@ ./tools/real

# The public amazon plugin, unmodified, builds an image on loopcloud, and is held
# against this one.
peer: setup build packer public
	@PEER_PLUGIN="$$PWD/$(PUBLIC)" go test -count=1 -run '^TestPeer' -v ./acceptance

# In virtual machines: disks are found on real NVMe controllers, and a host crashes in the
# middle of builds.
qemu: packer
	@QEMU=yes tools/setup.sh
	@tools/qemu.sh "$(CACHE)"

# The examples that make a Debian from nothing, until their images ask who logs in.
boot: build packer
	@BOOT=yes tools/setup.sh
	@tools/boot.sh "$(CACHE)"

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

# Random builds, kills, faults and cancels for SOAK; SEED makes the choices again.
SOAK ?= 10m
soak: setup build packer
	@cd acceptance && SOAK=$(SOAK) go test -count=1 -timeout 3h -run '^TestSoak$$'

plugin-check: build sdc
	@cd bin && for p in $(PLUGINS); do ./packer-sdc plugin-check $$p; done

clean:
	@. tools/remove.sh && remove_tree bin dist
