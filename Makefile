# Copyright The otelaudit Authors
# SPDX-License-Identifier: Apache-2.0

GO     ?= go
BUILDER = $(GO) tool -modfile=tools/go.mod go.opentelemetry.io/collector/cmd/builder
# A cache of this tree's own: the linter's is keyed by content, and reports another clone's paths.
LINTER  = GOLANGCI_LINT_CACHE=$(CURDIR)/_build/.lint $(GO) tool -modfile=tools/golangci-lint/go.mod github.com/golangci/golangci-lint/v2/cmd/golangci-lint
# The race detector needs a C compiler; without one the tests still run.
RACE   := $(if $(filter 1,$(shell $(GO) env CGO_ENABLED)),-race)

SOURCES := go.mod go.sum $(shell find audit auditexporter auditprocessor auditreceiver cmd internal \
	-name '*.go' ! -name '*_test.go')

FUZZTIME ?= 20s
EVENTS   ?= 2000000
ROUNDS   ?= 500
BACKLOG  ?= 4294967296
SHAKEN   ?= 1000000
SEEDS    ?= 100000

.PHONY: run build deps test check bench bench-stock bench-peers bench-postgres testbed testbed-soak simulation generate fmt fmt-check lint vet tidy-check
.PHONY: generate-check litter-check fuzz clean

run: build
	./bin/otelcol-audit --config config/quickstart.yaml

build: bin/otelcol-audit bin/otelaudit

bin/otelcol-audit: _build/.generated $(SOURCES)
	cd _build && $(GO) build -trimpath -ldflags='-s -w' -o ../bin/otelcol-audit .

bin/otelaudit: $(SOURCES)
	$(GO) build -trimpath -ldflags='-s -w' -o bin/otelaudit ./cmd/otelaudit

_build/.generated: builder-config.yaml go.mod go.sum tools/go.mod
	$(BUILDER) --config=builder-config.yaml --skip-strict-versioning=false --skip-compilation
	touch $@

# What the tests need beside Go, make and git: a PostgreSQL server, Python, Node.js and Java.
deps:
	tools/deps.sh

test: deps build
	$(GO) test $(RACE) -timeout 14m ./...

check: litter-check fmt-check vet lint tidy-check generate-check

fmt:
	$(LINTER) fmt

fmt-check:
	$(LINTER) fmt --diff

vet:
	GOOS=linux $(GO) vet ./...
	GOOS=darwin $(GO) vet ./...

lint:
	$(LINTER) run

tidy-check:
	$(GO) mod tidy -diff
	cd tools && $(GO) mod tidy -diff
	cd tools/golangci-lint && $(GO) mod tidy -diff

generate:
	$(GO) generate ./...

generate-check:
	tools/unchanged.sh $(MAKE) generate

litter-check:
	@litter=$$(git ls-files -co --exclude-standard | grep -E '(~|\.(orig|rej|tmp|bak|swp|log|out|test|prof))$$'); \
	if [ -n "$$litter" ]; then echo "temporary files in the tree:"; echo "$$litter"; exit 1; fi

# Nanoseconds and allocations of each stage, then the whole collector under load, and into PostgreSQL.
bench: deps build
	$(GO) test -run '^$$' -bench . -benchmem ./audit/... ./auditreceiver/... ./auditprocessor/... ./auditexporter/... ./internal/...
	$(GO) run ./testbed/cmd/load
	$(GO) test ./testbed -run '^$$' -bench . -benchtime 1x

# In one run beside stock collectors: what durability costs, and the whole pipeline.
bench-stock: build bin/otelcol-peers
	$(GO) run ./testbed/cmd/bench-stock

bench-peers: build bin/otelcol-peers
	$(GO) run ./testbed/cmd/bench-peers

# In one run beside plain pgx: rows a second of the PostgreSQL sink alone. Then the plans of the usual queries.
bench-postgres: deps
	$(GO) test -run '^$$' -bench BesidePlain -benchtime 1x ./auditexporter/internal/pgsink -bench-rounds 101
	$(GO) test -run '^$$' -bench UsualQueries -benchtime 1x ./auditexporter/internal/pgsink -bench-rows 1000000

bin/otelcol-peers: _build/peers/.generated $(SOURCES) $(wildcard testbed/peers/profiler/*.go)
	cd _build/peers && $(GO) build -trimpath -ldflags='-s -w' -o ../../bin/otelcol-peers .

_build/peers/.generated: testbed/peers/builder-config.yaml go.mod go.sum tools/go.mod
	$(BUILDER) --config=testbed/peers/builder-config.yaml --skip-strict-versioning=false --skip-compilation
	touch $@

testbed: deps build
	$(GO) test -count=1 -timeout 14m -v ./testbed/...

# The same scenarios, longer, and what they measured as a table in _build/soak.md:
# make testbed-soak EVENTS=20000000 ROUNDS=1000
testbed-soak: deps build
	rm -f _build/soak.md
	$(GO) test -count=1 -timeout 0 -v ./testbed -run 'TestMixedLoad|TestScenario' -events $(EVENTS) -rounds $(ROUNDS) \
		-backlog $(BACKLOG) -shaken $(SHAKEN) -results $(CURDIR)/_build/soak.md
	cat _build/soak.md

# Lives of clients, processor, disk and sinks, by seed: make simulation SEEDS=1000000
simulation:
	GOGC=400 $(GO) test -count=1 -timeout 0 ./auditprocessor -run '^TestSimulation$$' -seeds $(SEEDS)

# Every fuzzer for FUZZTIME.
fuzz:
	FUZZTIME=$(FUZZTIME) tools/fuzz.sh

clean:
	rm -rf bin _build
