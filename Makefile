# make          build both programs into bin/
# make test     everything: formatting, vet, staticcheck, and all tests with the race detector on real servers
# make demo     see it work on a database of its own; DEMO_SECONDS=20 ends by itself
# make bench    measure it; BENCH_JSON=file writes the numbers too
# make torture  count values that stay stale, for common ways of keeping a cache in step and for pkg/cache; TORTURE=5m
# make fuzz     run every fuzz test for FUZZ_SECONDS each
# make deps     install PostgreSQL and redis-server where apt is, without a cluster or a running service

GO    ?= go
TOOL   = $(GO) tool -modfile=tools/go.mod
FUZZ_SECONDS ?= 10

.PHONY: build test lint format demo bench torture fuzz deps clean

build:
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/ ./cmd/...

test: lint deps
	$(GO) test -race -timeout 30m ./...
	cd examples && $(GO) vet ./... && $(GO) test ./...

lint:
	@unformatted=$$($(TOOL) gofumpt -l .); \
	if [ -n "$$unformatted" ]; then echo "not formatted, run make format:"; echo "$$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(TOOL) staticcheck ./...

format:
	$(TOOL) gofumpt -w .

demo: deps
	$(GO) run ./integration/demo

bench: deps
	$(GO) run ./integration/bench

torture: deps
	$(GO) run ./integration/torture

fuzz:
	GO="$(GO)" scripts/fuzz.sh $(FUZZ_SECONDS)

deps:
	@scripts/deps.sh

clean:
	rm -rf bin data
