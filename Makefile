# The executable needs cgo and is linked statically: it runs inside a container's namespaces before the root is changed,
# and must not depend on any library there.
GO          ?= go
PREFIX      ?= /usr/local
DESTDIR     ?=
TAGS        := netgo osusergo urfave_cli_no_docs
STATIC      := -trimpath -tags "$(TAGS)" -ldflags '-s -w -extldflags "-static"'
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOLANGCI    := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
TOOLS       := $(CURDIR)/bin/tools
# Everything but the tests that start containers.
UNIT        := $(GO) list -tags "$(TAGS)" ./... | grep -v /integration

# Lets a Go that is older than go.mod asks for fetch the right one, which Debian's own Go otherwise does not.
export GOTOOLCHAIN ?= auto
export CGO_ENABLED ?= 1

.PHONY: help demo build build-arm64 test vet unit integration bench soak lint install setup setup-test clean

help: ## Say what can be made
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: setup build ## Run real containers under a policy and show what was allowed and what was denied
	CGO_ENABLED=0 $(GO) run ./hack/demo

setup: ## Install the Debian packages that building and testing need
	@hack/setup

setup-test:
	@hack/setup --test

build: ## Build bin/sandlock-runtime, one static executable
	$(GO) build $(STATIC) -o bin/sandlock-runtime ./cmd/sandlock-runtime

build-arm64: ## Build bin/sandlock-runtime-arm64
	CGO_ENABLED=1 GOARCH=arm64 CC=aarch64-linux-gnu-gcc PKG_CONFIG_LIBDIR=/usr/lib/aarch64-linux-gnu/pkgconfig \
		$(GO) build $(STATIC) -o bin/sandlock-runtime-arm64 ./cmd/sandlock-runtime

# Only amd64 machines have a cross compiler installed by hack/setup.
CROSS := $(if $(filter x86_64,$(shell uname -m)),build-arm64)

test: setup-test vet build $(CROSS) unit integration ## Run every test; needs root

vet: ## Check the format and what go vet finds
	@unformatted=$$(gofmt -l $$(git ls-files --cached --others --exclude-standard '*.go')); \
		if [ -n "$$unformatted" ]; then echo "not gofmt-ed:" $$unformatted >&2; exit 1; fi
	$(GO) vet -tags "$(TAGS)" ./...

unit: ## Run the unit tests, with the race detector
	$(GO) test -race -tags "$(TAGS)" $$($(UNIT))

integration: ## Run the tests that start containers; SANDLOCK_RUNTIME=/usr/sbin/runc tests the tests
	CGO_ENABLED=0 $(GO) test -count=1 -timeout 20m ./integration/...

bench: build ## Compare with runc and crun: starting, life cycle, idle monitor, denied connect, servers under rules
	CGO_ENABLED=0 $(GO) run ./hack/bench all

soak: build ## Run a hundred loops of containers at once for five minutes and look for leaks and deadlocks; needs root
	CGO_ENABLED=0 $(GO) run ./hack/soak

lint: vet ## Run staticcheck and golangci-lint
	@test -x $(TOOLS)/staticcheck || GOBIN=$(TOOLS) $(GO) install $(STATICCHECK)
	@test -x $(TOOLS)/golangci-lint || GOBIN=$(TOOLS) $(GO) install $(GOLANGCI)
	$(TOOLS)/staticcheck -tags "$(TAGS)" ./...
	$(TOOLS)/golangci-lint run --build-tags "$(TAGS)" ./...

install: ## Install to $(DESTDIR)$(PREFIX)/sbin; build first
	@test -x bin/sandlock-runtime || { echo "run 'make build' first" >&2; exit 1; }
	install -D -m 0755 bin/sandlock-runtime $(DESTDIR)$(PREFIX)/sbin/sandlock-runtime

clean: ## Remove what was built
	rm -rf bin
