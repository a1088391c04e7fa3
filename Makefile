# Kurir. `make` alone lists what there is.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL: # the order of prerequisites is meant: servers before tests, and two cores are busy with one of them

# The latest tag, else the commit, else (no git, no commit yet) "dev".
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
# git describe has said it: go's own stamping fails in a checkout that belongs to somebody else.
BUILD = CGO_ENABLED=0 go build -buildvcs=false -ldflags "-s -w -X main.version=$(VERSION)"

# Each test process with a database starts its own PostgreSQL, so two packages at a time, whatever the machine, and those that
# take longest first. The tests of the whole program come last and alone: their leases last seconds, and a dozen processes need
# the cores that there are. What go test would vet, lint does.
TEST = go test -p 2 -vet=off -timeout 30m
WHOLE = kurir/cmd/kurir
PARTS = $$(go list ./api ./jobs ./models ./media ./... | grep -vx $(WHOLE))
FUZZTIME ?= 30s
MODEL_SEQUENCES ?= 2000

# Linters are built from the versions, and checked against the sums, in tools/*/go.mod and go.sum: modules of their own, so
# that their hundreds of dependencies stay out of ours. A linter must not be older than the Go that it reads.
TOOLS := .tools/$(shell go env GOVERSION GOHOSTOS GOHOSTARCH 2>/dev/null | paste -sd- -)
VULNDB ?= https://vuln.go.dev

##@ Try it
.PHONY: run
run: build-kurir ## build, and run everything in one process on private embedded PostgreSQL and Redis
	@exec ./bin/kurir up

.PHONY: build
build: ## build the programs into bin/
	$(BUILD) -o bin/ ./cmd/...

.PHONY: build-kurir
build-kurir:
	@$(BUILD) -o bin/kurir ./cmd/kurir

.PHONY: migrate
migrate: build-kurir ## bring the schema of DATABASE_URL up to date
	@exec ./bin/kurir migrate

##@ Test it
# The linters run beside the tests, in the time that these leave: nothing of them waits for a deadline.
.PHONY: test
test: servers newman clients-check $(TOOLS)/golangci-lint ## all that CI runs: installs servers where it can, linters, all tests with the race detector
	@said=$$(mktemp); nice -n 19 $(MAKE) --no-print-directory lint >"$$said" 2>&1 & lint=$$!; \
	trap 'kill $$lint 2>/dev/null || true; rm -f "$$said"' EXIT; \
	failed=; $(MAKE) --no-print-directory test-race || failed="$$failed tests"; wait $$lint || failed="$$failed lint"; \
	cat "$$said"; [[ -z "$$failed" ]] || { echo "failed:$$failed" >&2; exit 1; }

.PHONY: test-fast
test-fast: ## all tests, without race detector and linters
	$(TEST) $(PARTS)
	$(TEST) $(WHOLE)

.PHONY: test-race
test-race:
	@if command -v "$$(go env CC | cut -d' ' -f1)" >/dev/null; then race=-race; \
	elif [[ -n "$${CI:-}" ]]; then echo "no C compiler, which the race detector needs" >&2; exit 1; \
	else race=; echo "No C compiler: the tests run WITHOUT the race detector."; fi; \
	set -ex; $(TEST) $$race $(PARTS); $(TEST) $$race $(WHOLE)

.PHONY: check
check: vulncheck test ## before a commit: test, and a look for known vulnerabilities

.PHONY: clients-check
clients-check: $(TOOLS)/oapi-codegen ## are the clients what is made of the API's types? builds the one in TypeScript, where there is Node.js
	@.ci/clients check $<

.PHONY: lint
lint: $(TOOLS)/golangci-lint ## gofmt and golangci-lint, whose govet is go vet
	@unformatted=$$(gofmt -l .); if [[ -n "$$unformatted" ]]; then printf 'not gofmt-clean (make fmt):\n%s\n' "$$unformatted" >&2; exit 1; fi
	$(TOOLS)/golangci-lint run

.PHONY: vulncheck
vulncheck: ## known vulnerabilities that the code can reach, where the database can be reached
	@if curl --silent --fail --head --connect-timeout 3 --max-time 5 --output /dev/null "$(VULNDB)/index/db.json"; then \
		$(MAKE) --no-print-directory $(TOOLS)/govulncheck && $(TOOLS)/govulncheck -db "$(VULNDB)" ./...; \
	else echo "govulncheck: SKIPPED, its database $(VULNDB) could not be reached"; fi

.PHONY: chaos
chaos: ## the long form of the chaos test: kills, freezes and empties things for minutes, loses nothing
	go test -tags=chaos -run TestChaos -count=1 -v -timeout 30m ./cmd/kurir/...

.PHONY: upgrade
upgrade: ## the version before the newest migration on the new schema, and its replacement, under load; its tests of queries too
	go test -tags=upgrade -run 'TestUpgrade|TestQueriesOfTheVersionBefore' -count=1 -v -timeout 40m ./cmd/kurir

.PHONY: isolation
isolation: ## what webhooks that hang or fail cost the others, in figures
	go test -tags=isolation -run '^TestIsolation$$' -count=1 -v -timeout 10m ./jobs

.PHONY: load
load: ## a minute of mixed calls on 1,000 connections, and a limit hit by 200 clients at four API processes, in figures
	go test -tags=load -run 'TestLoad|TestLimitOverProcesses' -count=1 -v -timeout 10m ./cmd/kurir

.PHONY: model
model: ## MODEL_SEQUENCES (2000) random sequences of what can befall a lane, where make test runs a few
	KURIR_MODEL_SEQUENCES=$(MODEL_SEQUENCES) go test -run '^TestLaneModel$$' -count=1 -v -timeout 60m ./jobs

.PHONY: plans
plans: ## the plans and times of history and search on PLANS_MESSAGES (10 million) rows; takes 20 minutes and 15 GB
	TMPDIR=$${TMPDIR:-/tmp} go test -tags=plans -run TestPlansAtScale -count=1 -v -timeout 60m ./models

.PHONY: fuzz
fuzz: ## each fuzz test for FUZZTIME (30s)
	@(grep -rHoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]+' . || echo "There are no fuzz tests." >&2) | while IFS=: read -r file func; do \
		go test -run='^$$' -fuzz="^$${func#func }\$$" -fuzztime=$(FUZZTIME) "$$(dirname "$$file")"; \
	done

.PHONY: servers
servers: ## install PostgreSQL and Redis for the tests (root on Debian or Ubuntu only); say what they run on
	@.ci/servers

.PHONY: newman
newman: ## install newman, which a test runs collections/ with; from npm, which root on Debian or Ubuntu gets too
	@.ci/newman

##@ Keep it
.PHONY: fmt
fmt: ## format the Go code
	gofmt -w .

.PHONY: clients
clients: $(TOOLS)/oapi-codegen ## make the clients of clients/ anew: after a change of what the API takes or answers
	@.ci/clients write $<

.PHONY: clean
clean: ## delete what was built; .kurir, the data of `make run`, stays
	rm -rf bin .tools collections/node_modules clients/typescript/dist clients/typescript/node_modules

.PHONY: help
help: ## this list
	@awk 'BEGIN { FS = ":.*## " } /^##@ / { printf "\n%s\n", substr($$0, 5) } /^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

$(TOOLS)/%: tools/%/go.mod tools/%/go.sum
	@echo "Building $* (the first time takes minutes, it is kept in .tools/)"
	@GOOS= GOARCH= go build -C tools/$* -buildvcs=false -o "$(CURDIR)/$@" tool
