# wcbundle: what can be made. `make` alone builds the binary into bin/.
SHELL       := /bin/bash
VERSION     ?= 0.1.0
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.7.0
# One way to compile for everything, so that CI compiles each package once.
export CGO_ENABLED := 0
export GOFLAGS     := -trimpath -buildvcs=false
LDFLAGS     := -s -w -X main.version=$(VERSION)

.PHONY: build test race fuzz lint golden e2e plane interop demo bench bench-quick arm64 clean ci

build: bin/wcbundle

.PHONY: bin/wcbundle
bin/wcbundle:
	go build -ldflags '$(LDFLAGS)' -o $@ ./cmd/wcbundle

# With keys in PKCS#11 tokens, which needs cgo.
.PHONY: pkcs11
pkcs11:
	CGO_ENABLED=1 go build -tags pkcs11 -ldflags '$(LDFLAGS)' -o bin/wcbundle-pkcs11 ./cmd/wcbundle

test: build
	go test ./...
	@if command -v gcc >/dev/null || [ "$$CI" = true ]; then set -x; CGO_ENABLED=1 go test -tags pkcs11 ./sign/hsm/...; \
	else echo "left out: the tests of PKCS#11 tokens need gcc and softhsm2"; fi
	cd bench && go test ./...
	cd conformance && go test ./...

race:
	CGO_ENABLED=1 go test -race ./bundle/... ./sign/... ./registry/... ./rollout/... ./internal/...

fuzz:
	./internal/fuzz.sh 60s

lint:
	@test -z "$$(gofmt -l cmd bundle delta sign registry install rollout internal e2e bench conformance)" || { gofmt -l cmd bundle delta sign registry install rollout internal e2e bench conformance; exit 1; }
	go vet ./...
	cd bench && go vet ./...
	cd conformance && go vet ./... && go run $(STATICCHECK) ./...
	CGO_ENABLED=1 go vet -tags pkcs11 ./sign/hsm/... ./cmd/wcbundle
	go vet -tags e2e ./e2e/... ./install ./install/revision/...
	go run $(STATICCHECK) -tags e2e ./...
	CGO_ENABLED=1 go run $(STATICCHECK) -tags pkcs11 ./sign/hsm/...
	shellcheck -x -P SCRIPTDIR e2e/cluster/*.sh e2e/run.sh e2e/models.sh internal/*.sh .ci/run

golden:
	go test ./rollout/... -update

e2e: build
	./e2e/run.sh test

# What the API server and its controllers make of holds, revisions and crashes, with simulated nodes; part of e2e.
plane:
	./e2e/run.sh plane

# What upstream cosign 2.6.5 and 3.1.3 make of our signatures and we of theirs; part of e2e.
interop: build
	./e2e/run.sh interop

demo: build
	./e2e/run.sh demo

# The corpus is downloaded once: about 4 GB. HDIFFZ=/path/to/hdiffz adds that peer.
CORPUS ?= bench/corpus
HDIFFZ ?=
RUNS   ?= 1
BENCH   = cd bench && go run . -corpus $(abspath $(CORPUS)) -wcbundle $(abspath bin/wcbundle) -runs $(RUNS) $(if $(HDIFFZ),-hdiffz $(HDIFFZ))

bench: build
	$(BENCH) fetch run verify load page

bench-quick: build
	$(BENCH) -quick

# The delta engine must make and read the same bits on other processors: its properties and frozen deltas under emulation.
arm64:
	GOARCH=arm64 go test -c -o bin/delta-arm64.test ./delta
	cd delta && qemu-aarch64-static ../bin/delta-arm64.test -test.run 'AnyEdit|Frozen|BsdiffIsRead'

clean:
	rm -rf bin

ci: lint test e2e
