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
# A phone is linked, written to and heard through the whole of Kurir; its troubles take longer, see the target whatsapp. whatsmeow has races of its own.
PHONE = $(TEST) -tags=whatsapp -run '^TestAPhoneOnKurir$$' ./cmd/kurir-whatsapp
PARTS = $$(go list ./api ./jobs ./models ./media ./... | grep -vx $(WHOLE))
FUZZTIME ?= 30s
MODEL_SEQUENCES ?= 2000

# Of make bench: which scenarios (all, or some with commas), how often, how long each case; BENCH takes more of its flags.
# Of make bench-micro: how often each step, and what it said before, to compare with.
SCENARIOS ?= all
RUNS ?= 3
DURATION ?= 30s
HISTORY_MESSAGES ?= 1000000
BENCH ?=
COUNT ?= 6
OLD ?=

# Linters and benchstat are built from the versions, and checked against the sums, in tools/*/go.mod and go.sum: modules of their own, so
# that their hundreds of dependencies stay out of ours. A linter must not be older than the Go that it reads.
TOOLS := .tools/$(shell go env GOVERSION GOHOSTOS GOHOSTARCH 2>/dev/null | paste -sd- -)
VULNDB ?= https://vuln.go.dev

##@ Try it
.PHONY: run
run: build-kurir ## build, and run everything in one process on private embedded PostgreSQL and Redis
	@exec ./bin/kurir up

.PHONY: run-whatsapp
run-whatsapp: build-kurir ## the same with a worker that speaks to WhatsApp; QR codes appear in the terminal. Read docs/whatsapp.md first
	@$(BUILD) -o bin/kurir-whatsapp ./cmd/kurir-whatsapp
	@exec ./bin/kurir-whatsapp up

.PHONY: run-wafake
run-wafake: build-kurir ## the same with a fake WhatsApp on this machine, to try the worker without a phone
	@$(BUILD) -tags=wafake -o bin/kurir-whatsapp-wafake ./cmd/kurir-whatsapp
	@$(BUILD) -o bin/wafake ./worker/whatsapp/wafake/cmd/wafake
	@./bin/wafake & trap "kill $$! 2>/dev/null || true" EXIT; KURIR_HOME=$${KURIR_HOME:-./.kurir-wafake} ./bin/kurir-whatsapp-wafake up

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
# Compilers, linters, tests and the processes that tests start collect garbage less often than by default: a sixth of their processor time,
# which is what a run waits for, against some hundred MB. Tests of memory look at what is alive.
test test-fast: export GOGC ?= 400

# The linters, and the look at the manifests, run beside the tests, in the time that these leave: nothing of them waits for a deadline.
.PHONY: test
test: servers newman prometheus clients-check $(TOOLS)/golangci-lint ## all that CI runs: installs servers where it can, linters, all tests with the race detector
	@said=$$(mktemp); nice -n 19 $(MAKE) --no-print-directory lint containers kubernetes-check >"$$said" 2>&1 & lint=$$!; \
	trap 'kill $$lint 2>/dev/null || true; rm -f "$$said"' EXIT; \
	failed=; $(MAKE) --no-print-directory test-race || failed="$$failed tests"; wait $$lint || failed="$$failed lint, containers or kubernetes-check"; \
	cat "$$said"; [[ -z "$$failed" ]] || { echo "failed:$$failed" >&2; exit 1; }

.PHONY: test-fast
test-fast: ## all tests, without race detector and linters
	$(TEST) $(PARTS)
	$(TEST) $(WHOLE)
	$(PHONE)
	@$(MAKE) --no-print-directory bench-smoke

.PHONY: test-race
test-race:
	@if command -v "$$(go env CC | cut -d' ' -f1)" >/dev/null; then race=-race; \
	elif [[ -n "$${CI:-}" ]]; then echo "no C compiler, which the race detector needs" >&2; exit 1; \
	else race=; echo "No C compiler: the tests run WITHOUT the race detector."; fi; \
	set -ex; $(TEST) $$race $(PARTS); [[ -z "$$race" ]] || $(TEST) ./worker/whatsapp/...; $(TEST) $$race $(WHOLE); $(PHONE); $(MAKE) --no-print-directory bench-smoke

.PHONY: check
check: vulncheck test ## before a commit: test, and a look for known vulnerabilities

.PHONY: clients-check
clients-check: $(TOOLS)/oapi-codegen ## are the clients what is made of the API's types? builds the one in TypeScript, where there is Node.js
	@.ci/clients check $<

# -count=1: go test would remember results, and does not see that files of another module have changed.
.PHONY: containers
containers: ## is docker-compose.yml what Docker Compose takes, and are its services as they should be? nothing is started
	go test -C tools/containers -count=1 -vet=off ./compose

# What it reads is outside of its module, so no result from before counts.
.PHONY: kubernetes-check
kubernetes-check: ## are deploy/kubernetes/ and its overlays what Kubernetes and the program take?
	@cd tools/kubernetes && go test -vet=off -count=1 ./...

.PHONY: lint
lint: $(TOOLS)/golangci-lint ## gofmt and golangci-lint, whose govet is go vet
	@unformatted=$$(gofmt -l .); if [[ -n "$$unformatted" ]]; then printf 'not gofmt-clean (make fmt):\n%s\n' "$$unformatted" >&2; exit 1; fi
	$(TOOLS)/golangci-lint run
	cd bench && ../$(TOOLS)/golangci-lint run

.PHONY: vulncheck
vulncheck: ## known vulnerabilities that the code can reach, where the database can be reached
	@if curl --silent --fail --head --connect-timeout 3 --max-time 5 --output /dev/null "$(VULNDB)/index/db.json"; then \
		$(MAKE) --no-print-directory $(TOOLS)/govulncheck && $(TOOLS)/govulncheck -db "$(VULNDB)" ./... && $(TOOLS)/govulncheck -C bench -db "$(VULNDB)" ./...; \
	else echo "govulncheck: SKIPPED, its database $(VULNDB) could not be reached"; fi

.PHONY: chaos
chaos: ## the long form of the chaos test: kills, freezes and empties things for minutes, loses nothing
	go test -tags=chaos -run TestChaos -count=1 -parallel=1 -v -timeout 60m ./cmd/kurir/...

.PHONY: upgrade
upgrade: ## the version before the newest migration on the new schema, and its replacement, under load; its tests of queries too
	go test -tags=upgrade -run 'TestUpgrade|TestQueriesOfTheVersionBefore' -count=1 -v -timeout 40m ./cmd/kurir

.PHONY: isolation
isolation: ## what webhooks that hang or fail cost the others, in figures
	go test -tags=isolation -run '^TestIsolation$$' -count=1 -v -timeout 10m ./jobs

.PHONY: whatsapp
whatsapp: ## a phone on a whole Kurir with workers for WhatsApp, on a fake WhatsApp: moves, deaths, bans, unlinking; their suite by LID
	go test -tags=whatsapp -run 'TestAPhoneOnKurir|TestTroublesOnKurir|TestConformanceByLID' -count=1 -v -timeout 10m ./cmd/kurir-whatsapp ./worker/whatsapp

.PHONY: whatsapp-memory
whatsapp-memory: ## what an idle session on WhatsApp costs, in figures
	go test -tags=whatsapp -run '^TestMemoryOfAnIdleSession$$' -count=1 -v -timeout 10m ./worker/whatsapp

.PHONY: load
load: ## a minute of mixed calls on 1,000 connections, and a limit hit by 200 clients at four API processes, in figures
	go test -tags=load -run 'TestLoad|TestLimitOverProcesses' -count=1 -v -timeout 10m ./cmd/kurir

.PHONY: image
image: ## BuildKit's checks of deploy/Dockerfile; then lays the image out and runs all roles in it, without Docker (root on Linux only)
	go test -C tools/containers -count=1 -vet=off ./dockerfile
	@if [[ $$(uname -s) != Linux || $$(id -u) != 0 ]]; then echo "image: SKIPPED, mounting needs root on Linux"; [[ -z "$${CI:-}" ]]; exit; fi; \
	set -x; go test -tags=image -run '^TestImage$$' -count=1 -v -timeout 20m ./cmd/kurir

.PHONY: model
model: ## MODEL_SEQUENCES (2000) random sequences of what can befall a lane, where make test runs a few
	KURIR_MODEL_SEQUENCES=$(MODEL_SEQUENCES) go test -run '^TestLaneModel$$' -count=1 -v -timeout 60m ./jobs

.PHONY: plans
plans: ## the plans and times of history and search on PLANS_MESSAGES (10 million) rows; takes 20 minutes and 15 GB
	TMPDIR=$${TMPDIR:-/tmp} go test -tags=plans -run TestPlansAtScale -count=1 -v -timeout 60m ./models

.PHONY: bench
bench: ## what the machine makes of Kurir, in figures (docs/performance.md): SCENARIOS=accept,e2e RUNS=1 DURATION=10s for a part
	go run -C bench . -scenarios=$(SCENARIOS) -runs=$(RUNS) -duration=$(DURATION) -history=$(HISTORY_MESSAGES) $(BENCH)

.PHONY: bench-micro
bench-micro: $(OLD) $(if $(OLD),$(TOOLS)/benchstat) ## what a step of the hot path costs: COUNT=10 >old.txt keeps it, COUNT=10 OLD=old.txt compares by benchstat
	@new=$$(mktemp); trap 'rm -f "$$new"' EXIT; \
	go test -run '^$$' -bench '^Benchmark(Authenticate|Validate|Accept|Claim|Sign|Way)$$' -benchmem -count=$(COUNT) ./api ./message ./models ./webhook | tee "$$new"; \
	[[ -z "$(OLD)" ]] || $(TOOLS)/benchstat before="$(OLD)" now="$$new"

.PHONY: bench-smoke
bench-smoke: # of make test: does the tool of make bench still work?
	go test -C bench -count=1 -timeout 5m .

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

.PHONY: prometheus
prometheus: ## install Prometheus, which tries the rules and dashboards of monitoring/ (root on Debian or Ubuntu only)
	@.ci/prometheus

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
